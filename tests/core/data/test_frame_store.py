"""Frames that are kept in a temporary file are the ones that were given."""

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from distill3r_core.data.frame_store import FrameStore
from distill3r_core.data.layouts import DepthFile, Frame, Rig

RIG = Rig(np.diag([30.0, 31.0, 1.0]), (24, 32), color_from_depth=np.eye(4))


def frame(number: int, folder: Path = Path("/data/set/room 1/rgb")) -> Frame:
    """A frame with all that a frame can have."""
    return Frame(
        f"{number:06d}",
        folder / f"{number:06d}.png",
        number,
        pose=np.full((4, 4), float(number)) if number % 2 else folder / f"{number}.txt",
        depth=DepthFile(folder / f"{number}.pfm", "pfm", 1.0, (7,), 3.5, folder / "c.png", 2, True),
        rig=RIG,
        unit="mm",
        camera="fisheye",
        mask=Path(f"mask{number}.png"),
        may_be_blank=True,
        pose_convention="w2c",
        pose_axes="opengl",
        turns=number % 4,
    )


def same(one: object, other: object) -> bool:
    """Whether two records have the same fields; arrays and records in them by value."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, np.asarray(other))
    if isinstance(one, Frame | DepthFile | Rig):
        names = [field.name for field in fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in names
        )
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("folder", ["/data/set/room 1/rgb", "relative/rgb", ".", "/"])
def test_stored_frames_are_those_that_were_kept(folder):
    frames = tuple(frame(number, Path(folder)) for number in range(5))
    kept = FrameStore(in_memory=0).keep(frames)
    assert len(kept) == 5
    assert all(map(same, kept, frames))
    assert same(kept[3], frames[3])
    assert same(kept[-1], frames[4])
    assert [one.name for one in kept[1:3]] == ["000001", "000002"]
    with pytest.raises(IndexError):
        kept[5]


def test_frames_of_one_scene_still_share_their_rig():
    kept = FrameStore(in_memory=0).keep([frame(0), frame(1)])
    first, second = kept
    assert first.rig is second.rig is not RIG


def test_the_first_frames_stay_in_memory_and_later_ones_do_not():
    store = FrameStore(in_memory=25)
    frames = tuple(frame(number) for number in range(4))  # six files each, at most
    first, second = store.keep(frames), store.keep(frames)
    assert first[0] is frames[0]
    assert second[0] is not frames[0]
    assert same(second[0], frames[0])
    assert store.keep(second) is second
    assert store.keep(()) == ()


def test_scenes_are_read_in_any_order_and_by_many_threads():
    store = FrameStore(in_memory=0)
    scenes = [store.keep([frame(10 * scene + n) for n in range(3)]) for scene in range(20)]
    wrong: list[int] = []

    def read(step: int) -> None:
        for index in range(60):
            scene = index * step % 20
            if [one.number for one in scenes[scene]] != [10 * scene + n for n in range(3)]:
                wrong.append(scene)

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7, 19)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
