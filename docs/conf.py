"""The documentation: `make docs` executes its pages and turns warnings into errors.

The site needs no network: formulas are MathML, fonts are the reader's own.
"""

import os
import re
import sys
from copy import copy
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, get_origin

from docutils import nodes
from latex2mathml.converter import convert
from myst_nb.core import render
from myst_nb.core.utils import coalesce_streams
from sphinx.util.nodes import make_refnode

HERE = Path(__file__).parent

project = "pde_sym"
author = "The pde_sym developers"
release = version_of("pde-sym")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "shown.py", "links.py"]
html_theme = "furo"
html_title = f"pde_sym {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"
bibtex_bibfiles = ["references.bib"]

# Pages ------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("PDE_SYM_DOCS_EXECUTION", "cache")
nb_execution_in_temp = True
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True


def _join(outputs: list[Any]) -> list[Any]:
    """Join the pieces of a stream as they came; myst-nb ends a line after each."""
    whole: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        name = output.get("name") if output["output_type"] == "stream" else None
        if name in streams:
            streams[name]["text"] += output["text"]
            continue
        output = copy(output)
        whole.append(output)
        if name is not None:
            streams[name] = output
    return coalesce_streams(whole)


render.coalesce_streams = _join
nb_render_markdown_format = "gfm"
# Progress goes to stderr, and differs from run to run.
nb_output_stderr = "remove"

# Cells find the commands, helpers of these pages and the example of a system.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
example = HERE.parent / "examples" / "reaction_diffusion"
found = os.environ.get("PYTHONPATH", "")
os.environ["PYTHONPATH"] = os.pathsep.join(
    str(place) for place in (found, HERE, example) if place
)
os.environ |= {"TERM": "dumb", "COLUMNS": "88", "BASH_ENV": str(HERE / "cells.sh")}

# The reference ----------------------------------------------------------------------

default_role = "py:obj"
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "ignore-module-all": True,
}
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
nitpicky = True
# A word in single backticks is a link where it names one thing here; one with a dot
# must be.
nitpick_ignore_regex = [
    ("py:obj", r"\w+|(torch|pde_sym\.kernels)\..*"),
    ("py:class", r".*"),
]


def equations_as_they_are(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Make indented paragraphs of docstrings literal blocks."""
    del app, what, name, obj, options
    found: list[str] = []
    margin = last = ""
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        starts = line.strip() and found and not found[-1] and len(indent) > len(margin)
        if starts and not last.endswith("::"):
            found += [f"{margin}::", ""]
        found.append(line)
        if line.strip():
            margin, last = indent, line
    lines[:] = found


def without_aliases(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out names of types such as ``list[Tensor]``, which numpydoc cannot read."""
    del app, what, name, skip, options
    return True if get_origin(obj) in (dict, list, tuple) else None


def linked_by_its_last_names(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve a name that ends the full name of one documented object alone.

    Names that a package gives to what its modules hold are known by the last part.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not re.fullmatch(r"[\w.]+", target):
        return None
    objects = env.domains.python_domain.objects
    package, _, last = target.rpartition(".")
    names = [name for name in objects if name == target or name.endswith(f".{target}")]
    if package.startswith("pde_sym") and not names:
        names = [
            name
            for name in objects
            if name.startswith(f"{package}.") and name.endswith(f".{last}")
        ]
    if "." not in target and target.islower():
        # What is called `step` or `grid` is mostly an argument.
        names = [name for name in names if objects[name].objtype == "function"]
    if len(names) != 1:
        return None
    entry = objects[names[0]]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, content, names[0]
    )


# What a page shows ------------------------------------------------------------------


def commands_as_they_are_typed(app: Any, doctree: nodes.document) -> None:
    """Show cells of commands without their first line, which tells what runs them."""
    del app
    magic = "%%bash\n"
    for block in doctree.findall(nodes.literal_block):
        if block.astext().startswith(magic):
            text = block.astext().removeprefix(magic)
            block.rawsource, block.children = text, [nodes.Text(text)]
            block["language"] = "bash"


def inline_formula(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_formula(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Connect the above."""
    # Before numpydoc, which reads sections.
    app.connect("autodoc-process-docstring", equations_as_they_are, priority=400)
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("missing-reference", linked_by_its_last_names)
    app.connect("doctree-read", commands_as_they_are_typed)
    app.add_html_math_renderer(
        "mathml", (inline_formula, None), (displayed_formula, None)
    )
