"""Source frames reach their processed form with picture, depth, K and pose in step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trees import save_depth, save_picture

from distill3r_core.data.conventions.readings import Conventions, with_conventions
from distill3r_core.data.depth_registration import register_depth
from distill3r_core.data.frame_processing import (
    Processing,
    process,
    processed_size,
    recorded_processing,
)
from distill3r_core.data.frame_reader import SourceFrame, read_source_frame
from distill3r_core.data.layouts import DepthFile, Frame, Rig, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.data.matrix_files import read_pose
from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_png16


def kitchen_frames(data_dir: Path) -> dict[int | None, object]:
    (found,) = scan(data_dir / "7scenes_kitchen")
    return {frame.number: frame for frame in list_dataset(found).scenes[0].frames}


def test_registered_depth_is_that_of_the_published_recipe(data_dir) -> None:
    frames = kitchen_frames(data_dir)
    recorded = sorted((data_dir / "7scenes_extra" / "depth_proj").iterdir())
    assert recorded
    for path in recorded:
        frame = frames[int(path.name.split(".")[0].split("-")[1])]
        depth = process(read_source_frame(frame), Processing()).depth
        assert depth is not None
        theirs = read_png16(path).astype(np.int64)
        theirs[theirs > 10_000] = 0  # the recipe lets 65535 through, its readers drop it
        off = np.abs(np.rint(1000 * depth).astype(np.int64) - theirs)
        assert np.mean(off <= 1) >= 0.999, path.name


def test_the_invalid_code_65535_is_no_distance(data_dir, tmp_path) -> None:
    (found,) = scan(data_dir / "7scenes_extra" / "with_65535")
    raw = read_png16(data_dir / "7scenes_extra" / "with_65535" / "frame-000033.depth.png")
    assert (raw == 65535).any()
    depth = read_source_frame(list_dataset(found).scenes[0].frames[0]).depth
    assert depth is not None
    assert depth.max() <= 10


def test_the_pose_moves_with_the_depth(data_dir) -> None:
    """Points of the depth camera are where they were, seen from the color camera."""
    frame = kitchen_frames(data_dir)[100]
    source = read_source_frame(frame)
    rig = frame.rig
    recorded = read_pose(frame.pose)
    assert source.world_from_cam is not None
    np.testing.assert_allclose(source.world_from_cam @ rig.color_from_depth, recorded, atol=1e-12)


def test_neighbouring_frames_see_the_same_surface(data_dir) -> None:
    """Depth of one frame, moved into the next, agrees with that one's own."""
    frames = kitchen_frames(data_dir)
    near, far = (process(read_source_frame(frames[n]), Processing()) for n in (0, 20))
    for part in (near, far):
        assert part.depth is not None
    rows, columns = np.nonzero(near.depth > 0)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    points = np.linalg.inv(near.intrinsics) @ pixels * near.depth[rows, columns]
    motion = np.linalg.inv(far.world_from_cam) @ near.world_from_cam
    moved = motion[:3, :3] @ points + motion[:3, 3:]
    u, v, _ = np.floor(far.intrinsics @ (moved / moved[2])).astype(int)
    inside = (u >= 0) & (u < 640) & (v >= 0) & (v < 480) & (moved[2] > 0)
    theirs = far.depth[v[inside], u[inside]]
    off = np.abs(theirs - moved[2, inside])[theirs > 0]
    assert np.median(off) < 0.03


def test_the_nearest_point_wins() -> None:
    depth = np.zeros((1, 4), np.float32)
    depth[0] = (2, 1, 1, 2)
    camera = np.array([[1.0, 0, 2], [0, 1, 0.5], [0, 0, 1]])
    moved = register_depth(
        depth, depth_camera=camera, color_camera=camera, color_from_depth=np.eye(4), size=(1, 4)
    )
    assert set(np.unique(moved)) <= {0, 1, 2}
    same = np.diag([1e-9, 1e-9, 1.0])  # every point into one pixel
    same[:2, 2] = (1.5, 0.5)
    moved = register_depth(
        depth, depth_camera=camera, color_camera=same, color_from_depth=np.eye(4), size=(1, 4)
    )
    assert moved.tolist() == [[0, 1, 0, 0]]


@settings(max_examples=40, deadline=None)
@example(height=105, width=43, limit=33)  # the point falls on the rim, where all is rounding
@given(height=st.integers(30, 300), width=st.integers(30, 300), limit=st.integers(32, 200))
def test_intrinsics_follow_the_picture(height, width, limit) -> None:
    """A point falls on the same place of the picture before and after."""
    if min(processed_size((height, width), Processing(resize_max=limit))) < 14:
        return
    intrinsics = np.array([[200.0, 0, width / 3], [0, 210.0, height / 2.5], [0, 0, 1]])
    depth = np.full((height, width), 2.0, np.float32)
    source = SourceFrame(
        np.zeros((height, width, 3), np.uint8),
        intrinsics=intrinsics,
        depth=depth,
        world_from_cam=np.eye(4),
        unit="m",
    )
    result = process(source, Processing(resize_max=limit))
    rows, columns, _ = result.image.shape
    assert max(rows, columns) <= max(limit, 0) or (rows, columns) == (height, width)
    assert result.depth is not None
    assert result.depth.shape == (rows, columns)
    point = np.array([0.1, -0.2, 1.0])
    before, after = (intrinsics @ point)[:2], (result.intrinsics @ point)[:2]
    np.testing.assert_allclose(before / (width, height), after / (columns, rows), atol=1e-15)
    assert result.intrinsics_source == "calibrated"


def test_depth_is_never_mixed_across_edges() -> None:
    depth = np.where(np.arange(100)[None] < 50, 1.0, 3.0).repeat(80, axis=0).astype(np.float32)
    source = SourceFrame(
        np.zeros((80, 100, 3), np.uint8),
        intrinsics=np.eye(3),
        depth=depth,
        world_from_cam=np.eye(4),
        unit="m",
    )
    small = process(source, Processing(resize_max=33)).depth
    assert small is not None
    assert set(np.unique(small)) == {1, 3}


def test_focal_length_from_exif_is_in_pixels_of_the_processed_picture(data_dir) -> None:
    for folder, millimeters, size in (("castle", 35, 1024), ("tree", 28, 1024)):
        picture = read_image(sorted((data_dir / folder).iterdir())[0])
        source = SourceFrame(picture.pixels, picture.exif_focal_35mm)
        whole = process(source, Processing(resize_max=2000))
        assert whole.intrinsics_source == "exif"
        assert whole.intrinsics[0, 0] == pytest.approx(size * millimeters / 36)
        half = process(source, Processing(resize_max=512))
        assert half.intrinsics[0, 0] == pytest.approx(512 * millimeters / 36)


def test_without_any_knowledge_k_is_the_placeholder() -> None:
    result = process(SourceFrame(np.zeros((30, 40, 3), np.uint8)), Processing())
    assert result.intrinsics_source == "none"
    assert result.intrinsics.tolist() == [[40, 0, 20], [0, 40, 15], [0, 0, 1]]


def test_a_picture_that_shrinks_below_a_patch_is_refused() -> None:
    with pytest.raises(ImageError, match="too small: 960x10"):
        process(SourceFrame(np.zeros((20, 1920, 3), np.uint8)), Processing())


def test_hashes_tell_what_changed() -> None:
    source = SourceFrame(
        np.zeros((20, 30, 3), np.uint8),
        intrinsics=np.eye(3),
        depth=np.ones((20, 30), np.float32),
        world_from_cam=np.eye(4),
        unit="m",
    )
    base = process(source, Processing())
    pose = np.eye(4)
    pose[0, 3] = 1e-9
    for other in (
        replace(source, depth=np.full((20, 30), 1.001, np.float32)),
        replace(source, world_from_cam=pose),
        replace(source, intrinsics=2 * np.eye(3)),
        replace(source, unit="mm", depth=np.full((20, 30), 1.0, np.float32)),
    ):
        changed = process(other, Processing())
        assert changed.picture == base.picture
        assert changed.content != base.content
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[3, 4, 2] = 1
    changed = process(replace(source, pixels=pixels), Processing())
    assert changed.picture != base.picture
    assert changed.content != base.content
    assert len(base.picture) == len(base.content) == 32  # 128 bits
    turned = process(SourceFrame(np.zeros((30, 20, 3), np.uint8)), Processing())
    assert turned.picture != base.picture  # as many bytes, another shape


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 0 0 0 0 1 0 0 0 0 1 0", "12 numbers"),
        ("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 2", "0 0 0 1"),
        ("1 0 0 0 0 1 0 0 0 0 -1 0 0 0 0 1", "not a rotation"),
        ("1 0 0 x 0 1 0 0 0 0 1 0 0 0 0 1", "not finite"),
        ("\ufeff", "has 1 number,"),
    ],
)
def test_poses_that_are_none_are_refused(tmp_path, text, reason) -> None:
    path = tmp_path / "pose.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match=reason):
        read_pose(path)


def test_a_pose_slightly_off_is_made_exact(tmp_path) -> None:
    path = tmp_path / "pose.txt"
    path.write_text("1.003 0 0 5\n0 1.002 0.001 6\n0 0 0.999 7\n0 0 0 1\n")
    pose = read_pose(path)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert pose[:3, 3].tolist() == [5, 6, 7]


def test_a_foreign_manifest_has_no_recorded_processing(tmp_path) -> None:
    assert recorded_processing(tmp_path) == {}


@pytest.mark.parametrize(
    ("calibrated", "size", "fits"),
    [
        ((968, 1296), (480, 640), True),  # ScanNet's copies: 0.4 %
        ((48, 48), (24, 32), False),
        ((48, 64), (32, 24), False),  # turned
        ((1080, 1920), (23, 41), True),  # 1/47: 22.98 and 40.85, rounded
        ((1080, 1920), (25, 41), False),
        ((480, 640), (1000, 1300), False),  # 2.6 %
    ],
)
def test_k_is_scaled_for_images_of_its_own_shape(tmp_path, calibrated, size, fits) -> None:
    rows, columns = calibrated
    k = np.array([[50.0, 0, columns / 2], [0, 50.0, rows / 2], [0, 0, 1]])
    frame = Frame("a", save_picture(tmp_path / "a.png", 0, size), rig=Rig(k, calibrated))
    if fits:
        scaled = read_source_frame(frame).intrinsics
    else:
        shapes = f"images of {columns}x{rows} pixels, .* than its {size[1]}x{size[0]}"
        with pytest.raises(ImageError, match=shapes):
            read_source_frame(frame)
        scaled = read_source_frame(frame, trust=True).intrinsics
    assert scaled is not None
    assert scaled[:2, 2].tolist() == pytest.approx([size[1] / 2, size[0] / 2])


@pytest.mark.parametrize("is_nominal", [False, True])
def test_an_image_alone_is_taken_without_a_k_of_another_shape(tmp_path, is_nominal) -> None:
    k = np.array([[525.0, 0, 320], [0, 525.0, 240], [0, 0, 1]])
    image = save_picture(tmp_path / "a.png", 0, (36, 64))
    save_depth(tmp_path / "depth.png", size=(36, 64))
    rig = Rig(k, (480, 640), is_nominal=is_nominal)
    frame = Frame("a", image, depth=DepthFile(tmp_path / "depth.png"), pose=np.eye(4), rig=rig)
    with pytest.raises(ImageError, match=r"640x480 .* 64x36 \(--intrinsics-size WxH"):
        read_source_frame(frame)  # depth is of no use without K
    source = read_source_frame(frame, images_only=True)
    assert (source.intrinsics, source.depth, source.is_nominal) == (None, None, False)
    (note,) = source.notes
    assert "640x480" in note and "without intrinsics" in note
    assert process(source, Processing()).intrinsics_source == "none"
    fitting = replace(frame, image=save_picture(tmp_path / "b.png", 0, (48, 64)))
    source = read_source_frame(fitting, images_only=True)
    assert source.intrinsics is not None and not source.notes


def test_a_nominal_k_of_another_shape_is_left_out_and_the_pose_kept(tmp_path) -> None:
    k = np.array([[525.0, 0, 320], [0, 525.0, 240], [0, 0, 1]])
    from_depth, pose = np.eye(4), np.eye(4)
    from_depth[0, 3], pose[0, 3] = 0.5, 3.0
    rig = Rig(k, (480, 640), color_from_depth=from_depth, is_nominal=True)
    frame = Frame("a", save_picture(tmp_path / "a.png", 0, (36, 64)), pose=pose, rig=rig)
    source = read_source_frame(frame)
    assert source.intrinsics is None and "without intrinsics" in " ".join(source.notes)
    assert source.world_from_cam is not None
    assert source.world_from_cam[0, 3] == 2.5  # that of the color camera
    with pytest.raises(ImageError, match="another shape"):
        read_source_frame(replace(frame, rig=replace(rig, is_nominal=False)))


def test_k_of_a_size_that_the_user_names_is_stretched(tmp_path) -> None:
    k = np.array([[50.0, 0, 24], [0, 50.0, 24], [0, 0, 1]])
    frame = Frame("a", save_picture(tmp_path / "a.png", 0), rig=Rig(k))
    (frame,) = with_conventions((frame,), Conventions(intrinsics_size=(48, 48)))
    scaled = read_source_frame(frame).intrinsics
    assert scaled is not None
    assert scaled[:2, 2].tolist() == pytest.approx([16, 12])
