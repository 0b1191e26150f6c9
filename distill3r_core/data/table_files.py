"""Tables in text files: lines of words between spaces or commas, `#` for comments."""

from pathlib import Path

from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of


def read_table(path: Path) -> list[tuple[int, list[str]]]:
    """Words of each line that is neither empty nor a comment, with the line's number.

    Raises:
        ImageError: It cannot be read.
    """
    try:
        lines = read_text_file(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    rows = ((number, line.replace(",", " ").split()) for number, line in enumerate(lines, 1))
    return [(number, words) for number, words in rows if words and not words[0].startswith("#")]
