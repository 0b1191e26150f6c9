"""From images to a run: what the manifest says now is trained on, and nothing it said before."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import rgbd_scene

_LAST = "room2"


def _remove(folder: Path) -> None:
    """Its images are gone, and `manifest` is typed again."""
    shutil.rmtree(folder / "rooms" / _LAST)


def _rewrite(folder: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    path = folder / "data/manifest.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(new for row in rows if (new := change(row)) is not None)


def _hold_out(folder: Path) -> None:
    _rewrite(folder, lambda row: row | {"split": "val"} if row["scene_id"] == _LAST else row)


def _drop(folder: Path) -> None:
    _rewrite(folder, lambda row: None if row["scene_id"] == _LAST else row)


@pytest.mark.parametrize("change", [_remove, _hold_out, _drop])
def test_a_changed_manifest_is_trained_on_as_if_it_were_the_first(cli_inprocess, tmp_path, change):
    def run(*words: str) -> int:
        status, _, err = cli_inprocess(*words, cwd=tmp_path)
        assert status in (0, 5), err
        return status

    def cache(*words: str) -> int:
        return run("cache", "--teacher", "depth", "--size", "28x42", "--device", "cpu", *words)

    def trained_on(cache: str, name: str) -> str:
        more = ("--preset", "tiny", "--max-steps", "1", "--device", "cpu", "-o", f"runs/{name}")
        assert run("train", "--cache", cache, *more) == 0
        return (tmp_path / "runs" / name / "pictures.txt").read_text()

    for number in range(3):
        rgbd_scene(tmp_path / "rooms" / f"room{number}", 4, size=(32, 48))
    manifest = ("manifest", "rooms", "--views", "2", "--val-scenes", "0", "--trust")
    run(*manifest)
    if change is _drop:  # one that cannot be read keeps `train` from the cache
        images = sorted((tmp_path / "data/images").rglob("*.png"))
        next(path for path in images if _LAST in str(path)).write_bytes(b"broken")
    assert cache("--resume") == (5 if change is _drop else 0)
    change(tmp_path)
    if change is _remove:
        run(*manifest)
    assert cache("--resume") == 0
    assert cache("-o", "caches/fresh") == 0
    now = trained_on("caches/teacher", "now")
    assert now == trained_on("caches/fresh", "fresh")
    assert len(now.splitlines()) > 2
