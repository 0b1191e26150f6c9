"""Parts of a student that are not trained, for a whole run or for its first steps."""

from collections.abc import Iterable

from torch import nn

from distill3r_core.errors import ConfigError
from distill3r_core.models.student import Student
from distill3r_core.training.settings import OptimSettings


class Freezer:
    """Keeps the submodules that `optim.freeze` names as they are.

    Frozen for the whole run, a part gets no gradients at all. Frozen for the first steps, it gets
    them, and they are dropped: in every process alike, and whenever the run is resumed. A part that
    is frozen runs as in validation, so that batch norms keep their running means.

    Args:
        student: The student, its unused parameters taken out of training.
        optim: Names the parts and the number of steps.

    Raises:
        ConfigError: The student has no such part, nothing would be trained, or a number of steps
            is given and no part.
    """

    def __init__(self, student: Student, optim: OptimSettings) -> None:
        if optim.freeze_steps is not None and not optim.freeze:
            raise ConfigError(
                f"optim.freeze_steps: {optim.freeze_steps} steps are given, and optim.freeze names "
                "no part of the student",
                hint=f"--set optim.freeze=NAME, one of {', '.join(_parts_of(student))}",
            )
        self._steps = optim.freeze_steps
        self._parts: list[nn.Module] = []
        for name in optim.freeze:
            try:
                self._parts.append(student.get_submodule(name))
            except AttributeError as error:
                raise ConfigError(
                    f"optim.freeze: the student has no part {name!r}",
                    hint=f"its parts: {', '.join(_parts_of(student))}",
                ) from error
        self._parameters = [p for part in self._parts for p in part.parameters()]
        if self._steps is None:
            for parameter in self._parameters:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in student.parameters()):
            raise ConfigError(
                "optim.freeze leaves nothing to train",
                hint=f"name fewer parts of the student: {', '.join(_parts_of(student))}",
            )

    def freezes(self, step: int) -> bool:
        """Whether the parts are frozen in a step."""
        return bool(self._parts) and (self._steps is None or step < self._steps)

    def before(self, step: int) -> None:
        """Let the parts run as in validation while they are frozen, else as in training."""
        for part in self._parts:
            part.train(not self.freezes(step))

    def after(self, step: int) -> None:
        """Drop the gradients of frozen parts."""
        if self.freezes(step):
            drop_gradients(self._parameters)


def drop_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Leave parameters without a gradient: an optimizer then passes them by."""
    for parameter in parameters:
        parameter.grad = None


def _parts_of(student: Student) -> list[str]:
    """The largest parts of which a student has several, by name."""
    name, whole = "", student
    names: list[str] = []
    while len(names) < 2:
        parts = {child: part for child, part in whole.named_children() if list(part.parameters())}
        if not parts:
            return names
        names = [f"{name}.{child}" if name else child for child in parts]
        name, whole = names[0], next(iter(parts.values()))
    return names
