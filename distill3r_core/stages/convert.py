"""Between the original project's checkpoints and ours."""

from dataclasses import replace
from pathlib import Path

import torch

from distill3r_core.errors import ConfigError, ConflictError
from distill3r_core.files import replacing
from distill3r_core.models.checkpoint import check_tensors, read_student, save_weights
from distill3r_core.models.families import checkpoint_formats
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.report import Report, Table

OURS = ".safetensors"


def convert(source: Path, target: Path, *, overwrite: bool = False) -> Report:
    """Write a student's weights in the layout that the target's suffix names.

    Args:
        source: The original's `.ckpt`, our `.safetensors`, or a run folder.
        target: `.safetensors`, or `.ckpt` with the official names.

    Raises:
        ConfigError: The target's suffix is neither.
        ConflictError: `target` is there already, or is a folder.
        RequestError: The student has no place in the original's layout.
        InputMissingError: There is no `source`.
        WeightsError: `source` is damaged, would run code, or is of another kind.
        DiskFullError: There is no room.
    """
    formats = checkpoint_formats()
    if target.suffix not in (OURS, *formats):
        raise ConfigError(
            f"cannot tell from {str(target)!r} what to write", hint=f"end it in {OURS} or .ckpt"
        )
    state, metadata = read_student(source)
    check_tensors(state, metadata.spec, source=str(source))
    if target.is_dir():
        raise ConflictError(f"{target} is a folder", hint="name a file in it, or another one")
    if target.exists() and not overwrite:
        raise ConflictError(f"{target} is there already", hint="replace it with --overwrite")
    lost: tuple[str, ...] = ()
    if target.suffix == OURS:
        save_weights(target, state, replace(metadata, origin=f"converted from {source.name}"))
    else:
        content = formats[target.suffix].content(state, metadata)
        with replacing(target) as beside:
            torch.save(content, beside)
        if metadata.unit == "m":
            lost = (f"{target.suffix} holds no unit: lengths count as relative there",)
    numbers = sum(tensor.numel() for tensor in state.values())
    return Report(
        settings={"source": str(source), "target": str(target)},
        result={"parameters": numbers, "preset": metadata.preset, "spec": metadata.spec.as_plain()},
        files=(target,),
        tables=(_table(metadata, numbers),),
        notes=(*metadata.licenses, *lost),
    )


def _table(metadata: StudentMetadata, numbers: int) -> Table:
    plain = metadata.spec.as_plain()
    properties = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    rows = (
        ("preset", metadata.preset),
        ("parameters", f"{numbers:,}"),
        *(
            (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
            for name, value in properties.items()
        ),
        ("size", "x".join(map(str, metadata.size))),
        ("fit", str(metadata.fit.get("mode", "unknown"))),
        ("teacher", metadata.teacher),
    )
    return Table(title="student", columns=("property", "value"), rows=rows)
