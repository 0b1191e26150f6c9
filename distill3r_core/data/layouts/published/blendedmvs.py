"""Layout `blendedmvs`: BlendedMVS, its plus and plus-plus parts.

`<24 hex digits>/{blended_images/N.jpg, cams/N_cam.txt, rendered_depth_maps/N.pfm}`. Every image has
a copy with a black background beside it, `N_masked.jpg`, which is no further view. Facts:
YoYo000/BlendedMVS, YoYo000/MVSNet.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.folders import entries_of, frame_key
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.published.mvsnet_camera import read_mvsnet_camera
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    LeftOut,
    Listed,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.layouts.split_files import read_split_lists
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there

_IMAGES, _CAMERAS, _DEPTHS = "blended_images", "cams", "rendered_depth_maps"
# The names vary with the release.
_TRAIN = ("BlendedMVS_training.txt", "BlendedMVG_training.txt", "training_list.txt")
_TEST = ("validation_list.txt",)
_IMAGE = re.compile(r"(\d+)\.(jpg|jpeg|png)", re.IGNORECASE)
_MASKED = re.compile(r"\d+_masked\.\w+", re.IGNORECASE)
MASKED_COPY = "a copy with a black background"


def _mark(folder: Path) -> str | None:
    return f"has {_IMAGES}" if (folder / _IMAGES).is_dir() else None


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    frames = []
    for entry in entries_of(folder / _IMAGES)[0]:
        path = folder / _IMAGES / entry.name
        if _MASKED.fullmatch(entry.name):
            yield LeftOut(path, MASKED_COPY)
            continue
        if not (match := _IMAGE.fullmatch(entry.name)):
            continue
        camera = folder / _CAMERAS / f"{path.stem}_cam.txt"
        depth = folder / _DEPTHS / f"{path.stem}.pfm"
        try:
            pose, k = read_mvsnet_camera(camera) if is_there(camera) else (None, None)
        except ImageError as error:
            yield Refused(path, str(error), is_frame=True)
            continue
        frames.append(
            Frame(
                name=path.stem,
                image=path,
                number=int(match.group(1)),
                pose=pose,
                pose_convention="w2c",
                depth=DepthFile(depth, codec="pfm", scale=1.0, invalid=())
                if k is not None and is_there(depth)
                else None,
                rig=None if k is None else Rig(color=k),
                unit="none",
            )
        )
    frames.sort(key=lambda frame: frame_key(frame.name))
    lists = read_split_lists((folder.parent,), train=_TRAIN, test=_TEST)
    yield Scene(
        scene_id,
        folder,
        tuple(frames),
        order="number",
        split=lists.split_of(folder.name),
        is_test=lists.is_test(folder.name),
    )


LAYOUT = Layout(
    name="blendedmvs",
    summary="<scene>/{blended_images, cams, rendered_depth_maps}",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=150, most=4),
)
