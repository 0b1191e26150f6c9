"""Laws of the source tree: names of classes, sizes of folders, imports."""

import ast
from collections import Counter, defaultdict
from pathlib import Path

import distill3r_cli
import distill3r_core

PACKAGES = [Path(package.__path__[0]) for package in (distill3r_cli, distill3r_core)]
FILES = sorted(file for package in PACKAGES for file in package.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
MAX_FILES = 20  # of one folder


def test_no_two_classes_have_one_name():
    # A leading underscore does not make another name of it.
    places = defaultdict(list)
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{file}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_folder_has_too_many_files():
    counts = Counter(file.parent for file in FILES)
    assert {str(folder): n for folder, n in counts.items() if n > MAX_FILES} == {}


def test_no_modules_import_each_other_in_a_circle_even_inside_functions():
    modules = {module_name(file): file for file in FILES}
    imports = {name: imported(TREES[file], modules) - {name} for name, file in modules.items()}
    # Whatever imports nothing that is left is on no circle; what remains is on one, or above it.
    while free := {name for name, needed in imports.items() if not needed & imports.keys()}:
        imports = {name: needed for name, needed in imports.items() if name not in free}
    assert imports == {}


def module_name(file):
    package = next(one for one in PACKAGES if one in file.parents)
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, modules):
    """Modules of both packages that a module imports at any time, but not for type checks alone."""
    found = set()
    for node in walk_without_type_checks(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
    return found & modules.keys()


def walk_without_type_checks(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from walk_without_type_checks(child)
