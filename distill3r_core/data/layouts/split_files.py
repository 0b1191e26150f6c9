"""`TrainSplit.txt` and `TestSplit.txt`: which sequences of a scene are for what."""

import re
from dataclasses import dataclass
from pathlib import Path

from distill3r_core.data.manifest import Split
from distill3r_core.files import is_there, read_text_file, refuse_special

_NUMBERED = re.compile(r"sequence\s*(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class SplitFiles:
    """Folder names of sequences; None where the file is not there."""

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
    if not is_there(path):
        return None
    refuse_special(path)
    names = set()
    for line in read_text_file(path, errors="replace").splitlines():
        word = line.strip()
        if word:
            match = _NUMBERED.fullmatch(word)
            names.add(f"seq-{int(match.group(1)):02d}" if match else word)
    return frozenset(names)
