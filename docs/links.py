"""Every link of a built site leads somewhere within it: `python links.py FOLDER`.

Links to other hosts are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that links can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            elif name in ("id", "name"):
                self.places.add(value or "")


def examine(folder: Path) -> tuple[list[str], set[str]]:
    """Return the links that lead nowhere, as ``page: link``, and those to elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    broken, elsewhere = [], set()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                elsewhere.add(link)
                continue
            target = (
                (path.parent / unquote(parts.path)).resolve() if parts.path else path
            )
            known = pages.get(target)
            found = target.is_file() and target.is_relative_to(folder.resolve())
            if not found or (known and unquote(parts.fragment) not in known.places):
                broken.append(f"{path.relative_to(folder.resolve())}: {link}")
    return broken, {link for link in elsewhere if not link.startswith("data:")}


def main() -> None:
    """Examine a folder; links that lead nowhere are the exit's message."""
    broken, _ = examine(Path(sys.argv[1]))
    sys.exit("\n".join(broken) or None)


if __name__ == "__main__":
    main()
