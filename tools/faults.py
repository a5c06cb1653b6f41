"""Break the course in small ways and demand that a check goes red for each.

    python tools/faults.py [part of a name ...]

tests/faults/*.yml lists the faults: in `file`, the text `replace`, which must stand
there once, becomes `with`; then `run` must fail (tests by their pytest ids, or a page
by its name), and what it prints must hold `says`. All happens in copies of the tree.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import yaml
from pages import ROOT, batch_environment

FIELDS = {"name", "file", "replace", "with", "run", "says"}
COPIES = 2


def load() -> list[dict]:
    """All faults; raises ValueError for one that is not whole or not to be applied."""
    faults = []
    for path in sorted((ROOT / "tests" / "faults").glob("*.yml")):
        faults += yaml.safe_load(path.read_text(encoding="utf-8"))
    for fault in faults:
        if set(fault) != FIELDS:
            wrong = ", ".join(sorted(set(fault) ^ FIELDS))
            raise ValueError(f"fault {fault.get('name')!r}: fields {wrong}")
        text = (ROOT / fault["file"]).read_text(encoding="utf-8")
        if (count := text.count(fault["replace"])) != 1:
            place = f"its text stands {count} times in {fault['file']}"
            raise ValueError(f"fault {fault['name']!r}: {place}, not once")
    return faults


def copy_tree(target: Path) -> Path:
    """The working tree without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


def execute(run: str, tree: Path) -> tuple[bool, str]:
    """Whether `run` is green in `tree`, and what it printed."""
    page = tree / "chapters" / f"{run}.py"
    command, place = ["-m", "pytest", "-q", "-x", *run.split()], tree
    if page.is_file():
        command, place = [str(page)], page.parent
    environment = os.environ | batch_environment() | {"MPLBACKEND": "Agg"}
    path = [str(tree), str(tree / "tools"), str(tree / "tools" / "offline")]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode == 0, done.stdout + done.stderr


def trial(fault: dict, trees: Queue) -> str:
    """Apply a fault, run, undo; an empty answer means that it was caught."""
    tree = trees.get()
    try:
        file = tree / fault["file"]
        whole = file.read_text(encoding="utf-8")
        file.write_text(whole.replace(fault["replace"], fault["with"]), "utf-8")
        green, text = execute(fault["run"], tree)
        file.write_text(whole, "utf-8")
    finally:
        trees.put(tree)
    if green:
        return "NOT CAUGHT"
    return "" if fault["says"] in text else f"red, without {fault['says']!r}:\n{text}"


def main() -> int:
    start = time.perf_counter()
    faults = load()
    if wanted := sys.argv[1:]:
        faults = [f for f in faults if any(part in f["name"] for part in wanted)]
    trees: Queue = Queue()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(COPIES):
            trees.put(copy_tree(Path(folder) / str(number)))
        with ThreadPoolExecutor(COPIES) as pool:
            runs = sorted({fault["run"] for fault in faults})
            clean = Path(folder) / "clean"
            copy_tree(clean)
            for run, (green, text) in zip(
                runs, pool.map(lambda run: execute(run, clean), runs), strict=True
            ):
                if not green:
                    print(f"{run} is red without any fault:\n{text[-3000:]}")
                    return 1
            print(f"{len(runs)} checks are green without a fault")
            answers = pool.map(lambda fault: trial(fault, trees), faults)
            missed = 0
            for fault, answer in zip(faults, answers, strict=True):
                missed += bool(answer)
                print(f"{'caught' if not answer else answer[-3000:]:7} {fault['name']}")
    seconds = time.perf_counter() - start
    print(f"{len(faults) - missed} of {len(faults)} faults caught, {seconds:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
