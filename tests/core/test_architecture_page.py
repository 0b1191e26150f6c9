"""The page on the architecture names modules and functions that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MODULES = {
    ".".join(path.relative_to(ROOT / "distill3r_core").with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in (ROOT / "distill3r_core").rglob("*.py")
}
FILES = {"convert.py", "view.py", "weights.py", "registry.py", "plugins.py", "extend.py"}


def _names() -> set[str]:
    text = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`((?:\w+\.)+\w+|(?:\w+/)+(?:\w+\.py)?)`", text))


@pytest.mark.parametrize("name", sorted(_names()))
def test_what_the_page_names_is_there(name):
    if name.startswith(("manifest.csv", "distill3r.yaml", "console.")) or name in FILES:
        return
    if "/" in name:
        assert (ROOT / "distill3r_core" / name).exists() or (ROOT / name).exists()
        return
    parts = name.removeprefix("core.").split(".")
    modules = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    found = next((module for module in modules if module in MODULES), None)
    if found is not None:
        text = MODULES[found].read_text(encoding="utf-8")
        assert all(re.search(rf"\b{part}\b", text) for part in parts[found.count(".") + 1 :])
        return
    text = "\n".join(path.read_text(encoding="utf-8") for path in MODULES.values())
    assert re.search(rf"\bclass {parts[0]}\b", text)
    assert re.search(rf"\b{parts[-1]}\b", text)
