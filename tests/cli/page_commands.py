"""Command lines that README and the docs name."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def commands_of(page: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, arguments of `distill3r`, and whether it is a line to be typed."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            typed = re.sub(r"\s+#.*$", "", line.strip().removeprefix("$ "))
            for part in re.split(r"\s+(?:&&|\|)\s+", typed):
                if found := re.search(r"(?:^|\s)(?:distill3r|-m distill3r_cli) (.*)$", part):
                    yield number, found[1], True
        else:
            for found in re.finditer(r"`distill3r ([^`]+)`", line):
                yield number, found[1], False
