"""Settings of the site: python -m sphinx -W -n -c book chapters _build/html

The source folder is `chapters`, so that an address reads /01_norms/02_three_axes.html
and Sphinx looks at no other file. Titles and contents are in book.yml.
"""

import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

external_toc_exclude_missing = True
external_toc_path = (ROOT / "book.yml").as_posix()
settings = yaml.safe_load(Path(external_toc_path).read_text(encoding="utf-8"))["meta"]

project = settings["title"]
author = settings["author"]
copyright = author
language = "en"
nitpicky = True
exclude_patterns = ["**/.ipynb_checkpoints", "**/.virtual_documents"]

extensions = [
    "myst_nb",
    "sphinx_external_toc",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "book.formulas",
    "book.ledger",
    "book.terms",
    "book.pages",
]
source_suffix = {".ipynb": "myst-nb", ".md": "myst-nb"}
nb_execution_mode = "off"
nb_number_source_lines = False
nb_code_prompt_show = "Show {type}"
nb_code_prompt_hide = "Hide {type}"
myst_enable_extensions = [
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
]
myst_heading_anchors = 3
numfig = True
math_numfig = False
bibtex_bibfiles = [str(ROOT / "data" / "references.bib")]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

data_folder = str(ROOT / "data")
repository = settings["repository"].rstrip("/")
branch = settings["branch"]

templates_path = []
html_theme = "course"
html_theme_path = ["."]
html_title = f"{settings['title']} — {settings['subtitle']}"
html_short_title = settings["title"]
html_math_renderer = "formulas"
html_search_language = "en-zh"
html_sourcelink_suffix = ""
html_show_sphinx = False
html_permalinks_icon = "#"
html_context = {
    "subtitle": settings["subtitle"],
    "description": settings["description"],
}
