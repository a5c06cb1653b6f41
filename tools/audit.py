"""Walk the built site and JupyterLab in a real browser: make audit.

The site, served with gzip: axe in light and dark, links and anchors, the console,
requests to other hosts, sideways scrolling on a phone, weights. The ledger, from a
file and without JavaScript. Every notebook, run from top to bottom in JupyterLab, on a
copy. Prints the weights, then everything that is wrong; exits with 1 if anything is.
"""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import urlopen

import nbformat
import yaml
from playwright.sync_api import TimeoutError as Late
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
BUDGET = {"without figures": 350, "with figures": 700}  # KB over the wire
PHONE = 390
LAB_SECONDS = 300  # for one page, run whole
# JupyterLab 4.6 lays its toolbar over a cell that it has just taken off the screen.
LAB_OWN = "_markdownOverlapsToolbar"
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync""".split()
FIGURES = (".png", ".jpg", ".jpeg", ".svg")
AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


def chromium() -> str:
    """Where the browser is, or one sentence on how to get it."""
    names = "chromium", "chromium-browser", "google-chrome", "chrome"
    found = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, names)), ""
    )
    if not found:
        sys.exit("No Chromium: `sudo apt install chromium`, or CHROMIUM=/path/to/it.")
    return found


class Gzip(SimpleHTTPRequestHandler):
    """Serves the site compressed, as a host does."""

    def __init__(self, *args):
        super().__init__(*args, directory=str(SITE))

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        body = wire(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        if path.suffix not in (".png", ".woff2"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def wire(path: Path) -> bytes:
    """What goes over the wire for a file."""
    body = path.read_bytes()
    return body if path.suffix in (".png", ".woff2") else gzip.compress(body, 6)


@contextmanager
def served():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gzip)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


# The site -------------------------------------------------------------------------


def watch(page, base: str, wrong: list[str], asked: set[str]) -> None:
    """Note each request of a page, and what it reports on the console."""

    def request(r):
        if r.url.startswith(base):
            asked.add(unquote(urlsplit(r.url).path))
        elif not r.url.startswith(("data:", "blob:")):
            wrong.append(f"asks another host: {r.url}")

    def console(m):
        if m.type in ("error", "warning"):
            wrong.append(f"console: {m.text[:200]}")

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))


def violations(page) -> list[str]:
    """Serious and critical findings of axe."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    return [
        f"axe {v['impact']} {v['id']} ×{len(v['nodes'])}: {v['nodes'][0]['html'][:120]}"
        for v in page.evaluate(AXE)
        if v["impact"] in ("serious", "critical")
    ]


def visit(browser, base: str, path: str) -> tuple[list[str], list[str], dict]:
    """What is wrong with one page, the links on it, and its weight in KB."""
    wrong, asked = [], set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        watch(page, base, wrong, asked)
        page.goto(base + path, wait_until="networkidle")
        wrong += [f"{scheme}: {found}" for found in violations(page)]
        links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        context.close()
    context = browser.new_context(viewport={"width": PHONE, "height": 844})
    page = context.new_page()
    page.goto(base + path, wait_until="networkidle")
    width = page.evaluate("document.documentElement.scrollWidth")
    if width > PHONE:
        wrong.append(f"scrolls sideways on a phone: {width} of {PHONE} px")
    context.close()
    sizes = {
        p: len(wire(SITE / p[1:])) / 1000 for p in asked if (SITE / p[1:]).is_file()
    }
    figures = {p for p in sizes if "/_images/" in p and p.endswith(FIGURES)}
    weight = {
        "without figures": sum(kb for p, kb in sizes.items() if p not in figures),
        "with figures": sum(sizes.values()),
    }
    for kind, kb in weight.items():
        if kb > BUDGET[kind]:
            wrong.append(f"weighs {kb:.0f} KB {kind}; the budget is {BUDGET[kind]} KB")
    return wrong, links, weight


def broken(base: str, links: set[str]) -> list[str]:
    """Links inside the site that lead nowhere; `#key=value` is a filter, no anchor."""
    bad = []
    for link in sorted(links):
        if not link.startswith(base):
            continue
        address, anchor = urldefrag(link)
        path = SITE / unquote(urlsplit(address).path)[1:]
        if not path.is_file():
            bad.append(link.removeprefix(base))
        elif anchor and "=" not in anchor and path.suffix == ".html":
            text = path.read_text(encoding="utf-8")
            if f'id="{unquote(anchor)}"' not in text:
                bad.append(link.removeprefix(base))
    return bad


def site(browser) -> list[str]:
    """Every page that can be reached from the first."""
    problems, todo, links = [], ["/index.html"], {}
    with served() as base:
        for path in todo:
            wrong, found, weight = visit(browser, base, path)
            kb = ", ".join(f"{kb:.0f} KB {kind}" for kind, kb in weight.items())
            print(f"{path}: {kb}", flush=True)
            problems += [f"{path}: {text}" for text in dict.fromkeys(wrong)]
            for link in found:
                links.setdefault(link, path)
                target = urlsplit(link).path
                is_page = link.startswith(base) and target.endswith(".html")
                if is_page and target not in todo and (SITE / target[1:]).is_file():
                    todo.append(target)
        for link in broken(base, set(links)):
            problems.append(f"{links[base + link]}: broken link {link}")
    return problems


def search(browser) -> list[str]:
    """The search finds an English and a Chinese word."""
    wrong, asked = [], set()
    with served() as base:
        page = browser.new_page()
        watch(page, base, wrong, asked)
        for word in ("normalisation", "归一化", "饱和"):
            page.goto(f"{base}/search.html?q={word}", wait_until="networkidle")
            page.wait_for_timeout(700)
            if not page.locator("#search-results li").count():
                wrong.append(f"finds nothing for {word}")
        page.close()
    return [f"search: {text}" for text in wrong]


def ledger_file(browser) -> list[str]:
    """The ledger as a file: its filters work, and without JavaScript it is whole."""
    wrong: list[str] = []
    claims = yaml.safe_load((ROOT / "data" / "claims.yml").read_text(encoding="utf-8"))
    address = (SITE / "ledger.html").as_uri()
    rows = "#ledger-table tbody tr:visible"
    page = browser.new_page()
    watch(page, "file://", wrong, set())
    page.goto(address + "#verdict=wrong")
    expected = sum(claim["verdict"] == "wrong" for claim in claims)
    if page.locator(rows).count() != expected:
        wrong.append(f"#verdict=wrong shows not {expected} rows")
    page.fill("input[name=q] >> nth=-1", "归一化")
    if not 0 < page.locator(rows).count() < expected:
        wrong.append("the words 归一化 do not narrow the table")
    page.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    if page.locator(rows).count() != len(claims):
        wrong.append(f"without JavaScript not all {len(claims)} rows are there")
    context.close()
    return [f"ledger from a file: {text}" for text in wrong]


# JupyterLab -----------------------------------------------------------------------


@contextmanager
def lab(folder: Path):
    """A JupyterLab in `folder`; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += [
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=folder, **quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urlopen(f"{address}/api/status").close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_in_lab(browser, address: str, folder: Path, notebook: Path) -> list[str]:
    """Open one notebook, run all its cells, save it, and read what was saved."""
    name = notebook.relative_to(folder).as_posix()
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": 1300, "height": 1000})

    def script_error(error):
        if LAB_OWN not in (error.stack or ""):
            wrong.append(f"script error: {error}")

    page.on("pageerror", script_error)
    try:
        page.goto(f"{address}/lab/tree/{name}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
        page.wait_for_timeout(4000)  # asked sooner, it offers a choice of kernels
        page.wait_for_selector(
            ".jp-Notebook-ExecutionIndicator[data-status=idle]",
            timeout=60_000,
            state="attached",
        )
        page.get_by_text("Run", exact=True).first.click(timeout=10_000)
        page.locator(".lm-Menu-itemLabel").get_by_text(
            "Run All Cells", exact=True
        ).click()
        page.wait_for_function(
            """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
               .every(prompt => /\\d/.test(prompt.textContent)) ||
               document.querySelector('[data-mime-type="application/vnd.jupyter.error"]')""",
            timeout=LAB_SECONDS * 1000,
        )
        page.keyboard.press("Control+s")
        page.wait_for_timeout(2500)
    except Late as error:
        dialogs = page.locator(".jp-Dialog").all_inner_texts()
        wrong += dialogs or [f"not finished: {str(error).splitlines()[0]}"]
    page.close()
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type != "code":
            continue
        if cell.source and not cell.execution_count:
            wrong.append(f"a cell did not run: {cell.source[:60]!r}")
        for output in cell.outputs:
            if output.output_type == "error":
                wrong.append(f"{output.ename}: {output.evalue[:200]}")
    return [f"{name} in JupyterLab: {text}" for text in wrong]


def notebooks(browser) -> list[str]:
    """Every page of book.yml that is a notebook, on a copy without outputs."""
    toc = (ROOT / "book.yml").read_text(encoding="utf-8")
    pages = [
        ROOT / "chapters" / f"{name}.ipynb" for name in re.findall(r"file: (\S+)", toc)
    ]
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "course")
        skip = shutil.ignore_patterns(".venv", ".git", "_build", ".ipynb_checkpoints")
        shutil.copytree(ROOT, copy, ignore=skip)
        with lab(copy) as address:
            for page in filter(Path.is_file, pages):
                notebook = copy / page.relative_to(ROOT)
                clear(notebook)
                start = time.perf_counter()
                problems += run_in_lab(browser, address, copy, notebook)
                seconds = time.perf_counter() - start
                print(f"{page.stem} in JupyterLab: {seconds:.0f} s", flush=True)
    return problems


def clear(notebook: Path) -> None:
    """Empty the outputs, so that what is found after the run is of the run."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    notebook.write_text(json.dumps(content), encoding="utf-8")
    source = notebook.with_suffix(".py")
    if source.exists():  # jupytext refuses a pair whose text is the older one
        source.touch()


def main() -> None:
    if not (SITE / "index.html").is_file():
        sys.exit("No site in _build/html: run `make book` first.")
    browser_path = chromium()
    parts = {"site": site, "search": search, "ledger": ledger_file, "lab": notebooks}
    wanted = sys.argv[1:] or parts
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        for part in wanted:
            problems += parts[part](browser)
        browser.close()
    print(*problems, sep="\n")
    if problems:
        sys.exit(f"{len(problems)} things to repair")
    print("Nothing to repair.")


if __name__ == "__main__":
    main()
