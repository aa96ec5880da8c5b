"""Tables on the terminal."""

from collections.abc import Sequence


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table whose columns but the first are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Wide enough for every cell: a cut number is no number.
    widths = [max(map(len, cells)) + 3 for cells in zip(columns, *rows, strict=True)]
    Console(width=max(80, sum(widths) + 1)).print(table)
