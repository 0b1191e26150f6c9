"""Recordings of phones with depth: Stray Scanner and Record3D. Rows are written by hand."""

import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from trees import color_of, rejected, save_picture, two_colors

from distill3r_core.data.layouts import scan
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.io.images.record3d_depth import read_record3d
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

# A quarter turn about z as x, y, z, w, and with OpenCV's axes where it was read with OpenGL's.
HALF = 0.5**0.5
QUARTER = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
QUARTER_FROM_GL = [[0, 1, 0], [1, 0, 0], [0, 0, -1]]


def rows(root, out, **settings):
    """Rows by number, and the report."""
    report = build_manifest(ManifestSettings((root,), out, val_scenes=0.0, **settings), trust=True)
    found = read_manifest(out / "manifest.csv").rows
    return {int(row.sample_id): row for row in found}, report


def depth_of(row, out):
    with Image.open(out / row.depth_path) as stored:
        return np.asarray(stored)


def write_video(path, count, *, size=(48, 64), step=2):
    """A video whose presentation times step by two of its sixtieths of a second."""
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, 60)
        for number in range(count):
            frame = av.VideoFrame.from_image(two_colors(number * 5, size))
            frame.pts, frame.time_base = step * number, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_stray(folder, *, header=True, count=12):
    write_video(folder / "rgb.mp4", count)
    for number in range(count - 1):  # the last depth map is missing
        (folder / "depth").mkdir(exist_ok=True)
        (folder / "confidence").mkdir(exist_ok=True)
        depth = np.full((12, 16), 1000 + number, np.uint16)
        if header:
            Image.fromarray(depth).save(folder / "depth" / f"{number:06d}.png")
        else:
            np.save(folder / "depth" / f"{number:06d}.npy", depth)
        confidence = np.full((12, 16), 2, np.uint8)
        confidence[:6] = 1
        Image.fromarray(confidence).save(folder / "confidence" / f"{number:06d}.png")
    pose = f"0, 0, {HALF}, {HALF}"
    lines = [
        f"{100 + number / 30}, {number:06d}, {number}, 2, 3, {pose}"
        if header
        else f"{number}, 2, 3, {pose}"
        for number in range(count)
    ]
    head = ["timestamp, frame, x, y, z, qx, qy, qz, qw"] if header else []
    (folder / "odometry.csv").write_text("\n".join([*head, *lines]) + "\n")
    (folder / "camera_matrix.csv").write_text("50.0, 0.0, 32.0\n0.0, 52.0, 24.0\n0.0, 0.0, 1.0\n")
    return folder


@pytest.mark.parametrize("header", [True, False], ids=["now", "early"])
def test_stray_scanner(tmp_path, header):
    out = tmp_path / "out"
    write_stray(tmp_path / "scans" / "0123456789", header=header)
    found, report = rows(tmp_path / "scans", out, video_fps=60.0)
    assert report.result["datasets"][0]["layout"] == "strayscanner"
    # By count, not by the time of a frame times the frame rate: that would be 0, 2, 4, ...
    assert list(found) == list(range(11))
    for number, row in found.items():
        pose = np.array(row.pose).reshape(4, 4)
        np.testing.assert_allclose(pose[:3, :3], QUARTER, atol=1e-9)  # OpenCV's axes already
        assert pose[:3, 3].tolist() == [number, 2, 3]
        assert row.K == (50, 0, 32, 0, 52, 24, 0, 0, 1)
        assert (row.K_source, row.unit) == ("calibrated", "m")
        with Image.open(out / row.image_path) as image:
            assert np.abs(np.array(image)[8, 8] - np.array(color_of(number * 5))).max() < 25
    assert all(row.depth_path for row in found.values())
    (reason,) = rejected(out).values()
    assert reason == "it has no depth map, as others of its scene have"
    depth = depth_of(found[7], out)
    assert np.unique(depth[24:]).tolist() == [1007]
    assert not depth[:24].any()  # not confident
    assert any("1 of 12 frames has no depth" in note for note in report.notes)


def test_a_frame_of_the_video_without_a_row_is_left_out_and_counted(tmp_path):
    folder = write_stray(tmp_path / "scans" / "0123456789")
    lines = (folder / "odometry.csv").read_text().splitlines()
    (folder / "odometry.csv").write_text("\n".join(lines[:-1]) + "\n")
    found, report = rows(tmp_path / "scans", tmp_path / "out", video_fps=60.0)
    assert list(found) == list(range(11))
    assert any("nothing is recorded beside 1 frame" in note for note in report.notes)


def test_a_damaged_row_of_odometry_is_named(tmp_path):
    folder = write_stray(tmp_path / "scans" / "0123456789")
    text = (folder / "odometry.csv").read_text().replace("100.1,", "100.1, x,")
    (folder / "odometry.csv").write_text(text)
    with pytest.raises(NothingUsableError, match=r"odometry\.csv, line 5"):
        rows(tmp_path / "scans", tmp_path / "out")


def write_record3d(folder, *, export, count=11):
    """K is for images of half their size; the last frame of the list is without tracking."""
    images = folder / ("rgb" if export else "rgbd")
    for number in range(count):
        save_picture(images / f"{number}.jpg", number, (48, 64))
        if not export:
            depth = np.full((6, 8), 1 + number / 8, "<f4")
            depth[0] = np.nan
            (images / f"{number}.depth").write_bytes(depth.tobytes())
            confidence = np.full((6, 8), 2, np.uint8)
            confidence[:, 0] = 1
            (images / f"{number}.conf").write_bytes(confidence.tobytes())
    content = {
        "w": 32, "h": 24, "dw": 8, "dh": 6, "fps": 30,
        "K": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1],
        "poses": [[0, 0, HALF, HALF, number, 2, 3] for number in range(count - 1)] + [[0] * 7],
        "initPose": [0, 0, 0, 1, 9, 9, 9],
    }  # fmt: skip
    if not export:
        content["perFrameIntrinsicCoeffs"] = [[30 + number, 31, 15.5, 11.5] for number in range(5)]
    (folder / ("metadata.json" if export else "metadata")).write_text(json.dumps(content))


@pytest.mark.parametrize("export", [True, False], ids=["exr and jpg", "unpacked"])
def test_record3d(tmp_path, export):
    out = tmp_path / "out"
    write_record3d(tmp_path / "phone" / "walk", export=export)
    found, report = rows(tmp_path / "phone", out)
    assert report.result["datasets"][0]["layout"] == "record3d"
    assert list(found) == list(range(11 if export else 10))  # 10 behind 9
    if not export:
        (reason,) = rejected(out).values()
        assert reason == "it has no pose, as others of its scene have"
    for number, row in found.items():
        if number == 10:
            assert row.pose is None
            continue
        pose = np.array(row.pose).reshape(4, 4)
        np.testing.assert_allclose(pose[:3, :3], QUARTER_FROM_GL, atol=1e-9)
        assert pose[:3, 3].tolist() == [number, 2, 3]  # the start pose is not applied
        fx = 30 + number if not export and number < 5 else 30
        # Twice as large, centers at +0.5: (15.5 + 0.5) * 2.
        np.testing.assert_allclose(row.K, (2 * fx, 0, 32, 0, 62, 24, 0, 0, 1))
    assert all(bool(row.depth_path) != export for row in found.values())
    if not export:
        depth = depth_of(found[2], out)
        assert np.unique(depth[8:, 8:]).tolist() == [1250]
        assert not depth[:8].any() and not depth[:, :8].any()
    assert any("1 of 11 frames has no pose" in note for note in report.notes)


def test_packed_depth_of_record3d(tmp_path):
    liblzfse = pytest.importorskip("liblzfse", reason="pyliblzfse is not installed")
    write_record3d(tmp_path, export=False, count=2)
    path = tmp_path / "rgbd" / "0.depth"
    plain = read_record3d(path)
    large = np.linspace(1, 2, 480 * 640, dtype="<f4")
    path.write_bytes(liblzfse.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_record3d(path), plain)
    path.write_bytes(liblzfse.compress(large.tobytes()))
    with pytest.raises(ImageError):
        read_record3d(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 191, b"bvx2" + b"\xff" * 100, b"\0" * 1000])
def test_depth_of_another_size_is_refused(tmp_path, content):
    write_record3d(tmp_path, export=False, count=2)
    (tmp_path / "rgbd" / "0.depth").write_bytes(content)
    with pytest.raises(ImageError, match=r"0\.depth is"):
        read_record3d(tmp_path / "rgbd" / "0.depth")


_METADATA = '{"w": %s, "h": %s, "K": [%s, 0, 0, 0, 9, 0, 0, 0, 1]}'


@pytest.mark.parametrize(
    "damage",
    [
        *("{", "[]", '{"w": 4}', _METADATA % (4, 3, 0)),
        *(_METADATA % (side, 3, 9) for side in ("0", "-4", "1e999", "1" + "0" * 400, "0.5")),
        _METADATA % (4, 0, 9),
    ],
)
def test_damaged_metadata_of_record3d_is_named(tmp_path, damage):
    write_record3d(tmp_path / "walk", export=True)
    (tmp_path / "walk" / "metadata.json").write_text(damage)
    (dataset,) = scan(tmp_path, "record3d")
    (refused,) = dataset.list_scenes()
    assert refused.path.name == "metadata.json"
