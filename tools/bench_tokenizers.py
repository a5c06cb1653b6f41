"""Training and encoding: ours beside tokenizers, tiktoken and SentencePiece.

One vocabulary wherever one can be shared; one thread, and two where it says so.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from utils.lab import datasets, measure, records
from utils.tokenizers import bpe
from utils.tokenizers.patterns import GPT2, split
from utils.tokenizers.sentencepiece import train_by_library

SIZE = 4000  # tokens, 3,744 of them merges
SIMPLE = r" ?[a-z]+"  # cuts lower-case words as GPT-2's pattern does


def texts() -> dict[str, str]:
    """1 MB of English, 1 MB of code, and the course's 78 KB of Chinese."""
    english, code = datasets.english()[:1_000_000], datasets.code()[:1_000_000]
    return {"English": english, "code": code, "Chinese": datasets.chinese()}


def sentencepiece_model(text: str, kind: str, size: int):
    """A model of sentencepiece, "bpe" or "unigram", of `size` pieces."""
    import sentencepiece

    data = train_by_library(
        text.splitlines(),
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentence_length=100_000,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def trained_by_tokenizers(text: str, size: int = SIZE):
    """A byte-level BPE of `size` tokens by the trainer of `tokenizers`."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(GPT2), "isolated")
    shown = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, shown])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def parallel(on: bool) -> None:
    """Let `tokenizers` use its threads, two of them, or not."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if on else "false"


def runs(candidates: dict, rounds: int = 7) -> dict[str, list[float]]:
    """Seconds of every run, candidates in turn."""
    found = measure(candidates, rounds=rounds, warmup=1).seconds
    return {name: seconds.tolist() for name, seconds in found.items()}


def once(call) -> list[float]:
    start = time.perf_counter()
    call()
    return [time.perf_counter() - start]


def training(text: str) -> dict[str, list[float]]:
    """Seconds for 3,744 merges; the flat loop's are those of its first 20, scaled."""
    parallel(False)
    merges, words = SIZE - 256, bpe.count_words([text])
    seconds = runs(
        {
            "ours": lambda: bpe.train(bpe.count_words([text]), SIZE),
            "tokenizers": lambda: trained_by_tokenizers(text),
        }
    )
    seconds["all words, every merge"] = once(lambda: bpe.train_words(words, merges))
    (flat,) = once(lambda: bpe.train_flat(bpe.byte_ids(text.encode()), 20))
    seconds["flat text, every merge"] = [flat / 20 * merges]
    for name, taken in seconds.items():
        times = min(taken) / min(seconds["ours"])
        print(f"training  {name:24} {min(taken):8.2f} s  {times:7.1f} × ours")
    return seconds


def encoding(name: str, text: str) -> tuple[dict, dict]:
    """Seconds to encode a text, and tokens, by every library."""
    ours = bpe.BPE.train([text], SIZE)
    rust, hugging = ours.to_tiktoken(), ours.to_tokenizers()
    lines = text.splitlines()
    cut = text.index("\n", len(text) // 2)
    parts = [text[:cut], text[cut:]]
    pieces = {
        kind: sentencepiece_model(text, kind, SIZE) for kind in ("bpe", "unigram")
    }

    def cold():
        ours._memory.clear()
        return ours.encode_ordinary(text)

    def in_two(encode):
        with ThreadPoolExecutor(2) as pool:
            return [*pool.map(encode, parts)]

    parallel(False)
    calls = {
        "ours, cuts alone": lambda: split(text),
        "ours, without memory": lambda: [
            bpe.encode_piece(piece.encode(), ours.ranks) for piece in split(text)
        ],
        "ours, cold": cold,
        "ours, warm": lambda: ours.encode_ordinary(text),
        "ours, warm, 2 threads": lambda: in_two(ours.encode_ordinary),
        "tiktoken": lambda: rust.encode_ordinary(text),
        "tiktoken, 2 threads": lambda: rust.encode_ordinary_batch(parts, num_threads=2),
        "tokenizers": lambda: hugging.encode(text),
        "tokenizers, by line": lambda: hugging.encode_batch(lines),
    }
    for kind, model in pieces.items():
        label = {"bpe": "SentencePiece BPE", "unigram": "SentencePiece Unigram"}[kind]
        calls[label] = lambda m=model: m.encode(lines, num_threads=1)
        calls[f"{label}, 2 threads"] = lambda m=model: m.encode(lines, num_threads=2)
    seconds = runs(calls)
    parallel(True)
    by_line = "tokenizers, by line, 2 threads"
    seconds |= runs({by_line: lambda: hugging.encode_batch(lines)})
    tokens = {"BPE": len(ours.encode_ordinary(text))}
    tokens |= {kind: len(sum(m.encode(lines), [])) for kind, m in pieces.items()}
    for tool, taken in seconds.items():
        rate = len(text.encode()) / min(taken) / 1e6
        print(f"encoding  {name:8} {tool:32} {rate:7.2f} MB/s")
    return seconds, tokens


def pattern(text: str) -> dict:
    """tiktoken with two patterns that give the same tokens of lower-case words."""
    words = " ".join(w.lower() for w in text.split() if w.isascii() and w.isalpha())
    found = {}
    for size in (1000, 8000):
        ours = bpe.BPE.train([words], size)
        simple = bpe.BPE(ours.ranks, SIMPLE).to_tiktoken()
        rust = ours.to_tiktoken()
        assert rust.encode_ordinary(words) == simple.encode_ordinary(words)
        found[str(size)] = runs(
            {
                "GPT-2's pattern": lambda r=rust: r.encode_ordinary(words),
                "a simple one": lambda s=simple: s.encode_ordinary(words),
            },
            rounds=15,
        )
        slow, fast = map(min, found[str(size)].values())
        print(
            f"pattern   V = {size}: the simple one takes {fast / slow:.2f} of the time"
        )
    return found


def length(text: str) -> dict:
    """SentencePiece's BPE against tiktoken, line by line and on the whole text."""
    whole = " ".join(text.split())
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    found: dict = {}
    for size in (1000, 8000):
        rust = bpe.BPE.train([whole], size).to_tiktoken()
        pieces = sentencepiece_model(text, "bpe", size)
        found[str(size)] = {
            "by line": runs(
                {
                    "SentencePiece": lambda p=pieces: [p.encode(x) for x in lines],
                    "tiktoken": lambda r=rust: [r.encode_ordinary(x) for x in lines],
                },
                rounds=9,
            ),
            "whole": runs(
                {
                    "SentencePiece": lambda p=pieces: p.encode(whole),
                    "tiktoken": lambda r=rust: r.encode_ordinary(whole),
                },
                rounds=9,
            ),
        }
        for how, seconds in found[str(size)].items():
            slow, fast = map(min, seconds.values())
            ratio = f"SentencePiece ÷ tiktoken {slow / fast:.2f}"
            print(f"length    V = {size}, {how}: {ratio}")
    return found


def tokenizers_speed() -> None:
    """Training and encoding: ours, tokenizers, tiktoken, SentencePiece."""
    os.environ["RAYON_NUM_THREADS"] = "2"
    corpora = texts()
    samples: dict = {"bytes": {name: len(t.encode()) for name, t in corpora.items()}}
    samples["training"] = training(corpora["English"])
    samples["encoding"], samples["tokens"] = {}, {}
    for name, text in corpora.items():
        samples["encoding"][name], samples["tokens"][name] = encoding(name, text)
    samples["pattern"] = pattern(corpora["English"])
    samples["length"] = length(corpora["English"])
    files = ["utils/tokenizers/bpe.py", "utils/tokenizers/patterns.py"]
    records.write("tokenizers_speed", samples, files, threads=1)
