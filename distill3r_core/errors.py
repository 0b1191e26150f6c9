"""Errors, one class for each thing that the user can fix.

The message names the problem with its value and place; `hint` is the way out, a command where
there is one. The command line turns the four families below into exit statuses.
"""


class Distill3rError(Exception):
    """Base class of all errors for users.

    Args:
        message: The problem with its value and place.
        hint: The way out, shown on its own line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FailedError(Distill3rError):
    """The work ended without a usable result (exit 1)."""


class RequestError(Distill3rError):
    """The request cannot be carried out as it stands (exit 2)."""


class MissingError(Distill3rError):
    """Something that was named or is needed does not exist (exit 3)."""


class ResourceError(Distill3rError):
    """Memory or disk ran out, after every fallback (exit 4)."""


class NothingUsableError(FailedError):
    """Every input was rejected, or there is nothing to score."""


class ContradictionError(FailedError):
    """The parts of a data set contradict each other: depth, poses, intrinsics, orientation."""


class DamageError(FailedError):
    """Stored bytes are not the bytes that were written."""


class DivergedError(FailedError):
    """Training produced non-finite numbers and did not recover."""


class ConfigError(RequestError):
    """A setting has an unknown name or an invalid value."""


class ConflictError(RequestError):
    """An existing result was made with other settings or inputs."""


class InputMissingError(MissingError):
    """A named file or folder does not exist."""


class WeightsError(MissingError):
    """A model's weight file is missing, or is not the file it should be."""


class ExtraMissingError(MissingError):
    """An optional dependency is needed but not installed."""


class DeviceError(MissingError):
    """A named device does not exist."""


class OutOfMemoryError(ResourceError):
    """The device or the machine ran out of memory."""


class DiskFullError(ResourceError):
    """The disk is full, or would be."""


class DiskFaultError(ResourceError):
    """The disk or its connection fails."""


class SystemLimitError(ResourceError):
    """The system refuses to open or map a sound file: a limit was met."""


class UnsafeFileError(FailedError):
    """A file, or a name in one, would lead the program to a place that is not its own."""


class ImageError(FailedError):
    """An image cannot be used. Stages collect these errors and continue."""


class CacheError(FailedError):
    """A teacher cache cannot be read in its present state."""


class GeometryError(FailedError):
    """The points do not determine the result."""
