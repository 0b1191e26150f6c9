"""Teacher features on the whole way: stored by `cache`, computed while training, both refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from official_folders import write_folder
from posed_rooms import write_room

from distill3r_core.cache.store import TeacherCache
from distill3r_core.models import load_student
from distill3r_core.teachers import build_teacher
from distill3r_core.training.metrics_log import read_metrics

RunCli = Callable[..., tuple[int, str, str]]
CACHE = ("cache", "--teacher", "dust3r-512-dpt", "--size", "32x48", "--threshold", "0", "--pairs")
TRAIN = (
    *("train", "--preset", "pair-tiny", "--max-steps", "1", "--set", "data.batch=2"),
    *("--set", "loss.terms.feature={weight: 0.1, threshold: 1.0}"),
    *("--set", "data.augment_views=false"),
)


@pytest.fixture
def home(
    tmp_path: Path, cli_inprocess: RunCli, golden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A manifest of one sample of three views, and the weights of a small DUSt3R."""
    write_room(tmp_path / "rooms" / "one", views=3)
    cut = ("--views", "3", "--stride", "1", "--images-only", "--val-scenes", "0")
    assert cli_inprocess("manifest", "rooms", *cut, cwd=tmp_path)[0] == 0
    write_folder(tmp_path / "weights" / "dust3r-512-dpt", golden_dir, "dust3r-512-dpt")
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    return tmp_path


def first_loss(run: Path) -> float:
    return next(row["loss_feature"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row)


def test_stored_and_live_features_train_alike_and_misfits_are_refused(
    home: Path, cli_inprocess: RunCli
) -> None:
    status, _, err = cli_inprocess(*CACHE, "--features", "enc_norm", "--json", cwd=home)
    assert status == 0, err
    assert "features of enc_norm: at most" in " ".join(err.split())  # said before it starts
    cache = TeacherCache(home / "caches" / "teacher")
    assert dict(cache.header.features) == {"enc_norm": 64}
    name = cache.names()[0]
    teacher = build_teacher("dust3r-512-dpt", None, device=torch.device("cpu"), pairs=True)
    images = cache.read(name).images[None].float() / 255
    wanted = teacher.encode_features(images, "enc_norm")[0]
    found = torch.zeros(2, 2, 3, 64, dtype=torch.float16).numpy()
    cache.read_features_into(name, "enc_norm", (0, 1), found)
    torch.testing.assert_close(torch.from_numpy(found).float(), wanted.half().float())

    for source in ("cached", "live"):
        sets = ("--set", f"features.source={source}", "-o", source)
        status, _, err = cli_inprocess(*TRAIN, *sets, cwd=home)
        assert status == 0, err
    assert first_loss(home / "cached") == pytest.approx(first_loss(home / "live"), rel=1e-3)
    student = load_student(home / "live")
    assert any("CC BY-NC-SA" in one for one in student.metadata.licenses)
    assert not any("projector" in name for name in student.state_dict())

    mirrored = (*TRAIN, "--set", "data.mirror=true", "-o", "mirrored")
    status, _, err = cli_inprocess(*mirrored, cwd=home)
    text = " ".join(err.split())
    assert status == 2
    assert "data.mirror" in text
    assert "features.source=live" in text
    status, _, err = cli_inprocess(*CACHE, "--features", "head", "-o", "other", cwd=home)
    assert status == 2
    assert "its layers: enc_norm" in " ".join(err.split())
    assert not (home / "other").exists()


def test_features_come_from_the_teacher_by_default_where_the_cache_has_none(
    home: Path, cli_inprocess: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli_inprocess(*CACHE, cwd=home)[0] == 0
    assert not TeacherCache(home / "caches" / "teacher").header.features
    status, _, err = cli_inprocess(*TRAIN, "-o", "auto", cwd=home)
    assert status == 0, err
    cached = ("--set", "features.source=cached", "-o", "cached")
    status, _, err = cli_inprocess(*TRAIN, *cached, cwd=home)
    assert status != 0
    assert "enc_norm" in err

    # Without the teacher's weights nothing is trained, unless a cache has what it says.
    stored = ("-o", "stored", "--features", "enc_norm")
    assert cli_inprocess(*CACHE, *stored, cwd=home)[0] == 0
    monkeypatch.setenv("DISTILL3R_HOME", str(home / "nowhere"))
    status, _, err = cli_inprocess(*TRAIN, "-o", "without", cwd=home)
    assert status != 0
    assert "dust3r-512-dpt" in err
    status, _, err = cli_inprocess(*TRAIN, "--cache", "stored", "-o", "from-stored", cwd=home)
    assert status == 0, err
    assert first_loss(home / "from-stored") == pytest.approx(first_loss(home / "auto"), rel=1e-3)


def test_the_size_of_features_is_in_the_dry_run(home: Path, cli_inprocess: RunCli) -> None:
    dry = (*CACHE, "--features", "enc_norm", "--dry-run")
    status, out, err = cli_inprocess(*dry, cwd=home)
    assert status == 0, err
    assert "features enc_norm" in " ".join(out.split())
    plain = json.loads(cli_inprocess(*CACHE, "--dry-run", "--json", cwd=home)[1])["result"]
    more = json.loads(cli_inprocess(*dry, "--json", cwd=home)[1])["result"]
    assert more["expected_bytes"] > plain["expected_bytes"]
