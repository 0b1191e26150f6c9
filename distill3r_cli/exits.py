"""Exit statuses, which scripts rely on."""

from distill3r_core import errors

OK = 0
FAILED = 1  # every input rejected, nothing to score, damage found
REQUEST = 2  # usage, configuration, a conflict with what is there
MISSING = 3  # input, weights, extra, or a device that was named
RESOURCE = 4  # memory or disk, after fallbacks
PARTIAL = 5  # finished, but some items failed
INTERRUPTED = 130  # SIGINT or SIGTERM; resumable

_FAMILIES = (
    (errors.RequestError, REQUEST),
    (errors.MissingError, MISSING),
    (errors.ResourceError, RESOURCE),
)


def status_of(error: errors.Distill3rError) -> int:
    """The exit status of an error's family."""
    return next((status for family, status in _FAMILIES if isinstance(error, family)), FAILED)
