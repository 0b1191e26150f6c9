"""Images and videos of no frame are named, and the files of scenes that are done are forgotten."""

import tracemalloc

from layout_files import made

from distill3r_core.data.layouts.marked_scenes import OUTSIDE, UNUSED, marked_scenes
from distill3r_core.data.layouts.records import Frame, LeftOut, Scene
from distill3r_core.errors import ImageError


def listed_by_mark(folder, scene_id):
    """A scene of the images that the mark names by their paths from the folder above."""
    if folder.name == "bad":
        raise ImageError("it is bad")
    names = (folder / "mark").read_text().split()
    frames = tuple(Frame(name, folder.parent / name) for name in names)
    yield Scene(scene_id, folder, frames, order="name")


def has_mark(folder):
    return "has a mark" if (folder / "mark").exists() else None


def test_files_of_no_scene_are_named_once_wherever_scenes_have_theirs(tmp_path) -> None:
    marks = {
        "a": "a/x.png a/in/y.png b/of_a.png",  # one in the scene in it, one in a later scene
        "a/in": "in/z.png w.png",  # one in the scene around it
        "b": "b/own.png",
        "bad": "",
        "bad/sub": "sub/m.png",
        "c": "aa_pool/p.png",  # in a folder that was left before
    }
    images = (
        *("a/x.png", "a/in/y.png", "b/of_a.png", "a/in/z.png", "a/w.png", "b/own.png"),
        *("bad/sub/m.png", "aa_pool/p.png"),
        *("a/u.png", "a/in/deep/v.png", "aa_pool/q.png", "b/unused.mp4", "free/o.png"),
        *("bad/k.png", "bad/sub/n.png"),
    )
    for name in images:
        made(tmp_path / name).touch()
    for name, text in marks.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "mark").write_text(text)
    found = marked_scenes(tmp_path, None, has_mark, listed_by_mark, sweep=True)
    named = [item for item in found if isinstance(item, LeftOut)]
    assert [(item.path.relative_to(tmp_path).as_posix(), item.reason) for item in named] == [
        ("free/o.png", OUTSIDE),
        *((name, UNUSED) for name in ("a/u.png", "a/in/deep/v.png")),
        *((name, UNUSED) for name in ("aa_pool/q.png", "b/unused.mp4")),
    ]


def test_listing_keeps_no_files_of_the_scenes_that_are_done(tmp_path) -> None:
    def peak(scenes):
        root = tmp_path / f"{scenes}"
        for scene in range(scenes):
            names = (f"scene{scene}/frame-{number:06d}.color.png" for number in range(500))
            made(root / f"scene{scene}" / "mark").write_text(" ".join(names))
        tracemalloc.start()
        for _ in marked_scenes(root, None, has_mark, listed_by_mark, sweep=True):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # whatever is imported or made only once
    two = peak(2)  # a scene is still held while the next one is made
    assert peak(20) < 1.5 * two
