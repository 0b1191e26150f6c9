"""A teacher's name is compared nowhere outside `teachers/`: its record says what matters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import distill3r_cli
import distill3r_core
from distill3r_core.teachers import teacher_names

PACKAGES = [Path(str(package.__file__)).parent for package in (distill3r_core, distill3r_cli)]
# Names that are also words of the field: they count only where a teacher is spoken of.
WORDS = frozenset({"depth", "student"})
# `geometry` knows no teachers; its forms of pose errors are named after the code that defined them.
LEFT_OUT = {"teachers", "geometry"}


def strings(node: ast.AST) -> set[str]:
    """The string constants that stand directly in an expression, a pattern or a display."""
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def compared(node: ast.AST) -> set[str]:
    """The strings that a node compares something with, or keeps something under."""
    if isinstance(node, ast.Compare):
        return set().union(*(strings(side) for side in (node.left, *node.comparators)))
    if isinstance(node, ast.match_case):
        return strings(node.pattern)
    if isinstance(node, ast.Dict):
        keys = set().union(*(strings(key) for key in node.keys if key is not None), set())
        return keys if keys & (set(teacher_names()) - WORDS) else set()
    return set()


def speaks_of_teachers(comparison: ast.AST, function: ast.AST) -> bool:
    """Whether an identifier in a comparison is a teacher's, or a name where teachers occur."""

    def identifiers(node: ast.AST) -> set[str]:
        return {
            getattr(part, "id", getattr(part, "attr", getattr(part, "arg", "")))
            for part in ast.walk(node)
            if isinstance(part, ast.Name | ast.Attribute | ast.arg)
        }

    def any_teacher(found: set[str]) -> bool:
        return any("teacher" in identifier.lower() for identifier in found)

    own = identifiers(comparison)
    return any_teacher(own) or ("name" in own and any_teacher(identifiers(function)))


def hits(source: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every comparison with a teacher's name."""
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for node in ast.walk(tree):
        for name in compared(node) & names:
            line = getattr(node, "lineno", None) or node.pattern.lineno
            around = [f for f in functions if f.lineno <= line <= (f.end_lineno or line)]
            if name not in WORDS or speaks_of_teachers(node, around[-1] if around else node):
                yield line, name


def test_no_module_compares_with_the_name_of_a_teacher():
    names = set(teacher_names())
    found = [
        f"{path.relative_to(package.parent)}:{line}: {name!r}"
        for package in PACKAGES
        for path in sorted(package.rglob("*.py"))
        if LEFT_OUT.isdisjoint(path.relative_to(package).parts)
        for line, name in hits(path.read_text(encoding="utf-8"), names)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "if teacher.name == 'synthetic': pass",
        "rate = 3 if name in ('depth', 'synthetic') else 5",
        "def build(teacher):\n    return teacher != 'depth'",
        "def build(name):\n    return name == 'depth' or choose_teacher(rows)",
        "match name:\n    case 'fast3r': pass",
        "table = {'fast3r': 1, 'depth': 2}",
    ],
)
def test_the_search_finds_a_comparison(source):
    assert list(hits(source, set(teacher_names())))


@pytest.mark.parametrize("source", ["x = {'depth': z}", "if format == 'depth': pass"])
def test_the_search_leaves_other_depths_alone(source):
    assert not list(hits(source, set(teacher_names())))
