"""Records: what took many seeds or a fair clock, measured once and kept with its code.

data/records/<name>.json holds raw samples, library versions, processor and threads, and
a hash of the files whose code was measured, so that a test can say when it is old.
"""

import hashlib
import json
import platform
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "records"


def code_hash(files: list[str]) -> str:
    """A hash of the named files' texts (paths from the repository's root)."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in sorted(files)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def write(name: str, samples: dict, files: list[str], threads: int) -> None:
    """Keep `samples` (JSON) as record `name` of the code in `files`."""
    import torch

    about = {
        "code": {"files": sorted(files), "hash": code_hash(files)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "processor": processor(),
        "threads": threads,
    }
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(about | {"samples": samples}, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read(name: str) -> dict:
    """A record, whole. Raises FileNotFoundError that says how to make it."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no record {name!r}: make records, or make bench")
    return json.loads(path.read_text(encoding="utf-8"))


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
