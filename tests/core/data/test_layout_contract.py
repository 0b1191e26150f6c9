"""What a layout may hand over: depth and pose in any combination, and scenes one at a time."""

import ast
import itertools
import os
import shutil
import string
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import photos, rgbd_scene, save_depth, save_picture, save_pose

import distill3r_core
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import (
    LAYOUTS,
    Dataset,
    DepthFile,
    Frame,
    Layout,
    Listed,
    Rig,
    Scene,
    detect_layout,
    marked_dataset,
    scan,
)
from distill3r_core.data.listing import list_dataset
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.planning import by_pose
from distill3r_core.data.windows import CLOUD, PATH, Policy, stride_of
from distill3r_core.errors import ImageError, RequestError
from distill3r_core.io.images.depth_codecs import DEPTH_CODECS
from distill3r_core.registry import Origin, adding_from, remove_entries_of
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.stages.manifest.placed_scene import digest_of

RIG = Rig(color=np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]))
POSE = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


@pytest.fixture
def frame(tmp_path) -> Frame:
    return Frame("a", save_picture(tmp_path / "a.png", 0), rig=RIG)


@pytest.fixture
def plugin():
    """Registers records for one test."""
    origin = Origin("plugin", "toy.py")
    with adding_from(origin):
        yield
    remove_entries_of(origin)


def test_a_pose_is_a_matrix_or_a_file(frame, tmp_path) -> None:
    path = tmp_path / "pose.txt"
    path.write_text(" ".join(str(value) for value in POSE.ravel()))
    from_file = read_source_frame(replace(frame, pose=path))
    from_matrix = read_source_frame(replace(frame, pose=POSE))
    assert from_file.world_from_cam is not None
    assert from_matrix.world_from_cam is not None
    np.testing.assert_array_equal(from_file.world_from_cam, from_matrix.world_from_cam)
    assert from_matrix.unit == "m"


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_lost_pose_is_refused(frame, value) -> None:
    lost = POSE.copy()
    lost[0, 3] = value
    with pytest.raises(ImageError, match="not finite"):
        read_source_frame(replace(frame, pose=lost))


def test_depth_and_pose_come_without_each_other(frame, tmp_path) -> None:
    depth = DepthFile(save_depth(tmp_path / "depth.png", 1500))
    alone = read_source_frame(replace(frame, depth=depth))
    assert alone.world_from_cam is None
    assert alone.depth is not None
    assert set(np.unique(alone.depth)) == {1.5}
    alone = read_source_frame(replace(frame, pose=POSE))
    assert alone.depth is None
    assert alone.world_from_cam is not None


def test_a_pose_of_the_depth_camera_moves_to_the_color_camera_without_depth(frame) -> None:
    moved = np.eye(4)
    moved[:3, 3] = (-0.025, 0, 0)
    rig = replace(RIG, depth=RIG.color, color_from_depth=moved)
    found = read_source_frame(replace(frame, rig=rig, pose=POSE)).world_from_cam
    assert found is not None
    np.testing.assert_allclose(found @ moved, POSE, atol=1e-12)


def test_scale_invalid_codes_and_reach_belong_to_the_depth_file(frame, tmp_path) -> None:
    path = save_depth(tmp_path / "depth.png", 0)
    values = np.full((24, 32), 10_000, np.uint16)
    values[0], values[1], values[2], values[3] = 0, 65535, 4321, 60_000
    Image.fromarray(values).save(path)
    file = DepthFile(path, scale=5000.0, invalid=(65535, 4321), farthest=11.0)
    depth = read_source_frame(replace(frame, depth=file)).depth
    assert depth is not None
    assert depth[:, 0].tolist() == [0, 0, 0, 0, *[2.0] * 20]


def test_the_plain_layout_takes_65535_for_no_depth(tmp_path) -> None:
    room = rgbd_scene(tmp_path / "room", 2)
    save_depth(room / "depth" / "000000.png", 65535)
    (found,) = scan(tmp_path / "room")
    with pytest.raises(ImageError, match="no valid pixel"):
        read_source_frame(list_dataset(found).scenes[0].frames[0])


@pytest.mark.usefixtures("plugin")
def test_a_codec_may_read_floats_with_nan(frame, tmp_path) -> None:
    values = np.full((24, 32), 2.5, np.float32)
    values[0, :4] = (np.nan, np.inf, -1, 0)
    np.save(tmp_path / "depth.npy", values)
    DEPTH_CODECS.add("npy", np.load)
    file = DepthFile(tmp_path / "depth.npy", codec="npy", scale=1.0)
    depth = read_source_frame(replace(frame, depth=file)).depth
    assert depth is not None
    assert depth[0, :6].tolist() == [0, 0, 0, 0, 2.5, 2.5]


@pytest.mark.parametrize("tree", ["images", "rgbd"])
def test_scenes_are_listed_when_they_are_asked_for(tmp_path, tree) -> None:
    make = {"images": photos, "rgbd": rgbd_scene}[tree]
    for name in ("a", "b", "c"):
        make(tmp_path / name, 2)
    (found,) = scan(tmp_path, tree)
    scenes = found.list_scenes()
    assert isinstance(first := next(scenes), Scene)
    shutil.rmtree(tmp_path / "b")
    rest = [scene.scene_id for scene in scenes if isinstance(scene, Scene)]
    assert (first.scene_id, rest[-1:]) == ("a", ["c"])
    assert "b" not in rest
    again = [scene.scene_id for scene in found.list_scenes() if isinstance(scene, Scene)]
    assert again == ["a", "c"]


def test_detection_names_what_it_found(tmp_path) -> None:
    rgbd_scene(tmp_path / "rooms" / "kitchen", 2)
    layout, reason = detect_layout(tmp_path / "rooms")
    assert (layout.name, reason) == ("rgbd", "kitchen has rgb and depth")
    out = tmp_path / "out"
    report = build_manifest(ManifestSettings((tmp_path / "rooms",), out))
    assert f"rooms has the layout rgbd: {reason}" in report.notes
    named = build_manifest(ManifestSettings((tmp_path / "rooms",), tmp_path / "two", layout="rgbd"))
    assert not any("has the layout" in note for note in named.notes)


@pytest.mark.usefixtures("plugin")
def test_a_folder_with_the_mark_is_a_scene_once_wherever_it_is(tmp_path) -> None:
    def list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
        if folder.name == "broken":
            raise ImageError("it is broken")
        yield Scene(scene_id, folder, (), order="name")

    root = tmp_path / "root"
    for place in ("a/b/c/d/deep", "scene2", "scene10", "broken", ".hidden", "out/old"):
        (root / place).mkdir(parents=True)
        (root / place / "mark").touch()
    (root / "again").symlink_to(root / "scene2")
    (root / "up").symlink_to(root)
    (root / "itself").symlink_to("itself")

    def mark(folder: Path) -> str | None:
        return "has a mark" if (folder / "mark").exists() else None

    record = Layout("marks", "", scan=marked_dataset(mark, list_scene), mark=mark)
    LAYOUTS.add("marks", record)
    assert detect_layout(root) == (record, "a/b/c/d/deep has a mark")
    (dataset,) = scan(root, skip=root / "out")
    found = list_dataset(dataset)
    # "again" comes before "scene2" and is the same folder.
    assert [scene.scene_id for scene in found.scenes] == ["a/b/c/d/deep", "again", "scene10"]
    assert {(item.path.name, item.reason) for item in found.refused} == {
        ("itself", "a link that leads to itself"),
        ("broken", "it is broken"),
    }


@pytest.mark.usefixtures("plugin")
def test_a_layout_from_outside_is_tried_before_the_one_that_takes_any_folder(tmp_path) -> None:
    for number in range(9):
        save_picture(tmp_path / "toy" / f"{number}.png", number)
        save_pose(tmp_path / "toy" / f"{number}.pose", 0.1 * number)

    def list_scenes():
        frames = tuple(
            Frame(
                path.stem,
                path,
                number=int(path.stem),
                pose=path.with_suffix(".pose"),
                rig=RIG,
                camera="fisheye",
            )
            for path in sorted((tmp_path / "toy").glob("*.png"))
        )
        yield Scene("turn", tmp_path / "toy", frames, order="number")

    LAYOUTS.add(
        "toy",
        Layout(
            name="toy",
            summary="numbers with a .pose beside",
            detect=lambda root: "0.pose" if (root / "0.pose").is_file() else None,
            scan=lambda root, skip: [Dataset("toy", root, list_scenes)],
            carries=frozenset({"pose"}),
            policy=Policy("orbit", most=4),
        ),
    )
    settings = ManifestSettings((tmp_path / "toy",), tmp_path / "out", views=3, val_scenes=0.0)
    report = build_manifest(settings)
    assert report.result["datasets"][0]["layout"] == "toy"
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    first = [row.sample_id for row in rows if row.windows == (0,)]
    assert first == ["000000", "000004", "000008"]
    assert {(row.camera, row.depth_path, row.unit) for row in rows} == {("fisheye", "", "m")}
    assert [row.pose[3] for row in rows if row.pose and row.sample_id == "000004"] == [0.4]


PACKAGE = """
from distill3r_core.data.layouts import Frame, Layout, Scene, marked_dataset

def mark(folder):
    return "has toy.txt" if (folder / "toy.txt").exists() else None

def list_scene(folder, scene_id):
    paths = [folder / line for line in (folder / "toy.txt").read_text().split()]
    frames = tuple(Frame(path.stem, path) for path in paths)
    yield Scene(scene_id, folder, frames, order="name", split="val")

LAYOUT = Layout("toy", "toy.txt lists images", scan=marked_dataset(mark, list_scene), mark=mark)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that announces a layout, for one test; the layouts are looked for anew."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "toy_layout_of_a_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    point = EntryPoint("toy", "toy_layout_of_a_package:LAYOUT", "distill3r.layouts")
    monkeypatch.setattr(
        metadata, "entry_points", lambda *, group: [point] if group == point.group else []
    )
    monkeypatch.setattr(LAYOUTS, "_group", "distill3r.layouts")
    for name in ("_entries", "_origins", "_unloaded"):
        monkeypatch.setattr(LAYOUTS, name, dict(getattr(LAYOUTS, name)))
    yield
    sys.modules.pop("toy_layout_of_a_package", None)


@pytest.mark.usefixtures("package")
def test_a_package_brings_a_layout_by_its_entry_point(tmp_path) -> None:
    for name in ("b", "a", "left_out"):
        save_picture(tmp_path / "data" / "s" / f"{name}.png", 1)
    (tmp_path / "data" / "s" / "toy.txt").write_text("b.png\na.png\n")
    assert "toy" in LAYOUTS and "toy_layout_of_a_package" not in sys.modules
    assert str(LAYOUTS.origin("toy")) == "the package toy_layout_of_a_package:LAYOUT"
    layout, reason = detect_layout(tmp_path / "data")
    assert (layout.name, reason) == ("toy", "s has toy.txt")
    for name in ("auto", "toy"):
        (dataset,) = scan(tmp_path / "data", name)
        (scene,) = list_dataset(dataset).scenes
        assert (scene.scene_id, scene.split) == ("s", "val")
        assert [frame.name for frame in scene.frames] == ["b", "a"]


def test_the_policy_is_the_data_sets_the_scenes_the_layouts_or_that_of_the_order() -> None:
    def dataset(layout: Policy | None, own: Policy | None) -> Dataset:
        record = Layout("x", "", scan=lambda root, skip: [], policy=layout)
        return Dataset("x", Path(), lambda: iter(()), policy=own, layout=record)

    ordered, named, unordered = (
        Scene("s", Path(), (), order=order) for order in ("number", "name", "none")
    )
    orbit, path = Policy("orbit"), Policy("path", least=3)
    assert dataset(orbit, path).policy_of(ordered) == path
    assert dataset(orbit, None).policy_of(unordered) == orbit
    fast = replace(ordered, policy=Policy("path", most=60))
    assert dataset(orbit, None).policy_of(fast) == fast.policy
    assert dataset(orbit, path).policy_of(fast) == path
    assert dataset(None, None).policy_of(ordered) == PATH
    assert dataset(None, None).policy_of(named) == CLOUD
    assert dataset(None, None).policy_of(unordered) == CLOUD


def test_names_without_numbers_are_no_order_for_structure_from_motion_either() -> None:
    """Neighbors of a sequence are matched; of other scenes all pairs, and cached apart."""
    ordered, named, unordered = (
        Scene("s", Path(), (), order=order) for order in ("number", "name", "none")
    )
    assert [scene.is_ordered for scene in (ordered, named, unordered)] == [True, False, False]
    assert digest_of(named) == digest_of(unordered) != digest_of(ordered)


@pytest.mark.parametrize(("name", "stride"), [("IMG_{}", 4), ("{}", 2)])
def test_photos_without_numbers_are_sampled_as_a_cloud(tmp_path, name, stride) -> None:
    """400 of them: path has stride 400/100, cloud the root of it."""
    words = map("".join, itertools.product(string.ascii_lowercase[:20], repeat=2))
    first = save_picture(tmp_path / "house" / "seen.png", 0)
    for number, word in enumerate(words):
        end = f"{number:03d}" if "IMG" in name else word
        os.link(first, first.with_name(name.format(end) + ".png"))
    first.unlink()
    (dataset,) = scan(tmp_path / "house")
    (scene,) = list_dataset(dataset).scenes
    assert scene.order == ("number" if "IMG" in name else "name")
    assert stride_of(len(scene.frames), dataset.policy_of(scene), 20) == stride


def test_no_layout_is_known_by_its_name_outside_its_module() -> None:
    root = Path(distill3r_core.__file__).parent
    found = []
    for path in [*root.rglob("*.py"), *(root.parent / "distill3r_cli").rglob("*.py")]:
        if path.is_relative_to(root / "data" / "layouts"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.MatchValue):
                names = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                found += [(path.name, node.lineno) for name in names & {"7scenes", "rgbd"}]
                if "layout" in ast.unparse(node).lower():
                    found += [(path.name, node.lineno) for _ in names & set(LAYOUTS)]
    assert found == []


def test_windows_by_motion_take_poses_as_matrices(frame) -> None:
    def at(x: float) -> Frame:
        pose = np.eye(4)
        pose[0, 3] = x
        return replace(frame, pose=pose)

    frames = tuple(at(0.1 * number) for number in range(12))
    assert by_pose(4, 5)(frames, PATH) == ((0, 3, 6, 9),)  # 0.25 m apart
    with pytest.raises(RequestError, match="has none"):
        by_pose(4, 5)((*frames, frame), PATH)
