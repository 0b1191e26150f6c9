"""The display of a command on a terminal."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from distill3r_cli.progress import LiveProgress


def shown(progress: LiveProgress) -> str:
    screen = io.StringIO()
    Console(file=screen, width=80, force_terminal=True).print(progress)
    return screen.getvalue()


def test_nothing_is_shown_before_the_first_phase() -> None:
    progress = LiveProgress(Console(file=io.StringIO(), force_terminal=True), "cpu")
    assert "memory" not in shown(progress)
    progress.begin("list", total=3, unit="files")
    assert "memory" in shown(progress)
    assert "list" in shown(progress)


def test_an_error_on_a_terminal_is_the_error_alone_and_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    screen, terminal = pty.openpty()
    code = (
        "import sys; from distill3r_cli.run import run; status = run(sys.argv[1:]); "
        "sys.exit(99 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "manifest", str(tmp_path / "photos"), "-o", "data"],
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=tmp_path, check=False, timeout=120,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(terminal)
    text = os.read(screen, 1 << 16).decode(errors="replace")
    os.close(screen)
    assert done.returncode == 1, text
    assert "error:" in text
