"""The things that `doctor` looks at, one function each; every one answers.

Packages are imported here and not at the top: a package that is missing or broken is a finding.
One that does not load because memory is refused is not broken: that alone is raised.
"""

import importlib
import platform
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from distill3r_core.system.system_limits import no_room_to_load

PROJECT = "distill3r"
OLDEST_PYTHON = (3, 11)
GIB = 1024**3
MIN_DISK = 2 * GIB  # a small cache, a run with its checkpoints, and the results
EXTRAS = {
    "heic": "HEIC images, as iPhones write them",
    "video": "videos as input of manifest and infer",
    "viewer": "`distill3r view`",
    "colmap": "poses: `manifest` and `infer --poses colmap`, `infer --poses pnp`, `--pnp`, "
    "`--head global` and scene students, `eval`'s row of COLMAP's poses",
    "datasets": "depth in HDF5 and EXR files (MegaDepth, Habitat, StereoLunar, Record3D, pattern)",
    "tb": "`train --set tensorboard=true`",
}
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
# Compiled packages can be there and not load. The others are only looked up: timm takes seconds.
_LOADED = {
    "torch": "torch",
    "numpy": "numpy",
    "lmdb": "lmdb",
    "pillow": "PIL",
    "scipy": "scipy",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
    "zstandard": "zstandard",
}
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)[^;>]*(?:>=([0-9.]+))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"](\w+)['\"]")
FAULTS = (ImportError, OSError, RuntimeError, AttributeError)  # of a package that does not load


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Args:
        state: "failed" where it is required and does not work, "missing" where it is optional.
    """

    name: str
    state: Literal["ok", "missing", "failed"]
    detail: str
    remedy: str = ""  # the command that fixes it; empty where nothing is to be done


def python() -> Check:
    """The interpreter."""
    detail = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("Python", "ok", detail)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("Python", "failed", f"{detail} < {wanted}")


def packages() -> list[Check]:
    """Required packages; those that work share one line."""
    names = [text for text in metadata.requires(PROJECT) or [] if not _EXTRA.search(text)]
    checks = [_package(text) for text in names]
    broken = [check for check in checks if check.state != "ok"]
    working = ", ".join(f"{c.name} {c.detail}" for c in checks if c.state == "ok")
    return [Check("packages", "ok", working), *broken]


def extras() -> list[Check]:
    """Optional extras, each with the command that adds it."""
    packages: dict[str, list[Check]] = {name: [] for name in EXTRAS}
    for text in metadata.requires(PROJECT) or []:
        extra = _EXTRA.search(text)
        if extra is not None and extra.group(1) in EXTRAS:  # `all` names the others again
            packages[extra.group(1)].append(_package(text))
    checks = []
    for name, found in packages.items():
        missing = [check.detail for check in found if check.state != "ok"]
        purpose = EXTRAS[name]
        if missing:
            detail = f"{', '.join(missing)}: {purpose}"
            checks.append(Check(name, "missing", detail, _install(name)))
        elif found:
            here = ", ".join(f"{check.name} {check.detail}" for check in found)
            checks.append(Check(name, "ok", f"{here}: {purpose}"))
    return checks


def torch_build() -> Check:
    """Version and build of torch, and whether it finds the GPU."""

    def look() -> str:
        import torch

        built = torch.version.cuda or torch.version.hip
        detail = f"{torch.__version__}, " + (f"for GPUs ({built})" if built else "for CPUs only")
        if _NVIDIA_DRIVER.exists() and not torch.cuda.is_available():
            detail += "; it does not see the NVIDIA GPU of this machine"
        threads = torch.get_num_threads()
        return f"{detail}, {threads} thread" + ("" if threads == 1 else "s")

    return _look("torch", look)


def device(name: str = "auto") -> Check:
    """The device and its free memory."""

    def look() -> str:
        import torch

        from distill3r_core import profiling
        from distill3r_core.system.machine_memory import available_memory

        picked = profiling.pick_device(name)
        if picked.type == "cuda":
            free, total = torch.cuda.mem_get_info(picked)
            title = torch.cuda.get_device_name(picked)
            return f"{title}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        facts = profiling.machine(picked)
        return (
            f"{picked.type} ({facts['cpu']}, {facts['cores']} cores), "
            f"{available_memory() / GIB:.1f} of {facts['memory_bytes'] / GIB:.1f} GiB free"
        )

    return _look("device", look)


def bfloat16() -> Check:
    """Whether the device supports bfloat16, and in hardware."""

    def look() -> str:
        import torch

        from distill3r_core import profiling

        where = profiling.pick_device("auto")
        eye = torch.eye(2, dtype=torch.bfloat16, device=where)
        assert (eye @ eye).equal(eye)
        if where.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            flags = Path("/proc/cpuinfo")
            text = flags.read_text() if flags.is_file() else ""
            native = "amx_bf16" in text or "avx512_bf16" in text
        return "yes, in hardware" if native else "works, without hardware support: slow"

    return _look("bf16", look)


def attention() -> Check:
    """Attention kernels that run on the device."""

    def look() -> str:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        from distill3r_core import profiling

        where = profiling.pick_device("auto")
        dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
        query = torch.ones(1, 2, 8, 64, dtype=dtype, device=where)
        kernels = {
            "flash": SDPBackend.FLASH_ATTENTION,
            "cuDNN": SDPBackend.CUDNN_ATTENTION,
            "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
            "plain": SDPBackend.MATH,
        }
        working = []
        for title, kernel in kernels.items():
            # A kernel that does not fit warns why, then raises RuntimeError.
            with warnings.catch_warnings(), sdpa_kernel(kernel):
                warnings.simplefilter("ignore")
                try:
                    torch.nn.functional.scaled_dot_product_attention(query, query, query)
                except RuntimeError:
                    continue
            working.append(title)
        return ", ".join(working)

    return _look("attention kernels", look)


def lmdb_store(folder: Path) -> Check:
    """Whether LMDB works on the file system of the results."""

    def look() -> str:
        import lmdb

        wanted = folder.resolve()
        existing = next(path for path in (wanted, *wanted.parents) if path.is_dir())
        with tempfile.TemporaryDirectory(prefix=".distill3r-doctor-", dir=existing) as scratch:
            try:
                with lmdb.open(scratch, map_size=1 << 20) as store:
                    with store.begin(write=True) as entry:
                        entry.put(b"key", b"value")
                    with store.begin() as entry:
                        assert entry.get(b"key") == b"value"
            except lmdb.Error as error:
                raise OSError(f"{existing}: {error}") from error
        return f"lmdb {lmdb.__version__} writes and reads in {existing.resolve()}"

    return _look("cache store", look)


def disk(folder: Path) -> Check:
    """Free disk space for results."""
    folder = folder.resolve()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        return Check("disk", "failed", f"{nearest} is a file: no results can go there")
    free = shutil.disk_usage(nearest).free
    detail = f"{free / GIB:.1f} GiB free in {nearest}"
    if free >= MIN_DISK:
        return Check("disk", "ok", detail)
    return Check("disk", "failed", f"{detail}: less than {MIN_DISK / GIB:.0f} GiB")


def weights() -> list[Check]:
    """Published weights and whether they are on this machine; nothing is hashed."""
    from distill3r_core.runs.known_weights import known_weights

    known, found = known_weights(), []
    for name in known:
        entry = known[name]
        detail, place = f"{entry.megabytes:.0f} MB, {entry.license}", entry.find()
        if place is not None:
            found.append(Check(name, "ok", f"{detail}: {place}"))
        else:
            remedy = f"distill3r models download {name}"
            found.append(Check(name, "missing", f"{detail}: not in {entry.place}", remedy))
    return found


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except FAULTS as error:
        if no_room_to_load(error):
            raise
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def _package(requirement: str) -> Check:
    """Check a requirement from the package metadata; the detail is the installed version."""
    match = _REQUIREMENT.match(requirement)
    assert match is not None, requirement
    name, least = match.group(1), match.group(2) or "0"
    try:
        version = metadata.version(name)
        if name in _LOADED:
            importlib.import_module(_LOADED[name])
    except metadata.PackageNotFoundError:
        return Check(name, "failed", f"{name} is not installed", _install())
    except FAULTS as error:
        if no_room_to_load(error):
            raise
        return Check(name, "failed", f"{name} does not load: {error}", _install())
    if _numbers(version) < _numbers(least):
        return Check(name, "failed", f"{name} {version} is older than {least}", _install())
    return Check(name, "ok", version)


def _install(extra: str | None = None) -> str:
    """The command that installs a package or extra for this interpreter."""
    target = f"{PROJECT}[{extra}]" if extra else PROJECT
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(target)}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
