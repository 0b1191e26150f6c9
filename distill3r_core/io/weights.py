"""Weight files of others: read as data, never executed."""

import argparse
import contextlib
import pathlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill3r_core.errors import InputMissingError, WeightsError
from distill3r_core.files import shown_name
from distill3r_core.untrusted.pickle_check import UnsafePickleError, check_checkpoint
from distill3r_core.untrusted.printable import reason_of

_MULTIARRAY = import_module("numpy._core.multiarray")  # where pickled arrays are rebuilt
_NUMPY_CODES = "?bhilqBHILQefd"
# Plain data that published checkpoints carry beside their tensors. Everything else is refused.
HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in _NUMPY_CODES},
    *(
        (getattr(_MULTIARRAY, function), f"{module}.multiarray.{function}")
        for function in ("_reconstruct", "scalar")
        for module in ("numpy._core", "numpy.core")  # of numpy 2 and of numpy 1
    ),
]
# What torch raises of a file that is not a whole checkpoint.
_NOT_WHOLE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, zipfile.BadZipFile),
)
_LONGEST_REASON = 200  # characters
_SHOWN = 12  # problems that a message lists


def tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Content of a checkpoint that is to be tensors by name.

    Raises:
        WeightsError: It is something else.
    """
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} has no tensors by name, but a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} has a {type(value).__name__} under a name of type {type(name).__name__} "
                "among its tensors"
            )
    return dict(content)


def read_pickled(path: Path, *, map_location: str = "cpu", mapped: bool = True) -> Any:
    """What `torch.save` wrote, if it holds tensors and plain data only.

    Args:
        path: A `.pth`, `.pt` or `.ckpt` file.
        mapped: Map the file instead of reading all of it, where it is of a kind that can be.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is cut short, is no such file, or holds objects that would be executed.
    """
    _expect_file(path)
    try:
        check_checkpoint(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(
                path,
                map_location=map_location,
                weights_only=True,
                mmap=mapped and _zipped(path),
            )
    except UnsafePickleError as error:
        raise WeightsError(
            f"refused to read {path}: {reason_of(error)}",
            hint="use a file from its publisher, or one that is made of tensors only",
        ) from error
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except _NOT_WHOLE as error:
        # Of bounded length: the message may quote what is in the file.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
        raise WeightsError(
            f"cannot read {path}: not a whole checkpoint ({reason})",
            hint="download it again and compare its size",
        ) from error


def read_tensors(path: Path, *, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is cut short or is no such file.
    """
    with _opened(path, device=device) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no dict
        return tensors, dict(file.metadata() or {})


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file by name; reads its header only.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is cut short or is no such file.
    """
    with _opened(path) as file:
        names = file.keys()
        return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def read_header(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; reads its header only.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is cut short or is no such file.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _opened(path: Path, *, device: str = "cpu") -> Iterator[safe_open]:
    _expect_file(path)
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(
            f"cannot read {path}: not a whole safetensors file ({reason_of(error)})",
            hint="download or copy it again and compare its size",
        ) from error


def check_names(
    found: dict[str, Tensor], wanted: dict[str, Tensor], *, source: str, hint: str | None = None
) -> None:
    """Every wanted tensor is there, with its shape, and nothing else.

    Raises:
        WeightsError: Names what is missing, unknown or of another shape, all of it at once.
    """
    missing = [f"  missing: {name}" for name in wanted if name not in found]
    unknown = [f"  unknown: {name}" for name in found if name not in wanted]
    shapes = [
        f"  {name}: {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems = missing + unknown + shapes
    if problems:
        shown = problems[:_SHOWN]
        if len(problems) > _SHOWN:
            shown.append(f"  and {len(problems) - _SHOWN} more")
        raise WeightsError(f"{source} does not fit:\n" + "\n".join(shown), hint=hint)


def _expect_file(path: Path) -> None:
    if not path.is_file():
        raise InputMissingError(f"no file {path}")


def _zipped(path: Path) -> bool:
    """Whether the file can be mapped: files from before torch 1.6 are plain pickles."""
    with contextlib.suppress(OSError):
        return zipfile.is_zipfile(path)
    return False


def _refusal(path: Path, reason: str) -> WeightsError:
    """Only the name of torch's error: its message advises to load the file unsafely."""
    marker = "GLOBAL "
    name = reason.partition(marker)[2].split(" ")[0]
    if name:
        return WeightsError(
            f"refused to read {path}: it holds {shown_name(name)}, which is not plain data and "
            "could run anything when it is loaded",
            hint="use a file from its publisher, or one that is made of tensors only",
        )
    return WeightsError(
        f"cannot read {path}: not a PyTorch checkpoint",
        hint="is this the file you meant?",
    )
