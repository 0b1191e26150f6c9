"""What a forward pass of a teacher's network takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.nn.counts import MemoryEstimate, Part
from distill3r_core.system.allocator import freed_memory
from distill3r_core.system.machine_memory import available_memory
from distill3r_core.teachers.official_files import read_shapes, refuse_foreign_weights

CPU = torch.device("cpu")


@runtime_checkable
class CountTeacherFlop(Protocol):
    """Counts the arithmetic and the memory traffic of one prediction."""

    def __call__(
        self, network: Any, views: int, size: tuple[int, int], *, settings: Any
    ) -> tuple[Part, ...]:
        """The parts of a prediction over `views` views.

        Args:
            network: Sizes of the network, as `TeacherCost.read` gives them.
            size: Rows and columns of every view at the network's input.
            settings: The teacher's own settings.
        """
        ...


@runtime_checkable
class EstimateTeacherMemory(Protocol):
    """Estimates the memory of one prediction beyond the weights."""

    def __call__(
        self,
        network: Any,
        views: int,
        size: tuple[int, int],
        *,
        settings: Any,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
    ) -> MemoryEstimate:
        """Bytes of a prediction at its highest; arguments as in `CountTeacherFlop`.

        Args:
            device: Where it runs; a head may take more views at once on a GPU.
            dtype: Type of the products of the trunk; heads are in float32.
        """
        ...


@dataclass(frozen=True)
class TeacherCost:
    """Arithmetic and memory of a teacher's network.

    Args:
        published: Sizes of the published network.
        read: Sizes of the network of a weight file, from its tensors by their official names
            (on any device, meta included). Raises KeyError where it is another network's file.
        flop: Arithmetic and memory traffic by part.
        memory: Memory of a prediction.
    """

    published: Any
    read: Callable[[Mapping[str, Tensor]], Any]
    flop: CountTeacherFlop
    memory: EstimateTeacherMemory

    def network_of(self, file: Path, *, name: str) -> Any:
        """Sizes of the network of a weight file, of which only names and shapes are read.

        Args:
            name: Name of the teacher, for messages.

        Raises:
            WeightsError: It is damaged, or another network's.
        """
        try:
            return self.read(read_shapes(file))
        except KeyError as error:
            raise refuse_foreign_weights(file, name, error) from error

    def require_memory(
        self,
        network: Any,
        views: int,
        size: tuple[int, int],
        *,
        settings: Any,
        device: torch.device,
        name: str,
    ) -> None:
        """Refuse a prediction that does not fit, before it starts.

        On a CPU alone: there a process that takes too much is killed by the system without a
        message. A GPU says so itself, and the estimate may be too careful.

        Args:
            network: Sizes of the network that is to run.
            settings: The teacher's own settings, with a field `precision`.
            name: Name of the teacher, for messages.

        Raises:
            OutOfMemoryError: It would take more than is free.
        """
        if device.type != "cpu":
            return
        lower = settings.precision not in ("auto", "float32")  # auto is float32 on a CPU
        dtype = getattr(torch, settings.precision) if lower else torch.float32

        def needed(count: int) -> int:
            return self.memory(
                network, count, size, settings=settings, device=device, dtype=dtype
            ).total

        # What an earlier pass has freed is still this process's, and is used again.
        free = available_memory() + freed_memory()
        if needed(views) <= free:
            return
        fitting = next((count for count in range(views - 1, 0, -1) if needed(count) <= free), 0)
        rows, columns = size
        raise OutOfMemoryError(
            f"{name} would take about {needed(views) / 1e9:.1f} GB for {views} views of "
            f"{rows}x{columns} at once, and {free / 1e9:.1f} GB are free: "
            + (f"at most {fitting} would fit" if fitting else "not one view fits"),
            hint=f"give it fewer views: `infer --max-views {fitting}`, or samples of "
            f"`manifest --views {fitting}`"
            if fitting > 1
            else "close other programs, or take a smaller teacher",
        )
