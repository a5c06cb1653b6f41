"""Bring .venv up to the lock. `make` calls this before every target.

Standard library alone; any Python 3.11 or newer may run it. What goes wrong is said
in one sentence, and the next call repairs whatever this one left behind.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"  # the fingerprint of what was installed
UNFINISHED = VENV / "unfinished"  # exists while an installation is under way
LOG = VENV / "install.log"  # all that pip said the last time

REASONS = {
    r"No space left on device|Errno 28|Disk quota exceeded": (
        "The disk is full: .venv needs about 2.5 GB, several more with CUDA."
    ),
    r"connection broken|NewConnectionError|ConnectTimeout|ReadTimeout|Max retries"
    r"|Failed to establish|name resolution|ProxyError|SSLError|IncompleteRead": (
        "The package index cannot be reached: look at your network or proxy."
    ),
    r"No matching distribution found for (?P<what>\S+)": (
        "The package index offers no {what} for Python "
        f"{sys.version_info.major}.{sys.version_info.minor} on {platform.platform()}, "
        "or cannot be reached."
    ),
    r"ERROR: (?P<what>.+)": "The installation failed: {what}",
}


class Failed(Exception):
    """An installation that cannot go on; its text is the sentence to show."""


def fingerprint() -> str:
    """Hash what an installation depends on: the lock, this Python, this folder."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in ROOT / "requirements.txt", ROOT / "constraints.txt":
        digest.update(path.read_bytes())
    digest.update((VENV / "pyvenv.cfg").read_bytes())
    return digest.hexdigest()


def runs(code: str, *flags: str) -> bool:
    """Does .venv have a Python that can run this line?"""
    try:
        command = [PYTHON, "-I", *flags, "-c", code]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def ready() -> bool:
    """Is everything in place? Answered in a tenth of a second."""
    try:
        same = STAMP.read_text() == fingerprint()
    except OSError:
        return False
    here = Path(sys.prefix) == VENV
    return same and not UNFINISHED.exists() and (here or runs("", "-S"))


def usable() -> bool:
    """Can pip go on from the .venv that is here?"""
    # Without its pyvenv.cfg, .venv's Python is the system's own: never install there.
    inside = f"import pip, sys; assert sys.prefix == {str(VENV)!r} != sys.base_prefix"
    recent = "assert sys.version_info > (3, 11)"
    return not UNFINISHED.exists() and runs(f"{inside}; {recent}")


def reason(output: str) -> str:
    """Find the sentence for what a failed command said."""
    for pattern, sentence in REASONS.items():
        if found := re.search(pattern, output):
            return sentence.format(**found.groupdict())
    return f"The installation failed; {LOG.relative_to(ROOT)} says more."


def say(text: str) -> None:
    """Show one passing line of progress, where somebody watches."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text[:79]}", end="", flush=True)


def call(*command: str | Path) -> None:
    """Run a command to its end, keeping what it says in the log.

    Raises `Failed` with one sentence if it fails.
    """
    if VENV.is_dir():
        UNFINISHED.touch()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PIP_REQUIRE_VIRTUALENV": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = ""
    try:
        for line in process.stdout:
            output += line
            if found := re.match(r"\s*(Downloading|Installing) \S+", line):
                say(found[0].strip())
    except KeyboardInterrupt:
        process.terminate()
        raise
    finally:
        output += process.communicate()[0]
        say("")
        # pip fetches everything before it unpacks: until then nothing is half done.
        if "Installing collected" not in output:
            UNFINISHED.unlink(missing_ok=True)
        if VENV.is_dir():
            LOG.write_text(output)
    if process.returncode:
        raise Failed(reason(output))


def make_venv() -> None:
    """Make .venv anew, with Python and pip and nothing else."""
    if not (find_spec("venv") and find_spec("ensurepip")):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Failed(
            f"{sys.executable} cannot make virtual environments: install "
            f"python{version}-venv, or name another: make PYTHON=/path/to/python3"
        )
    base = getattr(sys, "_base_executable", sys.executable)
    if VENV in Path(base).parents:
        base = os.path.realpath(base)
    if VENV.exists():
        print(".venv is incomplete: making it anew.")
        shutil.rmtree(VENV / "bin", ignore_errors=True)  # cut off from here, unusable
    call(base, "-m", "venv", "--clear", "--without-pip", VENV)
    call(PYTHON, "-I", "-m", "ensurepip", "--default-pip")


def install() -> None:
    """Install requirements.txt, torch first where an index for it is named."""
    pip = [PYTHON, "-I", "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    if index := os.environ.get("TORCH_INDEX"):
        requirements = (ROOT / "requirements.txt").read_text()
        torch = re.search(r"^torch==\S+", requirements, re.MULTILINE)[0]
        call(*pip, "--no-deps", "--index-url", index, torch)
    call(*pip, "-r", "requirements.txt")
    STAMP.write_text(fingerprint())
    UNFINISHED.unlink()


def main() -> None:
    """Do what is missing, one process at a time."""
    if ready():
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open(ROOT / "requirements.txt") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if ready():
            return
        start = time.monotonic()
        if not usable():
            make_venv()
        print("Installing into .venv, which may take some minutes.", flush=True)
        install()
        print(f"Installed in {time.monotonic() - start:.0f} s.")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"{failure} Then run make again.")
    except KeyboardInterrupt:
        sys.exit("Installation cut off; run make again to finish it.")
    except OSError as error:
        sys.exit(reason(f"ERROR: {error}"))
