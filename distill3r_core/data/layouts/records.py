"""Records of the layout contract: a layout, its data sets, their scenes and frames."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from distill3r_core.data.manifest_cells import Camera, Order, Split
from distill3r_core.data.windows import CLOUD, PATH, Policy
from distill3r_core.errors import ImageError
from distill3r_core.io.images.media import LeftOut
from distill3r_core.views import Unit

Carried = Literal["depth", "pose", "intrinsics", "mask"]
# Why a folder is a scene of a layout, as a phrase that follows its name; None: it is none.
Mark = Callable[[Path], str | None]
_LONGEST_SIDE = 1_000_000  # pixels
PoseConvention = Literal["c2w", "w2c"]  # stored poses are world-from-camera, camera-from-world
PoseAxes = Literal["opencv", "opengl"]  # of the camera: y down, z forward; y up, z backward


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras of a frame; frames may share one or have one each.

    Args:
        color: K of the color camera, pixel centers at +0.5.
        size: Rows and columns of the images that K belongs to; K is scaled for images of another
            size and refused for those of another shape. None: K fits images of any size.
        depth: K of the depth camera, where it differs from the color camera.
        color_from_depth: Rigid motion from the depth camera's frame to the color camera's, in the
            unit of the frame. Where it is given, poses are those of the depth camera.
        is_nominal: Whether `color` is one value for all devices of a kind, not a calibration of
            this one. Where poses are estimated, `color` is then estimated with them, from that
            value; `depth` and `color_from_depth` stay.
        is_stretched: Whether images of another shape are those of `size`, stretched: the user has
            said that size (`--intrinsics-size`).

    Raises:
        ImageError: The images of that size would have no pixel.
    """

    color: Float[np.ndarray, "3 3"]
    size: tuple[int, int] | None = None
    depth: Float[np.ndarray, "3 3"] | None = None
    color_from_depth: Float[np.ndarray, "4 4"] | None = None
    is_nominal: bool = False
    is_stretched: bool = False

    def __post_init__(self) -> None:
        """Raises: ImageError: No image has this size."""
        if self.size is not None and not all(0 < side <= _LONGEST_SIDE for side in self.size):
            shown = f"{self.size[0]}x{self.size[1]}"[:80]
            raise ImageError(f"a camera of images of {shown} pixels")


@dataclass(frozen=True)
class DepthFile:
    """A depth map on disk.

    Args:
        path: File of the depth map, as large as the image.
        codec: Name of its reader in `io.images.depth_codecs`.
        scale: Stored steps in one unit of the frame: 1000 for millimeters in a scene in meters.
        invalid: Stored values that mean "no depth". Zero, negative and non-finite values always do.
        farthest: Depth beyond this is invalid, in the unit of the frame.
        valid: Image of the depth map's size that says where depth counts; None: everywhere.
        min_valid: The smallest value of `valid` that counts: a confidence, or 1 for a mask.
        any_size: Whether the map may be of another size than the image, but shows the same view;
            it is then resized by the nearest pixel. False: another size is refused.
    """

    path: Path
    codec: str = "png16"
    scale: float = 1000.0
    invalid: tuple[int, ...] = (0, 65535)
    farthest: float = float("inf")
    valid: Path | None = None
    min_valid: int = 1
    any_size: bool = False


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a scene and what its data set has beside it; nothing has been read.

    A frame whose depth or pose is named but missing or unusable is left out of the manifest. Where
    a data set has none, the field is None: the frame is kept, unless others of its scene have both.

    Args:
        name: Unique in its scene; the processed image gets this name.
        image: The image file.
        number: The frame's own number, where the layout has one.
        pose: The matrix, or a text file of its sixteen numbers; see `pose_convention`.
        depth: Depth map along the optical axis.
        rig: Its cameras; None where they are not calibrated.
        unit: Unit of depth and pose.
        camera: Projection of the color camera.
        mask: Image that is black where pixels are to be ignored.
        may_be_blank: Whether an image of one color is taken: a video is judged as a whole.
        pose_convention: Whether `pose` is world-from-camera or camera-from-world.
        pose_axes: Camera axes of `pose`.
        turns: Quarter turns against the clock that bring the image upright; depth, K and pose are
            those of the image as it is stored, and turn with it.
    """

    name: str
    image: Path
    number: int | None = None
    pose: Path | Float[np.ndarray, "4 4"] | None = None
    depth: DepthFile | None = None
    rig: Rig | None = None
    unit: Unit = "m"
    camera: Camera = "pinhole"
    mask: Path | None = None
    may_be_blank: bool = False
    pose_convention: PoseConvention = "c2w"
    pose_axes: PoseAxes = "opencv"
    turns: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the frame consists of."""
        pose = self.pose if isinstance(self.pose, Path) else None
        if self.depth is None and pose is None and self.mask is None:
            return (self.image,)  # there may be millions
        depth = () if self.depth is None else (self.depth.path, self.depth.valid)
        return tuple(path for path in (self.image, *depth, pose, self.mask) if path is not None)


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of one place, in order.

    Args:
        scene_id: Path parts that name it, from the root.
        folder: Its folder, for messages.
        frames: In order.
        order: What the order was taken from.
        split: Split according to the data set's own files; None where they do not name it.
        is_test: Whether the data set's own files name it as test data.
        place: Name of the room or object that several scenes show: they go into one split. None:
            the scene's own.
        policy: Sampling policy, where it differs from the layout's: a camera of another rate.
    """

    scene_id: str
    folder: Path
    frames: Sequence[Frame]
    order: Order
    split: Split | None = None
    is_test: bool = True
    place: str | None = None
    policy: Policy | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether neighbors were taken one after another: names without numbers say nothing."""
        return self.order == "number"


@dataclass(frozen=True, eq=False)
class VideoScene:
    """A scene whose frames are still in a video.

    Args:
        beside: What was recorded beside it, by the number of the frame: frames whose image is the
            video. Other frames are then left out. None: there are images alone.
    """

    scene_id: str
    path: Path
    beside: Mapping[int, Frame] | None = None


@dataclass(frozen=True, eq=False)
class PackedScene:
    """A scene whose files are still in an archive.

    Args:
        path: The archive.
        unpack: Writes its files into a folder; raises ImageError where it cannot be unpacked.
        list_unpacked: Lists that folder, given the scene's id.
    """

    scene_id: str
    path: Path
    unpack: Callable[[Path], None]
    list_unpacked: Callable[[Path, str], "Iterator[Listed]"]


@dataclass(frozen=True)
class Refused:
    """A file or folder that was to be read and cannot be, and why.

    Args:
        images: The scene without what cannot be read, which is taken where only images are wanted.
        is_frame: Whether it is one frame of a scene, not a folder or a file of several.
    """

    path: Path
    reason: str
    images: Scene | None = field(default=None, compare=False)
    is_frame: bool = field(default=False, compare=False)

    @property
    def frames(self) -> int:
        """How many known frames are lost with it."""
        return int(self.is_frame) if self.images is None else len(self.images.frames)


@dataclass(frozen=True)
class Note:
    """A remark for the user."""

    text: str


Listed = Scene | VideoScene | PackedScene | Refused | LeftOut | Note


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that a layout has found.

    Args:
        name: Its name.
        root: Its folder.
        list_scenes: Lists it scene by scene, anew at every call. What cannot be listed is yielded
            as `Refused`, not raised.
        policy: Sampling policy, where it differs from the layout's.
        split: Split of all its scenes; an empty other side is then intended.
        sample_frac: Its own fraction of scenes to keep.
        resize_max: Its own limit of the long edge, pixels.
        layout: Layout that has read it; `scan` fills this in.
        reason: Why this layout was recognized; None where the user named it.
    """

    name: str
    root: Path
    list_scenes: Callable[[], Iterator[Listed]]
    policy: Policy | None = None
    split: Split | None = None
    sample_frac: float | None = None
    resize_max: int | None = None
    layout: "Layout | None" = None
    reason: str | None = None

    def policy_of(self, scene: Scene) -> Policy:
        """Sampling policy of a scene: the data set's, its own, the layout's, that of its order."""
        own = self.policy or scene.policy or (self.layout.policy if self.layout else None)
        return own or (PATH if scene.is_ordered else CLOUD)


@dataclass(frozen=True)
class Layout:
    """How a kind of data set is laid out on disk.

    Args:
        name: Name that `--layout` takes.
        summary: One line that describes the tree.
        scan: Finds the data sets at a path. The second argument is a folder to leave out: that of
            the results.
        mark: Why a folder is a scene of this layout, as a phrase that follows its name ("has
            transforms.json"); None where it is none. A path has the layout if a folder from it down
            has the mark.
        detect: Instead of a mark: why a path has this layout; None where it has not. A layout with
            neither is taken by its name alone.
        carries: What its frames have beside images.
        policy: How samples are cut; None: by the generic policy of the scene's order.
        shared_world: Whether the sequences of one folder share their world frame.
        takes_file: Whether the path is a file, not a folder.
        is_fallback: Whether it is tried after all other layouts, because it takes any folder.
        late_mark: A mark that counts only where no other layout takes the path and there is neither
            an image nor a video.
    """

    name: str
    summary: str
    scan: Callable[[Path, Path | None], Iterable[Dataset]]
    mark: Mark | None = None
    detect: Callable[[Path], str | None] | None = None
    carries: frozenset[Carried] = frozenset()
    policy: Policy | None = None
    shared_world: bool = False
    takes_file: bool = False
    is_fallback: bool = False
    late_mark: Mark | None = None
