"""The pages of the course: where they are, what they depend on, how they are run."""

import ast
import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"


def all_pages() -> list[Path]:
    """The py:percent sources, in the order of their numbers."""
    return sorted(CHAPTERS.glob("[0-9][0-9]_*/[0-9][0-9]_*.py"))


def batch_environment() -> dict[str, str]:
    """The environment in which pages run: one thread, offline, no reloading."""
    guard = str(ROOT / "tools" / "offline")
    path = [guard, str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "COURSE_BATCH": "1",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "TOKENIZERS_PARALLELISM": "false",
    }


def imports(path: Path) -> set[Path]:
    """The files of `utils` that a file imports, directly or through others."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        for name in _names(todo.pop()):
            file = _file(name)
            if file and file not in found:
                found.add(file)
                todo.append(file)
    return found


@cache
def _names(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def _file(name: str) -> Path | None:
    if name.split(".")[0] != "utils":
        return None
    stem = ROOT.joinpath(*name.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    return None


def inputs_hash(page: Path) -> str:
    """A hash of all that a page's outputs follow from.

    Its source, the files of `utils` it imports, the data files or folders whose names
    stand in any of them, the records and claims it names, and the lock.
    """
    files = [page, *sorted(imports(page))]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    code = "\n".join(texts.values())
    parts = [f"{f.relative_to(ROOT)}\n{text}" for f, text in texts.items()]
    manifest = json.loads((ROOT / "data/manifest.json").read_text(encoding="utf-8"))
    for name, digest in manifest.items():
        folder, _, file = name.rpartition("/")
        if (folder or file) in code:
            parts.append(f"{name} {digest}")
    for record in sorted((ROOT / "data" / "records").glob("*.json")):
        if record.stem in texts[page]:
            parts.append(record.read_text(encoding="utf-8"))
    parts += [text for name, text in claim_texts().items() if name in texts[page]]
    parts.append((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@cache
def claim_texts() -> dict[str, str]:
    """Each claim's entry in data/claims.yml, as text, by id."""
    text = (ROOT / "data" / "claims.yml").read_text(encoding="utf-8")
    return dict(re.findall(r"^- id: (\S+)\n(.*?)(?=^- id: |\Z)", text, re.S | re.M))
