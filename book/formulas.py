"""Formulas become HTML and MathML while the book is built: no script in the page.

KaTeX, its styles and its fonts all come, in one version, from the installed package
jupyterlab-myst, which carries them as two webpack chunks. The few lines of JavaScript
below are what webpack's own loader would do with these chunks.
"""

import atexit
import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)
SHARE = Path(sys.prefix, "share/jupyter/labextensions/jupyterlab-myst/static")
LOADER = """
var self = {}, modules = {}, loaded = {}, document = {baseURI: ""};
self.webpackChunkjupyterlab_myst = {push: c => Object.assign(modules, c[1])};
function load(id) {
  if (!loaded[id]) {
    loaded[id] = {id: id, exports: {}};
    if (modules[id]) modules[id](loaded[id], loaded[id].exports, load);
    else loaded[id].exports = "asset-" + id;
  }
  return loaded[id].exports;
}
load.r = exports => {};
load.p = "";
load.n = m => () => m;
load.d = (exports, get) => { for (let k in get)
  Object.defineProperty(exports, k, {get: get[k], enumerable: true}); };
class URL { constructor(path) { this.path = path; } toString() { return this.path; } }
"""


def chunk(mark: str) -> str:
    """The text of the one chunk of jupyterlab-myst that holds `mark`."""
    for path in sorted(SHARE.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        if mark in text:
            return text
    raise ExtensionError(f"KaTeX ({mark}) is not in {SHARE}: run `make` again")


@cache
def katex() -> MiniRacer:
    """A JavaScript engine with KaTeX in it, as `katex`, and its styles, as `styles`."""
    engine, script = chunk("__renderToDomTree"), chunk("katex-version")
    js = MiniRacer()
    atexit.register(js.close)  # left open, it can keep Python from ever exiting
    js.eval(LOADER + engine + script)
    name = re.search(r"\{(\d+)\(e,t,r\)\{r\.r\(t\),r\.d\(t,\{ParseError", engine)[1]
    sheet = re.search(r"\{(\d+)\(e,n,t\)\{t\.d\(n,\{A:", script)[1]
    js.eval(f"var katex = load({name}), styles = load({sheet}).A.toString();")
    return js


def render(tex: str, display: bool) -> str:
    """HTML with MathML for one formula; raises JSEvalException on a bad one."""
    options = json.dumps({"displayMode": display, "strict": "error", "trust": False})
    return katex().eval(f"katex.renderToString({json.dumps(tex)}, {options})")


def html_of(node: nodes.Element, display: bool) -> str:
    try:
        return render(node.astext(), display)
    except Exception as error:
        reason = re.search(r"ParseError: (.*)", str(error)) or [None, str(error)]
        log.warning("%s in the formula %s", reason[1], node.astext(), location=node)
        return f"<code>{node.astext()}</code>"


def visit_inline(self, node) -> None:
    self.body.append(html_of(node, display=False))
    raise nodes.SkipNode


def visit_block(self, node) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(html_of(node, display=True) + "</div>\n")
    raise nodes.SkipNode


def styles() -> str:
    """KaTeX's style sheet, with one format a font: woff2, which every browser reads."""
    sheet = katex().eval("styles")
    return re.sub(r", url\([^)]*\) format\(\"(woff|truetype)\"\)", "", sheet)


def copy_styles(app, error) -> None:
    """Write KaTeX's styles and the fonts they name beside the pages."""
    if error or app.builder.format != "html":
        return
    sheet = styles()
    folder = Path(app.outdir, "_static", "katex")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "katex.css").write_text(sheet, encoding="utf-8")
    for font in re.findall(r"url\((\w+\.woff2)\)", sheet):
        shutil.copyfile(SHARE / font, folder / font)


def link_styles(app, pagename, templatename, context, doctree) -> None:
    """Only a page with a formula loads the styles."""
    math = (nodes.math, nodes.math_block)
    context["has_math"] = bool(doctree) and any(
        isinstance(node, math) for node in doctree.findall()
    )


def setup(app) -> dict:
    inline, block = (visit_inline, None), (visit_block, None)
    app.add_html_math_renderer("formulas", inline, block)
    app.connect("html-page-context", link_styles)
    app.connect("build-finished", copy_styles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
