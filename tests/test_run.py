"""tools/run.py and tools/faults.py: what is stored, what is old, what faults hit."""

import base64
import io
import re

import faults
import nbformat
import pages
import pytest
import run
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from utils.lab.claims import ledger


def notebook(*texts: str, source: str = "f()"):
    """A notebook with one executed cell a text."""
    cells = [
        new_code_cell(source, outputs=[new_output("stream", text=text)], id=str(i))
        for i, text in enumerate(texts)
    ]
    return new_notebook(cells=cells)


def shown(book) -> list[str]:
    return [cell.outputs[0].text for cell in book.cells]


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (["loss ≈0.31"], ["loss ≈0.32"], ["loss ≈0.31"]),
        (["loss 0.31"], ["loss 0.32"], ["loss 0.32"]),
        (["≈1 s", "n 3"], ["≈2 s", "n 4"], ["≈2 s", "n 4"]),  # all or none
        (["≈1 s"], ["≈2 s", "≈3 s"], ["≈2 s", "≈3 s"]),
    ],
)
def test_only_measured_differences_keep_what_was_stored(old, new, kept):
    fresh = notebook(*new)
    run.keep_stored(fresh, notebook(*old))
    assert shown(fresh) == kept


def test_a_changed_source_takes_the_new_outputs():
    fresh = notebook("≈2", source="g()")
    run.keep_stored(fresh, notebook("≈1"))
    assert shown(fresh) == ["≈2"]


def test_cell_ids_follow_from_the_sources():
    cells = [new_code_cell(s) for s in ("a", "b", "a")]
    run.name_cells(cells)
    ids = [cell.id for cell in cells]
    again = [new_code_cell(s) for s in ("a", "b", "a")]
    run.name_cells(again)
    assert ids == [cell.id for cell in again] and len(set(ids)) == 3


def test_pictures_are_stored_small_and_whole():
    picture = io.BytesIO()
    Image.effect_mandelbrot((120, 90), (-2, -1, 1, 1), 60).save(picture, "PNG")
    book = notebook("x")
    data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
    book.cells[0].outputs = [new_output("display_data", data)]
    run.slim(book)
    stored = base64.b64decode(book.cells[0].outputs[0].data["image/png"])
    assert Image.open(io.BytesIO(stored)).size == (120, 90)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.ipynb"
    run.write_whole(path, "old")
    with pytest.raises(TypeError):
        run.write_whole(path, None)
    assert path.read_text() == "old"
    run.write_whole(path, "new")
    assert path.read_text() == "new"


def test_a_page_depends_on_what_it_uses_and_on_nothing_else(monkeypatch):
    page = next(p for p in pages.all_pages() if p.stem == "02_three_axes")
    used = {path.relative_to(pages.ROOT).as_posix() for path in pages.imports(page)}
    assert {"utils/norms.py", "utils/lab/claims.py", "utils/lab/evidence.py"} <= used
    assert "utils/toys.py" not in used
    before, entries = pages.inputs_hash(page), dict(pages.claim_texts())
    monkeypatch.setattr(pages, "claim_texts", lambda: entries)
    entries["crf-loss-ratio"] = "changed"  # another chapter's claim
    assert pages.inputs_hash(page) == before
    entries["norms-ln-axis"] = "changed"
    assert pages.inputs_hash(page) != before


def test_every_fault_can_be_applied_and_hits_each_experiment():
    """A claim of tier A has a fault after which its card refuses to be shown."""
    listed = faults.load()
    assert len({fault["name"] for fault in listed}) == len(listed)
    hit = {re.sub(" is not settled$", "", fault["says"]) for fault in listed}
    stored = [
        mark["id"]
        for page in pages.all_pages()
        for cell in nbformat.read(page.with_suffix(".ipynb"), 4).cells
        for output in cell.get("outputs", [])
        for mark in output.get("metadata", {}).get("settled", [])
    ]
    missing = [i for i in stored if ledger()[i]["tier"] == "A" and i not in hit]
    assert not missing, f"no fault hits {missing}"


def test_a_fault_that_no_longer_fits_is_named(monkeypatch, tmp_path):
    (tmp_path / "tests/faults").mkdir(parents=True)
    (tmp_path / "file.py").write_text("a = 1\n")
    text = (
        "- {name: gone, file: file.py, replace: b = 2, with: '', run: tests, says: x}"
    )
    (tmp_path / "tests/faults/x.yml").write_text(text)
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="'gone': its text stands 0 times in file.py"):
        faults.load()
