"""Lines of text: broken between words on a terminal, and left whole elsewhere.

Rich is imported where it is used, so that `--help` stays instant.
"""

from typing import TYPE_CHECKING

from distill3r_core.untrusted.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

COMMAND = "next: "  # begins a line that holds a command


def print_line(console: "Console", text: str, *, label: str = "") -> None:
    """Print a line.

    A terminal breaks it between words; a command to be copied stays whole, and so does everything
    that goes to a file.

    Args:
        console: Where to.
        text: Text without markup.
        label: Markup to put before it.
    """
    whole = not console.is_terminal or text.startswith(COMMAND)
    console.print(f"{label}{escape(text)}", soft_wrap=whole, highlight=False)


def escape(text: str) -> str:
    """Text with its markup and control characters escaped."""
    from rich.markup import escape as escaped

    return escaped(printable(text))
