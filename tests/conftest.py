"""What every test may use: checked shapes, the folders of recorded data, the command line."""

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("distill3r_core", "beartype.beartype")

# How long one example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

DRILL_SHARE = 10  # `make test` runs a tenth of each drill
CLI_TIMEOUT = 600.0


def pytest_configure() -> None:
    # A job behind & ignores Ctrl-C, and so would every program that it starts; tests send it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-drills", action="store_true", help="drills at their full count")


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest) -> None:
    """Draws of a test depend on its name, not on which tests its process has run before."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} does not name a folder")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable} names {path}, which is not a folder")
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Recorded outputs of the original implementations."""
    return _folder("DISTILL3R_GOLDEN")


@pytest.fixture(scope="session")
def recorded_starts(golden_dir: Path) -> dict[str, Any]:
    """What was recorded of starts, sizes and losses of pair students."""
    return json.loads((golden_dir / "svd_init.json").read_text())


@pytest.fixture(scope="session")
def draw_golden(golden_dir: Path) -> Callable[[str, tuple[int, ...]], torch.Tensor]:
    """The golden folder's own `tensor_for`, in float64."""
    space: dict[str, Any] = {}
    exec((golden_dir / "golden_weights.py").read_text(), space)
    return lambda name, shape: torch.from_numpy(
        np.asarray(space["tensor_for"](name, shape, 0))
    ).double()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real frames, photographs, a video and broken inputs. Read in place, never written to."""
    return _folder("DISTILL3R_DATA")


@pytest.fixture(scope="session")
def drill(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often to repeat a drill: all of it with `--full-drills`, else a tenth."""
    full = request.config.getoption("--full-drills")
    return lambda count: count if full else max(1, count // DRILL_SHARE)


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in a process of its own."""

    def run(
        *arguments: str | Path,
        cwd: Path,
        env: dict[str, str] | None = None,
        timeout: float = CLI_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "distill3r_cli", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def cli_inprocess(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run one command line in this process, in a folder: (status, stdout, stderr)."""
    from distill3r_cli.run import run

    def call(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
        monkeypatch.chdir(cwd)
        monkeypatch.delenv("COLUMNS", raising=False)  # a test runner's own width cuts tables
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
