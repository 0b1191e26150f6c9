"""Describe invalid settings in plain words, from the errors of pydantic."""

import dataclasses
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST, _LONGEST_KEY = 60, 200  # characters of a value and of a name in a message
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    dict: "a mapping",
    list: "a list",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
# Fault of a value by the start of pydantic's error type. Any other error means a wrong type, which
# the expected type explains.
_FAULTS = {
    "greater_than": "is too small",
    "less_than": "is too large",
    "finite_number": "is not finite",
    "too_short": "has too few values",
    "too_long": "has too many values",
    "missing": "has too few values",
}
# Expected type of a value on the command line.
_TYPES = {"int": "a whole number", "float": "a number"}


@dataclass(frozen=True)
class Problem:
    """An invalid setting."""

    key: str  # its dotted name; "": several settings contradict each other
    message: str  # the value, its fault, and what is expected


@dataclass(frozen=True)
class _SettingPlace:
    """The setting that a problem belongs to, and its type."""

    parts: tuple[str, ...]
    annotation: Any = None  # None: no such setting
    owner: Any = None  # the dataclass that lacks the name

    @property
    def key(self) -> str:
        return ".".join(self.parts)


def problems_of(
    cls: type[Any],
    values: Mapping[str, Any],
    error: "ValidationError",
    *,
    sections: Collection[str] = (),
) -> list[Problem]:
    """List every invalid setting once, although a union reports one error for each alternative.

    Args:
        sections: Sections of config files, which users may prefix to a key by mistake.
    """
    found: dict[str, Problem] = {}
    for detail in error.errors():
        place = _place(cls, detail["loc"])
        if place.key in found:
            continue
        message = _message(place, _at(values, place.parts), detail)
        if place.annotation is None and place.key in sections:
            message = f"unknown setting; the settings of this command take no prefix `{place.key}.`"
        found[place.key] = Problem(_cut(place.key, _LONGEST_KEY), message)
    return list(found.values())


def describe_fault(detail: "ErrorDetails", *, wanted: str = "") -> str:
    """Describe the fault of one value."""
    given, kind, limits = detail["input"], detail["type"], detail.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return detail["msg"].partition(", ")[2]
    if not wanted:
        wanted = _TYPES.get(kind.partition("_")[0], "") or _range(limits).removeprefix("of ")
    faults = (text for start, text in _FAULTS.items() if kind.startswith(start))
    fault = "is not a number" if given != given else next(faults, "")
    if fault:
        typed = isinstance(given, str) and not fault.endswith("values")  # a number as text
        return f"{given if typed else format_value(given)} {fault}; it takes {wanted}"
    return (
        f"{format_value(given)} is not {wanted}"
        if wanted
        else f"{format_value(given)} does not fit"
    )


def format_value(value: Any) -> str:
    """A value as a user would write it."""
    if isinstance(value, str):
        text = repr(value)
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(format_value(item) for item in value) + "]"
    else:
        text = str(value).removesuffix(".0")
    return _cut(text, _LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def join_names(names: Sequence[str]) -> str:
    """Names for a sentence: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def multiple_message(value: Any, step: int) -> str:
    """Message for a number or a size that is not a multiple of a step; names the nearest."""
    sides = value.lower().split("x") if isinstance(value, str) else value
    sides = [int(side) for side in (sides if isinstance(sides, list | tuple) else [sides])]
    near = "x".join(str(max(1, (2 * side + step) // (2 * step)) * step) for side in sides)
    given = "x".join(map(str, sides))
    fault = "is not a multiple" if len(sides) == 1 else "has sides that are not multiples"
    return f"{given} {fault} of {step}; the nearest is {near}"


def unknown_name(name: Any, known: Iterable[str]) -> str:
    """Message for a name that is not among the known ones; names the nearest."""
    return (
        f"{format_value(name)} is unknown: {join_names(list(known))}{_nearest(name, list(known))}"
    )


def describe_type(annotation: Any) -> str:
    """Values that a type accepts, in words: `a whole number of at least 1`."""
    base, limits = _split(annotation)
    origin, parts = get_origin(base), [a for a in get_args(base) if a is not types.NoneType]
    if _is_union(base):
        names = [str(name) for part in parts for name in get_args(part) if _is_choice(part)]
        others = [describe_type(_with(part, limits)) for part in parts if not _is_choice(part)]
        return join_names([*names, *others])
    if origin is Literal:
        return join_names([str(part) for part in parts])
    if origin is tuple:
        number = "one value or more" if parts[-1] is ... else f"{len(parts)} values"
        return f"{number}, each {describe_type(parts[0])}"
    if dataclasses.is_dataclass(base):
        return f"a mapping with {join_names([field.name for field in dataclasses.fields(base)])}"
    step = next((limit.multiple_of for limit in limits if hasattr(limit, "multiple_of")), None)
    bounds = {name: getattr(one, name) for one in limits for name in _BOUNDS if hasattr(one, name)}
    if step is not None:
        return f"a multiple of {step} {_range(bounds)}".strip()
    return f"{_KINDS.get(origin or base, '')} {_range(bounds)}".strip()


def _message(place: _SettingPlace, whole: Any, detail: "ErrorDetails") -> str:
    if place.annotation is None:
        if detail["type"] == "unexpected_keyword_argument":
            owner = place.owner
            known = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
            return "unknown setting" + _nearest(place.parts[-1], [field.name for field in known])
        return describe_fault(detail)
    given, kind = detail["input"], detail["type"]
    if kind.startswith("missing"):
        if whole is None:
            return "missing"
        return describe_fault({**detail, "input": whole}, wanted=describe_type(place.annotation))
    if kind == "union_tag_invalid":
        limits = detail.get("ctx", {})
        known = [tag.strip("'") for tag in limits["expected_tags"].split(", ")]
        return f"kind {unknown_name(limits['tag'], known)}"
    indices = [part for part in detail["loc"][len(place.parts) :] if isinstance(part, int)]
    takes = _element(place.annotation, indices[0]) if indices else place.annotation
    choices = _choices(takes)
    if choices and isinstance(given, str) and kind != "value_error":
        # A word was meant as a name, whatever else the union accepts.
        return f"{format_value(given)} is unknown: {describe_type(takes)}{_nearest(given, choices)}"
    if kind == "multiple_of":
        size = whole if _is_size(whole) else given
        return multiple_message(size, detail.get("ctx", {})["multiple_of"])
    return describe_fault(detail, wanted=describe_type(takes))


def _is_size(value: Any) -> bool:
    """Whether a value is a size. Text has been parsed before."""
    if isinstance(value, list | tuple):
        return all(isinstance(side, int) and not isinstance(side, bool) for side in value)
    return isinstance(value, str)


def _nearest(name: Any, known: Sequence[str]) -> str:
    """The nearest known name as the end of a message; "" where none is near."""
    near = get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _place(cls: Any, location: Sequence[int | str]) -> _SettingPlace:
    """The setting at a location of pydantic, whose further parts are ignored."""
    parts: list[str] = []
    annotation: Any = None
    for part in location:
        tagged = _tagged(annotation, part)
        if tagged is not None:  # pydantic names the alternative, which the user does not write
            annotation = cls = tagged
            continue
        fields = _fields(cls)
        if fields is None:
            break
        parts.append(str(part))
        if part not in fields:
            return _SettingPlace(tuple(parts), owner=cls)
        annotation = fields[str(part)]
        cls = _dataclass_in(annotation)
    return _SettingPlace(tuple(parts), annotation)


def _tagged(annotation: Any, tag: int | str) -> Any:
    """The dataclass of that tag among those that an annotation may be; None: none."""
    base, _ = _split(annotation)
    members = get_args(base) if _is_union(base) else ()
    return next(
        (
            member
            for member in members
            if dataclasses.is_dataclass(member)
            and any(tag in _choices(field) for field in (_fields(member) or {}).values())
        ),
        None,
    )


def _fields(cls: Any) -> dict[str, Any] | None:
    """Annotation of every field; None where `cls` is not a dataclass."""
    own = getattr(cls, "__pydantic_fields__", None)
    if own is not None:
        return {name: _with(field.annotation, field.metadata) for name, field in own.items()}
    if not dataclasses.is_dataclass(cls):
        return None
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _at(values: Any, parts: Sequence[str]) -> Any:
    """The value under a dotted key; None where there is none."""
    for part in parts:
        values = values.get(part) if isinstance(values, Mapping) else getattr(values, part, None)
    return values


def _dataclass_in(annotation: Any) -> Any:
    """The dataclass in an annotation, or None."""
    base, _ = _split(annotation)
    if dataclasses.is_dataclass(base):
        return base
    return next(filter(None, map(_dataclass_in, get_args(base))), None) if _is_union(base) else None


def _choices(annotation: Any) -> list[str]:
    """The names that an annotation accepts."""
    base, _ = _split(annotation)
    if get_origin(base) is Literal:
        return [part for part in get_args(base) if isinstance(part, str)]
    return [name for part in get_args(base) for name in _choices(part)] if _is_union(base) else []


def _element(annotation: Any, index: int) -> Any:
    """Type of one element of a tuple, a list or a mapping."""
    base, _ = _split(annotation)
    if _is_union(base):
        holders = [part for part in get_args(base) if get_origin(_split(part)[0]) is not Literal]
        return _element(next(part for part in holders if part is not types.NoneType), index)
    parts = get_args(base)
    if get_origin(base) is not tuple:
        return parts[-1] if parts else Any
    return parts[0] if parts[-1] is ... else parts[min(index, len(parts) - 1)]


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _with(annotation: Any, limits: Sequence[Any]) -> Any:
    return Annotated[annotation, *limits] if limits else annotation


def _split(annotation: Any) -> tuple[Any, list[Any]]:
    """A type and its constraints."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    base, *limits = get_args(annotation)
    return base, [one for limit in limits for one in getattr(limit, "metadata", [limit])]


def _range(bounds: Mapping[str, Any]) -> str:
    """A range in words: `from 0 to 1`, `of at least 0 and below 100`; "": all numbers."""
    if "ge" in bounds and "le" in bounds:
        return f"from {format_value(bounds['ge'])} to {format_value(bounds['le'])}"
    words = [
        f"{word} {format_value(bounds[name])}" for name, word in _BOUNDS.items() if name in bounds
    ]
    of = "of " if words and words[0].startswith("at ") else ""
    return of + " and ".join(words)
