"""Every reader of files that others may have made, with a valid example of each."""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_caches import made_sample, write_cache

from distill3r_core.cache.original.original_format import (
    ARRAYS,
    VIEWS,
    OriginalSample,
    read_sample,
    write_sample,
)
from distill3r_core.cache.sample_codec import SampleEncoder, ViewDecoder
from distill3r_core.cache.store import TeacherCache
from distill3r_core.config import resolve
from distill3r_core.data.manifest import ManifestRow, read_manifest, write_manifest
from distill3r_core.data.matrix_files import read_intrinsics, read_pose
from distill3r_core.errors import Distill3rError
from distill3r_core.files import read_own
from distill3r_core.io.checksums import write_sealed
from distill3r_core.io.exports.cameras import Camera, write_cameras
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.ply import write_ply
from distill3r_core.io.images.decode import read_image, write_image
from distill3r_core.io.images.depth import read_depth, write_depth
from distill3r_core.io.weights import read_pickled
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student
from distill3r_core.reconstruction.cameras.camera_options import parse_intrinsics
from distill3r_core.reconstruction.cameras.known_positions import read_known
from distill3r_core.results import read_record, write_record
from distill3r_core.runs import run_record
from distill3r_core.stages.train import TrainSettings
from distill3r_core.stages.view import read_result
from distill3r_core.training import checkpoints
from distill3r_core.training.metrics_log import MetricsLog, read_metrics
from distill3r_core.training.run_state import TrainState, state_as_plain, state_from

Sign = Callable[[Path, Any], None]


@dataclass(frozen=True)
class Target:
    """A reader and what it reads.

    Args:
        make: Writes a valid example into a folder.
        read: Reads it.
        files: Names in the folder of what is changed.
        sign: Writes changed values of a JSON file with a right checksum, by the file's name.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    files: tuple[str, ...]
    sign: Mapping[str, Sign] = field(default_factory=dict)


def plain_json(path: Path, values: Any) -> None:
    """A JSON file without a checksum."""
    path.write_text(json.dumps(values))


def sealed_json(path: Path, values: Any) -> None:
    """As `write_sealed`, of values that need not be an object."""
    if not isinstance(values, dict):
        plain_json(path, values)
        return
    values.pop("checksum", None)
    try:
        write_sealed(path, values)
    except UnicodeEncodeError:
        plain_json(path, values)


def sealed_header(path: Path, values: Any) -> None:
    """A cache's header, its checksum at its end."""
    if not isinstance(values, dict):
        plain_json(path, values)
        return
    values.pop("checksum", None)
    body = json.dumps(values, indent=1).removesuffix("\n}").encode()
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    path.write_bytes(body + f',\n "checksum": "{digest}"\n}}\n'.encode())


def described_weights(path: Path, values: Any) -> None:
    """A safetensors file whose description of the student is `values`."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head["__metadata__"] = {"distill3r": json.dumps(values)}
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def _make_cache(folder: Path) -> None:
    write_cache(folder, views=2, held_out=1, sizes=[(28, 42)] * 2)


def _read_cache(folder: Path) -> None:
    cache = TeacherCache(folder)
    for name in cache.names()[:2]:
        cache.detail(name)
        cache.read(name)


def _make_record(folder: Path) -> None:
    images, targets = made_sample(0, views=1, size=(28, 42))
    encoded = SampleEncoder().encode("a/b/0", "c", images, targets, {"pictures": [""]})
    (folder / "maps").write_bytes(encoded.maps[0])
    (folder / "picture").write_bytes(encoded.images[0])


def _read_record(folder: Path) -> None:
    """Decode records, once as they are, and once with the checksum of the head made right."""
    planes, mask = np.empty((5, 28, 42), np.uint16), np.empty((28, 42), np.uint8)
    image = np.empty((3, 28, 42), np.uint8)
    maps, picture = (_resealed(read_own(folder / name)) for name in ("maps", "picture"))
    decoder = ViewDecoder()
    decoder.maps(memoryview(maps), planes, mask)
    decoder.image(memoryview(picture), image)


_HEAD, _ENTRY, _FRAME = struct.Struct("<4sBBHHBBII"), struct.Struct("<BBHII"), 18


def _resealed(data: bytes) -> bytes:
    """A record whose head has the checksum of what it says."""
    if len(data) < _HEAD.size or len(data) < _HEAD.size + data[11] * _ENTRY.size:
        return data
    at = _HEAD.size + data[11] * _ENTRY.size
    check = zlib.crc32(data[_HEAD.size : at], zlib.crc32(data[: _HEAD.size - 4]))
    for index in range(data[11]):
        _, packing, _, stored, _ = _ENTRY.unpack_from(data, _HEAD.size + index * _ENTRY.size)
        content = data[at : at + stored]
        check = zlib.crc32(content[:_FRAME] if packing == 1 else content, check)
        at += stored
    return data[: _HEAD.size - 4] + struct.pack("<I", check) + data[_HEAD.size :]


def _make_manifest(folder: Path) -> None:
    pose = tuple(np.eye(4).ravel().tolist())
    rows = [
        ManifestRow(
            "set", "train", f"scene{n // 3}", f"{n:06d}", f"images/{n}.png",
            (30.0, 0.0, 20.0, 0.0, 30.0, 14.0, 0.0, 0.0, 1.0), 28, 42, K_source="calibrated",
            depth_path=f"depth/{n}.png",
            depth_format="png16mm", pose=pose, unit="m", picture="p", content=f"c{n}",
            windows=(n // 3, 4),
        )
        for n in range(9)
    ]  # fmt: skip
    write_manifest(folder / "manifest.csv", rows)


def _read_manifest(folder: Path) -> None:
    read_manifest(folder / "manifest.csv").samples()


def _make_student(folder: Path) -> None:
    torch.manual_seed(0)
    student = build_student("tiny")
    fit = {"size": [56, 84]}
    plain = StudentMetadata(preset="tiny", spec=student.spec, size=(56, 84), fit=fit, teacher="x")
    save_student(folder / "a.safetensors", student, plain)
    data = (folder / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    described = json.loads(data[8 : 8 + length])["__metadata__"]["distill3r"]
    (folder / "description.json").write_text(described)


def _read_described(folder: Path) -> None:
    """The student whose description is in a file beside it; an edit may have made it no JSON."""
    try:
        values = json.loads(read_own(folder / "description.json"))
    except (ValueError, RecursionError):
        values = None
    described_weights(folder / "a.safetensors", values)
    load_student(folder / "a.safetensors")


def _make_pickled(folder: Path) -> None:
    content = {"state_dict": {"a.b": torch.ones(3, 4), "c": torch.arange(5)}, "epoch": 3}
    torch.save(content, folder / "new.ckpt")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)


def _make_run(folder: Path) -> None:
    torch.manual_seed(0)
    state = state_as_plain(TrainState(step=3, best=0.5, best_step=2, last_validation={"loss": 1.0}))
    origin = {"identity": {"seed": 1}, "steps": 3, "extensions": []}
    checkpoints.save(
        folder,
        step=3,
        save_model=lambda path: path.write_bytes(b"weights"),
        optimizer={"state": torch.zeros(2)},
        state={**state, "owner": "me", "run": origin},
    )
    write_sealed(folder / "run.json", {"finished": True, "launch": None, "owner": "me", **origin})
    log = MetricsLog(folder / "metrics.jsonl", after=0)
    for step in range(1, 6):
        log.add(step, loss=1.0 / step, note=None)
    log.close()
    checkpoints.write_micro_batch(folder, 4)


def _read_run(folder: Path) -> None:
    run_record.read_record(folder)
    list(read_metrics(folder / "metrics.jsonl"))
    checkpoints.read_micro_batch(folder, warn=lambda _: None)
    checkpoints.refuse_foreign(folder, "me")
    found = checkpoints.newest(folder, warn=lambda _: None)
    if found is not None:
        state_from(found)
        found.optimizer()


def _make_result(folder: Path) -> None:
    rng = np.random.default_rng(0)
    cloud = Cloud(
        rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3), np.uint8)
    )
    write_ply(folder / "scene.ply", cloud, comments=["made"])
    camera = np.array([[30.0, 0, 20], [0, 30, 14], [0, 0, 1]])
    cameras = [Camera(f"view{n}", (28, 42), camera, {"source": "x"}, np.eye(4)) for n in range(3)]
    write_cameras(folder / "cameras.json", cameras, about={"frame": "x"})
    write_record(folder, identity={"a": 1}, files=["scene.ply", "cameras.json"], result={"n": 1})


def _read_view(folder: Path) -> None:
    read_record(folder)
    opened, _, cameras = read_result(folder)
    for camera in cameras:
        opened.find(f"images/{camera.name}.jpg")


def _make_release(folder: Path) -> None:
    maps = np.ones((2, 8, 9, 3), np.float16)
    masks = np.ones((2, 8, 9), bool)
    masks[1, 2, :4] = False
    plane = maps[..., 0]
    write_sample(folder, OriginalSample(maps, maps, plane, plane, masks, {"a": [1, 2]}))


def _make_config(folder: Path) -> None:
    (folder / "train.yaml").write_text(
        "train:\n  preset: tiny\n  seed: 3\n  data: {batch: 2, views: 4}\n"
        "  optim: &o {lr: 1.0e-4}\n  checkpoint:\n    every_steps: 5\n"
    )


def _read_config(folder: Path) -> None:
    resolve(TrainSettings, section="train", config=str(folder / "train.yaml"))


def _make_geometry(folder: Path) -> None:
    (folder / "pose.txt").write_text("\n".join("\t".join(f"{v:.7e}" for v in r) for r in np.eye(4)))
    (folder / "K.txt").write_text("585 0 320\n0 585 240\n0 0 1\n")
    (folder / "positions.txt").write_text("# name x y z\na.png 1 2 3\nb c.png, 0.5, -1, 2e3\n")


def _read_each(folder: Path) -> None:
    """All that can be read; the first error is raised at the end."""
    first: Exception | None = None
    for read in (
        partial(read_pose, folder / "pose.txt"),
        partial(read_intrinsics, folder / "K.txt"),
        partial(parse_intrinsics, str(folder / "K.txt")),
        partial(read_known, str(folder / "positions.txt")),
    ):
        try:
            read()
        except Exception as error:  # noqa: BLE001
            first = first if isinstance(first, Exception) and not _is_own(first) else error
    if first is not None:
        raise first


def _is_own(error: Exception) -> bool:
    return isinstance(error, Distill3rError)


def _make_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_image(folder / "a.png", pixels)
    write_image(folder / "a.jpg", pixels)
    write_depth(folder / "depth.png", rng.uniform(1, 3, (20, 30)).astype(np.float32), unit="m")
    np.save(folder / "depth.npy", np.ones((20, 30), np.float32))


def _read_images(folder: Path) -> None:
    first: Exception | None = None
    for read in (
        partial(read_image, folder / "a.png"),
        partial(read_image, folder / "a.jpg"),
        partial(read_depth, folder / "depth.png", stored="png16mm", unit="m"),
        partial(read_depth, folder / "depth.npy", stored="npy32"),
    ):
        try:
            read()
        except Exception as error:  # noqa: BLE001
            first = first if isinstance(first, Exception) and not _is_own(first) else error
    if first is not None:
        raise first


TARGETS = {
    "cache header": Target(
        _make_cache, _read_cache, ("cache.json",), {"cache.json": sealed_header}
    ),
    "shard": Target(_make_cache, _read_cache, ("shard-0000/data.mdb",)),
    "record": Target(_make_record, _read_record, ("maps", "picture")),
    "manifest": Target(_make_manifest, _read_manifest, ("manifest.csv",)),
    "student": Target(
        _make_student, lambda folder: load_student(folder / "a.safetensors"), ("a.safetensors",)
    ),
    "description": Target(
        _make_student, _read_described, ("description.json",), {"description.json": plain_json}
    ),
    "checkpoint": Target(
        _make_pickled, lambda folder: read_pickled(folder / "new.ckpt"), ("new.ckpt",)
    ),
    "old checkpoint": Target(
        _make_pickled, lambda folder: read_pickled(folder / "old.pth"), ("old.pth",)
    ),
    "run": Target(
        _make_run,
        _read_run,
        ("run.json", "checkpoints/step-000003/state.json", "metrics.jsonl",
         "checkpoints/micro-batch.txt", "checkpoints/step-000003/optimizer.pt"),
        {"run.json": sealed_json, "checkpoints/step-000003/state.json": sealed_json},
    ),
    "result": Target(
        _make_result,
        _read_view,
        ("run.json", "cameras.json", "scene.ply"),
        {"run.json": sealed_json, "cameras.json": plain_json},
    ),
    "release": Target(_make_release, read_sample, (ARRAYS, VIEWS), {VIEWS: plain_json}),
    "config": Target(_make_config, _read_config, ("train.yaml",)),
    "geometry": Target(_make_geometry, _read_each, ("pose.txt", "K.txt", "positions.txt")),
    "images": Target(_make_images, _read_images, ("a.png", "a.jpg", "depth.png", "depth.npy")),
}  # fmt: skip
