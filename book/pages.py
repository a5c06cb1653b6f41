"""What every page gets: a line under its title, its metadata, its search words."""

import json
import re
from urllib.parse import quote

from docutils import nodes
from sphinx.search import SearchLanguage
from sphinx.search.en import SearchEnglish

WORDS_PER_MINUTE = 200
SECONDS_PER_CODE_LINE = 4
SECONDS_PER_FORMULA = 10
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"


# The line under the title ---------------------------------------------------------


def reading_minutes(notebook: dict) -> int:
    """Minutes for prose at 200 words a minute, with an allowance for code and formulas.

    Two Chinese characters count as a word; folded cells are not counted.
    """
    prose = "\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    lines = sum(
        len(re.findall(r"\S.*", "".join(c["source"])))
        for c in notebook["cells"]
        if c["cell_type"] == "code" and not c["metadata"].get("tags")
    )
    formulas = prose.count("$$") / 2
    words = len(re.findall(r"[A-Za-z][\w'-]*", prose))
    words += len(re.findall(f"[{CHINESE}]", prose)) / 2
    seconds = SECONDS_PER_CODE_LINE * lines + SECONDS_PER_FORMULA * formulas
    return max(1, round(words / WORDS_PER_MINUTE + seconds / 60))


def facts(notebook: dict, settled: int) -> list[str]:
    """What the line says: minutes to read, seconds to run, claims settled."""
    said = [f"{reading_minutes(notebook)} min to read"]
    if seconds := notebook["metadata"].get("course", {}).get("seconds"):
        said.append(f"{max(1, round(seconds))} s to run")
    if settled:
        said.append(f"{settled} claim{'s' * (settled > 1)} settled here")
    return said


def head_line(app, doctree, docname) -> None:
    """Put the line and the download under the title of a page made from a notebook."""
    path = app.env.doc2path(docname)
    title = next(doctree.findall(nodes.title), None)
    if path.suffix != ".ipynb" or title is None:
        return
    notebook = json.loads(path.read_text(encoding="utf-8"))
    ids = app.env.course_claims[docname]
    said = " · ".join(facts(notebook, len(ids["settled"] + ids["cited"])))
    source = "../" * docname.count("/") + f"_sources/{docname}.ipynb"
    html = (
        f'<p class="page-facts">{said} · '
        f'<a href="{source}" download>download the notebook</a></p>'
    )
    title.parent.insert(
        title.parent.index(title) + 1, nodes.raw("", html, format="html")
    )


def name_solutions(app, doctree) -> None:
    """A cell that is folded whole, by the tag hide-cell, is a solution."""
    for cell in doctree.findall(nodes.container):
        if cell.get("hide_mode") == "all":
            cell["prompt_show"] = cell["prompt_hide"] = "Solution"


# Metadata -------------------------------------------------------------------------


def description(doctree: nodes.document) -> str:
    """The first paragraph, cut at a word, for search engines and shared links."""
    first = next(doctree.findall(nodes.paragraph), None)
    text = " ".join(first.astext().split()) if first else ""
    return text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " …"


def context(app, pagename, templatename, context, doctree) -> None:
    """Description, the previous and next page, and links to the repository."""
    for misleading in (' role="list"', ' aria-label="Toggle hidden content"'):
        if "body" in context:
            context["body"] = context["body"].replace(misleading, "")
    if doctree is not None and pagename != app.config.master_doc:
        context["description"] = description(doctree)
    repository, branch = app.config.repository, app.config.branch
    if not repository or doctree is None:
        return
    title = quote(f"Mistake in {pagename}: ")
    context["report"] = f"{repository}/issues/new?title={title}"
    context["repository"] = repository
    if app.env.doc2path(pagename).suffix == ".ipynb":
        name = re.sub(r"https://github\.com/", "", repository)
        file = quote(f"chapters/{pagename}.ipynb", safe="")
        context["launch"] = (
            f"https://mybinder.org/v2/gh/{name}/{branch}?urlpath=lab/tree/{file}"
        )


# Search ---------------------------------------------------------------------------


class Search(SearchEnglish):
    """English words, and Chinese in overlapping pairs of characters.

    Pairs need no dictionary: a query is cut in the same way by the script below, so
    any Chinese phrase finds the pages that have all its pairs.
    """

    lang = "en-zh"
    js_splitter_code = f"""
function splitQuery(query) {{
  const words = query.match(/[{CHINESE}]+|(?:(?![{CHINESE}])[\\p{{L}}\\p{{N}}_])+/gu);
  return (words || []).flatMap(word => {{
    const all = [...word];
    if (all.length === 1 || !/^[{CHINESE}]/.test(word)) return word;
    return all.slice(1).map((last, i) => all[i] + last);
  }});
}}
"""

    def split(self, text: str) -> list[str]:
        words = re.findall(r"[^\W\u3400-\u4dbf\u4e00-\u9fff]+", text)
        for run in re.findall(f"[{CHINESE}]+", text):
            words += [*run, *(a + b for a, b in zip(run, run[1:], strict=False))]
        return words

    def word_filter(self, word: str) -> bool:
        chinese = re.match(f"[{CHINESE}]", word)
        return bool(chinese) or SearchLanguage.word_filter(self, word)


def setup(app) -> dict:
    app.add_config_value("repository", "", "html")
    app.add_config_value("branch", "main", "html")
    app.add_search_language(Search)
    app.connect("doctree-read", name_solutions)
    app.connect("doctree-resolved", head_line, priority=600)
    app.connect("html-page-context", context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
