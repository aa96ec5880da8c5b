"""One self-contained HTML page: no network, no scripts, all text escaped."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CSS = """
:root { color-scheme: light dark; --fg: #1d1d1f; --bg: #ffffff; --soft: #5c5c66;
  --line: #d6d6dc; }
@media (prefers-color-scheme: dark) { :root { --fg: #e9e9ee; --bg: #17171a;
  --soft: #a9a9b4; --line: #3b3b43; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg);
  max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { vertical-align: bottom; }
.texts td, .texts th { text-align: left; }
figure { margin: 1.5rem 0; }
figure img { background: #fff; max-width: 100%; height: auto; display: block; }
figcaption, .note { color: var(--soft); font-size: .92rem; }
small { color: var(--soft); white-space: nowrap; }
code, pre { font-size: .85rem; }
pre { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG with what it says.

    Parameters
    ----------
    name
        Of its file, without suffix.
    title
        Heading above it.
    caption
        What is shown, its formula, what to look for.
    png
        The bytes.
    """

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Cell:
    """A value of a table with a smaller remark below it."""

    text: str
    remark: str = ""


def paragraph(text: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f"<p{attribute}>{escape(text)}</p>"


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell | str]], style: str = ""
) -> str:
    """Return a table whose first column names the rows."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{style or "numbers"}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: Cell | str) -> str:
    cell = value if isinstance(value, Cell) else Cell(value)
    remark = f"<br><small>{escape(cell.remark)}</small>" if cell.remark else ""
    return f"<td>{escape(cell.text)}{remark}</td>"


def figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f"{heading(picture.title)}\n<figure>"
        f'<img src="data:image/png;base64,{data}" alt="{escape(picture.title)}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def details(summary: str, text: str) -> str:
    """Return text that opens on a click."""
    return (
        f"<details><summary>{escape(summary)}</summary>\n"
        f"<pre>{escape(text)}</pre></details>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """Return the whole page."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
