"""The lists of dependencies agree, and an installation fails in clear sentences."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import install
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = "settled-notes"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(name: str) -> dict[str, Requirement]:
    """The requirements of a file by canonical name, without pip's options."""
    lines = (line.partition("#")[0].strip() for line in read(name).splitlines())
    found = [Requirement(line) for line in lines if line and line[0] != "-"]
    named = {canonicalize_name(requirement.name): requirement for requirement in found}
    assert len(named) == len(found), f"{name} names a package twice"
    return named


DIRECT = requirements("requirements.txt")
LOCK = requirements("constraints.txt")
PINNED = LOCK | {"torch": DIRECT["torch"]}  # torch: whichever build pip chooses


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is not exact"
    return specifier.version


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_requirements_start_with_the_lock_and_end_with_the_course():
    options = re.findall(r"^-.*", read("requirements.txt"), re.MULTILINE)
    assert options == ["-c constraints.txt", "-e ."]
    assert [name for name, r in DIRECT.items() if r.specifier] == ["torch"]


def test_every_direct_dependency_is_locked():
    assert set(DIRECT) <= set(PINNED)


def test_the_lock_is_exact_and_fits_every_computer():
    assert list(LOCK) == sorted(LOCK)
    for name, requirement in PINNED.items():
        assert "+" not in version(requirement), f"{name}: a local build"
        assert not re.match(r"nvidia|cuda|triton", name), f"{name}: one vendor's"
    assert "--hash" not in read("constraints.txt")


def test_the_lock_is_whole_and_satisfies_everything():
    todo, seen = list(DIRECT), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for needed in map(Requirement, metadata.requires(name) or ()):
            key = canonicalize_name(needed.name)
            if not applies(needed) or re.match(r"nvidia|cuda|triton", key):
                continue
            assert key in PINNED, f"{name} needs {key}: make lock"
            assert needed.specifier.contains(version(PINNED[key]), prereleases=True), (
                f"{name} needs {needed}: make lock"
            )
            todo.append(key)


def test_what_is_installed_is_what_is_locked():
    for name, requirement in PINNED.items():
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            assert name not in DIRECT, f"{name} is not installed: make install"
            continue
        assert installed == version(requirement), f"{name}: make install"


def test_conda_installs_the_same_list():
    conda = yaml.safe_load(read("environment.yml"))
    python, pip, packages = conda["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.txt"]})
    assert python == "python=3.11"
    assert f"CONDA_DEFAULT_ENV),{conda['name']})" in read("Makefile")


def imported(path: Path) -> set[str]:
    """The top-level modules that a source imports; relative ones are ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_a_direct_dependency():
    folders = ["utils", "tools", "book", "tests", "chapters"]
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    known = set(folders) | {path.stem for path in sources} | sys.stdlib_module_names
    provider = metadata.packages_distributions()
    audit = ROOT / "tools" / "audit-requirements.txt"
    extra = requirements("tools/audit-requirements.txt") if audit.exists() else {}
    for path in sources:
        allowed = set(DIRECT) | (set(extra) if path.stem.startswith("audit") else set())
        for name in imported(path) - known:
            packages = {canonicalize_name(p) for p in provider.get(name, [name])}
            assert packages & allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_make_lists_every_target():
    targets = re.findall(r"^\.PHONY: (\w+)", read("Makefile"), re.MULTILINE)
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert re.findall(r"^make (\w+)", listed.stdout, re.MULTILINE) == targets
    for name in "README.md", "CONTRIBUTING.md":
        named = re.findall(r"(?:`|^)make (\w+)", read(name), re.MULTILINE)
        assert set(named) <= set(targets), name


def test_the_readme_counts_as_the_ledger_does():
    claims = yaml.safe_load(read("data/claims.yml"))
    told = re.findall(r"^\| (\d\d) .*?\| (\d+) \|", read("README.md"), re.MULTILINE)
    counted = Counter(claim["chapter"][:2] for claim in claims)
    assert {number: int(count) for number, count in told} == counted
    words = " ".join(read("README.md").split())
    assert f"the {len(claims)} claims" in words
    verdicts = Counter(claim["verdict"] for claim in claims)
    for verdict, told in {
        "holds": "{} hold,",
        "depends": "{} depend on",
        "wrong": "{} are wrong",
        "outdated": "{} are outdated",
        "answered": "{} were open questions",
    }.items():
        assert told.format(verdicts[verdict]) in words


def test_ci_does_what_everybody_does():
    assert read(".ci/run").rstrip().endswith("exec make test")
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    commands = [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
    assert {"make test", "make book"} <= set(commands)


def test_the_version_is_told_once():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == metadata.version(OURS)


@pytest.mark.parametrize(
    "output, sentence",
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by "
            "'NewConnectionError'\nERROR: No matching distribution found for torch",
            "cannot be reached: look at your network",
        ),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch==9", "offers no torch==9"),
        ("ERROR: Cannot uninstall yaml", "failed: Cannot uninstall yaml"),
        ("Segmentation fault", ".venv/install.log says more"),
    ],
)
def test_a_failed_installation_says_why(output, sentence):
    told = install.reason(output)
    assert sentence in told and "\n" not in told


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A pretended .venv in which everything is installed."""
    for name in "VENV", "STAMP", "UNFINISHED", "PYTHON":
        there = tmp_path / getattr(install, name).relative_to(install.ROOT)
        monkeypatch.setattr(install, name, there)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "runs", lambda *_: True)
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\n")
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\n")
    install.VENV.mkdir()
    (install.VENV / "pyvenv.cfg").write_text("version = 3.11.7\n")
    install.STAMP.write_text(install.fingerprint())
    assert install.ready()
    return tmp_path


@pytest.mark.parametrize(
    "changed", ["requirements.txt", "constraints.txt", ".venv/pyvenv.cfg"]
)
def test_a_changed_lock_or_python_installs_again(installed, changed):
    (installed / changed).write_text("something else\n")
    assert not install.ready() and install.usable()


def test_an_installation_cut_off_starts_anew(installed):
    install.UNFINISHED.touch()
    assert not install.ready() and not install.usable()


def test_a_moved_folder_installs_again(installed, monkeypatch):
    monkeypatch.setattr(install, "fingerprint", lambda: "of another folder")
    assert not install.ready()


def test_a_python_without_venv_is_told_the_package(monkeypatch):
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    with pytest.raises(install.Failed, match=r"install python3\.\d+-venv"):
        install.make_venv()


@pytest.fixture
def make(tmp_path):
    """Run make in a bare copy of the set-up, out of reach of any package index."""
    for name in (
        "Makefile",
        "pyproject.toml",
        "requirements.txt",
        "constraints.txt",
        "tools/install.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(read(name))
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PIP", "MAKE"))}
    offline = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9",
        "PIP_RETRIES": "1",
    }

    def run(*pythons: str) -> subprocess.CompletedProcess:
        command = ["make", "install", f"PYTHON={' '.join(pythons)}"]
        return subprocess.run(
            command, cwd=tmp_path, env=keep | offline, capture_output=True, text=True
        )

    run.folder, run.old = tmp_path, str(old)
    return run


def sentences(error: str) -> list[str]:
    return [line for line in error.splitlines() if not line.startswith("make")]


def test_an_old_python_is_named_in_one_sentence(make):
    (told,) = sentences(make(make.old).stderr)
    assert told.startswith("No Python 3.11 or newer") and make.old in told


def test_half_a_venv_is_made_anew_and_no_network_is_one_sentence(make):
    (make.folder / ".venv" / "bin").mkdir(parents=True)
    (make.folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    done = make(make.old, sys.executable)  # the first is too old, the second serves
    assert "incomplete: making it anew" in done.stdout
    (told,) = sentences(done.stderr)
    assert told.startswith("The package index cannot be reached") and done.returncode
    assert (make.folder / ".venv" / "bin" / "python").exists()
