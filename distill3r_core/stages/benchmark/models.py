"""The models that `bench` times: students, their published order of operations, teachers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill3r_core.errors import (
    ConfigError,
    FailedError,
    InputMissingError,
    RequestError,
)
from distill3r_core.models import build_student
from distill3r_core.models.checkpoint import load_student, read_student
from distill3r_core.models.compiled import compile_parts
from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.precision import lower_precision
from distill3r_core.models.spec import StudentSpec
from distill3r_core.models.student import HeadName, Student
from distill3r_core.nn.counts import Part, parts, total_flop
from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.view_codes import sequential_view_numbers
from distill3r_core.registry import Registry
from distill3r_core.runs.chosen_model import choose_model
from distill3r_core.stages.benchmark.budget import nearest_multiple
from distill3r_core.stages.benchmark.teacher_models import Forward, teacher_forward, teacher_parts
from distill3r_core.teachers.choice import check_own_settings, settings_for
from distill3r_core.teachers.fast3r import HEADS_AT_ONCE
from distill3r_core.teachers.fast3r_config import RELEASED
from distill3r_core.teachers.fast3r_cost import FAST3R_NETWORK
from distill3r_core.teachers.fast3r_network import Fast3R
from distill3r_core.teachers.registry import TEACHERS
from distill3r_core.types import PointMaps

STUDENT, COMPILED = "student", "student-compiled"
PUBLISHED_CHUNK = 20  # views that go through a head at once in the published code
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
HEADS: dict[str, tuple[str, ...]] = {
    "both": ("global", "local"),
    "global": ("global",),
    "local": ("local",),
}


@dataclass(frozen=True)
class BenchModel:
    """A model that is timed.

    Args:
        name: Name in the rows of the result: a key of `MODELS`, or a teacher.
        preset: Preset of a student with random weights.
        path: Run or weight file whose student is timed instead of the preset's.
        device: Device of the forward.
        precision: Precision of weights and products: float32 or bfloat16.
        size: Rows and columns of its views.
        head: Heads of a student that are run.
        teacher: Name of the teacher that `name` stands for; None: a key of `MODELS`.
        weights: Its folder or file of weights; None: it has none.
        teacher_settings: Its own settings.
    """

    name: str
    preset: str
    path: Path | None
    device: torch.device
    precision: str
    size: tuple[int, int]
    head: HeadName = "both"
    teacher: str | None = None
    weights: Path | None = None
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """Plain data for a request to a worker process; `from_plain` reads it back."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        paths = {
            name: None if path is None else str(path)
            for name, path in (("path", self.path), ("weights", self.weights))
        }
        return {**fields, **paths, "device": str(self.device)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "BenchModel":
        """The model of `as_plain`."""
        paths = {
            name: None if plain[name] is None else Path(plain[name]) for name in ("path", "weights")
        }
        read = {"device": torch.device(plain["device"]), "size": tuple(plain["size"])}
        return cls(**{**plain, **paths, **read})

    @property
    def is_student(self) -> bool:
        """Whether the student's own weights are run."""
        return self.name in MODELS and not MODELS[self.name].is_teacher

    def parts(self, views: int) -> tuple[Part, ...] | None:
        """The arithmetic of one forward, part by part; None where it is unknown."""
        if self.name in MODELS:
            return MODELS[self.name].parts(self, views)
        assert self.teacher is not None, "models of other names count for themselves"
        return teacher_parts(
            self.teacher, self.weights, views, self.size, settings=self.teacher_settings
        )

    @property
    def published(self) -> Mapping[int, tuple[float, float]]:
        """Published seconds and GB at this size, by number of views; empty where unknown."""
        return MODELS[self.name].published.get(self.size, {}) if self.name in MODELS else {}

    def flop(self, views: int) -> float | None:
        """Multiplications and additions of one forward; None where they are unknown."""
        known = self.parts(views)
        return None if known is None else total_flop(known)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the matrix products."""
        return PRECISIONS[self.precision]

    @property
    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision as the original programs use it; nothing in float32."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @torch.inference_mode()
    def build_forward(self) -> Forward:
        """Build the model on its device.

        Raises:
            ConfigError: There is no such model or preset.
            WeightsError: The weights of a teacher are missing.
        """
        if self.name in MODELS:
            return MODELS[self.name].build(self)
        assert self.teacher is not None, "models of other names build themselves"
        return teacher_forward(
            self.teacher, self.weights, self.device, settings=self.teacher_settings
        )


@dataclass(frozen=True)
class ModelEntry:
    """How a model with random weights is built and counted.

    Args:
        build: Builds its forward.
        multiple: What both sides of its views must be multiples of.
        parts: Arithmetic of one forward over some number of views.
        is_teacher: It is not a student; always runs both heads.
        published: Seconds and GB of Table I of arXiv:2602.00865, on an RTX 6000 Ada, by size and
            number of views.
    """

    build: Callable[[BenchModel], Forward]
    multiple: Callable[[BenchModel], int]
    parts: Callable[[BenchModel, int], tuple[Part, ...]]
    is_teacher: bool = False
    published: Mapping[tuple[int, int], Mapping[int, tuple[float, float]]] = field(
        default_factory=dict
    )


def parse_models(text: str) -> tuple[str, ...]:
    """Read the names or paths of the models to compare with, separated by commas; "" is none.

    Raises:
        ConfigError: A name is unknown, is given twice, or is the student's own.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in TEACHERS and not Path(name).expanduser().exists():
            MODELS[name]  # an unknown name fails here, with the nearest one
    if len({STUDENT, *names}) <= len(names):
        raise ConfigError(f"{text!r} names a model twice, or the student, which is always timed")
    return names


def bench_models(
    student: BenchModel, compare: str, *, teacher: Mapping[str, Any] = MappingProxyType({})
) -> tuple[BenchModel, ...]:
    """The student and the models to compare it with, in the order in which they are named.

    Args:
        student: Its size is rounded to what each model's patches allow.
        compare: Names separated by commas, or "".
        teacher: Settings of teachers among them; each takes those that it has.

    Raises:
        ConfigError: An unknown name, a name that is given twice, or settings that no model has.
        InputMissingError: The student's path does not exist.
        RequestError: A teacher is compared with one head alone.
    """
    if student.path is not None and not student.path.exists():
        raise InputMissingError(
            f"no model {student.path}", hint="a run folder, or a .safetensors file"
        )
    models = []
    for name in (STUDENT, *parse_models(compare)):
        model = replace(student, name=name)
        if not model.is_student and model.head != "both":
            raise RequestError(
                f"{name} runs both heads: its ratio to the {model.head} one alone says nothing",
                hint="leave out --head, or compare with student-reference",
            )
        if name in MODELS:
            multiple = MODELS[name].multiple(model)
            model = replace(model, size=nearest_multiple(model.size, multiple))
        else:
            model = _teacher_model(model)
        models.append(model)
    teachers = [TEACHERS[model.teacher] for model in models if model.teacher is not None]
    untrained = [one.name for one in models if one.teacher is None and not one.is_student]
    check_own_settings(teachers, teacher, untrained=untrained)
    return tuple(
        model
        if model.teacher is None
        else replace(model, teacher_settings=settings_for(TEACHERS[model.teacher], teacher))
        for model in models
    )


def _teacher_model(model: BenchModel) -> BenchModel:
    """With the teacher and the weights that its name or path stands for.

    Raises:
        RequestError: It is a student.
        WeightsError: The weights are missing or damaged.
    """
    chosen = choose_model(model.name)
    if chosen.teacher is None:
        raise RequestError(
            f"{model.name} is a student", hint=f"measure it beside others: -m {model.name}"
        )
    return replace(model, teacher=chosen.teacher.name, weights=chosen.path)


def _spec_of(model: BenchModel) -> StudentSpec:
    return preset_spec(model.preset) if model.path is None else read_student(model.path)[1].spec


def _student_multiple(model: BenchModel) -> int:
    spec = _spec_of(model)
    return family_of(spec).multiple(spec)


def _student_parts(model: BenchModel, views: int) -> tuple[Part, ...]:
    spec = _spec_of(model)
    return family_of(spec).cost.flop(spec, views, model.size, head=model.head)


def _fast3r_multiple(model: BenchModel) -> int:
    return FAST3R_NETWORK.patch


def _fast3r_parts(model: BenchModel, views: int) -> tuple[Part, ...]:
    return parts(FAST3R_NETWORK, views, model.size)


def _student(model: BenchModel) -> Forward:
    student = _lowered(model)

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        return _maps(student(images, head=model.head), model.head)

    return forward


def _compiled(model: BenchModel) -> Forward:
    """The student with torch.compile; the first forward, a warm-up, compiles."""
    student, compiled = _lowered(model), False

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        nonlocal compiled
        if not compiled:
            reason = compile_parts(student, images)
            if reason is not None:  # timing it under this name would be wrong
                raise FailedError(f"{COMPILED} cannot be measured here: {reason}")
            compiled = True
        return _maps(student(images, head=model.head), model.head)

    return forward


def _reference(model: BenchModel) -> Forward:
    student = _built(model).to(model.device)
    published, fusion = family_of(student.spec).published, getattr(student, "fusion", None)
    if published is None:
        raise FailedError(f"{model.name} cannot be measured: its family has no published order")
    if isinstance(fusion, Fusion):
        fusion.kernels = lambda device: nullcontext()

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        with model.autocast:
            maps = published(student, images, head=model.head, head_chunk=PUBLISHED_CHUNK)
            return _maps(maps, model.head)

    return forward


def _fast3r(model: BenchModel, *, reference: bool = False) -> Forward:
    """Fast3R with random weights.

    Args:
        model: Device and precision.
        reference: As its authors run it: their order of operations, their attention kernel.
    """
    # As the original: float32 weights under autocast, attention in bfloat16 on a GPU.
    with model.device:
        dtype = torch.bfloat16 if model.device.type == "cuda" else None
        network = Fast3R(RELEASED, dtype=dtype).eval()
    if reference:
        network.fusion.kernels = _flash_kernels
    chunk = HEADS_AT_ONCE.get(model.device.type, 1)

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        views = [2 * view - 1 for view in images.unbind(1)]
        numbers = sequential_view_numbers(1, len(views)).to(images.device)
        with model.autocast:
            maps = network(views, numbers, head_chunk=chunk, reference=reference)
        return [
            tensor
            for view in maps
            for head in (view.global_maps, view.local_maps)
            for tensor in (head.points, head.confidence)
        ]

    return forward


def _flash_kernels(device: torch.device) -> AbstractContextManager[object]:
    """The kernel that Fast3R's authors pin on a GPU."""
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if device.type == "cuda" else nullcontext()


def _lowered(model: BenchModel) -> Student:
    student = _built(model).to(model.device)
    return student if model.precision == "float32" else lower_precision(student, model.dtype)


def _built(model: BenchModel) -> Student:
    student = build_student(model.preset) if model.path is None else load_student(model.path)
    return student.eval()


def _maps(maps: PointMaps, head: HeadName) -> Sequence[Tensor]:
    return tuple(
        getattr(maps, f"{kind}_{name}") for name in HEADS[head] for kind in ("points", "confidence")
    )


MODELS: Registry[ModelEntry] = Registry("model to compare with")
MODELS.add(
    STUDENT,
    ModelEntry(
        _student,
        _student_multiple,
        _student_parts,
        published={
            (378, 518): {
                12: (0.13, 4.05), 32: (0.41, 9.97), 64: (1.02, 21.80), 96: (1.78, 28.69),
                128: (2.69, 31.90),
            }
        },
    ),
)  # fmt: skip
MODELS.add("student-reference", ModelEntry(_reference, _student_multiple, _student_parts))
MODELS.add(COMPILED, ModelEntry(_compiled, _student_multiple, _student_parts))
MODELS.add(
    "fast3r",
    ModelEntry(
        _fast3r,
        _fast3r_multiple,
        _fast3r_parts,
        is_teacher=True,
        published={
            (384, 512): {
                12: (0.32, 6.86), 32: (1.14, 12.11), 64: (3.26, 21.11), 96: (6.35, 32.36),
                128: (10.11, 44.36),
            }
        },
    ),
)  # fmt: skip
MODELS.add(
    "fast3r-reference",
    ModelEntry(partial(_fast3r, reference=True), _fast3r_multiple, _fast3r_parts, is_teacher=True),
)
