"""One self-contained HTML page: no network, all text escaped.

Its style and its script stand in ``page.css`` and ``page.js``; the page's own policy
lets a browser run these two and nothing else, and load nothing that is not inside.
"""

import base64
import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pde_sym.store import files

MAX_INSIDE = 2 << 20
"""A larger file is linked beside the page, not put into it."""
FOLDER = "figures"
"""Where files beside the page lie."""


@dataclass(frozen=True)
class Download:
    """A file that a page offers.

    Parameters
    ----------
    name
        Of the file.
    data
        Its bytes.
    kind
        Its MIME type.
    """

    name: str
    data: bytes
    kind: str = "text/csv"


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
    commands
        What makes it.
    data
        The numbers in it.
    """

    name: str
    title: str
    caption: str
    png: bytes
    commands: Sequence[str] = ()
    data: Sequence[Download] = ()


@dataclass(frozen=True)
class Player:
    """Frames that a slider goes through.

    Parameters
    ----------
    name, title, caption, commands, data
        As of a `Picture`.
    frames
        PNGs of one size, ``(width, height)``.
    size
        In pixels.
    times
        What the slider says at each.
    """

    name: str
    title: str
    caption: str
    frames: Sequence[bytes]
    size: tuple[int, int]
    times: Sequence[str]
    commands: Sequence[str] = ()
    data: Sequence[Download] = ()


@dataclass(frozen=True)
class Cell:
    """A value of a table with a smaller remark below it."""

    text: str
    remark: str = ""


def paragraph(text: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f"<p{attribute}>{escape(text)}</p>"


def heading(text: str) -> str:
    """Return a heading, which `page` lists at its top."""
    plain = unicodedata.normalize("NFKD", text).lower()
    name = "-".join(re.findall("[a-z0-9]+", plain))
    return f'<h2 id="{name}">{escape(text)}</h2>'


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell | str]],
    style: str = "",
    reference: Sequence[Sequence[Cell | str]] = (),
) -> str:
    """Return a table whose first column names the rows.

    A click on a heading sorts the rows; those of `reference` stay below them.
    """
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    bodies = f"<tbody>\n{_rows(rows)}\n</tbody>"
    if reference:
        bodies += f'\n<tbody class="reference">\n{_rows(reference)}\n</tbody>'
    return (
        f'<div class="scroll"><table class="{style or "numbers"}">\n'
        f"<thead><tr>{head}</tr></thead>\n{bodies}</table></div>"
    )


def _rows(rows: Sequence[Sequence[Cell | str]]) -> str:
    return "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)


def _cell(value: Cell | str) -> str:
    cell = value if isinstance(value, Cell) else Cell(value)
    remark = f"<br><small>{escape(cell.remark)}</small>" if cell.remark else ""
    return f"<td>{escape(cell.text)}{remark}</td>"


def figure(picture: Picture | Player) -> str:
    """Return a figure under its heading, with what made it and the numbers in it."""
    if isinstance(picture, Picture):
        kind, shown = "", _image(picture.png, f'alt="{escape(picture.title)}"')
    else:
        kind, shown = ' class="player"', _frames(picture)
    return (
        f"{heading(picture.title)}\n<figure{kind}>{shown}\n"
        f"<figcaption>{escape(picture.caption)}</figcaption>\n"
        f"{downloads(picture.data)}</figure>\n{commands(picture.commands)}"
    )


def _image(png: bytes, attributes: str) -> str:
    return f'<img src="{_inside("image/png", png)}" {attributes}>'


def _inside(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _frames(player: Player) -> str:
    width, height = player.size
    last = len(player.frames) - 1
    images = "\n".join(
        _image(
            png,
            f'alt="{escape(player.title)}, {escape(time)}" data-time="{escape(time)}" '
            f'width="{width}" height="{height}"{"" if number == last else " hidden"}',
        )
        for number, (png, time) in enumerate(
            zip(player.frames, player.times, strict=True)
        )
    )
    return (
        f'<div class="frames">\n{images}\n</div>\n'
        '<div class="controls" hidden><button type="button">Play</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" '
        f'aria-label="time"><output>{escape(player.times[last])}</output></div>'
    )


def downloads(offered: Sequence[Download]) -> str:
    """Return links to files, which are inside the page unless they are large."""
    if not offered:
        return ""
    links = []
    for file in offered:
        inside = len(file.data) <= MAX_INSIDE
        target = _inside(file.kind, file.data) if inside else f"{FOLDER}/{file.name}"
        size = f"{max(1, round(len(file.data) / 1024))} KiB"
        links.append(
            f'<a download="{escape(file.name)}" href="{escape(target)}">'
            f"{escape(file.name)}</a> ({size})"
        )
    return f'<p class="note">Data: {", ".join(links)}</p>\n'


def links(targets: Sequence[tuple[str, str]]) -> str:
    """Return links to other pages, each with its text."""
    found = (f'<a href="{escape(to)}">{escape(text)}</a>' for to, text in targets)
    return f"<p>{', '.join(found)}</p>" if targets else ""


def commands(lines: Sequence[str]) -> str:
    """Return what made the numbers above, to be run in the page's folder."""
    if not lines:
        return ""
    text = "\n".join(lines)
    return (
        '<details class="made"><summary class="note">Made by</summary>\n'
        f"<pre>{escape(text)}</pre></details>"
    )


def details(summary: str, text: str) -> str:
    """Return text that opens on a click."""
    return (
        f"<details><summary>{escape(summary)}</summary>\n"
        f"<pre>{escape(text)}</pre></details>"
    )


def write(out: Path, text: str, pictures: Sequence[Picture | Player]) -> None:
    """Write a page, and beside it its pictures with the numbers in them."""
    place = out.parent / FOLDER
    files.make_folder(place)
    for name, data in files_of(pictures).items():
        files.write_file(place / name, data)
    files.write_file(out, text.encode())


def files_of(pictures: Sequence[Picture | Player]) -> dict[str, bytes]:
    """Return the files that lie beside a page: pictures, and the numbers in them."""
    found = {f"{p.name}.png": p.png for p in pictures if isinstance(p, Picture)}
    return found | {d.name: d.data for p in pictures for d in p.data}


def page(title: str, parts: Sequence[str]) -> str:
    """Return the whole page."""
    body = "\n".join(parts)
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{_contents(body)}\n{body}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _contents(body: str) -> str:
    """Return links to the headings of a page."""
    found = re.findall('<h2 id="([^"]*)">(.*?)</h2>', body)
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in found)
    return f'<nav aria-label="contents"><ul>{links}</ul></nav>' if links else ""


@functools.cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return by what a policy knows an inline style or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
