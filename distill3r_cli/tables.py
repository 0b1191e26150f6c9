"""Fit tables to the width of the terminal by splitting them into parts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill3r_cli.printed_lines import escape
from distill3r_core.report import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_FRAME = 1  # characters of the left border
_NAME_SHARE = 4  # a column of names takes at most a quarter of the width
_EDGE = 3  # characters that a column takes beside its text: two spaces and a border


@dataclass(frozen=True)
class TablePart:
    """Columns of a table that are shown side by side."""

    columns: tuple[int, ...]
    widths: tuple[int | None, ...]  # width of each in characters; None: as wide as its text


def split_table(table: Table, width: int) -> list[TablePart]:
    """Split a table into as few parts as the width allows; each repeats the columns of names.

    Headings and long names are wrapped between words where that saves a part; numbers never are. A
    table of prose, and one with a single column that is too wide, is not split.
    """
    every = tuple(range(len(table.columns)))
    whole = TablePart(every, (None,) * len(every))
    columns = list(zip(table.columns, *table.rows, strict=False))
    if table.prose or _total_width([max(map(_cell_width, column)) for column in columns]) <= width:
        return [whole]
    keys, others = every[: table.keys], every[table.keys :]
    least = [
        max(_longest_word(heading), max(map(_cell_width, cells), default=0))
        for heading, *cells in columns
    ]
    for index in keys:
        words = (table.columns[index], *(row[index] for row in table.rows))
        least[index] = max(min(least[index], width // _NAME_SHARE), *map(_longest_word, words))
    if not others or any(
        _total_width([least[index] for index in (*keys, one)]) > width for one in others
    ):
        return [whole]
    parts: list[list[int]] = []
    for one in others:
        if not parts or _total_width([least[index] for index in (*keys, *parts[-1], one)]) > width:
            parts.append([])
        parts[-1].append(one)
    return [
        TablePart((*keys, *part), tuple(least[index] for index in (*keys, *part))) for part in parts
    ]


def as_rich_table(table: Table, part: TablePart, *, titled: bool) -> "RichTable":
    """Convert a part into a table of rich.

    Args:
        titled: Whether to show the title.
    """
    from rich.table import Table as RichTable

    result = RichTable(
        title=escape(table.title) if titled and table.title else None,
        title_justify="left",
        show_header=any(table.columns),
    )
    for index, width in zip(part.columns, part.widths, strict=True):
        left = index == 0 or table.prose
        result.add_column(
            escape(table.columns[index]),
            justify="left" if left else "right",
            overflow="fold",
            width=width,
        )
    for row in table.rows:
        result.add_row(*(escape(row[index]) for index in part.columns))
    return result


def _longest_word(text: str) -> int:
    return max(map(_cell_width, text.split()), default=0)


def _total_width(widths: list[int]) -> int:
    return _FRAME + sum(width + _EDGE for width in widths)


def _cell_width(text: str) -> int:
    """Width of a text in characters of the terminal, where some letters take two."""
    from rich.cells import cell_len

    return max(map(cell_len, text.splitlines()), default=0)
