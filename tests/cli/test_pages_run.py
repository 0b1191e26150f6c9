"""The lines on the pages of README and docs, run in the order in which they stand."""

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from official_folders import write_folder
from page_commands import ROOT, commands_of
from PIL import Image

NEEDS = {
    "models download": "a server of weights",
    "--gpus": "GPUs",
    "/shared/runs": "several machines",
    "$SCRATCH": "SLURM",
    "--set init_from=model.safetensors": "MASt3R's file at its full size",
}
TRAIN = ("--max-steps", "1")


@dataclass(frozen=True)
class Desk:
    """A reader's folder.

    Args:
        folder: Where lines are typed.
        run: Runs a command there; exit status 0 is asserted.
        data: Real photographs and frames.
        golden: Recorded weights of small networks.
    """

    folder: Path
    run: Callable[..., None]
    data: Path
    golden: Path

    def photographs(self, target: str, source: str, pattern: str, count: int) -> None:
        """A few photographs, made small."""
        (self.folder / target).mkdir(parents=True, exist_ok=True)
        for path in sorted((self.data / source).rglob(pattern))[:count]:
            with Image.open(path) as image:
                name = path.name.split(".")[0]  # `frame-0.color` would be a frame of 7-Scenes
                image.convert("RGB").resize((144, 108)).save(self.folder / target / f"{name}.jpg")

    def kitchen(self, target: str) -> None:
        """An RGB-D data set."""
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / target).symlink_to(self.data / "7scenes_kitchen")

    def manifest(self, root: str, *options: str) -> None:
        self.run("manifest", root, *options)


@dataclass(frozen=True)
class Page:
    """What stands on a page.

    Args:
        desk: Makes what its reader has.
        more: Options added to a line that begins so: what makes it short, or writes elsewhere
            where two lines of a page are alternatives.
        before: What has happened before the line that begins so.
        section: Heading of the part of the page that is run; None: all of it.
    """

    desk: Callable[[Desk], None]
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)
    before: Mapping[str, Callable[[Desk], None]] = field(default_factory=dict)
    section: str | None = None


def remove(*names: str) -> Callable[[Desk], None]:
    def removed(desk: Desk) -> None:
        for name in names:
            shutil.rmtree(desk.folder / name)

    return removed


def cache_desk(desk: Desk) -> None:
    desk.kitchen("7scenes")
    desk.manifest("7scenes", "--views", "2", "--stride", "20")


def two_parts(desk: Desk) -> None:
    for part in ("0", "1"):
        desk.run("cache", "--shard", f"{part}/2", "--size", "28x42", "-o", f"part-{part}")


def two_teachers(desk: Desk) -> None:
    desk.run("cache", "--teacher", "depth", "-o", "caches/depth")
    desk.run("cache", "--teacher", "da3-small", "--threshold", "0", "-o", "caches/da3")


def evaluation_desk(desk: Desk) -> None:
    desk.kitchen("7scenes")
    desk.manifest("7scenes", "--views", "4")
    desk.run("cache", "--size", "28x42")
    for name in ("a", "b"):
        desk.run("train", "--preset", "tiny", *TRAIN, "-o", f"runs/{name}")
    scenes = desk.golden / "spatialbench_layout"
    for scene, place in (("scene_a", "eth3d/courtyard"), ("scene_b", "tum/room/0")):
        shutil.copytree(scenes / scene, desk.folder / "spatialbench" / "sparse" / place)


def training_desk(desk: Desk) -> None:
    desk.kitchen("ROOT")
    desk.photographs("photos", "castle", "*.JPG", 4)
    for name, path in zip(
        ("left", "right"), sorted((desk.folder / "photos").iterdir()), strict=False
    ):
        with Image.open(path) as image:
            image.save(desk.folder / f"{name}.png")
    desk.manifest("ROOT", "--views", "4", "-o", "kitchen")
    desk.manifest("photos", "--views", "2")
    size = ("--size", "28x42", "--threshold", "0")
    kitchen = ("--manifest", "kitchen/manifest.csv")
    desk.run("cache", *kitchen, *size, "-o", "caches/kitchen-depth")
    desk.run("cache", "--teacher", "da3-small", *size, "-o", "caches/photos-da3")


def infer_desk(desk: Desk) -> None:
    desk.kitchen("data/7scenes_kitchen")
    (desk.folder / "data" / "video").symlink_to(desk.data / "video")
    desk.photographs("photos", "castle", "*.JPG", 3)


def a_small_student(desk: Desk) -> None:
    desk.run("train", "--preset", "small", *TRAIN, "-o", "runs/small-001")


def own_photographs(desk: Desk) -> None:
    desk.photographs("photos", "castle", "*.JPG", 8)


PAGES = {
    "cache.md": Page(
        cache_desk,
        more={
            "cache --size auto": ("-o", "caches/auto"),
            "cache --teacher": ("--threshold", "0"),
        },
        before={
            "cache merge": two_parts,
            "cache compare caches/depth": two_teachers,
            "cache --teacher da3-small": remove("caches/da3"),
        },
    ),
    "evaluation.md": Page(evaluation_desk),
    "training.md": Page(
        training_desk,
        more={"train": TRAIN, "cache --teacher mast3r": ("--threshold", "0")},
        before={"manifest ROOT": remove("data", "caches/teacher")},
    ),
    "infer.md": Page(
        infer_desk,
        more={"train": TRAIN, "cache": ("--size", "28x42")},
        before={"infer photos -m runs/small-001": a_small_student},
    ),
    "README.md": Page(
        own_photographs,
        more={"train": TRAIN, "cache": ("--size", "28x42", "--threshold", "0")},
        section="## Your own images",
    ),
}


def lines_of(page: str, section: str | None) -> list[str]:
    """Lines to be typed on a page, or in one section of it, that this machine can run."""
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    text = path.read_text().splitlines()
    first, last = 0, len(text)
    if section is not None:
        first = text.index(section)
        last = next(n for n in range(first + 1, last) if text[n].startswith("## "))
    return [
        line
        for number, line, typed in commands_of(path)
        if typed and first < number <= last and not any(need in line for need in NEEDS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_lines_of_a_page_run(name, cli_inprocess, data_dir, golden_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    for teacher in ("da3-small", "vggt", "mast3r"):
        write_folder(tmp_path / "weights" / teacher, golden_dir, teacher)
    folder, page = tmp_path / "desk", PAGES[name]
    folder.mkdir()

    def run(*arguments: str) -> None:
        status, output, error = cli_inprocess(*arguments, cwd=folder)
        assert status == 0, f"{' '.join(arguments)}\n{output}\n{error}"

    desk = Desk(folder, run, data_dir, golden_dir)
    page.desk(desk)
    lines = lines_of(name, page.section)
    assert len(lines) > 3
    for begin in (*page.more, *page.before):
        assert any(line.startswith(begin) for line in lines), begin
    for line in lines:
        for begin, happen in page.before.items():
            if line.startswith(begin):
                happen(desk)
        more = next((more for begin, more in page.more.items() if line.startswith(begin)), ())
        line = line.replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "0/2")
        run(*shlex.split(line), *more)
