"""Words and numbers in the cells of a manifest.

Text that says none of them is a `ValueError`, whose reader knows the line.
"""

import json
import re
from typing import Any, Literal, get_args

from distill3r_core.files import shown_name

Split = Literal["train", "val"]
IntrinsicsSource = Literal["calibrated", "exif", "none"]
Camera = Literal["pinhole", "fisheye"]
Order = Literal["number", "name", "none"]

_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "validation": "val", "test": "val"}
_WINDOWS = re.compile(r"([0-9]+(;[0-9]+)*)?")
_LARGEST_SIDE = 1 << 20  # pixels


def numbers_of(text: str, count: int) -> tuple[float, ...]:
    """A JSON list of numbers, nested by rows or not."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{shown_name(text)} is nested too deeply") from error
    flat = [value for part in values for value in (part if isinstance(part, list) else [part])]
    if len(flat) != count:
        raise ValueError(f"not {count} numbers but {len(flat)}: {shown_name(text)}")
    return tuple(float(value) for value in flat)


def side_of(text: str) -> int:
    """Rows or columns of an image."""
    side = int(text)
    if not 0 < side <= _LARGEST_SIDE:
        raise ValueError(f"{shown_name(text)} is no size of an image")
    return side


def split_of(text: str) -> Split:
    """A split, which others may call "validation" or "test"."""
    if text.lower() not in _SPLITS:
        raise ValueError(f"split: {shown_name(text)} is none of {', '.join(_SPLITS)}")
    return _SPLITS[text.lower()]


def window_numbers_of(text: str) -> tuple[int, ...]:
    """Numbers of the windows that use an image."""
    if not _WINDOWS.fullmatch(text.strip()):
        raise ValueError(f"windows: {shown_name(text)} is not numbers from 0, with ; between them")
    numbers = tuple(int(number) for number in text.split(";") if number.strip())
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"windows: {shown_name(text)} names one twice")
    return numbers


def one_of(text: str, words: Any) -> Any:
    """One of the words of a `Literal`."""
    if text not in get_args(words):
        raise ValueError(f"{shown_name(text)} is none of {', '.join(get_args(words))}")
    return text
