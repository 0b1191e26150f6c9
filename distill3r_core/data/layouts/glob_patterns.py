"""Globs below a root: which files they name, and what their wildcards stand for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from distill3r_core.data.layouts.folders import frame_key

_WILDCARDS = frozenset("*?[")
_ANY_FOLDERS = "**"
# Of one part of a path: a wildcard, a set of letters, or letters that stand for themselves.
_TOKEN = re.compile(r"\*|\?|\[!?.[^\]]*\]|[^*?\[]|\[")


def check_pattern(pattern: str) -> str:
    """The pattern, if it is a glob of files below a folder.

    Raises:
        ValueError: It is empty, leaves the folder, or has `**` beside other letters.
    """
    parts = PurePosixPath(pattern).parts
    if not parts or pattern.startswith("/") or ".." in parts:
        raise ValueError("a pattern names files below the root")
    inside = any(_ANY_FOLDERS in part and part != _ANY_FOLDERS for part in parts)
    if inside or parts[-1] == _ANY_FOLDERS:
        raise ValueError("** stands between slashes: it is any number of folders")
    try:
        _expression(pattern)
    except re.error as error:
        raise ValueError(f"it is no pattern: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern)]


@dataclass(frozen=True)
class MatchedFile:
    """A file that a pattern names.

    Args:
        path: From the root on.
        folders: What the wildcards of its folders stand for: two patterns with the same wildcards
            name the files of one scene with the same words.
        key: What the wildcards of its name stand for, its suffix left out.
    """

    path: Path
    folders: tuple[str, ...]
    key: tuple[str, ...]


def matched_files(root: Path, pattern: str, skip: Path | None = None) -> Iterator[MatchedFile]:
    """Files of a pattern in natural order, without hidden ones.

    Args:
        root: Where the pattern starts.
        pattern: As `check_pattern` takes it.
        skip: A folder whose files are none of the data.
    """
    expression, folders = _expression(pattern)
    hidden = skip.resolve() if skip else None
    for path in sorted(root.glob(pattern), key=lambda path: frame_key(str(path))):
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if hidden is not None and path.resolve().is_relative_to(hidden):
            continue
        if found := expression.fullmatch(relative.as_posix()):
            words = tuple(word.rstrip("/") for word in found.groups(default=""))
            yield MatchedFile(path, words[:folders], words[folders:])


def has_folder_wildcards(pattern: str) -> bool:
    """Whether a pattern names files of more than one folder."""
    return any(_WILDCARDS & set(part) for part in PurePosixPath(pattern).parts[:-1])


def free_parts(folder: Path, pattern: str) -> str:
    """Path parts of a folder that a pattern does not spell out, joined by "/"."""
    literal = {part for part in PurePosixPath(pattern).parts if not _WILDCARDS & set(part)}
    return "/".join(part for part in folder.parts if part not in literal)


@cache
def _expression(pattern: str) -> tuple[re.Pattern[str], int]:
    """A pattern as a regular expression with a group for each wildcard; how many are of folders."""
    *folders, name = PurePosixPath(pattern).parts
    before = "".join(
        "((?:[^/]+/)*)" if part == _ANY_FOLDERS else f"{_part(_TOKEN.findall(part))}/"
        for part in folders
    )
    tokens = _TOKEN.findall(name)
    if "." in tokens:
        dot = len(tokens) - 1 - tokens[::-1].index(".")
        last = _part(tokens[:dot]) + r"\." + _part(tokens[dot + 1 :], group="(?:")
    else:  # whatever suffix a file has
        last = _part(tokens, letters="[^/]*?") + r"(?:\.[^./]*)?"
    return re.compile(before + last, re.DOTALL), re.compile(before).groups


def _part(tokens: Sequence[str], *, group: str = "(", letters: str = "[^/]*") -> str:
    """Part of a path, with a group for each wildcard.

    Args:
        group: How a group opens.
        letters: What `*` stands for.
    """
    found = []
    for token in tokens:
        if token == "*":
            found.append(f"{group}{letters})")
        elif token == "?":
            found.append(f"{group}[^/])")
        elif len(token) > 1 and token != "[!]":
            negated, inside = token[1] == "!", token[1:-1].removeprefix("!")
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside)
            found.append(f"{group}[{'^' if negated else ''}{inside}])")
        else:
            found.append(re.escape(token))
    return "".join(found)
