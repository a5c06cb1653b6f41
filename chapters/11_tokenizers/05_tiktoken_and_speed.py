# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # tiktoken and speed
#
# "tiktoken is much faster than SentencePiece." Faster at what, on which text, with
# which vocabulary, on how many threads? A sentence about speed (速度) has four blanks,
# and most leave them empty. The notes give five reasons for tiktoken's speed as well:
# regular expressions, threads, a cache, a lock, a hash. They were taken from comments
# in its source, some the wrong way round. We go through them one by one. At the end of
# this page you can
#
# - say where the time of an encoder goes, from counts before stop-watches;
# - explain what the GIL is, and find out whether a library lets go of it, with a
#   counter;
# - tell a reader–writer lock from a spin lock, and a good hash from a fast one;
# - read a table of speeds with suspicion, and measure your own.
#
# You need [byte-pair encoding](02_bpe). No verdict hangs on a clock that runs while you
# read: what was measured in seconds comes from a record, with all runs kept.

# %% tags=["hide-input"]
import hashlib
import inspect
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import sentencepiece
import tiktoken
from tiktoken import _educational

# %% tags=["hide-input"]
from utils.exercises import speed as check
from utils.lab import (
    above,
    approx,
    below,
    datasets,
    figures,
    notes_say,
    raises,
    records,
    same,
    settle,
    settle_all,
)
from utils.lab.figures import COLOURS, plt
from utils.lab.timing import ratio
from utils.tokenizers import bpe
from utils.tokenizers.patterns import GPT2, split

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "tokenizers-tt-role",
    "tokenizers-tt-faster-than-sp",
    "tokenizers-tt-rust",
    "tokenizers-tt-regex-dominates",
    "tokenizers-tt-regex-3x",
    "tokenizers-tt-regex-either-crate",
    "tokenizers-tt-regex-contention",
    "tokenizers-tt-thread-clone",
    "tokenizers-tt-rayon",
    "tokenizers-tt-gil",
    "tokenizers-tt-lru",
    "tokenizers-rwlock",
    "tokenizers-tt-fxhash",
    "tokenizers-fxhash-quality",
)

# %% [markdown]
# ## By hand: three sieves
#
# An encoder does three things with a text. It *cuts* it into pieces; it *looks up*
# whether a piece is a token as it stands; and what is none, it *merges*. Each is a
# sieve: what the first lets through reaches the second, what the second lets through
# the third. One sentence, with a vocabulary of 1,024 tokens trained on English:

# %%
english = datasets.english()[:400_000]
counts = bpe.count_words([english])
merges = bpe.train(counts, 8192)
ranks = {V: bpe.ranks_of(merges[: V - 256]) for V in (512, 1024, 2048, 4096, 8192)}

sentence = "The shortest path between two nodes is not always unique."
pieces = [piece.encode() for piece in split(sentence)]
whole = [piece in ranks[1024] for piece in pieces]
print(*(f"{p.decode()}{'' if w else '*'}" for p, w in zip(pieces, whole, strict=True)))
rest = len(pieces) - sum(whole)
print(f"{len(pieces)} pieces, {sum(whole)} are tokens, {rest} must merge (*)")

# %% [markdown]
# The dearest step is the last, and the fewest pieces reach it. On all of our English:

# %% mystnb={"figure": {"caption": "What happens to 100 pieces of English text: those that are a token as they stand, and those that must be merged; of the latter, how many are met for the first time.", "name": "fig-sieves"}, "image": {"alt": "Stacked bars for five vocabulary sizes from 512 to 8192. The share of pieces that are tokens grows from three fifths to nearly all; the pieces that must merge shrink, and those met for the first time are a sliver of two to six per cent."}} tags=["hide-input"]
total = counts.total()
hits = {V: sum(n for p, n in counts.items() if p in ranks[V]) for V in ranks}
first_time = {V: sum(p not in ranks[V] for p in counts) for V in ranks}
figure, ax = plt.subplots(figsize=(6.4, 2.7))
rows = np.arange(len(ranks))
shares = np.array(
    [[hits[V], total - hits[V] - first_time[V], first_time[V]] for V in ranks]
)
left = np.zeros(len(ranks))
names = ["a token as it stands", "must merge, seen before", "must merge, new"]
for share, name, colour in zip(
    100 * shares.T / total, names, ["sky", "orange", "vermilion"], strict=True
):
    ax.barh(rows, share, left=left, color=COLOURS[colour], label=name)
    left += share
ax.set(yticks=rows, yticklabels=[f"V = {V}" for V in ranks], xlabel="of 100 pieces")
ax.legend(
    loc="upper center", bbox_to_anchor=(0.45, 1.22), ncols=3, frameon=False, fontsize=8
)
ax.invert_yaxis()
plt.show()

# %%
for V in ranks:
    shares = f"{hits[V] / total:.1%} are tokens, {first_time[V] / total:.1%}"
    print(f"V = {V}: {shares} are new merges")

# %% [markdown]
# ## A cache, or none
#
# The notes say that an LRU cache (least recently used: when it is full, the entry goes
# that was not asked for longest; 缓存) is necessary, and that the author protects it with
# a lock. The source tells it otherwise {cite}`tiktoken`: there *was* one, and without
# it tiktoken was at first "only vaguely faster than Python"; its lock slowed down
# several threads even when all of them only read; and then he saw that the *vocabulary*
# is a cache already. A piece that is a token is looked up and done. What does this
# look-up save? We run our merge loop with it and without it, and count the calls.


# %%
def encode_pieces(V, look_up_first):
    """Ids of the English text's pieces, and how often the merge loop ran."""
    ids, loops = [], 0
    for piece in map(str.encode, split(english[:100_000])):
        if look_up_first and piece in ranks[V]:
            ids.append(ranks[V][piece])
        else:
            ids += bpe.encode_piece(piece, ranks[V])
            loops += 1
    return ids, loops


# %%
part = Counter(map(str.encode, split(english[:100_000])))
with_look_up, without = {}, {}
for V in ranks:
    ids, with_look_up[V] = encode_pieces(V, True)
    plain_ids, without[V] = encode_pieces(V, False)
    assert ids == plain_ids
    runs = f"{without[V]:,} times, with the look-up {with_look_up[V]:,}"
    print(f"V = {V}: the merge loop runs {runs}")

rate = [sum(n for p, n in part.items() if p in ranks[V]) / part.total() for V in ranks]
settle(
    "tokenizers-tt-lru",
    above(rate[0], 0.5),
    same(sorted(rate), rate),
    below(with_look_up[8192] / without[8192], 0.1),
    note="rate: share of pieces that are tokens; then calls of the merge loop",
)

# %% [markdown]
# For a vocabulary that was trained on such text, the look-up and the merges give the
# same ids: the token of a whole piece is what its merges lead to, by the theorem of
# [BPE](02_bpe).
#
# In Python the answer is another one. Our merge loop is slow, so it pays to remember
# every piece it has seen; our encoder keeps up to 100,000, and then begins anew. On
# Chinese that helps little. Its pieces are clauses, and who writes the same clause
# twice? Counted are the pieces with a letter or a character in them:

# %%
for name, text in [("English", english), ("Chinese", datasets.chinese())]:
    found = Counter(p for p in split(text) if any(map(str.isalpha, p)))
    once = sum(n == 1 for n in found.values())
    numbers = f"{found.total():,} pieces, {len(found):,} different"
    print(f"{name}: {numbers}; {once / len(found):.0%} of these occur once")

# %% [markdown]
# ## The regular expression
#
# What is left for a piece that hits is: cut it, look it up, put its id into a list. So
# the cut weighs, and the author's notes say that most of the time is spent in it. How
# much it is can be seen without a profiler, by a trick. On lower-case words divided by
# single blanks, the simple pattern `" ?[a-z]+"` makes the same cuts as GPT-2's. The
# same ranks then give the same tokens, and the difference in time is the pattern's
# alone.

# %%
lower = " ".join(w.lower() for w in english.split() if w.isascii() and w.isalpha())
general = bpe.BPE(ranks[8192], GPT2).to_tiktoken()
simple = bpe.BPE(ranks[8192], r" ?[a-z]+").to_tiktoken()
tokens_general, tokens_simple = (e.encode_ordinary(lower) for e in (general, simple))
assert tokens_general == tokens_simple

speed = records.read("tokenizers_speed")["samples"]


share = {}
for V, seconds in speed["pattern"].items():
    middle, low, high = share[V] = ratio(seconds, "a simple one", "GPT-2's pattern")
    print(f"V = {V}: the simple pattern takes", approx(middle, 0.1, 0.95), end=" ")
    print(f"of the time, {approx(low, 0.1, 0.95)} to {approx(high, 0.1, 0.99)}")

# %% [markdown]
# That is a lower bound for what the pattern costs, since the simple one is not free.
# Whether it is the *main* cost, as the author found on his corpus, it does not decide.
#
# Four more sentences of the notes concern it, and they are about tiktoken's source,
# which decides them {cite}`tiktoken`.
#
# - *"More than three times faster"* if the pattern is one that Rust's plain `regex`
#   crate can parse ({claim}`tokenizers-tt-regex-3x`). The comment says "3x faster".
#   None of the shipped patterns is of that kind, since each has the look-ahead
#   `(?!\S)`, which the plain crate refuses.
# - So there is nothing to choose between the two crates either
#   ({claim}`tokenizers-tt-regex-either-crate`): the comment adds that for a plain
#   pattern their speeds hardly differ.
# - *"fancy_regex competes for a mutable cache"*
#   ({claim}`tokenizers-tt-regex-contention`): yes, between threads; the function is
#   called `find_at`, not `find_it`. Since version 1.9.5 the crate suffers much less
#   from it {cite}`rustregex195`.
# - *"A clone thread for most regex threads"* ({claim}`tokenizers-tt-thread-clone`) is
#   the wrong way round: each thread gets a *clone of the regex*. There are 128 of them,
#   and a thread takes the one at its id modulo 128.
#
# The look-ahead is not decoration. Without it, the last blank does not stay with the
# word behind it:

# %%
from tiktoken_ext import openai_public

shipped = {
    "GPT-2": openai_public.r50k_pat_str,
    "GPT-4": inspect.getsource(openai_public.cl100k_base),
    "GPT-4o": inspect.getsource(openai_public.o200k_base),
}
print("look-ahead:", {name: r"\s+(?!\S)" in source for name, source in shipped.items()})
print(split("a   b", GPT2), split("a   b", GPT2.replace(r"\s+(?!\S)|", "")))

# %% [markdown]
# ## Threads, and the sentence that breaks off
#
# "The GIL that Python brings along means that if there is no further operation and one
# only uses something like:", say the notes, and there they end. We finish the sentence.
# CPython's *global interpreter lock* (全局解释器锁, GIL) lets one thread at a time execute
# Python. A thread that has it gives it up when another one wants it and the *switch
# interval* (5 milliseconds) is over, or when it waits for something, or when it calls
# code in C or Rust that lets go of it on purpose. So two Python threads (线程) take
# turns, and a thread that works in Rust can run beside one that works in Python.
#
# To see it without a clock, we set the switch interval to 100 seconds, so that nobody
# is made to give it up. A second thread works; the first counts as far as it gets, to a
# million at most. If the worker keeps the lock, the counter stays at 0 until it is
# done.


# %%
def counts_beside(work, limit=1_000_000):
    """How far this thread counts while another one does `work`."""
    done = []
    worker = threading.Thread(target=lambda: (work(), done.append(True)))
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        worker.start()
        count = 0
        while not done and count < limit:
            count += 1
    finally:
        sys.setswitchinterval(before)
        worker.join()
    return count


# %%
ours = bpe.BPE(ranks[4096])
rust, hugging = ours.to_tiktoken(), ours.to_tokenizers()
workers = {
    "a loop in Python": lambda: sum(i * i for i in range(300_000)),
    "our merge loop": lambda: [bpe.encode_piece(p, ranks[512]) for p in counts],
    "our cuts": lambda: split(english),
    "tiktoken": lambda: rust.encode_ordinary(english),
    "tokenizers": lambda: hugging.encode(english),
}
counted = {name: counts_beside(work) for name, work in workers.items()}
for name, count in counted.items():
    print(f"{name:17} {count:9,}")

# %% [markdown]
# Zero and a million, nothing between, and two surprises. Our own encoder lets others
# run while it cuts, because `regex` lets go of the lock. And `tokenizers`, in Rust,
# keeps it for a single text; its threads are its own. With the usual interval of 5
# milliseconds it looks like this:


# %% tags=["hide-input"]
def stamps(stop):
    """Times at which a thread that runs Python gets on, until `stop` says so."""
    found = []
    while not stop():
        found.append(time.perf_counter())
        sum(range(300))
    return found


def timeline(second):
    """Stamps of this thread and, from `second(kept)`, of another; 60 ms or so."""
    kept, start = [], time.perf_counter()
    worker = threading.Thread(target=second, args=(kept,))
    worker.start()
    first = stamps(lambda: time.perf_counter() > start + 0.06)
    worker.join()
    return [np.array(s) - start for s in (first, kept)]


def python_worker(kept):
    end = time.perf_counter() + 0.06
    kept += stamps(lambda: time.perf_counter() > end)


def rust_worker(kept):
    end = time.perf_counter() + 0.06
    while (now := time.perf_counter()) < end:
        rust._core_bpe.encode_ordinary(english[:200_000])
        kept += np.linspace(now, time.perf_counter(), 200).tolist()


# %% mystnb={"figure": {"caption": "Two threads on one time line. Above, both run Python and take turns of about 5 ms. Below, the second encodes with tiktoken, which lets go of the lock while it works and takes it back for a moment to hand over its ids: the gaps. (Its bar includes the wait for the lock.)", "name": "fig-gil"}, "image": {"alt": "Two time lines with two rows each. In the upper one the bars of the two threads alternate, never overlapping. In the lower one the second row is one long bar, and the first runs beside it, with gaps."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 1, figsize=(6.4, 2.8), sharex=True)
for ax, (name, second) in zip(
    axes, [("Python", python_worker), ("tiktoken", rust_worker)], strict=True
):
    for row, (stamped, colour) in enumerate(
        zip(timeline(second), ["blue", "orange"], strict=True)
    ):
        stamped = 1000 * stamped
        gaps = np.flatnonzero(np.diff(stamped) > 1)
        starts, ends = stamped[np.r_[0, gaps + 1]], stamped[np.r_[gaps, -1]]
        ax.barh(row, ends - starts, left=starts, color=COLOURS[colour], height=0.6)
    ax.set(yticks=[0, 1], yticklabels=["Python", name], ylim=(1.6, -0.6), xlim=(0, 70))
axes[1].set_xlabel("milliseconds")
plt.show()

# %%
settle(
    "tokenizers-tt-gil",
    same(counted["a loop in Python"], 0),
    same(counted["tiktoken"], 1_000_000),
    note="how far a thread counts beside a worker that nobody interrupts",
)

# %% [markdown]
# So this is how the sentence ends: if one only uses something like a loop, a second
# thread gains nothing. It gains something where the work lies in native code that lets
# go of the lock, as NumPy, torch, `regex` and tiktoken do; and since Python 3.13 there
# are builds of Python without a GIL {cite}`gross2023nogil`.
#
# It also explains tiktoken's "true multithreading". Its Rust code starts no thread.
# Python's threads run it side by side; the author tried `rayon`, Rust's library for
# this, and found it no faster. `tokenizers` does have threads of its own, for a batch.
# And tiktoken has no trainer, only an encoder: SentencePiece and `tokenizers` have
# both. (Its module `_educational` trains, and says by its name what it is for.)

# %%
batch = inspect.signature(tiktoken.Encoding.encode_batch).parameters["num_threads"]
without_ranks = {"pat_str": GPT2, "special_tokens": {}}
trainers = [
    any("train" in name.lower() for name in dir(m)) for m in (sentencepiece, tiktoken)
]
educational = _educational.bpe_train(sentence, 270, GPT2, visualise=None)

# %% tags=["hide-input"]
settle_all(
    {
        "tokenizers-tt-role": [
            same(trainers, [True, False]),
            raises(TypeError, lambda: tiktoken.Encoding("ours", **without_ranks)),
            same(len(educational), 270),
        ],
        "tokenizers-tt-rust": [
            raises(TypeError, lambda: inspect.getsource(type(rust._core_bpe))),
            same(counted["our merge loop"], 0),
            same(counted["tiktoken"], 1_000_000),
        ],
        "tokenizers-tt-rayon": [
            same(batch.default, 8),
            same(counted["tiktoken"], 1_000_000),
        ],
        "tokenizers-tt-regex-dominates": [
            same(tokens_general, tokens_simple),
            below(share["1000"][2], 0.95),
            below(share["8000"][2], 0.85),
        ],
    }
)

# %% [markdown]
# ## Readers, writers, and waiting
#
# The notes call `RWLock` a *reader-writer spin lock*. It is a *reader–writer lock*
# (读写锁): many may read at once, and who writes is alone. *Spin* (自旋) is a way of
# waiting: asking again and again whether the lock is free, which burns a processor but
# reacts at once. (There is a Rust crate called `spin` with such a lock, which may be
# where the name comes from.) The lock of Rust's standard library {cite}`rustrwlock`
# puts who waits to sleep, after a short spin. A reader–writer lock, in twenty lines:


# %%
class ReaderWriterLock:  # many readers, or one writer
    def __init__(self):
        self.changed, self.readers, self.writing = threading.Condition(), 0, False

    @contextmanager
    def read(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.writing)
            self.readers += 1
        try:
            yield
        finally:
            with self.changed:
                self.readers -= 1
                self.changed.notify_all()

    @contextmanager
    def write(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.writing and not self.readers)
            self.writing = True
        try:
            yield
        finally:
            with self.changed:
                self.writing = False
                self.changed.notify_all()


# %% [markdown]
# Four readers meet at a barrier *inside* the lock: it opens only when all four are
# there, so if the lock let in fewer, they would wait for ever. Meanwhile two writers
# come and go and note whom they meet.

# %%
lock, barrier, met = ReaderWriterLock(), threading.Barrier(4, timeout=20), []
inside, writers = [], []


def reader():
    for _ in range(5):
        with lock.read():
            barrier.wait()
            inside.append(lock.readers)
            barrier.wait()


def writer():
    for _ in range(20):
        with lock.write():
            writers.append(True)
            met.append(lock.readers + len(writers) - 1)
            time.sleep(0.001)
            writers.pop()


threads = [threading.Thread(target=f) for f in [reader] * 4 + [writer] * 2]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("readers inside at once:", {*inside}, " met by a writer:", {*met})

# %% [markdown]
# And the waiting: how often does a reader look whether a writer is gone, who stays for
# a twentieth of a second? Asleep, until it is told; spinning, all the time.


# %%
def looks(spin):
    """How often a waiting reader looks while a writer holds the lock for 50 ms."""
    lock, looked, held = ReaderWriterLock(), [], threading.Event()

    def hold():
        with lock.write():
            held.set()
            time.sleep(0.05)

    def free():
        looked.append(True)
        return not lock.writing

    writer = threading.Thread(target=hold)
    writer.start()
    held.wait()
    if spin:
        while not free():
            pass
    else:
        with lock.changed:
            lock.changed.wait_for(free)
    writer.join()
    return len(looked)


# %%
asleep, spinning = looks(spin=False), looks(spin=True)
print(f"asleep: {asleep} looks; spinning:", approx(spinning, 100, 1e8), "looks")
settle(
    "tokenizers-rwlock",
    same(max(inside), 4),
    same(sum(met), 0),
    below(asleep, 5),
    above(spinning / asleep, 20),
)

# %% [markdown]
# ## A fast hash and a good one
#
# A *hash table* (哈希表) computes a number from the key, the *hash* (散列), and takes some
# of its bits as the place where the key is kept. Two keys in one place cost time. A
# good hash spreads any keys evenly. A fast one takes few instructions. FxHash, from
# Firefox and the Rust compiler, is three: for each 64-bit word of the key,
#
# $$
# h \leftarrow \big( \mathrm{rotate}(h, 5) \oplus w \big) \cdot \texttt{0x517cc1b727220a95} \bmod 2^{64} .
# $$ (eq-fx)
#
# Of low quality, but very fast, especially for integers, and better inside rustc than
# all others: so says the Rust Performance Book {cite}`nethercote2025hashing`, and the
# notes after it. Multiplication carries only upwards: the low bits of the product know
# nothing of the high bits of the key. Numbers that differ in their high bits alone,
# such as multiples of 256, all fall into one place of 256.


# %%
def fx_hash(data):
    """The classic FxHash of bytes: words of eight, then of four, two and one."""
    h = 0
    while data:
        size = next(size for size in (8, 4, 2, 1) if size <= len(data))
        word, data = int.from_bytes(data[:size], "little"), data[size:]
        rotated = (h << 5 | h >> 59) % 2**64
        h = (rotated ^ word) * 0x517CC1B727220A95 % 2**64
    return h


def good_hash(data):
    """A cryptographic hash, cut to 64 bits: slow, and as even as can be."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


keys = {
    "0, 1, 2, …": [i.to_bytes(8, "little") for i in range(256)],
    "0, 256, 512, …": [(256 * i).to_bytes(8, "little") for i in range(256)],
    "tokens": [len(t).to_bytes(8, "little") + t for t in [*ranks[512]][256:]],
}
places = {
    (name, h.__name__): np.bincount([h(k) % 256 for k in ks], minlength=256)
    for name, ks in keys.items()
    for h in (fx_hash, good_hash)
}

# %% mystnb={"figure": {"caption": "256 keys in a table of 256 places, the place being the low byte of the hash; darker is fuller. FxHash spreads counting numbers better than chance, multiples of 256 not at all, and tokens (with their length in front, as Rust hashes bytes) clearly worse than chance.", "name": "fig-hash-places"}, "image": {"alt": "Two rows of three square maps of 16 by 16 places. Upper row, FxHash: even for counting numbers, all 256 keys in a single place for multiples of 256, and more empty places than chance for tokens. Lower row, a good hash: three maps that look alike, like chance."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 3, figsize=(6.4, 4.4))
for (name, h), ax in zip(places, axes.T.flat, strict=True):
    ax.imshow(places[name, h].reshape(16, 16), cmap="cividis_r", vmin=0, vmax=4)
    ax.set(
        xticks=[], yticks=[], title=f"{name}\n" * (h == "fx_hash") + h.replace("_", " ")
    )
plt.show()

# %%
used = {key: int((count > 0).sum()) for key, count in places.items()}
for (name, h), count in used.items():
    fullest = places[name, h].max()
    print(f"{name:15} {h:9} {count:3} places used, {fullest:3} keys in the fullest")
tops = len({fx_hash(key) >> 57 for key in keys["0, 256, 512, …"]})
print("the seven highest bits of the multiples' hashes:", tops, "values")
assert used["tokens", "fx_hash"] < used["tokens", "good_hash"]
settle(
    "tokenizers-fxhash-quality",
    same(used["0, 1, 2, …", "fx_hash"], 256),
    same(used["0, 256, 512, …", "fx_hash"], 1),
    above(used["0, 256, 512, …", "good_hash"], 120),
    same(tops, 128),
)

# %% [markdown]
# For counting numbers the low-quality hash is better than a good one: it uses every
# place, where chance leaves a third empty. For multiples of 256 it is as bad as can be.
# (Rust's table also compares the seven highest bits before it compares keys, and there
# the multiples differ: 128 values.) An encoder's keys are byte strings. Short tokens
# that begin with the same byte, a blank above all, share a place here: 41 of 256. A
# decoder's are ids, which count. The author of tiktoken put the gain at "maybe like a
# 5-10% win" ({claim}`tokenizers-tt-fxhash`) {cite}`tiktoken`. And today's `rustc-hash`,
# version 2, has kept the name and changed the function: it turns the high bits down at
# the end {cite}`rustchash`, so the notes' sentence describes one that is gone.
#
# ## The table
#
# Now the seconds. The same text in one process, one tool after the other, seven rounds,
# the fastest run of each. Ours, tiktoken and `tokenizers` share vocabulary and pattern
# and give identical ids; SentencePiece has pieces of its own, of the same number, and
# gets the text line by line.

# %% tags=["hide-input"]
tools = [
    "tokenizers",
    "tokenizers, by line",
    "ours, cold",
    "ours, warm",
    "SentencePiece BPE",
    "tiktoken",
    "SentencePiece Unigram",
]

# %% mystnb={"figure": {"caption": "Encoding speed by tool and text, from the record: the fastest of seven runs (mark), and all runs (line). One thread; hollow marks: two. The scale is logarithmic.", "name": "fig-token-speed"}, "image": {"alt": "Three panels for English, code and Chinese, each with rows for tokenizers on the whole text and by line, ours cold and warm, SentencePiece BPE, tiktoken and SentencePiece Unigram. On English and code Unigram and tiktoken lead and tokenizers is last. On Chinese Unigram leads, SentencePiece BPE and ours warm come before tiktoken, and ours cold is last."}} tags=["hide-input"]
figure, axes = figures.panels(3, 9.2, 2.9, sharey=True)
for ax, (name, seconds) in zip(axes, speed["encoding"].items(), strict=True):
    for row, tool in enumerate(tools):
        for suffix, face in [("", COLOURS["blue"]), (", 2 threads", "white")]:
            if tool + suffix in seconds:
                rates = speed["bytes"][name] / 1e6 / np.array(seconds[tool + suffix])
                ax.plot(
                    [rates.min(), rates.max()], [row] * 2, color=COLOURS["grey"], lw=1
                )
                ax.plot(rates.max(), row, "o", mfc=face, mec=COLOURS["blue"])
    ax.set(
        xscale="log",
        xlabel="MB/s",
        title=name,
        yticks=range(len(tools)),
        xlim=(0.3, 90),
    )
    ax.set_yticklabels(tools)
plt.show()

# %%
print(f"{'MB/s':24}", *(f"{name:>9}" for name in speed["encoding"]))
for tool in [*tools, "ours, cuts alone", "ours, without memory"]:
    cells = []
    for name, seconds in speed["encoding"].items():
        best = speed["bytes"][name] / min(seconds[tool]) / 1e6
        cells.append(f"{approx(best, 0.1, 300):>9}")
    print(f"{tool:24}", *cells)

# %% [markdown]
# **Is tiktoken faster than SentencePiece?** Than its BPE, on English and code, yes; on
# Chinese, no; than its Unigram, line by line, no. And the way in which one asks decides
# as well: SentencePiece's time for one long text grows faster than its length. The same
# two programs, line by line and with the whole text as one line:


# %%
def best_ratio(V, how):
    return ratio(speed["length"][V][how], "SentencePiece", "tiktoken")


for V in speed["length"]:
    for how in ("by line", "whole"):
        middle, low, high = (approx(r, 0.3, 60) for r in best_ratio(V, how))
        print(f"V = {V}, {how:7}: SentencePiece's BPE ×{middle}, {low} to {high}")

unigram = {
    name: ratio(seconds, "SentencePiece Unigram", "tiktoken")
    for name, seconds in speed["encoding"].items()
}
for name, three in unigram.items():
    middle, low, high = (approx(r, 0.05, 5) for r in three)
    print(f"{name:7}: SentencePiece's Unigram ×{middle}, {low} to {high}")

# %%
chinese = ratio(speed["encoding"]["Chinese"], "SentencePiece BPE", "tiktoken")
line, whole_text = best_ratio("8000", "by line"), best_ratio("8000", "whole")
line_small, whole_small = best_ratio("1000", "by line"), best_ratio("1000", "whole")
settle(
    "tokenizers-tt-faster-than-sp",
    above(whole_text[1], 2),
    above(whole_text[1] / line[2], 1.1),
    above(whole_small[1] / line_small[2], 1.1),
    below(chinese[2], 0.9),
    below(unigram["Chinese"][2], 0.8),
    note="SentencePiece's time over tiktoken's; [1] and [2] end the 95% intervals",
)

# %% [markdown]
# tiktoken's own figure, three to six times, is against Hugging Face's GPT-2 tokenizer
# of 2022 {cite}`tiktoken`, not against SentencePiece. Why does `tokenizers` come last
# on English and code, a Rust library too? It does more: it returns not ids but an
# `Encoding` with the place of every token in the text, its attention mask and its type.
# Whoever compares speeds should ask what is handed over.
#
# **And ours?** Python cuts with `regex`, a library in C, and looks pieces up in a
# `dict`, in C too. What is left to Python is what the sieves let through: a merge for
# each piece that is new. Hence the three speeds of ours: the cuts alone are its
# ceiling, a memory that is warm comes next, and Chinese, where nearly every clause is
# new, falls through to the merge loop. There Rust's advantage is whole. Training has no
# such floor, because its work is small (see [BPE](02_bpe)):

# %%
training = speed["training"]
for name, seconds in training.items():
    times = min(seconds) / min(training["ours"])
    print(
        f"{name:24}",
        approx(min(seconds), 0.05, 5000, "s"),
        " ours ×",
        approx(round(times, 1 if times < 10 else None), 0.5, 9000),
    )
assert min(training["all words, every merge"]) > 100 * min(training["ours"])
assert min(training["flat text, every merge"]) > 500 * min(training["ours"])

# %% [markdown]
# 3,744 merges on 1 MB of English, on one thread. The flat loop, the way of many a
# tutorial, was run for 20 merges and scaled up; the other one ran through. The factor
# between Python and Rust is small where both do the right thing, and the factor between
# the right thing and the textbook is large.
#
# ## Where people go wrong
#
# **Tokens per second.** A vocabulary that cuts finer makes more tokens, and so "faster"
# ones. Compare bytes of text. Below, how many tokens three vocabularies of equal size
# make of the same text.

# %%
labels = {"BPE": "ours", "bpe": "SentencePiece BPE", "unigram": "SentencePiece Unigram"}
for name, made in speed["tokens"].items():
    print(f"{name:8}", ", ".join(f"{labels[k]} {count:,}" for k, count in made.items()))

# %% [markdown]
# **The second run.** A cache that is warm answers another question than one that is
# cold. Ask both, and say which.
#
# **The last core.** Hidden threads make one tool faster than another for free.
# `tokenizers` uses all cores for a batch unless `TOKENIZERS_PARALLELISM=false`.
#
# **One call, one number.** A run can take several times as long as the run before,
# because something else happened on the computer. Take turns, repeat, keep every run,
# and give the interval.
#
# ## Exercises
#
# **1. Warm-up: the hit rate.** `counts` maps a piece (bytes) to how often it occurs,
# `ranks` a token to its id. Write `hit_rate(counts, ranks)`: the share of piece
# *occurrences* that are a token.

# %%
hit_rate = ...  # def hit_rate(counts, ranks): …
check.hit_rate(hit_rate)


# %% tags=["hide-cell"]
def hit_rate(counts, ranks):
    hits = sum(n for piece, n in counts.items() if piece in ranks)
    return hits / sum(counts.values())


check.hit_rate(hit_rate)

# %% [markdown]
# **2. An LRU cache.** Write a class `LRU` with `LRU(size, compute)` and `get(key)`: it
# returns `compute(key)`, and remembers the `size` results that were asked for last. (A
# `dict` keeps the order in which keys came; deleting and inserting again moves one to
# the end.)

# %%
LRU = ...  # class LRU: …
check.LRU(LRU)


# %% tags=["hide-cell"]
class LRU:
    def __init__(self, size, compute):
        self.size, self.compute, self.kept = size, compute, {}

    def get(self, key):
        value = self.kept.pop(key) if key in self.kept else self.compute(key)
        self.kept[key] = value
        if len(self.kept) > self.size:
            del self.kept[next(iter(self.kept))]
        return value


check.LRU(LRU)

# %% [markdown]
# **3. For an evening: break it.** FxHash was not made against an enemy. Find 64
# different byte strings of 16 bytes whose `fx_hash` is the same. (Look at {eq}`eq-fx`:
# after the first word you know $h$, whatever it is. What must the second word be, so
# that the exclusive or is the same every time?) A server that keeps its users' words in
# such a table can be stopped with them, which is why Rust's own tables use a hash with
# a secret.

# %%
collisions = ...  # a list of 64 bytes objects
check.collisions(collisions)

# %% tags=["hide-cell"]
collisions = []
for first in range(64):
    h = first * 0x517CC1B727220A95 % 2**64
    rotated = (h << 5 | h >> 59) % 2**64
    collisions.append(first.to_bytes(8, "little") + rotated.to_bytes(8, "little"))
check.collisions(collisions)

# %% [markdown]
# ## In short
#
# An encoder cuts, looks up and merges, and most pieces stop at the look-up: the
# vocabulary is the cache. What is left then is mostly the cut, in our own encoder seven
# tenths of the time and more. tiktoken's threads are Python's, which works because its
# Rust code lets go of the GIL; a counter shows it. Its lock is gone, its hash is fast
# and, for ids, good. "Faster than SentencePiece" depends on the algorithm, the length
# of the text and its language, and is false for Unigram line by line. The largest
# factor in all this is not the language of the program. It is whether work is done
# twice.
#
# With this page the text has become numbers. What a model does with them begins with
# [tensors](../00_tensors/01_products).
