"""Poses of images by COLMAP's structure from motion. Needs pycolmap, the extra `colmap`."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from distill3r_core.geometry import pnp
from distill3r_core.prediction import StepCallback, ignore_steps

FEW_IMAGES = 60  # up to here all pairs are matched, in whatever order the images come
MAX_SIDE = 1600  # pixels of the long edge in which features are looked for
NEIGHBORS = 10  # on either side, that an image of a sequence is matched with
_IMAGES_AT_A_TIME, _PAIRS_AT_A_TIME = 16, 200  # between two reports of progress
_SEED = 0
_FOCAL_GUESS = 1.2  # focal length over the longer side, where nothing is known: COLMAP's guess


@dataclass(frozen=True)
class SolverCamera:
    """What is known of a camera. Images whose records are equal share the camera.

    Args:
        size: Rows and columns of its images.
        intrinsics: fx, fy, cx, cy in pixels, centers at +0.5. None: one focal length and one
            radial distortion are estimated, the principal point is the center.
        focal: Where that estimate starts, in pixels; None: COLMAP's own guess.
        is_nominal: Whether focal length and radial distortion are estimated although there are
            `intrinsics`, which are where it starts; the principal point is kept. False: all four
            are kept.
    """

    size: tuple[int, int]
    intrinsics: tuple[float, float, float, float] | None = None
    focal: float | None = None
    is_nominal: bool = False

    @classmethod
    def of(
        cls, k: Float[np.ndarray, "3 3"], size: tuple[int, int], *, is_nominal: bool = False
    ) -> "SolverCamera":
        """The camera of a known K."""
        fx, fy, cx, cy = (float(value) for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        return cls(size, (fx, fy, cx, cy), is_nominal=is_nominal)

    @classmethod
    def of_image(
        cls,
        size: tuple[int, int],
        *,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        focal: float | None = None,
        is_nominal: bool = False,
    ) -> "SolverCamera":
        """The camera for an image that is reduced to `MAX_SIDE`, where it is larger.

        Args:
            size: Rows and columns of the image as it is.
            intrinsics: K at that size, where it is known.
            focal: Where the estimate starts otherwise, in pixels at that size.
            is_nominal: Whether the estimate starts from `intrinsics`.
        """
        shrink = min(1.0, MAX_SIDE / max(size))
        rows, columns = (max(1, round(side * shrink)) for side in size)
        used = rows, columns
        if intrinsics is not None:
            k = resized_intrinsics(intrinsics, size, used)
            return cls.of(k, used, is_nominal=is_nominal)
        return cls(used, focal=None if focal is None else focal * max(used) / max(size))

    @property
    def is_fixed(self) -> bool:
        """Whether its parameters are kept as they are."""
        return self.intrinsics is not None and not self.is_nominal

    @property
    def model(self) -> str:
        """COLMAP's name of its model."""
        return "PINHOLE" if self.is_fixed else "SIMPLE_RADIAL"

    @property
    def params(self) -> tuple[float, ...] | None:
        """Parameters to start from, as COLMAP has them; None: nothing is known."""
        if self.intrinsics is not None:
            fx, fy, cx, cy = self.intrinsics
            return self.intrinsics if self.is_fixed else ((fx + fy) / 2, cx, cy, 0.0)
        if self.focal is None:
            return None
        return (self.focal, self.size[1] / 2, self.size[0] / 2, 0.0)


@dataclass(frozen=True)
class SolvedImage:
    """An image that was placed.

    Args:
        world_from_cam: Its pose, in a unit that is not known.
        pixels: Where its points are seen (u, v), centers at +0.5.
        depth: Depth of these points, in the unit of the poses.
        intrinsics: K, without the distortion.
        size: Rows and columns of the image.
        distortion: Radial distortion k of `1 + k r^2`, r in focal lengths; 0 for a known camera.
        error: Pixels from `pixels` to where the camera projects these points, in the mean; NaN
            where there are none.
    """

    world_from_cam: Float[np.ndarray, "4 4"]
    pixels: Float[np.ndarray, "M 2"]
    depth: Float[np.ndarray, " M"]
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    distortion: float = 0.0
    error: float = float("nan")


def resized_intrinsics(
    k: Float[np.ndarray, "3 3"], size: tuple[int, int], wanted: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """K of an image of one size (rows, columns) for the image at another."""
    return np.diag([wanted[1] / size[1], wanted[0] / size[0], 1.0]) @ k


def solve_images(
    views: Iterable[tuple[UInt8[np.ndarray, "_ _ 3"], SolverCamera]],
    *,
    ordered: bool = False,
    on_step: StepCallback = ignore_steps,
) -> dict[int, SolvedImage]:
    """Place images in one world of unknown scale: SIFT, matching, incremental mapping.

    The same images give the same result on one machine: random draws are seeded, and the mapper
    runs in one thread.

    Args:
        views: RGB images with their cameras; read one after another, and not kept.
        ordered: Whether neighbors overlap: of more than `FEW_IMAGES`, each is then matched with
            its neighbors and with those 16, 32, ... images away. False: all pairs are matched.
        on_step: Reports features, pairs and placed images.

    Returns:
        The images of the largest model, by index; {} where nothing could be placed.

    Raises:
        ExtraMissingError: pycolmap is not installed.
    """
    pnp.prepare()
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    pycolmap.set_random_seed(_SEED)
    with tempfile.TemporaryDirectory(prefix="distill3r-colmap-") as folder:
        root = Path(folder)
        (root / "images").mkdir()
        (root / "models").mkdir()
        cameras = []
        for index, (image, camera) in enumerate(views):
            Image.fromarray(image).save(root / "images" / _name(index), compress_level=1)
            cameras.append(camera)
        if len(cameras) < 2:
            return {}
        known = _register(root, cameras)
        _extract(root, len(cameras), on_step)
        _match(root, list(pairs_of(len(cameras), ordered=ordered)), on_step)
        models = _map(root, len(cameras), known, on_step)
    if not models:
        return {}
    return dict(_solved(max(models, key=lambda one: one.num_reg_images())))


def pairs_of(count: int, *, ordered: bool) -> Iterator[tuple[int, int]]:
    """Pairs of images that are matched, by index.

    A sequence returns to where it was; the pairs at distances that double find some of that
    without matching everything.
    """
    if count <= FEW_IMAGES or not ordered:
        yield from itertools.combinations(range(count), 2)
        return
    far = itertools.takewhile(lambda step: step < count, (16 << power for power in range(64)))
    for step in (*range(1, NEIGHBORS + 1), *far):
        yield from ((first, first + step) for first in range(count - step))


def _name(index: int) -> str:
    return f"{index:06d}.png"


def _register(root: Path, cameras: Sequence[SolverCamera]) -> set[int]:
    """Write cameras and images to the database; gives the numbers of the cameras that are fixed.

    Left to the extraction, images are numbered in the order in which its threads finish them, and
    the mapper begins and sums up in the order of these numbers.
    """
    import pycolmap

    database = pycolmap.Database.open(root / "database.db")
    numbers, rigs = dict[SolverCamera, int](), dict[SolverCamera, int]()
    for camera in dict.fromkeys(cameras):
        rows, columns = camera.size
        guess = (_FOCAL_GUESS * max(rows, columns), columns / 2, rows / 2, 0.0)
        written = pycolmap.Camera(
            model=camera.model, width=columns, height=rows, params=camera.params or guess
        )
        written.has_prior_focal_length = camera.params is not None
        numbers[camera] = database.write_camera(written)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(database.read_camera(numbers[camera]).sensor_id)
        rigs[camera] = database.write_rig(rig)
    for index, camera in enumerate(cameras):
        image = pycolmap.Image(name=_name(index), camera_id=numbers[camera])
        frame = pycolmap.Frame()
        frame.rig_id = rigs[camera]
        frame.add_data_id(database.read_image(database.write_image(image)).data_id)
        database.write_frame(frame)
    database.close()
    return {number for camera, number in numbers.items() if camera.is_fixed}


def _extract(root: Path, count: int, on_step: StepCallback) -> None:
    """Find the features of all images."""
    import pycolmap

    for start in range(0, count, _IMAGES_AT_A_TIME):
        on_step("features", start, count)
        stop = min(start + _IMAGES_AT_A_TIME, count)
        pycolmap.extract_features(
            root / "database.db",
            root / "images",
            image_names=[_name(index) for index in range(start, stop)],
            device=pycolmap.Device.cpu,
        )
    on_step("features", count, count)


def _match(root: Path, pairs: Sequence[tuple[int, int]], on_step: StepCallback) -> None:
    import pycolmap

    options, verification = pycolmap.ImportedPairingOptions(), pycolmap.TwoViewGeometryOptions()
    options.match_list_path = root / "pairs.txt"
    verification.ransac.random_seed = _SEED
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        on_step("pairs", start, len(pairs))
        part = pairs[start : start + _PAIRS_AT_A_TIME]
        lines = (f"{_name(first)} {_name(second)}\n" for first, second in part)
        (root / "pairs.txt").write_text("".join(lines))
        pycolmap.match_image_pairs(
            root / "database.db",
            pairing_options=options,
            verification_options=verification,
            device=pycolmap.Device.cpu,
        )
    on_step("pairs", len(pairs), len(pairs))


def _map(root: Path, count: int, known: set[int], on_step: StepCallback) -> list[Any]:
    """The models that the mapper makes, as pycolmap's `Reconstruction`."""
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.constant_cameras = known
    options.num_threads, options.random_seed = 1, _SEED
    options.extract_colors = False
    placed = itertools.count(3)  # the first pair of a model is placed without a call

    def next_image() -> None:
        # A later model begins anew: its images were counted in the model that it replaces.
        on_step("placed", min(next(placed), count), count)

    models = pycolmap.incremental_mapping(
        root / "database.db",
        root / "images",
        root / "models",
        options=options,
        next_image_callback=next_image,
    )
    return list(models.values())


def _solved(model: Any) -> Iterator[tuple[int, SolvedImage]]:
    for image in model.images.values():
        if not image.has_pose:
            continue
        cam_from_world = np.eye(4)
        cam_from_world[:3] = image.cam_from_world().matrix()
        seen = [point for point in image.points2D if point.has_point3D()]
        points = np.array([model.points3D[point.point3D_id].xyz for point in seen]).reshape(-1, 3)
        points = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
        pixels = np.array([point.xy for point in seen]).reshape(-1, 2)
        camera = model.cameras[image.camera_id]
        k = np.asarray(camera.calibration_matrix(), dtype=np.float64)
        distortion = float(camera.params[3]) if camera.model.name == "SIMPLE_RADIAL" else 0.0
        errors = np.linalg.norm(projected(points, k, distortion) - pixels, axis=1)
        yield (
            int(Path(image.name).stem),
            SolvedImage(
                np.linalg.inv(cam_from_world),
                pixels,
                points[:, 2],
                k,
                (int(camera.height), int(camera.width)),
                distortion,
                float(errors.mean()) if len(errors) else float("nan"),
            ),
        )


def projected(
    points: Float[np.ndarray, "M 3"], k: Float[np.ndarray, "3 3"], distortion: float
) -> Float[np.ndarray, "M 2"]:
    """Pixels (u, v) of points in a camera's frame; see `SolvedImage.distortion`."""
    flat = points[:, :2] / points[:, 2:]
    flat = flat * (1 + distortion * (flat**2).sum(1, keepdims=True))
    return flat @ k[:2, :2].T + k[:2, 2]
