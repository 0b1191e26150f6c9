"""Which frames `manifest` reads, which it leaves out, and that it holds few of them."""

import collections
import json
import re
import tempfile
from contextlib import closing
from functools import partial

import numpy as np
import pytest
from recorded_trees import write_polycam
from trees import (
    chess,
    photos,
    rejected,
    rgbd_scene,
    save_depth,
    sevenscenes_sequence,
    tree_of,
)

from distill3r_core.data.frame_store import FrameStore
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import DiskFullError
from distill3r_core.report import Silent
from distill3r_core.stages.manifest import (
    ManifestSettings,
    build_manifest,
    build_stage,
    frame_index,
    frame_processor,
)
from distill3r_core.stages.manifest.frame_index import FrameEntry, FrameIndex


@pytest.fixture
def read_frames(monkeypatch):
    """Names of the frames that are read from now on."""
    names = []
    whole = frame_processor.read_source_frame

    def counting(frame, **options):
        names.append(frame.name)
        return whole(frame, **options)

    monkeypatch.setattr(frame_processor, "read_source_frame", counting)
    return names


def test_frames_of_the_disk_give_the_same_manifest(tmp_path, monkeypatch):
    roots = (
        chess(tmp_path / "chess"),
        photos(tmp_path / "photos", 30),
        rgbd_scene(tmp_path / "room", 12),
    )
    (tmp_path / "chess" / "chess" / "seq-01" / "frame-000001.depth.png").write_bytes(b"no image")
    made = []
    for name, store in (("memory", FrameStore), ("disk", partial(FrameStore, in_memory=0))):
        monkeypatch.setattr(build_stage, "FrameStore", store)
        out = tmp_path / name
        build_manifest(ManifestSettings(roots, out))
        assert build_manifest(ManifestSettings(roots, out)).finished_before
        images = [image for image, _ in tree_of(out).items()]
        made.append(
            (images, (out / "manifest.csv").read_bytes(), (out / "rejected.csv").read_bytes())
        )
    assert made[0] == made[1]


def test_frames_that_no_sample_uses_are_not_read(tmp_path, out, read_frames):
    root = sevenscenes_sequence(tmp_path / "chess" / "seq-01", 420).parent
    report = build_manifest(ManifestSettings((root,), out, views=4, val_scenes=0.0))
    used = report.result["images"]
    # The last tenth is validation, short and used whole; of the 378 others five samples of four.
    assert used < 100
    assert len(read_frames) == used
    again = build_manifest(ManifestSettings((root,), out, views=4, val_scenes=0.0))
    assert again.finished_before
    assert len(read_frames) == used


def test_a_scene_with_a_damaged_frame_is_read_whole(tmp_path, out, read_frames):
    root = sevenscenes_sequence(tmp_path / "chess" / "seq-01", 320).parent
    settings = ManifestSettings((root,), out, views=4, samples_per_scene=1, val_scenes=0.0)
    for number in (0, 77):  # one that the first sample uses, and one that none does
        (root / "seq-01" / f"frame-{number:06d}.depth.png").write_bytes(b"no image")
    build_manifest(settings)
    assert {name.rsplit("/", 1)[-1] for name in rejected(out)} == {
        "frame-000000.color.png",
        "frame-000077.color.png",
    }
    assert len(set(read_frames)) == 320


class Phases(Silent):
    """Phases by their labels: how many units of how many."""

    def __init__(self):
        super().__init__()
        self.done, self.total = {}, {}

    def begin(self, label, *, total, unit, done=0):
        self.done[label], self.total[label], self.label = done, total, label

    def advance(self, steps=1, **figures):
        self.done[self.label] += steps


@pytest.mark.parametrize(
    ("options", "again"),
    [({}, 0), ({"samples_per_scene": 1, "stride": 1}, 8), ({"stride": "pose", "views": 2}, 0)],
    ids=["all frames", "some frames", "by motion"],
)
def test_a_phase_appears_only_where_it_has_work(tmp_path, out, options, again):
    rgbd_scene(tmp_path / "rooms" / "one", 12)
    rgbd_scene(tmp_path / "rooms" / "lonely", 1)
    (tmp_path / "rooms" / "one" / "depth" / "000001.png").write_bytes(b"no image")
    phases = Phases()
    settings = {"views": 4, "val_scenes": 0.0, **options}
    build_manifest(ManifestSettings((tmp_path / "rooms",), out, **settings), progress=phases)
    assert all(phases.done.values()), phases.done
    for label, total in phases.total.items():
        assert total in (None, phases.done[label]), label
    assert phases.done.get("rooms: frames of damaged scenes", 0) == again


def test_a_frame_without_depth_or_pose_is_left_out_where_others_have_both(tmp_path, out):
    room = rgbd_scene(tmp_path / "room", 6)
    (room / "depth" / "000002.png").unlink()
    (room / "pose" / "000004.txt").unlink()
    build_manifest(ManifestSettings((room,), out))
    assert {name.rsplit("/", 1)[-1] for name in rejected(out)} == {"000002.png", "000004.png"}
    assert len(read_manifest(out / "manifest.csv").rows) == 4
    kept = tmp_path / "kept"
    build_manifest(ManifestSettings((room,), kept, images_only=True))
    assert len(read_manifest(kept / "manifest.csv").rows) == 6


def test_the_index_finds_every_line_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_index, "_UNSORTED", 7)
    draw = np.random.default_rng(0)
    latest: dict[str, int] = {}
    with closing(FrameIndex(tmp_path)) as index:
        for size in range(200):
            key = f"scene/{draw.integers(60)}"
            latest[key] = size
            index.add(FrameEntry(key, "made", ((size, 1),)))
            assert index.get(key) == FrameEntry(key, "made", ((size, 1),))
        for again in range(2):
            found = {key: index.get(key) for key in latest}
            assert found == {key: FrameEntry(key, "made", ((n, 1),)) for key, n in latest.items()}
            assert index.get("scene/none") is None
            index.compact()
            assert not index.has_grown, again
    lines = (tmp_path / ".frames.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted(latest)
    with closing(FrameIndex(tmp_path)) as index:
        assert {key: index.get(key) for key in latest} == found


RULES = {
    "a stride": ({"stride": 50}, "--stride 50 skips the others"),
    "samples": ({"samples_per_scene": 1}, "--samples-per-scene 1 takes no more"),
    "a long scene": ({}, "a long scene gives 5 samples, by the data set's stride"),
    "the original's": (
        {"policy": "release"},
        "the original's rule takes 5 runs of 4 from the beginning",
    ),
    "an orbit": ({"policy": "orbit"}, "5 samples go around the object, each by its stride"),
}


@pytest.mark.parametrize("name", RULES)
def test_the_summary_says_what_was_left_out_and_by_which_rule(tmp_path, out, name):
    options, rule = RULES[name]
    root = photos(tmp_path / "photos", 400, name="{:06d}.png")
    (root / "000011.png").write_bytes(b"")
    report = build_manifest(
        ManifestSettings((root,), out, views=4, val_frames="last:2", **options), dry_run=False
    )
    used = report.result["images"]
    (line,) = [note for note in report.notes if "frames found" in note]
    refused = report.result["rejected"]
    assert line.startswith(f"photos: 400 frames found, {used} used")
    assert (f", {refused} rejected" in line) == bool(refused)
    assert f"{400 - used - refused} left out: {rule} " in line


def test_poses_of_a_file_are_those_of_the_frames_of_a_video(tmp_path, out, data_dir):
    settings = ManifestSettings((data_dir / "video",), tmp_path / "first", val_scenes=0.0, stride=1)
    build_manifest(settings)
    images = sorted((tmp_path / "first" / "video").rglob("*.png"))
    (video,) = (data_dir / "video").glob("*.[mM]*")
    cameras = [
        {
            "name": f"{video.stem}_{image.stem}",
            "size": [48, 64],
            "intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 1]],
            "world_from_cam": [[1, 0, 0, place], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        }
        for place, image in enumerate(images[:3])
    ]
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"about": {"unit": "m"}, "cameras": cameras}))
    report = build_manifest(
        ManifestSettings((data_dir / "video",), out, val_scenes=0.0, stride=1, poses=str(path))
    )
    note = f"3 of {len(images)} frames have a pose"
    assert any(note in line for line in report.notes), report.notes
    posed = [row.pose for row in read_manifest(out / "manifest.csv").rows if row.pose]
    assert [pose[3] for pose in posed] == [0, 1, 2]


def test_scenes_of_one_name_stay_two_scenes(tmp_path, out):
    photos(tmp_path / "p" / "photos", 4)
    photos(tmp_path / "p" / "photos" / "photos", 6, first=20)
    report = build_manifest(ManifestSettings((tmp_path / "p",), out, val_scenes=0.0))
    rows = read_manifest(out / "manifest.csv").rows
    assert sorted(collections.Counter(row.scene_id for row in rows).values()) == [4, 6]
    assert report.result["scenes"] == 2


def test_what_was_left_out_is_listed_once_however_often_it_runs(tmp_path, out, data_dir):
    photos(tmp_path / "set" / "a", 5)
    (tmp_path / "set" / "a" / "IMG_9.png").write_bytes(b"no image")
    path = tmp_path / "data_paths.yaml"
    path.write_text('datasets:\n  - {name: one, root: set, pattern: "*/*.png"}\n')
    lines = []
    for _ in range(3):
        build_manifest(ManifestSettings((path,), out, val_scenes=0.0))
        lines.append((out / "rejected.csv").read_text().count("IMG_9.png"))
    assert lines == [1, 1, 1]


def test_a_damaged_pose_is_named_where_motion_chooses_the_frames(tmp_path, out):
    room = rgbd_scene(tmp_path / "room", 12)
    (room / "pose" / "000005.txt").write_text("1 2 3")
    build_manifest(ManifestSettings((room,), out, stride="pose", val_scenes=0.0))
    assert rejected(out)["000005.png"] == "pose has 3 numbers, not 16"


def test_a_full_disk_of_temporary_files_is_told(tmp_path, out, monkeypatch):
    monkeypatch.setattr(build_stage, "FrameStore", partial(FrameStore, in_memory=0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DiskFullError, match="the list of frames") as failure:
        build_manifest(ManifestSettings((photos(tmp_path / "photos", 3),), out))
    assert "TMPDIR" in (failure.value.hint or "")


def write_damaged_room(root):
    """9 of 12 frames are usable; one has no image, and one image is in a format nobody reads."""
    rgbd_scene(root, 10)
    (root / "rgb" / "000004.png").write_bytes(b"no image")
    save_depth(root / "depth" / "000010.png")
    (root / "rgb" / "000011.exr").write_bytes(b"v/1\x01" + bytes(100))


def write_damaged_recording(root):
    write_polycam(root, corrected=True)
    (root / "keyframes" / "corrected_cameras" / "1000.json").write_text("no camera")


def write_damaged_photos(root):
    photos(root, 9)
    (root / "IMG_3.dng").write_bytes(b"raw")
    (root / "IMG_4.png").symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("write", "counts"),
    [
        (write_damaged_room, (12, 5, 3, 4)),
        (write_damaged_recording, (4, 2, 1, 1)),
        (write_damaged_photos, (11, 5, 2, 4)),
    ],
)
def test_frames_found_are_those_used_rejected_and_left_out(tmp_path, out, write, counts) -> None:
    """Those that were refused while they were listed, too: no frame is uncounted."""
    write(tmp_path / "scans")
    settings = ManifestSettings((tmp_path / "scans",), out, stride=2, val_scenes=0.0)
    report = build_manifest(settings, trust=True)
    (line,) = [note for note in report.notes if " found, " in note]
    said = [
        int(found.group(1)) if (found := re.search(rf"(\d+) (?:frames? )?{word}", line)) else 0
        for word in ("found", "used", "rejected", "left out")
    ]
    assert tuple(said) == counts
    assert said[0] == sum(said[1:]) == report.result["datasets"][0]["frames"]
    assert said[2] == len(report.failed)
