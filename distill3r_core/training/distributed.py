"""Several processes that train one student: ranks, launching and communication."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

RESTARTS = 3  # of all workers, after one was lost


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0  # its number; 0 leads, and alone writes
    size: int = 1
    local_rank: int = 0
    restarts: int = 0  # how often the launcher has started the processes anew
    launch: str | None = None  # what the launcher calls this job; None without one

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> "World":
        """As torchrun says; alone without it."""
        name = os.environ.get("TORCHELASTIC_RUN_ID")
        # torchrun's own default is the same for all jobs; its process is not.
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
            launch=f"{name}-{os.getppid()}" if name is not None else None,
        )

    def device(self, chosen: torch.device) -> torch.device:
        """The device of this process: with several on a machine, each takes its own GPU."""
        if chosen.type == "cuda" and self.size > 1:
            return torch.device("cuda", self.local_rank)
        return chosen

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Meet the other processes; part from them at the end."""
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The launcher may keep its store over a restart, with the addresses of those that are gone.
        store, rank, size = next(iter(rendezvous("env://")))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore(f"start-{self.restarts}", store),
            rank=rank,
            world_size=size,
        )
        yield
        # Not after an error: it would wait for processes that may be gone.
        dist.destroy_process_group()

    def sum(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The sum of every process's values, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, text: str) -> str:
        """What the leading process says."""
        texts = [text]
        if self.size > 1:
            dist.broadcast_object_list(texts, src=0)
        return texts[0]


def launch(command: Sequence[str], *, processes: int) -> int:
    """Run a command in several processes under torch's elastic agent, on this machine.

    A worker that is lost makes all of them start again, at most `RESTARTS` times.

    Returns:
        The exit status: 0, or that of the worker which failed first.

    Raises:
        KeyboardInterrupt: Interrupted; the workers were interrupted too and have ended.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
    )
    program, *arguments = command
    try:
        elastic_launch(config, program)(*arguments)
    except SignalException as error:
        raise KeyboardInterrupt from error
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0
