"""A pair student on the whole way, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from export_readers import assert_complete
from posed_rooms import write_rendered_room

from distill3r_core.models import load_student
from distill3r_core.reconstruction.formats import FORMATS

RunCli = Callable[..., tuple[int, str, str]]


def test_a_pair_student_walks_the_whole_way(cli_inprocess: RunCli, tmp_path: Path) -> None:
    pictures = []
    for seed in range(3):
        folder = tmp_path / "rooms" / f"room-{seed}"
        pictures += write_rendered_room(folder, seed, views=6, size=(64, 96))
    _walk(cli_inprocess, tmp_path, ("rooms", "--views", "4"), pictures)


def test_the_same_way_from_real_frames(
    cli_inprocess: RunCli, tmp_path: Path, data_dir: Path
) -> None:
    frames = data_dir / "7scenes_kitchen"
    pictures = sorted(frames.rglob("*.color.jpg"))[-4:]
    split = ("--views", "4", "--stride", "1", "--val-frames", "last:6")
    _walk(cli_inprocess, tmp_path, (str(frames), *split), pictures)


def _walk(
    cli_inprocess: RunCli, tmp_path: Path, manifest: tuple[str, ...], pictures: list[Path]
) -> None:
    def typed(*arguments: str) -> str:
        status, out, err = cli_inprocess(*arguments, cwd=tmp_path)
        assert status == 0, f"{arguments}\n{out}\n{err}"
        return out

    typed("manifest", *manifest)
    typed("cache", "--resume", "--size", "64x96")
    typed("train", "--preset", "pair-tiny", "--max-steps", "2", "-o", "run")
    scored = json.loads(typed("eval", "run", "--json"))
    assert scored["result"]["metrics"]["acc"] > 0
    typed("infer", *(str(path) for path in pictures[:2]), "-m", "run", "--ply", "-o", "two")
    assert (tmp_path / "two" / "scene.ply").is_file()
    typed("infer", *(str(path) for path in pictures[:4]), "-m", "run", "-o", "four")
    rows = json.loads(
        typed("bench", "-m", "run", "--views", "2,3", "--size", "64x96", "-o", "b", "--json")
    )
    assert [row["views"] for row in rows["result"]["rows"]] == [2, 3]
    typed("convert", "run", "student.safetensors")
    images = torch.rand(1, 3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = (
            load_student(tmp_path / name).eval()(images) for name in ("run", "student.safetensors")
        )
    for name in ("points_global", "points_local", "confidence_global", "confidence_local"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name

    pytest.importorskip("pycolmap")
    every = ("--format", ",".join(FORMATS), "-m", "student.safetensors", "-o", "every", "--json")
    made = json.loads(typed("infer", *(str(path) for path in pictures[:3]), *every))["result"]
    assert made["views"] == 3
    assert_complete(tmp_path / "every", views=3, points=made["points"])
