"""The models that a benchmark runs: students, the published order of operations, teachers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill3r_core.errors import FailedError
from distill3r_core.models import build_student
from distill3r_core.models.checkpoint import load_student, read_student
from distill3r_core.models.compiled import compile_parts
from distill3r_core.models.dune_encoder import REGISTERS
from distill3r_core.models.precision import lower_precision
from distill3r_core.models.spec import PATCH, StudentSpec
from distill3r_core.models.stem import STEM_WIDTH
from distill3r_core.models.student import HeadName, Student
from distill3r_core.nn.view_codes import sequential_view_numbers
from distill3r_core.registry import Registry
from distill3r_core.stages.benchmark.counts import Dpt, Network
from distill3r_core.teachers.fast3r import HEADS_AT_ONCE
from distill3r_core.teachers.fast3r_config import RELEASED
from distill3r_core.teachers.fast3r_network import Fast3R
from distill3r_core.types import PointMaps

STUDENT, REFERENCE, COMPILED = "student", "student-reference", "student-compiled"
TEACHER, TEACHER_REFERENCE = "fast3r", "fast3r-reference"
PUBLISHED_CHUNK = 20  # views that go through a head at once in the published code
HEADS: Mapping[str, tuple[str, ...]] = {
    "both": ("global", "local"),
    "global": ("global",),
    "local": ("local",),
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Forward = Callable[[Float[Tensor, "1 N 3 H W"]], Sequence[Tensor]]


@dataclass(frozen=True)
class Subject:
    """A model to be measured.

    Args:
        name: As the rows of a result have it.
        preset: Of a student with random weights.
        model: A run or a file whose student is measured instead.
        device: Where it runs.
        precision: Of its weights and products: float32 or bfloat16.
        head: Which of a student's heads run.
    """

    name: str
    preset: str
    model: Path | None
    device: torch.device
    precision: str
    head: HeadName = "both"

    def as_plain(self) -> dict[str, str | None]:
        """For a question to another process; `from_plain` reads it back."""
        model = None if self.model is None else str(self.model)
        return {**vars(self), "model": model, "device": str(self.device)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, str | None]) -> "Subject":
        """What `as_plain` gave."""
        values: dict[str, Any] = dict(plain)
        model = None if values["model"] is None else Path(values["model"])
        return cls(**{**values, "model": model, "device": torch.device(values["device"])})

    @property
    def dtype(self) -> torch.dtype:
        """Of the precision."""
        return PRECISIONS[self.precision]

    @property
    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision as the original programs use it; nothing in float32."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


@torch.inference_mode()
def build_forward(subject: Subject) -> Forward:
    """The forward pass of a model, its weights on its device.

    Raises:
        ConfigError: No such model or preset.
    """
    return MODELS[subject.name](subject)


def spec_of(model: Path) -> StudentSpec:
    """The architecture of a run's or a file's student.

    Raises:
        InputMissingError: There is none.
        WeightsError: It is not a student's file.
    """
    return read_student(model)[1].spec


def network_of(spec: StudentSpec, head: HeadName = "both") -> Network:
    """A student's architecture as the counts see it.

    Args:
        spec: Of the student.
        head: Which of them run.
    """
    return Network(
        patch=PATCH,
        encoder_width=spec.encoder_width,
        encoder_depth=spec.encoder_depth,
        extra_tokens=0 if spec.encoder == "rotary" else 1 + REGISTERS,
        fusion_width=spec.fusion_width,
        fusion_depth=spec.fusion_depth,
        head=Dpt(spec.head_layers, spec.head_features, spec.head_tail),
        heads=len(HEADS[head]),
        stem_width=STEM_WIDTH if spec.stem == "convolutional" else None,
    )


def _student(subject: Subject) -> Forward:
    student = _lowered(subject)

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        return _maps(student(images, head=subject.head), subject.head)

    return forward


def _compiled(subject: Subject) -> Forward:
    """The student with torch.compile; the first forward, which warms up, compiles."""
    student, done = _lowered(subject), False

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        nonlocal done
        if not done:
            reason = compile_parts(student, images)
            if reason is not None:  # measured under this name it would be a lie
                raise FailedError(f"{COMPILED} cannot be measured here: {reason}")
            done = True
        return _maps(student(images, head=subject.head), subject.head)

    return forward


def _reference(subject: Subject) -> Forward:
    student = _built(subject).to(subject.device)
    student.fusion.kernels = _torchs_choice

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        with subject.autocast:
            maps = student(images, head=subject.head, reference=True, head_chunk=PUBLISHED_CHUNK)
            return _maps(maps, subject.head)

    return forward


def _teacher(subject: Subject) -> Forward:
    return _teacher_forward(subject, _fast3r(subject.device), reference=False)


def _teacher_reference(subject: Subject) -> Forward:
    """As its authors run it: their order of operations, their attention kernel."""
    network = _fast3r(subject.device)
    network.fusion.kernels = _flash
    return _teacher_forward(subject, network, reference=True)


def _fast3r(device: torch.device) -> Fast3R:
    # As the original: float32 weights under autocast, attention in bfloat16 on a GPU.
    with device:
        return Fast3R(RELEASED, dtype=torch.bfloat16 if device.type == "cuda" else None).eval()


def _teacher_forward(subject: Subject, network: Fast3R, *, reference: bool) -> Forward:
    chunk = HEADS_AT_ONCE.get(subject.device.type, 1)

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        views = [2 * view - 1 for view in images.unbind(1)]
        numbers = sequential_view_numbers(1, len(views)).to(images.device)
        with subject.autocast:
            maps = network(views, numbers, head_chunk=chunk, reference=reference)
        return [
            tensor
            for view in maps
            for head in (view.global_maps, view.local_maps)
            for tensor in (head.points, head.confidence)
        ]

    return forward


def _torchs_choice(device: torch.device) -> AbstractContextManager[object]:
    return nullcontext()


def _flash(device: torch.device) -> AbstractContextManager[object]:
    """The kernel that Fast3R's authors pin on a GPU."""
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if device.type == "cuda" else nullcontext()


def _lowered(subject: Subject) -> Student:
    student = _built(subject).to(subject.device)
    return student if subject.precision == "float32" else lower_precision(student, subject.dtype)


def _built(subject: Subject) -> Student:
    if subject.model is None:
        return build_student(subject.preset).eval()
    return load_student(subject.model).eval()


def _maps(maps: PointMaps, head: HeadName) -> Sequence[Tensor]:
    return tuple(
        getattr(maps, f"{kind}_{name}") for name in HEADS[head] for kind in ("points", "confidence")
    )


MODELS: Registry[Callable[[Subject], Forward]] = Registry("model to compare with")
MODELS.add(STUDENT, _student)
MODELS.add(REFERENCE, _reference)
MODELS.add(COMPILED, _compiled)
MODELS.add(TEACHER, _teacher)
MODELS.add(TEACHER_REFERENCE, _teacher_reference)
