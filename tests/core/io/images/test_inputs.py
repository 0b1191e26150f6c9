"""What folders, files and patterns name, and in which order."""

import os
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill3r_core.errors import ExtraMissingError, InputMissingError
from distill3r_core.io.images import inputs, scene_search
from distill3r_core.io.images.inputs import (
    InputFile,
    evenly,
    find_inputs,
    natural_key,
    require_extras,
    scene_folders,
)


def _make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def _names(inputs: list[str]) -> list[str]:
    return [source.path.name for source in find_inputs(inputs).sources]


@pytest.mark.parametrize("how", ["folder", "files", "pattern"])
def test_views_are_counted_not_spelt(tmp_path, how):
    _make(tmp_path, "v10.jpg", "v9.JPG", "v1.png", "notes.txt", ".v2.jpg", "deep/v3.jpg")
    inputs = {
        "folder": [str(tmp_path)],
        "files": [str(tmp_path / name) for name in ("v10.jpg", "v1.png", "v9.JPG")],
        "pattern": [str(tmp_path / "v*")],
    }[how]
    assert _names(inputs) == ["v1.png", "v9.JPG", "v10.jpg"]


def test_a_file_is_one_view_however_often_it_is_named(tmp_path):
    _make(tmp_path, "a.jpg", "b.jpg")
    assert _names([str(tmp_path), str(tmp_path / "a.jpg"), str(tmp_path / "*.jpg")]) == [
        "a.jpg",
        "b.jpg",
    ]


def test_a_file_that_is_named_is_taken_whatever_its_name(tmp_path):
    _make(tmp_path, "no_extension", "[odd].jpg")
    assert _names([str(tmp_path / "no_extension")]) == ["no_extension"]
    assert _names([str(tmp_path / "[odd].jpg")]) == ["[odd].jpg"]


def test_videos_are_read_where_there_is_no_picture_and_named_where_there_is(tmp_path):
    _make(tmp_path, "only/clip.mp4", "both/clip.MOV", "both/a.jpg")
    found = find_inputs([str(tmp_path / "only")])
    assert [source.kind for source in found.sources] == ["video"] and not found.failed
    found = find_inputs([str(tmp_path / "both")])
    assert [source.kind for source in found.sources] == ["image"]
    assert [Path(failure.item).name for failure in found.failed] == ["clip.MOV"]


@pytest.mark.parametrize("text", ["nothing", "*.jpg", "empty"])
def test_an_input_that_names_nothing_is_missing(tmp_path, text):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissingError, match=str(text).replace("*", r"\*")):
        find_inputs([str(tmp_path / text)])


def test_a_folder_of_folders_says_each(tmp_path):
    _make(tmp_path, "one/a.jpg", "two/b.jpg")
    with pytest.raises(InputMissingError) as raised:
        find_inputs([str(tmp_path)])
    assert "--each" in raised.value.hint
    assert [path.name for path in scene_folders([str(tmp_path)])[0]] == ["one", "two"]


def test_a_folder_around_one_folder_stands_for_it(tmp_path):
    _make(tmp_path, "data/kitchen/seq-01/a.png", "data/kitchen/seq-01/b.png", "data/split.txt")
    found = find_inputs([str(tmp_path / "data")])
    assert [source.path.name for source in found.sources] == ["a.png", "b.png"]
    assert any("seq-01" in note for note in found.notes)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    with pytest.raises(InputMissingError, match="no pictures"):
        find_inputs([str(tmp_path / "loop")])


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (("one/a.jpg", "notes/x.txt"), "{root}/one has pictures"),
        (("a/x/1.jpg", "b/x/1.jpg"), "'{root}/*/*' --each"),
        (("a/x/y/1.jpg", "b/x/y/1.jpg", "b/z/1.txt"), "'{root}/*/*/*' --each"),
    ],
)
def test_the_way_to_deeper_pictures_is_named(tmp_path, files, hint):
    _make(tmp_path, *files)
    with pytest.raises(InputMissingError) as raised:
        find_inputs([str(tmp_path)])
    assert hint.format(root=tmp_path) in raised.value.hint
    if "*" in hint:
        pattern = hint.format(root=tmp_path).split("'")[1]
        assert len(scene_folders([pattern])[0]) == 2


@pytest.mark.parametrize(
    "name", ["it's [new] *", "two words", "line\nbreak", os.fsdecode(b"b\xff")]
)
def test_the_pattern_of_a_hint_names_the_folders_whatever_the_name(tmp_path, name):
    root = tmp_path / name
    _make(root, "a/x/1.jpg", "b/x/1.jpg")
    with pytest.raises(InputMissingError) as raised:
        find_inputs([str(root)])
    words = shlex.split(raised.value.hint)
    assert words[-1] == "--each"
    assert scene_folders([words[-2]])[0] == [root / "a/x", root / "b/x"]
    with pytest.raises(InputMissingError) as raised:
        scene_folders([str(root)])
    assert len(scene_folders([shlex.split(raised.value.hint)[-1]])[0]) == 2


def test_the_search_for_a_hint_follows_no_link_and_ends(tmp_path, monkeypatch):
    _make(tmp_path, "elsewhere/a/x/1.jpg", "wide/z/x/1.jpg", *(f"wide/{n}/1.txt" for n in range(9)))
    linked = tmp_path / "linked"
    linked.mkdir()
    for number in range(12):  # 12 ** 4 folders for a walk of four levels
        (linked / f"again{number}").symlink_to(linked)
        (linked / f"other{number}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputMissingError) as raised:
        find_inputs([str(linked)])
    assert raised.value.hint is None

    def hint() -> str | None:
        with pytest.raises(InputMissingError) as raised:
            find_inputs([str(tmp_path / "wide")])
        return raised.value.hint

    assert "--each" in hint()
    monkeypatch.setattr(scene_search, "_HINT_ENTRIES", 12)
    assert hint() is None


def test_a_hint_counts_what_it_has_looked_at(tmp_path, monkeypatch):
    _make(tmp_path, *(f"{n}/1.jpg" for n in range(4)))
    monkeypatch.setattr(scene_search, "_HINT_SCENES", 3)
    with pytest.raises(InputMissingError) as raised:
        find_inputs([str(tmp_path)])
    assert raised.value.hint == "at least 3 folders in it have pictures: add --each"


@pytest.mark.parametrize(
    ("name", "mode"),
    [("depth", "I;16"), ("lidar", "I;16"), ("masks", "L"), ("my_depth", "L"), ("thumbs", "RGB")],
)
def test_depth_masks_and_copies_alone_are_no_photographs(tmp_path, name, mode):
    folder = tmp_path / "scan" / name
    folder.mkdir(parents=True)
    for index in range(3):
        Image.new(mode, (8, 6), 90 + index if mode != "RGB" else (9, 90, 200)).save(
            folder / f"{index}.png"
        )
    for beside in (False, True):  # masks of the same scan beside them make no photographs of them
        if beside:
            (tmp_path / "scan/mask").mkdir()
            Image.new("L", (8, 6), 255).save(tmp_path / "scan/mask/0.png")
        with pytest.raises(InputMissingError, match="no pictures") as raised:
            find_inputs([str(tmp_path / "scan")])
        assert "no photograph" in raised.value.hint or "smaller copy" in raised.value.hint
        with pytest.raises(InputMissingError, match="neither"):
            scene_folders([str(tmp_path / "scan")])
    assert len(find_inputs([str(folder)]).sources) == 3  # whoever names it wants it


def test_scenes_are_the_folders_in_a_folder_or_itself_and_patterns_name_deeper_ones(tmp_path):
    _make(tmp_path, "many/one/a.jpg", "many/room/rgb/a.jpg", "alone/a.jpg", "many/room/depth/a.txt")

    def names(*inputs: str) -> tuple[list[str], list[str]]:
        found, empty = scene_folders([str(tmp_path / text) for text in inputs])
        return [path.name for path in found], [path.name for path in empty]

    assert names("many", "alone") == (["alone", "one"], ["room"])
    assert names("alone", "alone", "a*") == (["alone"], [])
    assert names("many/room/rgb") == (["rgb"], [])
    assert names("*/room/r*") == (["rgb"], [])


def test_each_needs_folders_with_pictures(tmp_path):
    _make(tmp_path, "a.jpg", "deep/er/b.jpg")
    for text in ("a.jpg", "nothing", "no*ing"):
        with pytest.raises(InputMissingError, match="no folder"):
            scene_folders([str(tmp_path / text)])
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputMissingError, match="neither") as raised:
        scene_folders([str(tmp_path)])
    assert "/*/*" in raised.value.hint


def test_what_is_no_file_is_named_and_never_opened(tmp_path):
    _make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    found = find_inputs([str(tmp_path)])
    assert [source.path.name for source in found.sources] == ["a.jpg"]
    named = sorted(Path(failure.item).name for failure in found.failed)
    assert named == ["gone.jpg", "loop.jpg", "pipe.jpg"]
    assert find_inputs([str(tmp_path / "pipe.jpg")]).failed[0].reason == "not a file"


def test_the_depth_beside_a_picture_is_no_photograph_and_is_named(tmp_path):
    _make(tmp_path, "0.color.png", "0.depth.png", "1.color.jpg", "1.depth.png", "my.depth.png")
    found = find_inputs([str(tmp_path)])
    names = [source.path.name for source in found.sources]
    assert names == ["0.color.png", "1.color.jpg", "my.depth.png"]
    assert [Path(item.item).name for item in found.omitted] == ["0.depth.png", "1.depth.png"]
    assert not found.failed


@pytest.mark.parametrize(
    ("name", "kind", "extra"), [("a.mp4", "video", "video"), ("a.HEIC", "image", "heic")]
)
def test_an_input_that_needs_an_extra_names_it_before_any_work(monkeypatch, name, kind, extra):
    monkeypatch.setattr(inputs.util, "find_spec", lambda package: None)
    with pytest.raises(ExtraMissingError, match=name) as raised:
        require_extras([InputFile(Path("ok.jpg"), "image"), InputFile(Path(name), kind)])
    assert f"distill3r[{extra}]" in raised.value.hint


@given(st.integers(1, 300), st.integers(1, 300))
def test_views_are_spread_evenly_with_both_ends(count, most):
    chosen = evenly(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen[0] == 0 and (len(chosen) == 1 or chosen[-1] == count - 1)
    steps = [b - a for a, b in pairwise(chosen)]
    assert not steps or max(steps) - min(steps) <= 1


@given(st.text(max_size=12), st.text(max_size=12))
def test_natural_order_is_defined_for_any_two_names(first, second):
    assert (natural_key(first) < natural_key(second)) in (True, False)


def test_names_of_thousands_of_digits_have_an_order():
    names = ["a" + "9" * 6000, "a10", "a" + "1" * 6000, "a9"]
    assert sorted(names, key=natural_key) == ["a9", "a10", "a" + "1" * 6000, "a" + "9" * 6000]
