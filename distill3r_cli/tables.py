"""Tables on a screen that may be narrower than they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill3r_cli.progress import escape
from distill3r_core.report import Table

if TYPE_CHECKING:
    from rich.table import Table as Drawn

_FRAME = 1  # columns of the screen that the first edge takes
_SHARE = 4  # of the screen's width, for one column of names
_EDGE = 3  # that every column takes beside its text: a space, a space, an edge


@dataclass(frozen=True)
class Part:
    """Some columns of a table, which stand side by side.

    Args:
        columns: Their places in the table.
        widths: Characters of each; None: as wide as they like.
    """

    columns: tuple[int, ...]
    widths: tuple[int | None, ...]


def parts_of(table: Table, width: int) -> list[Part]:
    """A table in as many parts as a screen needs, each behind the columns that name a row.

    Headings are broken between words where that saves a part, and so are names that take more than
    a share of the screen; numbers never. A table of prose, and one of which a single column is too
    wide, is left to break where it must.

    Args:
        table: To be shown.
        width: Characters of the screen.
    """
    every = tuple(range(len(table.columns)))
    whole = Part(every, (None,) * len(every))
    if table.prose or _room([_natural(table, index) for index in every]) <= width:
        return [whole]
    keys, others = every[: table.keys], every[table.keys :]
    least = [_least(table, index) for index in every]
    for index in keys:
        words = (table.columns[index], *(row[index] for row in table.rows))
        least[index] = max(min(least[index], width // _SHARE), *map(_longest_word, words))
    if not others or any(_room([least[index] for index in (*keys, one)]) > width for one in others):
        return [whole]
    parts: list[list[int]] = []
    for one in others:
        if not parts or _room([least[index] for index in (*keys, *parts[-1], one)]) > width:
            parts.append([])
        parts[-1].append(one)
    return [Part((*keys, *part), tuple(least[index] for index in (*keys, *part))) for part in parts]


def drawn(table: Table, part: Part, *, titled: bool) -> "Drawn":
    """A part as rich draws it.

    Args:
        table: Whose it is.
        part: The columns.
        titled: Whether the table's title stands above it.
    """
    from rich.table import Table as Drawn

    shown = Drawn(
        title=escape(table.title) if titled and table.title else None,
        title_justify="left",
        show_header=any(table.columns),
    )
    for index, width in zip(part.columns, part.widths, strict=True):
        left = index == 0 or table.prose
        shown.add_column(
            escape(table.columns[index]),
            justify="left" if left else "right",
            overflow="fold",
            width=width,
        )
    for row in table.rows:
        shown.add_row(*(escape(row[index]) for index in part.columns))
    return shown


def _natural(table: Table, index: int) -> int:
    return max(map(_cells, (table.columns[index], *(row[index] for row in table.rows))))


def _least(table: Table, index: int) -> int:
    cells = max(map(_cells, (row[index] for row in table.rows)), default=0)
    return max(_longest_word(table.columns[index]), cells)


def _longest_word(text: str) -> int:
    return max(map(_cells, text.split()), default=0)


def _room(widths: list[int]) -> int:
    return _FRAME + sum(width + _EDGE for width in widths)


def _cells(text: str) -> int:
    """Characters of the screen that a text takes: some letters take two."""
    from rich.cells import cell_len

    return max(map(cell_len, text.splitlines()), default=0)
