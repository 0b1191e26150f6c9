"""Which sequences or scenes are for what, by the files that their data set has for it.

`TrainSplit.txt` and `TestSplit.txt` beside the sequences of a scene; lists of scenes, one a line.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill3r_core.data.manifest_cells import Split
from distill3r_core.files import is_there, read_text_file, refuse_special

_NUMBERED = re.compile(r"sequence\s*(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class SplitFiles:
    """Names of sequences or scenes; None where no file names any."""

    train: frozenset[str] | None
    test: frozenset[str] | None

    def split_of(self, sequence: str) -> Split | None:
        """Training where it is named at all for training; None where it is not named."""
        if sequence in (self.train or ()):
            return "train"
        return "val" if sequence in (self.test or ()) else None

    def is_test(self, sequence: str) -> bool:
        """Test data: what is named so, or everything where no file says."""
        return self.test is None or sequence in self.test


def read_split_files(folder: Path) -> SplitFiles:
    """Both files of a folder, where they are there.

    Raises:
        RequestError: One is a pipe or a device.
        OSError: One cannot be read.
    """
    return SplitFiles(_names(folder / "TrainSplit.txt"), _names(folder / "TestSplit.txt"))


def read_split_lists(
    folders: Iterable[Path], *, train: Sequence[str], test: Sequence[str]
) -> SplitFiles:
    """Lists of scenes, one a line, where they are there.

    Args:
        folders: Where the lists may be.
        train: Names of the files that list scenes for training.
        test: Those for validation and test.

    Raises:
        RequestError: One is a pipe or a device.
        OSError: One cannot be read.
    """
    places = tuple(folders)

    def listed(names: Sequence[str]) -> frozenset[str] | None:
        found = [_lines(place / name) for place in places for name in names]
        there = [lines for lines in found if lines is not None]
        return frozenset(line for lines in there for line in lines) if there else None

    return SplitFiles(listed(train), listed(test))


def split_notes(files: SplitFiles, present: set[str], place: str) -> list[str]:
    """What is worth saying: sequences in both files, and those that are named and not there."""
    train, test = files.train or frozenset(), files.test or frozenset()
    twice = sorted(train & test & present)
    absent = sorted((train | test) - present)
    return [
        *(f"{place}/{name} is named in both splits: it is training data" for name in twice),
        *(f"{place}/{name} is named in a split file and is not there" for name in absent),
    ]


def _names(path: Path) -> frozenset[str] | None:
    """`sequence1` means the folder `seq-01`; any other word is a folder's name itself."""
    lines = _lines(path)
    if lines is None:
        return None
    matches = ((line, _NUMBERED.fullmatch(line)) for line in lines)
    return frozenset(f"seq-{int(m.group(1)):02d}" if m else line for line, m in matches)


def _lines(path: Path) -> list[str] | None:
    """Lines of a file that are not empty; None where it is not there."""
    if not is_there(path):
        return None
    refuse_special(path)
    lines = read_text_file(path, errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
