"""Execute the pages whose inputs changed and store their outputs.

    python tools/run.py [--fresh] [--jobs N] [page.py ...]

Two runs leave no difference: cell ids follow from the source, no time or path is kept,
and outputs that differ only behind ≈ stay as they were, unless --fresh is given.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from pages import ROOT, all_pages, batch_environment, inputs_hash
from PIL import Image

MEASURED = re.compile(
    r"[ \t]*≈[ \t]*[-+−]?[\d.]+(?:e[-+]?\d+)?[ \t]*"
)  # as tests/nbval.cfg


def name_cells(cells: list) -> None:
    """Ids that depend on the source alone: its hash, numbered where it repeats."""
    seen: dict[str, int] = {}
    for cell in cells:
        base = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[base] = seen.get(base, 0) + 1
        cell.id = base if seen[base] == 1 else f"{base}-{seen[base]}"


def without_measured(value):
    """An output with everything behind ≈ taken out, and pictures, for comparison."""
    if isinstance(value, str):
        return MEASURED.sub("≈", value)
    if isinstance(value, dict):
        return {
            key: without_measured(item)
            for key, item in value.items()
            if key not in ("image/png", "execution_count")
        }
    return [without_measured(i) for i in value] if isinstance(value, list) else value


def keep_stored(new, old) -> None:
    """Give `new` the stored outputs of `old` where only measured numbers differ.

    All or none of a page: numbers and pictures of one run belong together.
    """
    pairs = list(zip(new.cells, old.cells, strict=False))
    alike = len(new.cells) == len(old.cells) and all(
        a.source == b.source
        and without_measured(a.get("outputs", []))
        == without_measured(b.get("outputs", []))
        for a, b in pairs
    )
    for a, b in pairs if alike else []:
        if a.cell_type == "code":
            a.outputs = b.outputs


def slim(notebook) -> None:
    """Store pictures with 128 colours: a third of the bytes, the same to the eye."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if encoded := output.get("data", {}).get("image/png"):
                picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
                small = io.BytesIO()
                picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
                    small, "PNG", optimize=True
                )
                output.data["image/png"] = base64.b64encode(small.getvalue()).decode()


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
    ) as part:
        part.write(text)
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)


def run(page: Path, fresh: bool) -> float:
    """Execute one page and store it; returns the seconds it took."""
    notebook = jupytext.read(page, fmt="py:percent")
    twin = page.with_suffix(".ipynb")
    old = nbformat.read(twin, 4) if twin.exists() else nbformat.v4.new_notebook()
    notebook.metadata.jupytext = old.metadata.get("jupytext", {})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    name_cells(notebook.cells)
    start = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(page.parent)}},
    ).execute()
    seconds = time.perf_counter() - start
    notebook.metadata.pop("language_info", None)
    slim(notebook)
    if not fresh:
        keep_stored(notebook, old)
    stored = old.metadata.get("course", {}).get("seconds", 0)
    steady = 0.5 < (seconds + 2) / (stored + 2) < 2
    notebook.metadata.course = {
        "inputs": inputs_hash(page),
        "seconds": stored if steady else round(seconds),
    }
    nbformat.validate(notebook)
    write_whole(twin, nbformat.writes(notebook) + "\n")
    os.utime(page)
    os.utime(twin)  # the twin is never older than its source
    return seconds


def is_stale(page: Path) -> bool:
    twin = page.with_suffix(".ipynb")
    if not twin.exists():
        return True
    course = nbformat.read(twin, 4).metadata.get("course", {})
    return course.get("inputs") != inputs_hash(page)


def why(error: Exception) -> str:
    """The last line of a failed cell, without colour codes; all of it for the rest."""
    if isinstance(error, CellExecutionError):
        text = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
        return text[-3000:]
    if isinstance(error, CellTimeoutError):
        return "a cell ran for more than 300 s"
    return f"{type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--fresh", action="store_true", help="run all, keep nothing")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    named = [page.resolve().with_suffix(".py") for page in options.pages]
    if missing := [page for page in named if not page.is_file()]:
        print(f"no such page: {missing[0]}", file=sys.stderr)
        return 2
    todo = named or [p for p in all_pages() if options.fresh or is_stale(p)]
    if not todo:
        print("Every page is up to date.")
        return 0
    os.environ.update(batch_environment())
    failed, start = 0, time.perf_counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(run, page, options.fresh): page for page in todo}
        for done, job in enumerate(as_completed(jobs), 1):
            name = jobs[job].relative_to(ROOT / "chapters").with_suffix("")
            bar = f"[{'█' * done}{'·' * (len(todo) - done)}]"
            if error := job.exception():
                failed += 1
                print(f"{bar} {name} FAILED, its stored outputs stay\n{why(error)}")
            else:
                print(f"{bar} {job.result():6.1f} s  {name}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{len(todo) - failed} of {len(todo)} pages, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
