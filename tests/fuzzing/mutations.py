"""Edits of valid files: flipped bits, cuts, insertions, extreme numbers, swapped parts."""

import copy
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
_WORDS = (
    b"", b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"null", b"9" * 30, b"9" * 6000, b"[" * 3000,
    b'"', b"\n", b"{", b"}", b",", b":", b"../../x", b"/", b"\0", b"\xff\xfe", b"\xed\xa0\x80",
    b"\r", b"true", b"&a [*a]", b"1" + b"0" * 400, b"- " * 500, b"\x1b[2J", b"%s", b"1_000",
    b"0x7fffffffffffffff", b"2001-99-99", b"!!python/object:os.system", b"<<: *a",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 1 << 31, 1 << 40, 1 << 70, 10**400, -0.5, 1e308, 1e-320,
    float("nan"), float("inf"), "", "0", "x" * 300, "../../x", "/x", "\0", "\ud800", "a\nb",
    [], {}, [[]], [1, 2, 3], [None], {"a": 1}, [0] * 5000, ["x"], [[[[[[1]]]]]], {"": {}},
)  # fmt: skip

_OPERATIONS = ("flip", "cut", "insert", "number", "word", "swap", "delete", "repeat", "zero")


@dataclass(frozen=True)
class Edit:
    """One change; places are shares of the length, so that they fit any file."""

    operation: str
    at: float
    to: float
    pick: int


@dataclass(frozen=True)
class Mutation:
    """What is done to one file.

    Args:
        structured: Replace values of its JSON and sign it again, where the file is of that kind.
    """

    file: int
    structured: bool
    edits: tuple[Edit, ...]


_SHARES = st.floats(0, 1, exclude_max=True, allow_subnormal=False)


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    edit = st.builds(Edit, st.sampled_from(_OPERATIONS), _SHARES, _SHARES, st.integers(0, 1 << 20))
    edits = draw(st.lists(edit, min_size=1, max_size=4))
    return Mutation(draw(st.integers(0, 7)), draw(st.booleans()), tuple(edits))


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """The bytes with all edits, one after the other."""
    for edit in edits:
        data = _edited(bytearray(data), edit)
    return data


def _edited(data: bytearray, edit: Edit) -> bytes:
    at, to = sorted((int(edit.at * len(data)), int(edit.to * len(data))))
    match edit.operation:
        case "flip" if data:
            data[at] ^= 1 << edit.pick % 8
        case "cut":
            del data[int(edit.at * len(data)) :]
        case "insert":
            data[at:at] = bytes((edit.pick * n + edit.pick) & 0xFF for n in range(edit.pick % 40))
        case "number":
            form = "<BHIQ"[1 + edit.pick % 4]
            number = _NUMBERS[edit.pick // 4 % len(_NUMBERS)]
            packed = struct.pack("<" + form, number & ((1 << 8 * struct.calcsize(form)) - 1))
            data[at : at + len(packed)] = packed
        case "word":
            word = _WORDS[edit.pick % len(_WORDS)]
            data[at : at + edit.pick // len(_WORDS) % 12] = word
        case "swap":
            size = 1 + edit.pick % 64
            one, two = bytes(data[at : at + size]), bytes(data[to : to + size])
            data[to : to + size], data[at : at + size] = one, two
        case "delete":
            del data[at : at + 1 + edit.pick % 64]
        case "repeat":
            data[at:at] = data[at : at + edit.pick % 200] * (1 + edit.pick % 5)
        case "zero":
            data[at : at + edit.pick % 300] = bytes(min(edit.pick % 300, len(data) - at))
        case _:
            pass
    return bytes(data)


def edited_values(values: Any, edits: Sequence[Edit]) -> Any:
    """A copy of plain data in which some values are extreme, missing or doubled."""
    values = json.loads(json.dumps(values))
    for edit in edits:
        values = _with_value(values, edit)
    return values


def _with_value(values: Any, edit: Edit) -> Any:
    # A copy: a later edit may change what is inside.
    value = copy.deepcopy(_VALUES[edit.pick % len(_VALUES)])
    path = list[Any]()
    inner, turn = values, edit.pick // len(_VALUES)
    while isinstance(inner, dict | list) and inner and (not path or turn % 4):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        path.append(keys[int(edit.at * len(keys) * (1 + turn)) % len(keys)])
        inner, turn = inner[path[-1]], turn // 2 + (turn % 2) * 7
        if len(path) > 6:
            break
    if not path:
        return value
    holder = values
    for key in path[:-1]:
        holder = holder[key]
    if edit.operation == "delete":
        del holder[path[-1]]
    elif edit.operation == "repeat" and isinstance(holder, list):
        holder.extend(holder[: 1 + edit.pick % 50])
    else:
        holder[path[-1]] = value
    return values
