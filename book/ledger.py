"""The ledger in the book: one role, one directive, one number role.

{claim}`norms-ln-axis`     a badge that leads to the claim; alone in its paragraph or
                           list item it is the sentence of the notes. Beside a
                           citation it settles a claim of tier C and shows its card.
{count}`wrong`             how many claims: a verdict, `all`, `settled` or `open`
```{ledger} table          the whole ledger; further kinds: chart, mosaic, documents,
```                        questions

Which claims are settled is read from the marks that `settle` leaves in the outputs
stored in the notebooks, and written into the pages after all of them have been read.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from utils.lab.claims import VERDICTS, ledger

log = logging.getLogger(__name__)
CHAPTERS = {
    "00_tensors": ("Tensors", "张量"),
    "01_norms": ("Norms", "归一化"),
    "02_positions": ("Positions", "位置编码"),
    "03_crf": ("CRF", "条件随机场"),
    "04_transformer": ("Transformer", "变换器"),
    "05_bert": ("BERT", "预训练"),
    "06_longformer": ("Longformer", "长文本"),
    "07_slimming": ("Slimming", "瘦身"),
    "08_quantization": ("Quantization", "量化"),
    "09_onnx": ("ONNX", "模型导出"),
    "10_peft": ("Fine-tuning", "微调"),
    "11_tokenizers": ("Tokenizers", "分词"),
}
DOCUMENTS = {  # number: our title, and the order of its sections that bear no number
    "000": ("Interview notes, from norms to LoRA", []),
    "001": ("The Transformer explained, with questions", ["§", "FAQ"]),
    "002": (
        "Programming BERT, and slimming it",
        "tokens|fine-tuning|contextual|BertPooler|why|slimming|links|distillation"
        "|neuron".split("|"),
    ),
    "003": ("A diary: BERT, Longformer, large models", []),
    "004": (
        "Tokenizers, products, memory and PEFT",
        ["SentencePiece", "TikToken", "tiktoken", "§dot", "memory", "PEFT", "LoRA"]
        + ["PEFT P-tuning"],
    ),
}


# What is known of each claim ------------------------------------------------------


def marks(notebook: str) -> list[str]:
    """The ids that a notebook (its JSON text) settles, in the order of its cells."""
    return [
        mark["id"]
        for cell in json.loads(notebook)["cells"]
        for output in cell.get("outputs", [])
        for mark in output.get("metadata", {}).get("settled", [])
    ]


def section(claim: dict) -> str:
    """Where in its document a claim stands: "§1 1.1", "FAQ 3", "LoRA"."""
    label = claim["seed"][4:].split("FAQ: ")[-1]
    return f"§{label}" if label[0].isdigit() else label


def place(claim: dict) -> tuple:
    """A sorting key that follows the documents from their first line to their last."""
    number, label = claim["seed"][:3], section(claim)
    parts = DOCUMENTS[number][1]
    begun = [part for part in parts if label.startswith(part)]
    rank = parts.index(max(begun, key=len)) if begun else len(parts)
    return number, rank, [int(n) for n in re.findall(r"\d+", label)]


@dataclass
class State:
    """One claim in the pages: settled by a cell, cited in prose, or open."""

    claim: dict
    state: str
    href: str = ""
    page: str = ""


def known(config) -> dict[str, dict]:
    """The ledger of the book, by id."""
    return ledger(Path(config.data_folder, "claims.yml"))


def states(app, docname: str) -> list[State]:
    """Every claim of the ledger, with links as seen from the page `docname`."""
    env, where = app.env, {}
    for kind in ("cited", "settled"):
        for page, ids in env.course_claims.items():
            where |= {name: (kind, page) for name in ids[kind]}
    found = []
    for name, claim in known(env.config).items():
        if name in where:
            state, page = where[name]
            href = link(app, docname, page, name)
            found.append(State(claim, state, href, env.titles[page].astext()))
        else:
            found.append(State(claim, "open"))
    return found


def link(app, here: str, page: str, anchor: str) -> str:
    uri = "" if here == page else app.builder.get_relative_uri(here, page)
    return f"{uri}#{anchor}"


# HTML -----------------------------------------------------------------------------


def inline(text: str) -> str:
    """Escape, and turn `code` into code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False))


def badge(verdict: str) -> str:
    label, chinese, sign, _ = VERDICTS[verdict]
    return (
        f'<span class="badge {verdict}"><span aria-hidden="true">{sign}</span> {label} '
        f'<span lang="zh">{chinese}</span></span>'
    )


def chinese(claim: dict) -> str:
    """Our Chinese sentence, or until it is written the keywords."""
    return f'<span lang="zh">{escape(claim.get("says_zh") or claim["zh"])}</span>'


def state_link(s: State) -> str:
    if s.state == "open":
        return '<span class="state open">open</span>'
    return f'<a class="state" href="{s.href}">{s.state} in {escape(s.page)}</a>'


def card(claim: dict) -> str:
    """What a citation settles, in the form of the cards that cells show."""
    return (
        f'<div class="claim claim-{claim["verdict"]} cited" id="{claim["id"]}">'
        f'<p class="claim-head">{badge(claim["verdict"])} '
        f"<code>{claim['id']}</code></p>"
        f'<p class="claim-says"><em>The notes say:</em> {inline(claim["says"])}'
        f"<br>{chinese(claim)}</p>"
        f'<p class="claim-truth"><em>In truth:</em> {inline(claim["truth"])}</p>'
        f'<p class="claim-because"><em>Source:</em> {inline(claim["source"])}</p></div>'
    )


def row(s: State) -> str:
    c = s.claim
    name, about = c["id"], CHAPTERS[c["chapter"]]
    data = {
        "chapter": c["chapter"],
        "verdict": c["verdict"],
        "state": s.state,
        "document": c["seed"][:3],
        "section": section(c),
    }
    attributes = "".join(f' data-{k}="{escape(v)}"' for k, v in data.items())
    return (
        f'<tr id="{name}"{attributes}><td class="says"><p>{inline(c["says"])}</p>'
        f"<p>{chinese(c)}</p><details><summary>In truth</summary>"
        f'<p>{inline(c["truth"])}</p><p class="source">{inline(c["source"])}</p>'
        f'</details><a class="id" href="#{name}">{name}</a></td>'
        f"<td>{badge(c['verdict'])}</td>"
        f'<td>{about[0]} <span lang="zh">{about[1]}</span></td>'
        f'<td class="seed"><a href="documents.html#notes-{c["seed"][:3]}">'
        f"{c['seed'][:3]}</a> {escape(section(c))}</td><td>{state_link(s)}</td></tr>"
    )


def select(name: str, label: str, options: dict[str, str]) -> str:
    every = "".join(f'<option value="{k}">{v}</option>' for k, v in options.items())
    return (
        f'<label>{label}<select name="{name}"><option value="">all</option>{every}'
        "</select></label>"
    )


def table(found: list[State]) -> str:
    """All claims in one table, and the filters, which only a script can offer."""
    verdicts = {k: f"{v[0].lower()} {v[1]}" for k, v in VERDICTS.items()}
    chapters = {k: f"{k[:2]} {v[0]} {v[1]}" for k, v in CHAPTERS.items()}
    documents = {k: f"{k} {v[0]}" for k, v in DOCUMENTS.items()}
    kinds = {k: k for k in ("settled", "cited", "open")}
    return (
        '<form class="filters" id="ledger-filters" hidden>'
        '<label class="wide">Words, 中文 or English<input type="search" name="q">'
        "</label>"
        + select("chapter", "Chapter", chapters)
        + select("verdict", "Verdict", verdicts)
        + select("state", "State", kinds)
        + select("document", "Document", documents)
        + select("section", "Section", {})
        + '<p role="status" id="ledger-count"></p>'
        '<button type="reset">Show all</button></form>'
        '<table class="ledger" id="ledger-table"><thead><tr><th>The notes say</th>'
        "<th>Verdict</th><th>Chapter</th><th>Document</th><th>State</th></tr></thead>"
        f"<tbody>{''.join(map(row, found))}</tbody></table>"
        '<script src="_static/ledger.js" defer></script>'
    )


def chart(found: list[State]) -> str:
    """Bars of verdicts with numbers: the settled part full, the open part hollow."""
    total = Counter(s.claim["verdict"] for s in found)
    done = Counter(s.claim["verdict"] for s in found if s.state != "open")
    widest = max(total.values())
    rows = "".join(
        f'<tr><th scope="row"><a href="#verdict={verdict}">{badge(verdict)}</a></th>'
        f'<td class="bar" aria-hidden="true"><span class="{verdict}" '
        f'style="width:{100 * total[verdict] / widest:.1f}%"><i style="width:'
        f'{100 * done[verdict] / total[verdict]:.1f}%"></i></span></td>'
        f"<td>{total[verdict]}</td><td>{done[verdict]}</td>"
        f"<td>{total[verdict] - done[verdict]}</td></tr>"
        for verdict in VERDICTS
        if total[verdict]
    )
    return (
        '<table class="chart"><caption>Claims by verdict: the full part of a bar is '
        "settled, the hollow part still open.</caption><thead><tr>"
        '<th>Verdict</th><td class="bar"></td><th>claims</th><th>settled</th>'
        f"<th>open</th></tr></thead><tbody>{rows}<tr class='sum'>"
        f'<th scope="row">All</th><td class="bar"></td><td>{total.total()}</td>'
        f"<td>{done.total()}</td><td>{total.total() - done.total()}</td></tr>"
        "</tbody></table>"
    )


def mosaic(found: list[State]) -> str:
    """A square a claim: its colour the verdict, full when settled, hollow when open."""
    total = Counter(s.claim["verdict"] for s in found)
    done = sum(s.state != "open" for s in found)
    legend = "".join(
        f'<li><i class="{v} settled"></i>{total[v]} {VERDICTS[v][0].lower()} '
        f'<span lang="zh">{VERDICTS[v][1]}</span></li>'
        for v in VERDICTS
    )
    groups = []
    for chapter, (english, zh) in CHAPTERS.items():
        squares = "".join(
            f'<a class="{s.claim["verdict"]} {s.state}" tabindex="-1" '
            f'href="ledger.html#{s.claim["id"]}" title="{escape(s.claim["says"])}" '
            f'aria-label="{s.claim["id"]}, {s.claim["verdict"]}, {s.state}"></a>'
            for s in found
            if s.claim["chapter"] == chapter
        )
        groups.append(
            f'<div class="group"><span>{english} <span lang="zh">{zh}</span></span>'
            f"<div>{squares}</div></div>"
        )
    return (
        f'<figure class="mosaic"><div role="group" aria-label="{len(found)} squares, '
        f"one a claim, by chapter; {done} are full because a page settles them. "
        f'The ledger lists them all.">{"".join(groups)}</div>'
        f'<figcaption><ul>{legend}<li><i class="open"></i>hollow: open</li></ul>'
        "</figcaption></figure>"
    )


def document(found: list[State], number: str) -> str:
    """The claims of one document in its own order."""
    chosen = [s for s in found if s.claim["seed"].startswith(number)]
    rows = "".join(
        f'<li><span class="seed">{escape(section(s.claim))}</span><div>'
        f"<p>{inline(s.claim['says'])} {chinese(s.claim)}</p>"
        f'<p>{badge(s.claim["verdict"])} <a href="ledger.html#{s.claim["id"]}">'
        f"{s.claim['id']}</a> {state_link(s)}</p></div></li>"
        for s in sorted(chosen, key=lambda s: place(s.claim))
    )
    return f'<ol class="document">{rows}</ol>'


def questions(found: list[State], chapter: str) -> str:
    """The questions of one chapter, with the answer once a page settles it."""
    rows = ""
    for s in found:
        c = s.claim
        if c["verdict"] != "answered" or c["chapter"] != chapter:
            continue
        answer = f"<p>{inline(c['truth'])}</p>" if s.state != "open" else ""
        rows += (
            f'<li><p class="question">{inline(c["says"])} {chinese(c)}</p>{answer}'
            f'<p><a href="ledger.html#{c["id"]}">{c["id"]}</a> {state_link(s)}</p></li>'
        )
    return f'<ul class="questions">{rows}</ul>'


# Sphinx ---------------------------------------------------------------------------


class late(nodes.General, nodes.Element):
    """A part of the ledger, filled in when every page has been read."""


class claim_ref(nodes.Inline, nodes.Element):
    """A claim named in prose."""


class count_ref(nodes.Inline, nodes.Element):
    """A number of claims named in prose."""


class Ledger(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = self.arguments[0]
        if kind == "documents":
            parts = {f"notes-{n}": f"{n} · {t}" for n, (t, _) in DOCUMENTS.items()}
        elif kind == "questions":
            claims = known(self.config).values()
            asked = {c["chapter"] for c in claims if c["verdict"] == "answered"}
            parts = {
                f"questions-{c}": " ".join(CHAPTERS[c]) for c in CHAPTERS if c in asked
            }
        elif kind in ("table", "chart", "mosaic"):
            return [late(kind=kind)]
        else:
            raise self.error(f"no part of the ledger is called {kind!r}")
        sections = []
        for anchor, title in parts.items():
            part = nodes.section("", nodes.title(text=title), ids=[anchor])
            part += late(kind=kind, part=anchor.partition("-")[2])
            self.state.document.note_explicit_target(part)
            sections.append(part)
        return sections


class ClaimRole(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list]:
        self.env.note_dependency(Path(self.config.data_folder, "claims.yml"))
        if self.text not in known(self.config):
            problem = f"no claim {self.text!r} in data/claims.yml"
            log.warning(problem, location=self.get_location(), type="claim")
            return [nodes.literal(text=self.text)], []
        return [claim_ref(name=self.text)], []


class CountRole(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list]:
        return [count_ref(kind=self.text)], []


def start(app, env, docnames) -> None:
    if not hasattr(env, "course_claims"):
        env.course_claims = {}


def forget(app, env, docname) -> None:
    if hasattr(env, "course_claims"):
        env.course_claims.pop(docname, None)


def read_marks(app, docname, source) -> None:
    """Note what a notebook settles."""
    claims = known(app.config)
    settled = []
    if app.env.doc2path(docname).suffix == ".ipynb":
        settled = marks(source[0])
        for name in set(settled) - claims.keys():
            log.warning("%s settles an unknown claim %r", docname, name, type="claim")
    ids = {"settled": [n for n in settled if n in claims], "cited": []}
    app.env.course_claims[docname] = ids


def read_citations(app, doctree) -> None:
    """A claim of tier C that stands in one paragraph with a citation is settled."""
    claims = known(app.config)
    cited = app.env.course_claims[app.env.docname]["cited"]
    for node in list(doctree.findall(claim_ref)):
        text = node.parent
        while not isinstance(text, nodes.paragraph) and text.parent:
            text = text.parent
        node["alone"] = not re.search(r"\w", text.astext())
        claim = claims[node["name"]]
        sources = [
            n for n in text.findall(nodes.Element) if n.get("refdomain") == "cite"
        ]
        if claim["tier"] == "C" and sources and claim["id"] not in cited:
            cited.append(claim["id"])
            place = text.parent.index(text) + 1
            text.parent.insert(place, nodes.raw("", card(claim), format="html"))


def ledger_pages(app, env) -> list[str]:
    """These pages show the state of all others: write them whenever one was read."""
    return [
        page
        for page in ("index", "ledger", "documents", "questions")
        if page in env.found_docs
    ]


def reference(s: State, node: claim_ref, to_ledger: str) -> str:
    href = s.href if s.href.startswith("#") else to_ledger
    says = escape(s.claim["says"])
    if node["alone"]:
        return (
            f'<a class="claim-line" href="{href}">{inline(s.claim["says"])}</a> '
            f"{chinese(s.claim)} {badge(s.claim['verdict'])}"
        )
    shown = badge(s.claim["verdict"])
    return f'<a class="claim-ref" href="{href}" title="{says}">{shown}</a>'


def fill(app, doctree, docname) -> None:
    """Put the states of the claims into a page that is about to be written."""
    kinds = (late, claim_ref, count_ref)
    todo = [n for n in doctree.findall(nodes.Element) if isinstance(n, kinds)]
    if not todo:
        return
    found = states(app, docname)
    by_name = {s.claim["id"]: s for s in found}
    counts = Counter(s.claim["verdict"] for s in found) + Counter(
        {"all": len(found), "open": sum(s.state == "open" for s in found)}
    )
    counts["settled"] = counts["all"] - counts["open"]
    draw = {"table": table, "chart": chart, "mosaic": mosaic}
    draw |= {"documents": document, "questions": questions}
    for node in todo:
        if isinstance(node, count_ref):
            node.replace_self(nodes.Text(counts[node["kind"]]))
            continue
        if isinstance(node, claim_ref):
            to_ledger = link(app, docname, "ledger", node["name"])
            html = reference(by_name[node["name"]], node, to_ledger)
        elif "part" in node:
            html = draw[node["kind"]](found, node["part"])
        else:
            html = draw[node["kind"]](found)
        node.replace_self(nodes.raw("", html, format="html"))


def setup(app) -> dict:
    app.add_config_value("data_folder", "", "env")
    for node in (late, claim_ref, count_ref):
        app.add_node(node)
    app.add_directive("ledger", Ledger)
    app.add_role("claim", ClaimRole())
    app.add_role("count", CountRole())
    app.connect("env-before-read-docs", start)
    app.connect("env-purge-doc", forget)
    app.connect("source-read", read_marks)
    app.connect("doctree-read", read_citations)
    app.connect("env-updated", ledger_pages)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
