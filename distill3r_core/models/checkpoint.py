"""Students on disk: safetensors with their description in the header."""

import json
import re
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from distill3r_core import paths
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError, DamageError, InputMissingError, WeightsError
from distill3r_core.files import is_there, replacing, shown_name
from distill3r_core.io.checksums import STATE, check_file, check_owner, read_state
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.io.weights import check_names, read_header, read_tensors
from distill3r_core.models.build import build_from_spec, expected_tensors
from distill3r_core.models.families import checkpoint_formats, parse_spec
from distill3r_core.models.metadata import SCHEMA, StudentMetadata
from distill3r_core.models.spec import StudentSpec
from distill3r_core.models.student import Student
from distill3r_core.profiling import tool_version
from distill3r_core.system.disk import disk_errors

MODEL = "model.safetensors"  # of a checkpoint
HEADER = "distill3r"  # key of the record in a file's metadata
_EARLIER_NAME = "encoder.projection.weight"  # of DUNE's encoder, before it had its official names
_LARGEST_SIDE = 1 << 14  # pixels of a student's image
_IN_RUN = re.compile(r"checkpoints/(step-[0-9]+|best|last)/" + re.escape(MODEL))


def save_student(
    path: str | Path, student: Student, metadata: StudentMetadata, *, durable: bool = False
) -> None:
    """Write weights and description, whole or not at all.

    Args:
        student: On any device. Its spec is what is written, whatever `metadata` says.
        durable: Wait until the bytes are on the disk.

    Raises:
        DiskFullError: There is no room.
    """
    described = replace(metadata, spec=student.spec)
    save_weights(Path(path), student.state_dict(), described, durable=durable)


def save_weights(
    path: Path, state: dict[str, Tensor], metadata: StudentMetadata, *, durable: bool = False
) -> None:
    """`save_student` for weights that are no longer in a network.

    Raises:
        DiskFullError: There is no room.
    """
    record = replace(metadata, version=tool_version(), schema=SCHEMA)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # A single entry: safetensors writes several in random order, and equal students would give
    # different files.
    with replacing(path, durable=durable) as beside, disk_errors(path):
        # Serialized in memory first: the library's own file writer hides a full disk.
        beside.write_bytes(save(tensors, metadata={HEADER: record.as_json()}))


def load_student(path: str | Path, *, device: str = "cpu") -> Student:
    """A student in eval mode, with its `metadata`.

    Args:
        path: A run folder (its best checkpoint), a checkpoint folder, our `.safetensors`, or the
            original project's Lightning `.ckpt`.

    Raises:
        InputMissingError: There is no such file, or no checkpoint in the run.
        WeightsError: It is damaged, would run code, or its tensors are not those of its spec.
    """
    state, metadata = read_student(Path(path))
    # Before it is built: a wrong description could ask for any amount of memory.
    check_tensors(state, metadata.spec, source=str(path))
    student = build_from_spec(metadata.spec)
    student.load_state_dict(state)
    student.metadata = metadata
    return student.to(device).eval()


def read_student(path: Path) -> tuple[dict[str, Tensor], StudentMetadata]:
    """Weights under our names, and description, without building the network.

    Raises:
        InputMissingError: There is no such file, or no checkpoint in the run.
        WeightsError: It is damaged, would run code, or is of another kind.
    """
    file = find_student(path)
    if (foreign := checkpoint_formats().get(file.suffix)) is not None:
        return foreign.read(file)
    check_weights(file)
    state, header = read_tensors(file)
    if HEADER not in header:
        raise WeightsError(
            f"{file} was not written by distill3r: its header has no description",
            hint="an original Lightning checkpoint can be read, or converted: "
            "distill3r convert IN.ckpt OUT.safetensors",
        )
    return state, _metadata(header[HEADER], file)


def check_tensors(state: dict[str, Tensor], spec: StudentSpec, *, source: str) -> None:
    """Every tensor of a spec is there, with its shape, and nothing else.

    Raises:
        WeightsError: Names what does not fit, or says that an earlier version named it otherwise.
    """
    expected = expected_tensors(spec)
    if _EARLIER_NAME in state and _EARLIER_NAME not in expected:
        raise WeightsError(
            f"{source} was made by an earlier version of distill3r, which gave the tensors of "
            "DUNE's encoder other names",
            hint="make it again: train it again, or convert the checkpoint it came from again",
        )
    check_names(state, expected, source=source)


def read_metadata(file: Path) -> StudentMetadata:
    """The description of a student of ours; of its weights nothing is read.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, or was not written by distill3r.
    """
    header = read_header(file)
    if HEADER not in header:
        raise WeightsError(f"{file} was not written by distill3r: its header has no description")
    return _metadata(header[HEADER], file)


def _metadata(text: str, file: Path) -> StudentMetadata:
    """The description in the header of a weight file.

    Raises:
        WeightsError: It is not one, is of another version, or has values that do not fit.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file}: its description of the student is not JSON") from error
    if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
        raise WeightsError(f"{file}: its description of the student is not one")
    if values.get("schema") != SCHEMA:
        version = values.get("version")
        shown = shown_name(version) if isinstance(version, str) and version else "unknown"
        raise WeightsError(
            f"{file} was written by version {shown} of distill3r, "
            "whose description of a student this version does not read",
            hint="train it again, or convert the checkpoint it came from again",
        )
    try:
        values["spec"] = parse_spec(values["spec"]).settled()
        metadata = validate(StudentMetadata, values, source=str(file))
        fit = ImageFit.from_plain(metadata.fit) if metadata.fit else None
    except ConfigError as error:
        raise WeightsError(f"{file}: {error.message}", hint=error.hint) from error
    sizes = [metadata.size, *((fit.size, fit.resized or fit.size) if fit else ())]
    if not all(0 < side <= _LARGEST_SIDE for size in sizes for side in size):
        raise WeightsError(f"{file}: the size of its images is not from 1 to {_LARGEST_SIDE}")
    return metadata


def check_weights(file: Path) -> None:
    """Refuse weights of a checkpoint that are not those its run wrote.

    In a run's `checkpoints` they are known by the state file beside them; where it is lost, nobody
    knows. A weight file elsewhere, without a state file, has no checksum.

    Raises:
        WeightsError: The weights or their state are damaged or lost, or are another run's.
    """
    real = file.resolve()  # `best` and `last` are links
    is_beside_state = file.name == MODEL and is_there(file.parent / STATE)
    if not is_beside_state and _IN_RUN.fullmatch("/".join(real.parts[-3:])) is None:
        return
    # A message names the path that was given, except that of a link to a run's file.
    as_given = is_beside_state or file.parent.resolve() == real.parent
    folder = file.parent if as_given else real.parent
    try:
        state = read_state(folder)
        check_file(folder / MODEL, state)
        check_owner(folder, state)
    except DamageError as error:
        own = folder.resolve()  # `last` and `best` are links to some of the others
        steps = sorted(own.parent.glob("step-*"), reverse=True)
        others = ", ".join(str(folder.parent / step.name) for step in steps if step != own)
        raise WeightsError(
            error.message,
            hint="copy the checkpoint again, all of its files, or take another one of the run: "
            f"{others or 'there is none'}; a copy of the weights alone is read unchecked",
        ) from error


def find_student(path: Path) -> Path:
    """The weight file that a path stands for.

    Raises:
        InputMissingError: There is none.
    """
    if path.is_file():
        return path
    for found in (path / MODEL, paths.best_checkpoint(path)):
        if found is not None and found.is_file():
            return found
    if path.is_dir():
        raise InputMissingError(
            f"{path} has no checkpoint",
            hint="a run's folder or a weight file is wanted; a run without one is continued by "
            "`distill3r train --resume`",
        )
    raise InputMissingError(f"no run and no weight file {path}")
