"""A phase of progress that shorter ones interrupt."""

from dataclasses import dataclass

from distill3r_core.report import Progress


@dataclass
class MainPhase:
    """Progress of a phase; what begins another one through it interrupts it until `resume`."""

    progress: Progress
    label: str = ""
    total: int = 0
    unit: str = ""
    done: int = 0
    is_interrupted: bool = False

    def start(self, label: str, *, total: int, unit: str) -> None:
        """Begin the phase itself."""
        self.label, self.total, self.unit = label, total, unit
        self.done, self.is_interrupted = 0, False
        self.progress.begin(label, total=total, unit=unit)

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Begin a phase that interrupts this one."""
        self.is_interrupted = True
        self.progress.begin(label, total=total, unit=unit, done=done)

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count steps of the phase that goes on."""
        self.done += 0 if self.is_interrupted else steps
        self.progress.advance(steps, **figures)

    def note(self, text: str) -> None:
        """Show a line now."""
        self.progress.note(text)

    def resume(self) -> None:
        """Go on where the phase was, if another one has interrupted it."""
        if self.is_interrupted:
            self.is_interrupted = False
            self.progress.begin(self.label, total=self.total, unit=self.unit, done=self.done)
