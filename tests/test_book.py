"""The extensions in book/: what they count, link, name, warn of and load."""

import io
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from book import ledger as book_ledger  # noqa: E402
from book import pages, terms  # noqa: E402
from utils.lab.claims import VERDICTS, ledger  # noqa: E402

CLAIMS = ledger()


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build a small copy of the book: build(pages, repository) → (folder, warnings)."""

    def run(sources: dict[str, str], repository: str = "") -> tuple[Path, str]:
        from sphinx.application import Sphinx

        folder = tmp_path_factory.mktemp("book")
        for name in ("book", "data"):
            shutil.copytree(ROOT / name, folder / name)
        chapters = folder / "chapters"
        chapters.mkdir()
        front = "index ledger documents questions glossary notation bibliography"
        front = front.split()
        for name in front:
            page = (ROOT / "chapters" / f"{name}.md").read_text(encoding="utf-8")
            page = re.sub(r"\[(.*?)\]\(\S+\.ipynb\)", r"\1", page)  # not copied
            (chapters / f"{name}.md").write_text(page, encoding="utf-8")
        for name, text in sources.items():
            (chapters / name).write_text(text, encoding="utf-8")
        names = [*front[1:], *(name.split(".")[0] for name in sources)]
        book = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))
        book["meta"]["repository"] = repository
        book["subtrees"] = [{"entries": [{"file": name} for name in names]}]
        (folder / "book.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
        warnings = io.StringIO()
        out = folder / "html"
        app = Sphinx(
            chapters,
            folder / "book",
            out,
            folder / "doctrees",
            "html",
            status=None,
            warning=warnings,
        )
        app.build()
        return out, re.sub(r"\x1b\[[0-9;]*m", "", warnings.getvalue())

    return run


def notebook(cells: list[dict]) -> str:
    for number, cell in enumerate(cells):
        cell.setdefault("metadata", {})
        cell["id"] = f"cell-{number}"
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "", "language": "python"},
        "course": {"inputs": "0", "seconds": 7.4},
    }
    page = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(page)


def settling(name: str) -> dict:
    """A code cell whose stored output settles a claim."""
    output = {
        "output_type": "display_data",
        "data": {
            "text/html": f'<div class="claim" id="{name}">样例文字</div>',
            "text/plain": "",
        },
        "metadata": {"settled": [{"id": name, "evidence": ["1 equals 1"], "note": ""}]},
    }
    return {
        "cell_type": "code",
        "source": "settle(...)",
        "execution_count": 1,
        "outputs": [output],
    }


PAGE = notebook(
    [
        {
            "cell_type": "markdown",
            "source": "# A page\n\nAbout {term}`LN` and $x^2$, see "
            "{claim}`norms-ln-batch-size`.",
        },
        settling("norms-ln-axis"),
        {
            "cell_type": "markdown",
            "source": "Seen in {cite}`dosovitskiy2021vit`: {claim}`norms-cv-bn-nlp-ln`."
            "\n\n- {claim}`norms-bn-axis`",
        },
    ]
)


@pytest.fixture(scope="module")
def built(build) -> tuple[Path, str]:
    return build({"page.ipynb": PAGE})


def text(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


def ledger_row(site: Path, name: str) -> str:
    return re.search(f'<tr id="{name}".*?</tr>', text(site, "ledger"), re.S)[0]


def test_no_warnings(built):
    assert built[1] == ""


def test_the_ledger_has_every_claim_once(built):
    rows = re.findall(r'<tr id="([^"]+)" data-chapter', text(built[0], "ledger"))
    assert rows == list(CLAIMS)


def test_the_chart_and_the_front_page_count_the_data(built):
    total = Counter(claim["verdict"] for claim in CLAIMS.values())
    chart = re.search(r'<table class="chart">.*?</table>', text(built[0], "ledger"))[0]
    for verdict in VERDICTS:
        numbers = (
            rf'class="{verdict}" style.*?<td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>'
        )
        claims, settled, still_open = map(int, re.search(numbers, chart).groups())
        assert claims == total[verdict] == settled + still_open
    assert f"<td>{len(CLAIMS)}</td><td>2</td>" in chart
    front = " ".join(text(built[0], "index").split())
    assert f"say {len(CLAIMS)} things" in front
    assert f"{total['wrong']} are wrong" in front
    squares = re.findall(r'<a class="(\w+) (\w+)" tabindex', front)
    assert len(squares) == len(CLAIMS)
    assert Counter(state for _, state in squares)["settled"] == 1


def test_a_mark_in_an_output_becomes_a_link_to_its_cell(built):
    row = ledger_row(built[0], "norms-ln-axis")
    assert 'href="page.html#norms-ln-axis"' in row and 'data-state="settled"' in row
    assert 'data-state="open"' in ledger_row(built[0], "norms-bn-axis")


def test_a_claim_of_tier_c_beside_a_citation_is_cited(built):
    row = ledger_row(built[0], "norms-cv-bn-nlp-ln")
    assert 'data-state="cited"' in row and "page.html#norms-cv-bn-nlp-ln" in row
    page = text(built[0], "page")
    assert page.count('id="norms-cv-bn-nlp-ln"') == 1
    assert CLAIMS["norms-cv-bn-nlp-ln"]["truth"][:30] in page


def test_a_claim_in_prose_leads_to_the_ledger(built):
    page = text(built[0], "page")
    assert 'class="claim-ref" href="ledger.html#norms-ln-batch-size"' in page
    assert 'class="claim-line" href="ledger.html#norms-bn-axis"' in page


def test_an_unknown_claim_warns(build):
    _, warnings = build({"page.md": "# A page\n\n{claim}`norms-no-such-claim`\n"})
    assert "no claim 'norms-no-such-claim'" in warnings


def test_a_bad_formula_warns(build):
    _, warnings = build({"page.md": "# A page\n\n$\\frac{1}$\n"})
    assert "KaTeX" in warnings or "frac" in warnings


def test_the_documents_page_has_every_claim_in_order(built):
    page = text(built[0], "documents")
    assert len(re.findall(r'<li><span class="seed">', page)) == len(CLAIMS)
    places = [book_ledger.place(claim) for claim in CLAIMS.values()]
    for number in book_ledger.DOCUMENTS:
        assert any(place[0] == number for place in places)


def test_unanswered_questions_keep_their_answers(built):
    page = text(built[0], "questions")
    asked = [c for c in CLAIMS.values() if c["verdict"] == "answered"]
    assert page.count('class="question"') == len(asked)
    assert asked[0]["truth"][:40] not in page


def test_the_line_under_the_title(built):
    page = text(built[0], "page")
    assert "1 min to read · 7 s to run · 2 claims settled here" in page
    assert 'href="_sources/page.ipynb" download' in page
    assert (built[0] / "_sources" / "page.ipynb").is_file()


def test_formulas_are_html_before_the_browser_sees_them(built):
    page = text(built[0], "page")
    assert 'class="katex"' in page and "<math " in page
    sheet = (built[0] / "_static" / "katex" / "katex.css").read_text()
    for font in re.findall(r"url\(([^)]+)\)", sheet):
        assert (built[0] / "_static" / "katex" / font).is_file()
    assert "katex.css" not in text(built[0], "glossary")


def test_every_name_of_a_term_is_a_target_once():
    entries = terms.glossary(ROOT / "data" / "glossary.yml")
    found = [name.lower() for entry in entries for name in terms.names(entry)]
    assert [name for name, times in Counter(found).items() if times > 1] == []
    assert {"ln", "layer normalisation", "层归一化", "gradient", "梯度"} <= set(found)


def test_a_link_to_a_term_shows_its_definition(built):
    link = re.search(r'<a class="[^"]*term[^"]*"[^>]*>', text(built[0], "page"))[0]
    assert "glossary.html#term-layer-normalisation-ln" in link
    assert "Standardises each token vector" in link


def test_no_page_loads_anything_from_elsewhere(built):
    loads = r'<(?:link|script|img|iframe|source)\b[^>]*(?:src|href)="(?:https?:)?//'
    for page in built[0].rglob("*.html"):
        assert not re.search(loads, page.read_text(encoding="utf-8")), page.name
    for sheet in built[0].rglob("*.css"):
        assert not re.search(r"url\(.?https?:", sheet.read_text(encoding="utf-8"))


def test_the_repository_link_is_there_when_it_is_set(built, build):
    assert "Report a mistake" not in text(built[0], "page")
    site, _ = build({"page.ipynb": PAGE}, "https://github.com/someone/settled")
    page = text(site, "page")
    assert "someone/settled/issues/new?title=Mistake%20in%20page" in page
    assert "mybinder.org/v2/gh/someone/settled/main" in page


def test_search_cuts_chinese_into_pairs(built):
    search = pages.Search({})
    assert search.split("LN层归一化") == [
        *("LN", "层", "归", "一", "化"),
        *("层归", "归一", "一化"),
    ]
    index = (built[0] / "searchindex.js").read_text(encoding="utf-8")
    assert '"\\u6837\\u4f8b"' in index or '"样例"' in index  # from a cell's output
