"""`distill3r cache` and its siblings as a user types them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill3r_core.cache.export_record import EXPORT_RECORD
from distill3r_core.cache.header import read_header, write_header
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import ManifestRow, write_manifest
from distill3r_core.data.manifest_views import content_hash, image_hash
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.depth import as_stored, write_depth
from distill3r_core.teachers.registry import TEACHERS

MAKE = ("cache", "--size", "28x42")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a manifest of two samples of two RGB-D frames."""
    rng, rows = np.random.default_rng(0), []
    camera, pose = np.diag([60.0, 60.0, 1.0]), np.eye(4)
    for frame in range(4):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        depth = (1 + rng.random((40, 60))).astype(np.float32)
        image, map_ = f"images/{frame}.png", f"depth/{frame}.png"
        write_image(tmp_path / "data" / image, pixels)
        write_depth(tmp_path / "data" / map_, depth, unit="m")
        picture = image_hash(pixels)
        known = {"intrinsics": camera, "world_from_cam": pose, "unit": "m"}
        content = content_hash(picture, depth=as_stored(depth, "m"), **known)
        rows.append(
            ManifestRow(
                dataset="own",
                split="train",
                scene_id="desk",
                sample_id=f"{frame:06d}",
                image_path=image,
                K=tuple(camera.ravel()),
                H=40,
                W=60,
                K_source="calibrated",
                depth_path=map_,
                depth_format="png16mm",
                pose=tuple(pose.ravel()),
                unit="m",
                picture=picture,
                content=content,
                windows=(frame // 2,),
            )
        )
    write_manifest(tmp_path / "data" / "manifest.csv", rows)
    return tmp_path


def test_the_cache_is_made_resumed_and_described_by_the_real_command(cli, folder):
    first = cli(*MAKE, "--resume", "--json", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["result"]["finished"] == 2
    again = cli(*MAKE, "--resume", cwd=folder)
    assert again.returncode == 0
    assert "finished before" in again.stderr


def test_every_status_of_the_contract(cli_inprocess, folder):
    def run(*arguments: str) -> tuple[int, str, str]:
        return cli_inprocess(*arguments, cwd=folder)

    assert run("cache", "--teacher", "fast3r")[0] == 3
    assert run("cache", "--manifest", "nothing.csv")[0] == 3
    assert not (folder / "caches").exists()
    status, out, _ = run(*MAKE, "--dry-run")
    assert (status, "time expected" in out) == (0, True)
    assert not (folder / "caches").exists()
    assert run("cache", "--size", "28x40")[0] == 2
    assert run("cache", "--teacher", "nobody")[0] == 2
    assert run(*MAKE, "--shard", "2/2")[0] == 2
    assert run(*MAKE)[0] == 0
    status, _, err = run("cache", "--size", "42x28", "--resume")
    assert (status, "size: [28, 42] → [42, 28]" in err) == (2, True)
    picture = folder / "data/images/1.png"
    picture.write_bytes(picture.read_bytes()[:-200])
    status, _, err = run(*MAKE, "--resume")
    assert (status, "own/desk/000" in err) == (5, True)


def test_siblings_do_what_they_say(cli_inprocess, folder):
    def run(*arguments: str) -> tuple[int, str, str]:
        return cli_inprocess("cache", *arguments, cwd=folder)

    assert run("--size", "28x42")[0] == 0
    status, out, _ = run("info", "--json", "--picture", "maps.png")
    assert (status, json.loads(out)["result"]["finished"]) == (0, 2)
    assert (folder / "maps.png").is_file()
    assert run("verify", "caches/teacher", "--recompute", "1")[0] == 0
    assert run("merge", "caches/teacher", "-o", "caches/other")[0] == 0
    assert run("export", "caches/other", "--format", "npz", "-o", "npz")[0] == 0
    assert run("import", "npz", "-o", "caches/back")[0] == 0
    assert run("info", "caches/nothing")[0] == 3
    status, _, err = run("info", "--picture", "x.png", "--sample", "own/desk/9")
    assert (status, "the first is 'own/desk/000'" in err) == (1, True)
    assert run("export", "caches/other", "--format", "zip", "-o", "zip")[0] == 2
    data = folder / "caches/other/shard-0000/data.mdb"
    data.write_bytes(data.read_bytes()[:5000])
    status, out, _ = run("verify", "caches/other")
    assert (status, "damaged" in out) == (1, True)
    assert run("verify", "caches/other", "--repair")[0] == 0


def test_verify_and_import_end_as_the_contract_says(cli_inprocess, folder):
    def run(*arguments: str) -> tuple[int, str, str]:
        return cli_inprocess("cache", *arguments, cwd=folder)

    assert run("--size", "28x42", "--shard", "0/2")[0] == 0
    status, out, _ = run("verify", "--json")
    answer = json.loads(out)
    assert (status, answer["result"]["ok"]) == (5, True)
    assert [one["item"] for one in answer["failed"]] == answer["result"]["missing"]
    assert run("verify", "--recompute", "1", "--manifest", "gone.csv")[0] == 3
    (folder / "caches/teacher/shard-0000/data.mdb").unlink()
    status, out, err = run("verify")
    assert (status, "data.mdb is gone" in err, "damaged" in out) == (1, True, True)
    assert run("verify", "--repair")[0] == 0
    assert run("--size", "28x42", "--resume")[0] == 0
    assert run("verify")[0] == 0
    assert run("export", "caches/teacher", "-o", "npz")[0] == 0
    status, _, err = run("import", "npz", "--images", "nowhere", "-o", "caches/back")
    assert (status, "nowhere" in err) == (3, True)
    assert not (folder / "caches/back").exists()


def test_an_option_before_a_sibling_is_refused_and_not_dropped(cli_inprocess, folder):
    status, _, err = cli_inprocess("cache", "--resume", "info", "x", cwd=folder)
    assert status == 2
    assert "--resume" in err


def test_settings_come_from_the_projects_file_and_are_printed(cli_inprocess, folder):
    (folder / "distill3r.yaml").write_text("cache: {size: 28x42, export: {resample: release}}\n")
    status, out, _ = cli_inprocess("cache", "--print-config", cwd=folder)
    assert status == 0
    assert "size: 28x42" in out
    assert "resample: release" in out
    assert not (folder / "caches").exists()
    status, _, err = cli_inprocess("cache", "--set", "sise=1", cwd=folder)
    assert (status, "sise" in err) == (2, True)


@pytest.mark.slow
def test_torchruns_ranks_make_one_cache_and_end_alike(folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4", "-m"]
    command += ["distill3r_cli", *MAKE, "--json"]
    made = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["result"]["finished"] == 2  # rank 0 alone prints
    assert len(list((folder / "caches/teacher").glob("shard-*"))) == 4
    again = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300)
    assert again.returncode == 0


def test_a_cache_keeps_teacher_license_and_settings_through_export_and_import(
    cli_inprocess, folder
):
    def run(*arguments: str) -> None:
        status, _, err = cli_inprocess("cache", *arguments, cwd=folder)
        assert status == 0, err

    run("--teacher", "synthetic", "--size", "28x42", "--threshold", "0.01")
    # A teacher from elsewhere, with a license of its own and validation samples.
    made = read_header(folder / "caches/teacher")
    held_out = tuple(replace(sample, split="val") for sample in made.plan)
    made = replace(made, teacher="house", license="House License 2", plan=held_out)
    write_header(folder / "caches/teacher", made)
    run("export", "caches/teacher", "-o", "npz")
    run("import", "npz", "-o", "caches/back")
    back = read_header(folder / "caches/back")
    assert back.settings == made.settings
    assert back.processing == made.processing
    assert [(s.name, s.split) for s in back.plan] == [(s.name, s.split) for s in made.plan]
    ours, theirs = TeacherCache(folder / "caches/teacher"), TeacherCache(folder / "caches/back")
    for name in ours.names():
        assert torch.equal(ours.read(name).images, theirs.read(name).images)
    run("import", "npz", "-o", "caches/named", "--teacher", "other", "--license", "Theirs")
    named = read_header(folder / "caches/named")
    assert (named.teacher, named.license) == ("other", "Theirs")


def test_an_export_does_not_mix_caches_of_other_settings(cli_inprocess, folder):
    for size, cache in (("28x42", "caches/a"), ("42x56", "caches/b")):
        made = ("cache", "--teacher", "synthetic", "--size", size, "-o", cache)
        assert cli_inprocess(*made, cwd=folder)[0] == 0
    assert cli_inprocess("cache", "export", "caches/a", "-o", "npz", cwd=folder)[0] == 0
    assert cli_inprocess("cache", "export", "caches/a", "-o", "npz", cwd=folder)[0] == 0
    status, _, err = cli_inprocess("cache", "export", "caches/b", "-o", "npz", cwd=folder)
    assert (status, "size: [28, 42] → [42, 56]" in err) == (2, True)


def test_a_cache_of_the_original_project_has_its_teacher_unless_another_is_named(
    cli_inprocess, folder
):
    made = ("cache", "--teacher", "synthetic", "--size", "28x42")
    assert cli_inprocess(*made, cwd=folder)[0] == 0
    assert cli_inprocess("cache", "export", "caches/teacher", "-o", "npz", cwd=folder)[0] == 0
    (folder / "npz" / EXPORT_RECORD).unlink()
    for teacher in ("fast3r", "depth"):
        typed = ("cache", "import", "npz", "-o", f"caches/{teacher}")
        named = () if teacher == "fast3r" else ("--teacher", teacher)
        assert cli_inprocess(*typed, *named, cwd=folder)[0] == 0
        found = read_header(folder / f"caches/{teacher}")
        expected = (teacher, ", ".join(TEACHERS[teacher].licenses))
        assert (found.teacher, found.license) == expected
    unknown = ("cache", "import", "npz", "-o", "caches/x", "--teacher", "nobody")
    status, _, err = cli_inprocess(*unknown, cwd=folder)
    assert (status, "--license" in err) == (2, True)
