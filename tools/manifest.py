"""Write data/manifest.json: the sha256 of every data file that a loader reads."""

import hashlib
import json

from pages import ROOT

DATA = ROOT / "data"
LOADED = ("*.tsv", "*.conll", "zh_text/*.txt")

if __name__ == "__main__":
    files = sorted(file for pattern in LOADED for file in DATA.rglob(pattern))
    hashes = {
        file.relative_to(DATA).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    (DATA / "manifest.json").write_text(json.dumps(hashes, indent=2) + "\n")
    print(f"{len(hashes)} files in data/manifest.json")
