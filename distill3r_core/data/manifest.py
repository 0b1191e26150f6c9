"""The manifest: one CSV row per image, readable by a person and by the original project."""

import csv
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from distill3r_core.data.windows import RELEASE, windows
from distill3r_core.errors import ConfigError, InputMissingError, NothingUsableError
from distill3r_core.files import name_fault, open_file, replacing, shown_name
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images.depth import DepthFormat
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.views import Unit

Split = Literal["train", "val"]
IntrinsicsSource = Literal["calibrated", "exif", "none"]
Camera = Literal["pinhole", "fisheye"]
Order = Literal["number", "name", "none"]

# The original project's columns, then ours; ours are empty where a source has nothing.
_ORIGINAL = ("dataset", "split", "scene_id", "sample_id", "image_path", "K", "H", "W")
_OURS = (
    *("K_source", "depth_path", "depth_format", "pose", "unit", "camera", "mask_path", "order"),
    *("picture", "content", "windows"),
)
COLUMNS = (*_ORIGINAL, *_OURS)
# As they are: blanks and line breaks at their ends are part of names.
_NAMES = frozenset({"dataset", "scene_id", "sample_id", "image_path", "depth_path"})
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "validation": "val", "test": "val"}
_MAX_SAMPLES = 10000  # per scene, of a manifest without windows: the original's default
_WINDOWS = re.compile(r"([0-9]+(;[0-9]+)*)?")
_LARGEST_SIDE = 1 << 20  # pixels
_LONGEST_REASON = 500  # characters of a message that may quote a cell


@dataclass(frozen=True)
class ManifestRow:
    """One image of a scene.

    Args:
        dataset: Name of the data set.
        split: Split of the image.
        scene_id: The place, or the sequence of it.
        sample_id: The original project's word for a frame; string order is frame order.
        image_path: Relative to the manifest's folder, or absolute.
        K: Nine numbers row by row, in pixels of the image, centers at +0.5; the original's
            placeholder where `K_source` is "none".
        H: Rows after EXIF orientation.
        W: Columns.
        K_source: Where K comes from.
        depth_path: Registered depth at the image's size, "" where there is none.
        depth_format: How that file is stored.
        pose: world_from_cam, sixteen numbers row by row, translation in `unit`.
        unit: Unit of depth and pose.
        camera: Its projection.
        mask_path: Mask at the image's size, black where pixels are to be ignored; "" where all
            count.
        order: What the order of the frames was taken from.
        picture: Hash of the pixels, "" in the original's manifests.
        content: Hash of all that a teacher reads of this frame.
        windows: Numbers of the windows within the scene that use the image; None where the
            manifest has no such column.
    """

    dataset: str
    split: Split
    scene_id: str
    sample_id: str
    image_path: str
    K: tuple[float, ...]
    H: int
    W: int
    K_source: IntrinsicsSource = "none"
    depth_path: str = ""
    depth_format: DepthFormat | None = None
    pose: tuple[float, ...] | None = None
    unit: Unit = "none"
    camera: Camera = "pinhole"
    mask_path: str = ""
    order: Order = "none"
    picture: str = ""
    content: str = ""
    windows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sample:
    """The views of a scene that the teacher sees at once, the anchor first.

    Args:
        name: `<dataset>/<scene_id>/<window, 3 digits>`.
        dataset: Name of the scene's data set.
        scene_id: Name of the scene within it.
        split: One for all views.
        rows: In frame order.
    """

    name: str
    dataset: str
    scene_id: str
    split: Split
    rows: tuple[ManifestRow, ...]


@dataclass(frozen=True)
class Manifest:
    """Rows and where their relative paths start."""

    path: Path
    rows: tuple[ManifestRow, ...]

    @property
    def root(self) -> Path:
        """The folder that relative paths are relative to."""
        return self.path.parent

    @property
    def has_windows(self) -> bool:
        """Whether it says itself which images form a sample."""
        return all(row.windows is not None for row in self.rows)

    @property
    def unposed_scenes(self) -> frozenset[tuple[str, str]]:
        """Data set and name of the scenes in which no image has a pose."""
        posed = {(row.dataset, row.scene_id) for row in self.rows if row.pose is not None}
        return frozenset({(row.dataset, row.scene_id) for row in self.rows} - posed)

    def samples(self, split: Split | None = None, *, views: int = 20) -> tuple[Sample, ...]:
        """The samples, in the order of their names.

        Args:
            split: Only this one.
            views: Per sample, where the manifest has no windows and is cut by the policy release.

        Raises:
            ConfigError: A window crosses splits.
        """
        scenes: dict[tuple[str, str], list[ManifestRow]] = {}
        for row in self.rows:
            scenes.setdefault((row.dataset, row.scene_id), []).append(row)
        found: list[Sample] = []
        owners: dict[str, tuple[str, str]] = {}
        for (dataset, scene_id), rows in scenes.items():
            rows = sorted(rows, key=lambda row: row.sample_id)
            for number, members in sorted(_windows_of(rows, views).items()):
                name = f"{dataset}/{scene_id}/{number:03d}"
                owner = owners.setdefault(name, (dataset, scene_id))
                if owner != (dataset, scene_id):
                    raise ConfigError(
                        f"{self.path}: the scenes {owner!r} and {(dataset, scene_id)!r} both "
                        f"have a sample {name!r}",
                        hint="rename one of them in the column scene_id",
                    )
                side = members[0].split
                if any(row.split != side for row in members):
                    raise ConfigError(f"{self.path}: the window {name} crosses splits")
                if split in (None, side):
                    found.append(Sample(name, dataset, scene_id, side, tuple(members)))
        return tuple(sorted(found, key=lambda sample: sample.name))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, ours or the original project's.

    Raises:
        InputMissingError: There is no such file.
        ConfigError: It is not a manifest, or not a whole one; names the line.
        NothingUsableError: It has no rows.
    """
    rows = read_rows(path)
    if not rows:
        raise NothingUsableError(
            f"the manifest {path} has no rows", hint="make one with `distill3r manifest ROOT`"
        )
    return Manifest(path, rows)


def read_rows(path: Path, *, leave: Collection[str] = ()) -> tuple[ManifestRow, ...]:
    """The rows of a manifest, of which there may be none.

    Args:
        path: The manifest.
        leave: Data sets whose rows are left out, unread.

    Raises:
        InputMissingError: There is no such file.
        ConfigError: It is not a manifest, or not a whole one; names the line.
    """
    rows: dict[tuple[str, str, str], ManifestRow] = {}
    for place, row in _placed_rows(path, leave):
        if rows.setdefault((row.dataset, row.scene_id, row.image_path), row) is not row:
            raise ConfigError(f"{place}: {shown_name(row.image_path)} is in its scene twice")
    return tuple(rows.values())


def iter_rows(path: Path, *, leave: Collection[str] = ()) -> Iterator[ManifestRow]:
    """The rows of a manifest one by one; none is looked for twice.

    Args:
        path: The manifest.
        leave: Data sets whose rows are left out, unread.

    Raises:
        InputMissingError: There is no such file.
        ConfigError: It is not a manifest, or not a whole one; names the line.
    """
    return (row for _, row in _placed_rows(path, leave))


def _placed_rows(path: Path, leave: Collection[str]) -> Iterator[tuple[str, ManifestRow]]:
    """Rows, each with where it stands."""
    if not path.is_file():
        raise InputMissingError(
            f"no manifest {path}", hint="make one with `distill3r manifest ROOT`"
        )
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a mark
        reader = csv.DictReader(file, strict=True)
        try:
            missing = [name for name in _ORIGINAL if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path} is not a manifest: no column {', '.join(missing)}")
            for cells in reader:
                if cells.get("dataset") in leave:
                    continue
                place = f"{path}:{reader.line_num}"
                yield place, _row(cells, place)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a manifest: {reason_of(error)}") from error
        except csv.Error as error:
            line = reader.reader.line_num  # the outer one stands at the last whole row
            raise ConfigError(f"{path}:{line}: not a manifest: {reason_of(error)}") from error
    # A last cell that was cut short can read like a whole one.
    if _last_byte(path) not in (b"\n", b"\r"):
        raise ConfigError(
            f"{path}:{reader.line_num}: the last row was cut short",
            hint="make the manifest again; if the row is whole, end it with a line break",
        )


def _last_byte(path: Path) -> bytes:
    with open_file(path) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write rows in the order of data set, scene and frame, whole or not at all."""
    with replacing(path, durable=True) as beside:
        write_rows(beside, sorted(rows, key=manifest_order))


def manifest_order(row: ManifestRow) -> tuple[str, str, str]:
    """What the rows of a manifest are sorted by."""
    return row.dataset, row.scene_id, row.sample_id


def write_rows(path: Path, rows: Iterable[ManifestRow]) -> str:
    """Write rows that are in order, one after another; returns the hash of the file.

    Args:
        path: A new file.
        rows: In the order of `manifest_order`.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(COLUMNS)
        for row in rows:
            cells = _cells(row)
            # Python before 3.13 does not quote a lone carriage return, which its reader refuses.
            (quoting if any("\r" in str(cell) for cell in cells) else writer).writerow(cells)
    return file_hash(path)


def _windows_of(rows: Sequence[ManifestRow], views: int) -> dict[int, list[ManifestRow]]:
    """Members of each window of a scene, in frame order."""
    members: dict[int, list[ManifestRow]] = {}
    if all(row.windows is not None for row in rows):
        for row in rows:
            for number in row.windows or ():
                members.setdefault(number, []).append(row)
        return members
    for split in get_args(Split):
        frames = [row for row in rows if row.split == split]
        first = len(members)
        for number, window in enumerate(
            windows(len(frames), RELEASE, views, samples=_MAX_SAMPLES), start=first
        ):
            members[number] = [frames[index] for index in window]
    return members


def _row(cells: Mapping[str | None, Any], place: str) -> ManifestRow:
    # The reader's marks of a row with too few cells, and of one with too many.
    if None in cells or None in cells.values():
        raise ConfigError(f"{place}: the row has not as many cells as there are columns")
    try:
        given = {
            name: cell if name in _NAMES else cell.strip()
            for name in COLUMNS
            for cell in [cells.get(name) or ""]
        }
        if given["depth_format"] == "png16mm" and given["unit"] in ("", "none"):
            raise ValueError("depth_format is png16mm, millimeters, but unit is none: m or mm")
        for column in ("dataset", "scene_id"):  # parts of a sample's name, and of folders on export
            if (fault := name_fault(given[column])) is not None:
                raise ValueError(f"{column}: {shown_name(given[column])} {fault}")
        return ManifestRow(
            dataset=given["dataset"],
            split=_split(given["split"]),
            scene_id=given["scene_id"],
            sample_id=given["sample_id"],
            image_path=given["image_path"],
            K=_numbers(given["K"], 9),
            H=_side(given["H"]),
            W=_side(given["W"]),
            K_source=_one_of(given["K_source"] or "none", IntrinsicsSource),
            depth_path=given["depth_path"],
            depth_format=_one_of(given["depth_format"], DepthFormat)
            if given["depth_format"]
            else None,
            pose=_numbers(given["pose"], 16) if given["pose"] else None,
            unit=_one_of(given["unit"] or "none", Unit),
            camera=_one_of(given["camera"] or "pinhole", Camera),
            mask_path=given["mask_path"],
            order=_one_of(given["order"] or "none", Order),
            picture=given["picture"],
            content=given["content"],
            windows=_window_numbers(cells["windows"]) if "windows" in cells else None,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{place}: {str(error)[:_LONGEST_REASON]}") from error


def _cells(row: ManifestRow) -> list[str | int]:
    return [
        row.dataset,
        row.split,
        row.scene_id,
        row.sample_id,
        row.image_path,
        json.dumps(list(row.K)),
        row.H,
        row.W,
        row.K_source,
        row.depth_path,
        row.depth_format or "",
        "" if row.pose is None else json.dumps(list(row.pose)),
        row.unit,
        row.camera,
        row.mask_path,
        row.order,
        row.picture,
        row.content,
        ";".join(str(number) for number in row.windows or ()),
    ]


def _numbers(text: str, count: int) -> tuple[float, ...]:
    """A JSON list of numbers, nested by rows or not."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{shown_name(text)} is nested too deeply") from error
    flat = [value for part in values for value in (part if isinstance(part, list) else [part])]
    if len(flat) != count:
        raise ValueError(f"not {count} numbers but {len(flat)}: {shown_name(text)}")
    return tuple(float(value) for value in flat)


def _side(text: str) -> int:
    """Rows or columns of an image."""
    side = int(text)
    if not 0 < side <= _LARGEST_SIDE:
        raise ValueError(f"{shown_name(text)} is no size of an image")
    return side


def _split(text: str) -> Split:
    if text.lower() not in _SPLITS:
        raise ValueError(f"split: {shown_name(text)} is none of {', '.join(_SPLITS)}")
    return _SPLITS[text.lower()]


def _window_numbers(text: str) -> tuple[int, ...]:
    if not _WINDOWS.fullmatch(text.strip()):
        raise ValueError(f"windows: {shown_name(text)} is not numbers from 0, with ; between them")
    numbers = tuple(int(number) for number in text.split(";") if number.strip())
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"windows: {shown_name(text)} names one twice")
    return numbers


def _one_of(text: str, words: Any) -> Any:
    if text not in get_args(words):
        raise ValueError(f"{shown_name(text)} is none of {', '.join(get_args(words))}")
    return text
