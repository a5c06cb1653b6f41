"""What holds for every page: pair in step, nothing volatile, ledger complete."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import jupytext
import manifest
import nbformat
import pages
import pytest
import run
from jupytext.cli import jupytext as jupytext_cli
from jupytext.compare import compare_notebooks

from utils.lab.claims import ledger

PAGES = pages.all_pages()
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda p: f"{p.parent.name}/{p.stem}"
)
VOLATILE = {
    "a memory address": r"\b0x[0-9a-f]{6,}",
    "a path": r"(?:/(?:home|tmp|usr|root|opt|Users|var)/|site-packages|[A-Z]:\\)",
    "a date or time": r"\b20\d\d-\d\d-\d\d\b|\b\d\d:\d\d:\d\d\b",
    "a progress bar": r"\d+%\|",
    "a warning": r"\b\w*Warning: ",
}
TOPICS = [
    path.stem if path.is_file() else path.name
    for path in (pages.ROOT / "utils").iterdir()
    if path.name not in ("__init__.py", "__pycache__", "lab", "exercises")
]


def notebook(page: Path):
    twin = page.with_suffix(".ipynb")
    assert twin.exists(), f"{page.name} was never run: make run"
    return nbformat.read(twin, 4)


def code_cells(page: Path) -> list:
    return [
        c for c in notebook(page).cells if c.cell_type == "code" and c.source.strip()
    ]


def texts(output) -> list[str]:
    """What a reader sees of an output, pictures apart."""
    if output.output_type == "stream":
        return [output.text]
    return [t for kind, t in output.get("data", {}).items() if kind.startswith("text/")]


def calls(page: Path, *names: str) -> list[ast.Call]:
    tree = ast.parse(page.read_text(encoding="utf-8"))
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names
    ]


def settled_in(page: Path) -> list[str]:
    """The ids that a page's source settles, as often as it does."""
    found = []
    for call in sorted(calls(page, "settle", "settle_all"), key=lambda c: c.lineno):
        table = call.func.id == "settle_all"
        found += [key.value for key in (call.args[0].keys if table else call.args[:1])]
    return found


def cited_in(page: Path) -> list[str]:
    return re.findall(r"\{claim\}`([\w-]+)`", page.read_text(encoding="utf-8"))


@each_page
def test_pair_is_in_step(page):
    compare_notebooks(
        jupytext.read(page, fmt="py:percent"),
        notebook(page),
        fmt="py:percent",
        compare_outputs=False,
    )


@each_page
def test_saving_in_jupyterlab_changes_nothing(page, tmp_path):
    """What jupytext writes when the notebook is saved is the source as it stands."""
    shutil.copy(page.parent.parent / "jupytext.toml", tmp_path)
    shutil.copy(page, tmp_path)
    twin = shutil.copy(page.with_suffix(".ipynb"), tmp_path)
    os.utime(twin, (4e9, 4e9))  # as if saved later than the source
    jupytext_cli(["--quiet", "--sync", str(twin)])
    assert (tmp_path / page.name).read_text(encoding="utf-8") == page.read_text(
        encoding="utf-8"
    )


@each_page
def test_outputs_follow_from_the_present_inputs(page):
    stored = notebook(page).metadata["course"]["inputs"]
    assert stored == pages.inputs_hash(page), "the stored outputs are old: make run"


@each_page
def test_every_code_cell_was_executed_in_order(page):
    counts = [cell.execution_count for cell in code_cells(page)]
    assert counts == list(range(1, len(counts) + 1))


@each_page
def test_outputs_are_not_volatile(page):
    for cell in code_cells(page):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
            for text in texts(output):
                for what, pattern in VOLATILE.items():
                    assert not re.search(pattern, text), f"{what} in: {text[:300]}"


@each_page
def test_figures_have_captions_and_alternative_texts(page):
    for cell in code_cells(page):
        if any("image/png" in o.get("data", {}) for o in cell.outputs):
            about = cell.metadata.get("mystnb", {})
            assert about.get("figure", {}).get("caption"), cell.source
            assert about.get("image", {}).get("alt"), cell.source


@each_page
def test_cells_are_short(page):
    for cell in code_cells(page):
        lines = [ln for ln in cell.source.split("\n") if ln.strip()]
        assert len(lines) <= 25, f"{len(lines)} lines:\n{cell.source}"
        assert max(map(len, lines)) <= 88, cell.source
    assert page.with_suffix(".ipynb").stat().st_size <= 400_000


@each_page
def test_page_defines_nothing_that_utils_holds(page):
    tree = ast.parse(page.read_text(encoding="utf-8"))
    defined = {
        node.name: node.lineno
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for topic in TOPICS:
        held = vars(import_module(f"utils.{topic}"))
        twice = {n: line for n, line in defined.items() if n in held}
        assert not twice, f"utils/{topic} has {twice} already"


def test_chapters_are_settled_whole():
    """A chapter that settles any claim settles each A and B once, and cites each C."""
    settled = Counter(name for page in PAGES for name in settled_in(page))
    cited = Counter(name for page in PAGES for name in cited_in(page))
    written = {ledger()[name]["chapter"] for name in settled}
    assert written, "no claim is settled anywhere"
    for name, claim in ledger().items():
        expected = 1 if claim["chapter"] in written else 0
        if claim["tier"] == "C":
            assert bool(cited[name]) == bool(expected), (
                f"{name} is cited {cited[name]}×"
            )
            assert not settled[name], f"{name} has tier C and is settled by a cell"
        else:
            assert settled[name] == expected, f"{name} is settled {settled[name]}×"
    missing = [
        name
        for name, claim in ledger().items()
        if claim["chapter"] in written and not claim.get("says_zh")
    ]
    assert not missing, f"without says_zh: {missing}"


@each_page
def test_stored_cards_are_those_of_the_source(page):
    stored = [
        mark["id"]
        for cell in code_cells(page)
        for output in cell.outputs
        for mark in output.get("metadata", {}).get("settled", [])
    ]
    assert stored == settled_in(page)


def public_names(module) -> dict:
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and getattr(thing, "__module__", None) == module.__name__
        and (inspect.isfunction(thing) or inspect.isclass(thing))
    }


def modules_of(folder: str) -> list[str]:
    found = []
    for file in sorted((pages.ROOT / folder).rglob("*.py")):
        dotted = (
            file.relative_to(pages.ROOT).with_suffix("").as_posix().replace("/", ".")
        )
        found.append(dotted.removesuffix(".__init__"))
    return found


@pytest.mark.parametrize("name", modules_of("utils"))
def test_public_names_are_documented(name):
    module = import_module(name)
    assert module.__doc__, name
    for public, thing in public_names(module).items():
        text = inspect.getdoc(thing)
        assert text, f"{name}.{public} has no docstring"
        if name.split(".")[1:2] in [[topic] for topic in TOPICS]:
            shapes = r"\([\w….][\w…., −/×]*\)"
            assert re.search(shapes, text + module.__doc__), f"{name}.{public}: shapes?"


def test_imports_run_one_way():
    """chapters → utils.<topic> → utils.lab, and no topic imports an exercise."""
    for name in modules_of("utils"):
        file = pages._file(name)
        used = {
            n for n in pages._names(file) if n.split(".")[0] in ("utils", "chapters")
        }
        if name.startswith("utils.lab"):
            assert all(n.startswith("utils.lab") for n in used), f"{name}: {used}"
        elif not name.startswith("utils.exercises"):
            assert not any(n.startswith("utils.exercises") for n in used), name


def test_the_sanitising_file_has_one_rule_and_make_run_the_same():
    text = (pages.ROOT / "tests" / "nbval.cfg").read_text(encoding="utf-8")
    rules = re.findall(r"^regex: (.*)$", text, re.MULTILINE)
    assert rules == [run.MEASURED.pattern]


@pytest.mark.parametrize(
    ("text", "alike"),
    [
        ("took ≈ 1.5 s", True),
        ("took ≈12.5e-3 s", True),
        ("took ≈ 1.5 ms", False),
        ("took 1.6 s", False),
        ("took ≈ nan s", False),
    ],
)
def test_only_what_follows_the_sign_is_sanitised(text, alike):
    assert (run.without_measured(text) == run.without_measured("took ≈9 s")) == alike


def test_pages_cannot_reach_the_network():
    attempt = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run(
        [sys.executable, "-c", attempt],
        env=pages.batch_environment() | {"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode and "a page reached for the network: 192.0.2.1" in done.stderr
    )


def test_manifest_names_every_data_table():
    named = json.loads((manifest.DATA / "manifest.json").read_text())
    tables = {
        file.relative_to(manifest.DATA).as_posix()
        for pattern in manifest.LOADED
        for file in manifest.DATA.rglob(pattern)
    }
    assert tables == named.keys()
