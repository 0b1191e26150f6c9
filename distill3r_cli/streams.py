"""Standard streams that cost no work: closed, full, or of another encoding."""

import io
import os
import sys
from contextlib import suppress


class PatientStream(io.TextIOWrapper):
    """Discards what cannot be written: a message on a full disk is no reason to end the work."""

    def write(self, text: str, /) -> int:
        """Write what can be written."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError):
            super().flush()


def make_streams_safe() -> None:
    """Make stderr discard what cannot be written, and both streams escape what they cannot encode.

    A closed descriptor is opened: else the next file of the program gets its number, and messages
    of libraries go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    elif isinstance(sys.stderr, io.TextIOWrapper):
        encoding, raw = sys.stderr.encoding, io.FileIO(2, "w", closefd=False)
        # Without a buffer: what it failed to write would be tried again at every flush.
        sys.stderr = PatientStream(
            raw,  # pyright: ignore[reportArgumentType]  a stream of bytes, as of `python -u`
            encoding=encoding,
            errors="backslashreplace",
            write_through=True,
        )
