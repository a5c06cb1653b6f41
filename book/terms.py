"""The glossary page, from data/glossary.yml, and its definitions as hover text.

{term}`layer normalisation (LN)`, {term}`LN`, {term}`layer normalisation` and
{term}`层归一化` all lead to the same entry.
"""

import re
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.domains.std import make_glossary_term
from sphinx.util.docutils import SphinxDirective


@cache
def glossary(path: Path) -> list[dict]:
    """The entries, ordered by their English name: en, zh, chapter, definition, also."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in entries:
        if missing := {"en", "zh", "chapter", "definition"} - entry.keys():
            raise ValueError(f"{path.name}, {entry.get('en')}: no {min(missing)}")
    return sorted(entries, key=lambda entry: entry["en"].lower().strip("["))


def names(entry: dict) -> list[str]:
    """Every name that a page may use for an entry, the main one first."""
    english = re.match(r"(.*?)(?: \((.*)\))?$", entry["en"])
    short = english[2] if re.match(r"[\w-]*[A-Z][\w-]*$", english[2] or "") else None
    split = re.split(r" / |、", entry["zh"])
    found = [entry["en"], english[1], short, entry["zh"], *split]
    found += entry.get("also", [])
    return list(dict.fromkeys(name for name in found if name))


class Glossary(SphinxDirective):
    """All entries under their first letters, each with its names as targets."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.config.data_folder, "glossary.yml")
        self.env.note_dependency(path)
        taken = set()
        items = []
        for entry in glossary(path):
            items.append(self.item(entry, taken))
        return [nodes.definition_list("", *items, classes=["glossary"])]

    def item(self, entry: dict, taken: set) -> nodes.definition_list_item:
        first, *others = (n for n in names(entry) if n.lower() not in taken)
        text = [nodes.Text(first)]
        anchor = nodes.make_id(first) or None
        document = self.state.document
        source, line = self.get_source_info()
        term = make_glossary_term(
            self.env, text, None, source, line, f"term-{anchor}", document
        )
        for name in others:
            domain = self.env.domains.standard_domain
            domain._note_term(name, term["ids"][0], location=term)
        taken |= {name.lower() for name in (first, *others)}
        term += nodes.raw("", f' <span lang="zh">{entry["zh"]}</span>', format="html")
        said = nodes.paragraph(text=entry["definition"])
        return nodes.definition_list_item("", term, nodes.definition("", said))


def hover(app, doctree, docname) -> None:
    """A link to a term shows the definition when pointed at."""
    said = {}
    for entry in glossary(Path(app.config.data_folder, "glossary.yml")):
        for name in names(entry):
            text = f"{entry['en']} {entry['zh']}: {entry['definition']}"
            said.setdefault(f"term-{nodes.make_id(name)}", text)
    for link in doctree.findall(nodes.reference):
        inner = link.next_node(nodes.inline)
        if inner is not None and "std-term" in inner["classes"]:
            anchor = link.get("refid") or link.get("refuri", "").partition("#")[2]
            link["reftitle"] = said.get(anchor, "")
            link["classes"] = [*link["classes"], "term"]


def setup(app) -> dict:
    app.add_directive("course-glossary", Glossary)
    app.connect("doctree-resolved", hover)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
