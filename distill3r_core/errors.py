"""What can go wrong, one class per thing the user can fix.

Every error says what is wrong with its value and place; `hint` is the way out, a command where
there is one. The six families in the middle are what the command line turns into exit statuses.
"""


class Distill3rError(Exception):
    """Base of every error that is meant to be read by a person.

    Args:
        message: What is wrong, with its value and place.
        hint: The way out, shown on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FailedError(Distill3rError):
    """The work ended without a usable result (exit 1)."""


class RequestError(Distill3rError):
    """What was asked for cannot be done as asked (exit 2)."""


class MissingError(Distill3rError):
    """Something that was named or is needed is not there (exit 3)."""


class ResourceError(Distill3rError):
    """Memory or disk ran out, after every fallback (exit 4)."""


class NothingUsableError(FailedError):
    """Every input was rejected, or there is nothing to score."""


class DamageError(FailedError):
    """Stored bytes are not the bytes that were written."""


class DivergedError(FailedError):
    """Training left the range of finite numbers and did not come back."""


class ConfigError(RequestError):
    """A setting has an unknown name or a value that does not fit."""


class ConflictError(RequestError):
    """What is already there was made with other settings or inputs."""


class InputMissingError(MissingError):
    """A file or folder that was named is not there."""


class WeightsError(MissingError):
    """A model's weight file is missing, or is not the file it should be."""


class ExtraMissingError(MissingError):
    """An optional dependency is needed and not installed."""


class DeviceError(MissingError):
    """A device that was named is not there."""


class OutOfMemoryError(ResourceError):
    """The device or the machine ran out of memory."""


class DiskFullError(ResourceError):
    """The disk is full, or would be."""


class DiskFaultError(ResourceError):
    """The disk, or the way to it, does not do its work."""


class ImageError(FailedError):
    """One picture cannot be used. A stage collects these and goes on."""


class CacheError(FailedError):
    """A teacher cache cannot be read as it stands."""


class GeometryError(FailedError):
    """Points do not determine what was asked of them."""
