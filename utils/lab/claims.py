"""The ledger of claims, and `settle`, which closes one where its evidence stands."""

import difflib
import re
from functools import cache
from html import escape
from pathlib import Path

import yaml

from utils.lab.evidence import Evidence
from utils.lab.interactive import emit

LEDGER = Path(__file__).parents[2] / "data" / "claims.yml"
FIELDS = {
    "id",
    "chapter",
    "documents",
    "seed",
    "says",
    "zh",
    "kind",
    "verdict",
    "truth",
    "source",
    "tier",
}
OPTIONAL = {"says_zh", "experiment", "measured", "figure"}
VERDICTS = {  # verdict: what a card prints, its Chinese, its mark, its colour
    "holds": ("Holds", "成立", "✓", "#009e73"),
    "depends": ("Depends", "视条件而定", "±", "#b8860b"),
    "wrong": ("Wrong", "错误", "✗", "#d55e00"),
    "outdated": ("Outdated", "过时", "↻", "#7b6fb0"),
    "answered": ("Answered", "已解答", "?", "#0072b2"),
}


class Unsettled(AssertionError):
    """A claim whose evidence does not hold."""


@cache
def ledger(path: Path = LEDGER) -> dict[str, dict]:
    """All claims by id, in the order of the file; ValueError at a broken entry."""
    text = path.read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        entries = yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from None
    claims: dict[str, dict] = {}
    for entry in entries:
        if fault := _fault(entry, claims):
            line = _line(text, entry.get("id"))
            raise ValueError(f"{path.name}, line {line}, {entry.get('id')}: {fault}")
        claims[entry["id"]] = entry
    return claims


def _fault(entry: dict, seen: dict) -> str:
    if missing := FIELDS - entry.keys():
        return f"missing {', '.join(sorted(missing))}"
    if unknown := entry.keys() - FIELDS - OPTIONAL:
        return f"unknown field {', '.join(sorted(unknown))}"
    if entry["verdict"] not in VERDICTS:
        return f"verdict {entry['verdict']!r} is none of {', '.join(VERDICTS)}"
    if entry["tier"] not in ("A", "B", "C"):
        return f"tier {entry['tier']!r} is none of A, B, C"
    return "this id stands twice" if entry["id"] in seen else ""


def _line(text: str, name: str) -> int:
    starts = list(re.finditer(rf"^- id: {re.escape(str(name))}$", text, re.MULTILINE))
    return text[: starts[-1].start()].count("\n") + 1 if starts else 0


def claim(name: str) -> dict:
    """The ledger's entry. Raises KeyError, with the nearest ids, for an unknown one."""
    claims = ledger()
    if name not in claims:
        near = ", ".join(difflib.get_close_matches(name, claims, 3)) or "none"
        raise KeyError(f"no claim {name!r} in data/claims.yml; nearest: {near}")
    return claims[name]


def settle(name: str, *evidence: Evidence, note: str = "") -> None:
    """Close one claim: show its card, or raise Unsettled if any evidence fails.

    Raises KeyError for an unknown id, ValueError without evidence, TypeError for
    evidence that is not a comparison of `utils.lab`.
    """
    entry, mark = _proved(name, evidence, note)
    label, zh, sign, colour = VERDICTS[entry["verdict"]]
    says, truth = _inline(entry["says"]), _inline(entry["truth"])
    chinese = f'<br><span lang="zh">{escape(entry.get("says_zh", ""))}</span>'
    items = "".join(f"<li>{_inline(text)}</li>" for text in mark["evidence"])
    html = (
        f'<div class="claim claim-{entry["verdict"]}" id="{name}" '
        f'style="border-left:4px solid {colour};padding:.2em 1em;margin:1em 0">'
        f'<p class="claim-head"><strong style="color:{colour}">{sign} {label}</strong> '
        f'<span lang="zh">{zh}</span> · <code>{name}</code></p>'
        f'<p class="claim-says"><em>The notes say:</em> {says}{chinese}</p>'
        f'<p class="claim-truth"><em>In truth:</em> {truth}</p>'
        f'<p class="claim-because"><em>Because, on this page{_dash(note)}:</em></p>'
        f'<ul class="claim-evidence">{items}</ul></div>'
    )
    emit(_plain(entry, mark), html=html, metadata={"settled": [mark]})


def settle_all(proofs: dict[str, Evidence | list[Evidence]]) -> None:
    """Close several small claims in one table: claim id → its evidence."""
    marks, rows, plain = [], [], []
    for name, evidence in proofs.items():
        listed = evidence if isinstance(evidence, list | tuple) else [evidence]
        entry, mark = _proved(name, listed, "")
        label, zh, sign, colour = VERDICTS[entry["verdict"]]
        shown = "<br>".join(_inline(text) for text in mark["evidence"])
        chinese = f'<br><span lang="zh">{escape(entry.get("says_zh", ""))}</span>'
        rows.append(
            f'<tr id="{name}"><td><strong style="color:{colour}">{sign} {label}'
            f'</strong><br><span lang="zh">{zh}</span></td>'
            f"<td>{_inline(entry['says'])}{chinese}</td>"
            f"<td>{_inline(entry['truth'])}</td><td>{shown}</td></tr>"
        )
        marks.append(mark)
        plain.append(_plain(entry, mark))
    head = "<th>Verdict</th><th>The notes say</th><th>In truth</th><th>Because</th>"
    html = (
        f'<table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    emit("\n\n".join(plain), html=html, metadata={"settled": marks})


def notes_say(*names: str) -> None:
    """List what the notes claim, in both languages, before anything is decided."""
    entries = [claim(name) for name in names]
    plain = "\n".join(f"- {e['says']} {e.get('says_zh', '')}".rstrip() for e in entries)
    items = "".join(
        f'<li>{_inline(e["says"])}<br><span lang="zh">{escape(e.get("says_zh", ""))}'
        "</span></li>"
        for e in entries
    )
    emit(plain, html=f'<ul class="notes-say">{items}</ul>')


def _proved(name: str, evidence, note: str) -> tuple[dict, dict]:
    """The claim and its machine-readable mark, once every piece of evidence holds."""
    entry = claim(name)
    if not evidence:
        raise ValueError(f"{name}: a claim is not settled without evidence")
    for place, piece in enumerate(evidence, 1):
        if not isinstance(piece, Evidence):
            kind = type(piece).__name__
            raise TypeError(f"{name}: evidence {place} is a {kind}, not a comparison")
    if not all(piece.holds for piece in evidence):
        lines = (f"  {'holds' if e.holds else 'FAILS'}: {e}" for e in evidence)
        raise Unsettled(f"{name} is not settled:\n" + "\n".join(lines))
    return entry, {"id": name, "evidence": [str(e) for e in evidence], "note": note}


def _plain(entry: dict, mark: dict) -> str:
    label, zh, sign, _ = VERDICTS[entry["verdict"]]
    return "\n".join(
        [
            f"{sign} {label} {zh} · {entry['id']}",
            f"The notes say: {entry['says']} {entry.get('says_zh', '')}".rstrip(),
            f"In truth: {entry['truth']}",
            f"Because, on this page{_dash(mark['note'])}:",
            *(f"- {text}" for text in mark["evidence"]),
        ]
    )


def _dash(note: str) -> str:
    return f", {note}" if note else ""


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False))
