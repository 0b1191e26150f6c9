"""`distill3r cache compare A B`: how far two teachers agree on the samples they share."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from posed_rooms import write_room
from small_caches import write_cache

from distill3r_core.evaluation.agreement import rank_correlation
from distill3r_core.types import TeacherTargets

RunCli = Callable[..., tuple[int, str, str]]
SIGMA, ANGLE, SCALE = 0.04, 3.0, 1.7
MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations


def doubting(number: int, targets: TeacherTargets) -> TeacherTargets:
    """The same scene in another unit, with noise that confidence knows, and turned views."""
    generator = torch.Generator().manual_seed(100 + number)
    noise = SIGMA * torch.randn(targets.valid_mask.shape, generator=generator)
    poses = SCALE * targets.global_from_local.clone()
    for view, row in enumerate(poses):
        angle = math.radians(ANGLE * view)
        turn = torch.tensor(
            [
                [math.cos(angle), 0, math.sin(angle)],
                [0, 1, 0],
                [-math.sin(angle), 0, math.cos(angle)],
            ]
        )
        row[:, :3] = turn @ row[:, :3]
    confidence = torch.where(targets.valid_mask, 1 + 1 / (noise.abs() + 0.01), 1.0)
    return replace(
        targets,
        points_local=targets.points_local * (SCALE * (1 + noise))[..., None],
        global_from_local=poses,
        confidence_local=confidence,
        confidence_global=confidence,
    )


def compared(cli_inprocess: RunCli, folder: Path, *words: str) -> list[dict]:
    status, out, err = cli_inprocess("cache", "compare", *words, "--json", cwd=folder)
    assert status == 0, err
    return json.loads(out)["result"]["comparisons"]


def test_the_noise_of_a_teacher_is_found(tmp_path: Path, cli_inprocess: RunCli) -> None:
    write_cache(tmp_path / "exact")
    write_cache(tmp_path / "noisy", teacher="doubting", change=doubting)
    [found] = compared(cli_inprocess, tmp_path, "exact", "noisy")
    assert (found["of"], found["against"], found["samples"]) == ("doubting", "made", 6)
    assert found["depth_median"] == pytest.approx(MEDIAN_OF_NORMAL * SIGMA, rel=0.05)
    share = math.erf(0.05 / SIGMA / math.sqrt(2))
    assert found["depth_within"] == pytest.approx(share, abs=0.02)
    assert found["by_sample"][0]["scale"] == pytest.approx(1 / SCALE, rel=0.01)
    # Six pairs of four views on a line: turned by 1, 1, 1, 2, 2 and 3 times the angle.
    assert found["rotation_median"] in (pytest.approx(ANGLE, 1e-3), pytest.approx(2 * ANGLE, 1e-3))
    assert 0.5 < found["auc_30"] < 0.9
    assert found["confidence_rank"] < -0.99

    [same] = compared(cli_inprocess, tmp_path, "noisy", "noisy")
    assert (same["depth_median"], same["depth_within"], same["auc_30"]) == (0, 1, 1)
    assert same["rotation_median"] == pytest.approx(0, abs=1e-4)
    assert same["translation_median"] == pytest.approx(0, abs=1e-4)
    assert same["confidence_rank"] is None

    status, out, _ = cli_inprocess("cache", "compare", "exact", "noisy", cwd=tmp_path)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "doubting / made" in out


def test_samples_of_other_images_and_other_fits_are_not_compared(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    write_cache(tmp_path / "a", sizes=[(28, 42)], held_out=0)
    write_cache(tmp_path / "b", sizes=[(14, 42)] * 2, held_out=0)
    [found] = compared(cli_inprocess, tmp_path, "a", "b")  # resampled
    assert found["samples"] == 1
    status, _, err = cli_inprocess("cache", "compare", "a", "gone", cwd=tmp_path)
    assert (status, "gone" in err) == (3, True)


def test_both_are_compared_with_the_sensor_and_maps_of_other_sizes_are_resampled(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    write_room(tmp_path / "rooms" / "one", views=4)
    cut = ("--views", "2", "--stride", "1", "--val-scenes", "0")
    assert cli_inprocess("manifest", "rooms", *cut, cwd=tmp_path)[0] == 0
    for teacher, size, folder in (
        ("depth", "28x42", "small"), ("depth", "56x84", "large"), ("synthetic", "28x42", "other"),
        ("synthetic", "28x42", "another"),
    ):  # fmt: skip
        seed = ("--seed", "5") if folder == "another" else ()
        made = ("--teacher", teacher, "--size", size, "-o", folder, *seed)
        assert cli_inprocess("cache", *made, cwd=tmp_path)[0] == 0
    [found] = compared(cli_inprocess, tmp_path, "large", "small")
    assert found["depth_median"] < 0.01
    assert found["auc_30"] == 1
    three = compared(cli_inprocess, tmp_path, "other", "another")
    assert [one["against"] for one in three] == ["other", "the sensor", "the sensor"]
    assert three[1]["depth_median"] > 0.02  # made-up scenes
    # Without the manifest there is no sensor.
    assert len(compared(cli_inprocess, tmp_path, "other", "another", "--manifest", "none.csv")) == 1


def test_ranks_of_equal_values_are_shared() -> None:
    # Worked by hand: ranks 1, 2.5, 2.5, 4 against 4, 3, 2, 1.
    first, second = torch.tensor([1.0, 2, 2, 3]), torch.tensor([9.0, 8, 7, 6])
    assert rank_correlation(first, second) == pytest.approx(-4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(first, torch.ones(4)) is None
