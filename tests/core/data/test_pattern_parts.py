"""Times, wildcards and camera files that the layout `pattern` reads, each by itself."""

from pathlib import Path

import pytest
from pattern_entry import CAMERA_INFO

from distill3r_core.data.layouts.camera_files import read_camera, says_rectified
from distill3r_core.data.layouts.glob_patterns import matched_files
from distill3r_core.data.layouts.recordings.stamps import associate, read_trajectory, times_in
from distill3r_core.errors import ImageError

PLAIN_INFO = CAMERA_INFO.replace("DISTORTION", "0.0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{PLAIN_INFO}---\n", None),
        (f"%YAML:1.0\n---\n{PLAIN_INFO}", None),
        (PLAIN_INFO.replace("matrix: {", "matrix: !!opencv-matrix {"), None),
        (f"{PLAIN_INFO}binning_x: 2\nbinning_y: 2\n", "binned images"),
        (f"{PLAIN_INFO}roi: {{x_offset: 0, y_offset: 0, height: 6, width: 8}}\n", None),
        (f"# of the driver\n---\n{PLAIN_INFO}", None),
        (f"{PLAIN_INFO}roi: {{x_offset: 0, width: 4}}\n", "a region of"),
        (PLAIN_INFO.replace("plumb_bob", "equidistant"), "which is no pinhole"),
        ("- 1\n- 2\n", "is not a camera_info"),
    ],
)
def test_camera_infos_as_programs_write_them(tmp_path, text, says):
    (tmp_path / "camera.yaml").write_text(text)
    if says is None:
        rig, remark = read_camera(tmp_path / "camera.yaml")
        assert (rig.color[0, 2], remark) == (4.0, None)
    else:
        with pytest.raises(ImageError, match=says):
            read_camera(tmp_path / "camera.yaml")


PROJECTION = (
    "projection_matrix: {rows: 3, cols: 4, data: [6, 0, 3, -1, 0, 6.5, 2, 0, 0, 0, 1, 0]}\n"
)
BENT = PLAIN_INFO.replace("data: [0.0, 0.0", "data: [-0.25, 0.1") + PROJECTION


@pytest.mark.parametrize(
    ("text", "rectified", "k", "says"),
    [
        (BENT, True, (6, 6.5, 3.5, 2.5), "projection matrix"),
        (BENT, False, (7, 7.5, 4, 3), "leaves them out"),
        (PLAIN_INFO + PROJECTION, True, (7, 7.5, 4, 3), None),  # K is that of what it sees
        (BENT.replace(PROJECTION, ""), True, (7, 7.5, 4, 3), "leaves them out"),
        (BENT.replace("plumb_bob", "equidistant"), True, (6, 6.5, 3.5, 2.5), "projection matrix"),
        (
            "{height: 6, width: 8, d: [0.3], k: [7, 0, 3.5, 0, 7.5, 2.5, 0, 0, 1], "
            "p: [6, 0, 3, 0, 0, 6.5, 2, 0, 0, 0, 1, 0]}",
            *(True, (6, 6.5, 3.5, 2.5), "projection matrix"),
        ),
    ],
)
def test_the_k_of_rectified_images_is_in_the_projection(tmp_path, text, rectified, k, says):
    (tmp_path / "camera.yaml").write_text(text)
    rig, remark = read_camera(tmp_path / "camera.yaml", rectified=rectified)
    assert (*rig.color[[0, 1], [0, 1]], *rig.color[:2, 2]) == k
    assert rig.size == (6, 8)
    assert remark is None if says is None else says in remark


def test_a_projection_that_is_none_is_refused(tmp_path):
    (tmp_path / "camera.yaml").write_text(BENT.replace("-1, 0, 6.5", "0, 6.5"))
    with pytest.raises(ImageError, match="11 numbers, not 12"):
        read_camera(tmp_path / "camera.yaml", rectified=True)


@pytest.mark.parametrize(
    ("path", "is_said"),
    [
        ("camera/image_rect", True),
        ("left/image_rect_color", True),
        ("Rectified/a.yaml", True),
        ("camera.rect.yaml", True),
        ("image_raw", False),
        ("direct/rectangle", False),
        ("unrectified", False),
    ],
)
def test_topics_of_rectified_images(path, is_said):
    assert says_rectified(Path(path)) == is_said


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        (["frame_1305031102.175304"], [1305031102.175304]),
        (["1700000000.12", "1700000000.153"], [1700000000.12, 1700000000.153]),
        (["1700000000.12345678"], [1700000000.12345678]),
        (["1700000000"], [1700000000.0]),
        (["1551257987425.37597656250000"], [1551257987.42537597]),
        (["1700000000123456789"], [1700000000.123456789]),
        (["1700000000123456"], [1700000000.123456]),
        (["1700000000123"], [1700000000.123]),
        (["rgb_1700000000_5000000", "rgb_1700000000_105000000"], [1700000000.005, 1700000000.105]),
        (["1700000000_100000", "1700000000_133000"], [1700000000.1, 1700000000.133]),
        (["0.033", "0.066"], [0.033, 0.066]),
        # A counter behind the start of a recording, or of ten digits, or of a renderer.
        (["1700000000_000012", "1700000000_000013"], None),
        (["0000000000", "0000000001"], None),
        (["cam1.0012", "cam1.0013"], None),
        (["take2.0", "take2.5"], None),
        (["000012"], None),
        (["1651234567890_1"], None),
        (["left"], None),
        (["1700000000.1_left"], None),
        (["left_1700000000.1", "right_1700000000.15"], None),
    ],
)
def test_times_in_names(names, seconds):
    found = times_in(names)
    assert found == (seconds if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_a_trajectory_may_count_nanoseconds(tmp_path):
    (tmp_path / "euroc.txt").write_text("1403636579763555584 1 2 3 0 0 0 1\n")
    assert read_trajectory(tmp_path / "euroc.txt").stamps == pytest.approx([1403636579.763555584])


def test_more_stamps_than_a_camera_makes_are_refused(tmp_path):
    stamps = [1.7e9 + number * 1e-6 for number in range(200)]
    with pytest.raises(ImageError, match="more than 64 time stamps"):
        associate(stamps, stamps)
    assert associate([0.0, 1.0], [0.01, 0.9]) == {0: 0}


@pytest.mark.parametrize(
    ("pattern", "file", "folders", "key"),
    [
        ("*/color/*.png", "a/color/1.5.png", ("a",), ("1.5",)),
        ("**/images/*.jpg", "x/y/images/a.jpg", ("x/y",), ("a",)),
        ("**/images/*.jpg", "images/a.jpg", ("",), ("a",)),
        ("[ab]/*.[jp]*g", "a/0.12.jpg", ("a",), ("0.12",)),
        ("d/frame*", "d/frame1305.12.png", (), ("1305.12",)),
        ("*/color.png", "q/color.png", ("q",), ()),
        ("rgb_*/*_c?.png", "rgb_1/7_c0.png", ("1",), ("7", "0")),
        ("[!a]/(1)*.png", "b/(1)x.png", ("b",), ("x",)),
        ("img[.]png", "img.png", (), (".",)),
        ("frame[._]*", "frame_12.png", (), ("_", "12")),
        ("shots[]/*.png", "shots[]/a.png", (), ("a",)),
        ("shots[[]]/*.png", "shots[]/a.png", ("[",), ("a",)),
        ("[]x]*.png", "]1.png", (), ("]", "1")),
    ],
)
def test_what_the_wildcards_of_a_pattern_stand_for(tmp_path, pattern, file, folders, key):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    (found,) = matched_files(tmp_path, pattern)
    assert (found.path, found.folders, found.key) == (tmp_path / file, folders, key)
