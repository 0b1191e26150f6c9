"""`kill -9` at random moments: the same command goes on, and ends with what it would have made."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from official_folders import write_folder
from posed_rooms import write_room
from safetensors.torch import load_file

import distill3r_core.stages.cache
import distill3r_core.stages.infer
import distill3r_core.stages.manifest
import distill3r_core.stages.train
import distill3r_core.teachers.pairwise.teacher  # noqa: F401 the children need not load them
from distill3r_cli.run import run
from distill3r_core.cache.store import TeacherCache
from distill3r_core.geometry.pnp import pnp_available

Made = Callable[[Path], dict[str, object]]
SMALL = "model.network={width: 16, depth: 1, heads: 2, head_width: 8}"
STEPS = (
    "--max-steps",
    "12",
    "--set",
    "checkpoint.every_steps=2",
    "--set",
    "validation.every_steps=4",
)
PAIRS = (
    *("cache", "--manifest", "trio/manifest.csv", "--teacher", "dust3r-512-dpt", "--size", "32x48"),
    *("--threshold", "0", "--pairs", "--set", "teacher.graph=oneref", "-o", "made"),
)
RESULTS = ("data", "made", "run", "scene")
KILLS = 3  # of each command


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    """Manifests of two rooms and of three frames, caches of the former, a small DUSt3R."""
    folder = tmp_path_factory.mktemp("home")
    write_room(folder / "rooms" / "one", views=6)
    write_room(folder / "rooms" / "two", seed=1, views=6)
    write_folder(folder / "weights" / "dust3r-512-dpt", golden_dir, "dust3r-512-dpt")
    cut = ("--views", "3", "--stride", "1", "--val-frames", "last:2")
    assert _ended(folder, ("manifest", "rooms", *cut, "-o", "rows")) == 0
    write_room(folder / "three", seed=2, views=3)
    trio = ("--views", "3", "--stride", "1", "--images-only", "--val-scenes", "0")
    assert _ended(folder, ("manifest", "three", *trio, "-o", "trio")) == 0
    for teacher in ("depth", "synthetic"):
        made = ("cache", "--manifest", "rows/manifest.csv", "--teacher", teacher, "--size", "28x42")
        assert _ended(folder, (*made, "-o", f"caches/{teacher}")) == 0
    assert _ended(folder, (*_train("depth"), "-o", "student")) == 0
    return folder


def _train(*caches: str) -> tuple[str, ...]:
    named = [word for name in caches for word in ("--cache", f"caches/{name}")]
    return ("train", *named, "--preset", "tiny", "--device", "cpu", *STEPS)


def _child(folder: Path, command: tuple[str, ...]) -> int:
    """Start a command in a process of its own, in a folder; gives its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(folder)
            quiet = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.environ["DISTILL3R_HOME"] = str(folder / "weights")
            os.environ["HF_HOME"] = str(folder / "no-hub")
            status = run(list(command))
        finally:
            os._exit(status)
    return child


def _ended(folder: Path, command: tuple[str, ...]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(_child(folder, command), 0)[1])


def _files(folder: Path, *kinds: str) -> dict[str, str]:
    """Digests of files, by their names below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in kinds)
    assert found
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def _posed_rows(folder: Path) -> dict[str, object]:
    """The manifest with poses and K, and all images and depth maps that it names."""
    data = folder / "data"
    manifest = (data / "manifest.csv").read_bytes()
    return {
        "manifest": manifest,
        **_files(data / "images", ".png", ".jpg"),
        "depth": _files(data / "depth", ".png"),
    }


def _records(folder: Path) -> dict[str, object]:
    cache = TeacherCache(folder / "made")
    assert not cache.missing()
    found: dict[str, object] = {}
    for name in cache.names():
        shard, entry = cache.place(name)
        for view in range(entry.views):
            found[f"{name} {view}"] = (
                bytes(shard.maps(entry, view)),
                bytes(shard.image(entry, view)),
                *(bytes(shard.features(entry, view, layer)) for layer in cache.header.features),
            )
    return found


def _run(folder: Path) -> dict[str, object]:
    weights = load_file(folder / "run/checkpoints/last/model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


def _scene(folder: Path) -> dict[str, object]:
    return dict(_files(folder / "scene", ".ply", ".html", ".png"))


COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Made]] = {
    # by name: the command, what it goes on with, and what it makes
    "manifest": (("manifest", "kitchen", "--poses", "colmap", "--views", "3"), (), _posed_rows),
    "pairs": (PAIRS, ("--resume",), _records),
    "features": (
        (*PAIRS, "--features", "enc_norm"),
        ("--resume",),
        _records,
    ),
    "scene": (
        ("train", "--cache", "caches/depth", "--preset", "scene-vit", "--set", SMALL, *STEPS,
         "--device", "cpu", "--scene", "rooms/one", "-o", "run"),
        ("--resume",),
        _run,
    ),
    "pair student": (
        ("train", "--cache", "caches/depth", "--preset", "pair-tiny", "--set", "data.size=16x32",
         *STEPS, "--device", "cpu", "-o", "run"),
        ("--resume",),
        _run,
    ),
    "caches": ((*_train("depth", "synthetic"), "-o", "run"), ("--resume",), _run),
    "infer": (
        ("infer", "rooms/one/rgb", "-m", "student", "--compare", "student", "--ply", "-o", "scene"),
        (),
        _scene,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kitchen(home: Path, data_dir: Path) -> Path:
    """Seven frames without poses."""
    source = data_dir / "7scenes_kitchen" / "redkitchen" / "seq-01"
    target = home / "kitchen" / "seq-01"
    target.mkdir(parents=True)
    for number in range(0, 140, 20):
        for kind in ("color.jpg", "depth.png"):
            shutil.copy(source / f"frame-{number:06d}.{kind}", target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_goes_on_and_makes_the_same(
    home: Path, name: str, request: pytest.FixtureRequest
) -> None:
    command, more, made = COMMANDS[name]
    if name == "manifest":
        if not pnp_available():
            pytest.skip("the extra 'colmap' is not installed")
        request.getfixturevalue("kitchen")
    for result in RESULTS:
        shutil.rmtree(home / result, ignore_errors=True)
    start = time.monotonic()
    assert _ended(home, command) == 0, (home / "log").read_text()
    span, wanted = time.monotonic() - start, made(home)
    rng, kills = random.Random(name), 0
    for result in RESULTS:
        shutil.rmtree(home / result, ignore_errors=True)
    while kills < KILLS:
        child = _child(home, (*command, *more))
        time.sleep(rng.random() * span)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), (home / "log").read_text()
        kills += status != 0
        if status == 0:  # it was ready before it could be killed
            assert made(home) == wanted
            for result in RESULTS:
                shutil.rmtree(home / result, ignore_errors=True)
    assert _ended(home, (*command, *more)) == 0, (home / "log").read_text()
    assert made(home) == wanted
    left = [path for result in RESULTS for path in (home / result).rglob("*.partial*")]
    assert not left
