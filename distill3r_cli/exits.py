"""Exit statuses; scripts rely on them."""

from distill3r_core import errors

OK = 0
FAILED = 1  # every input rejected, nothing to score, or damage found
REQUEST = 2  # usage, configuration, or a conflict with existing files
MISSING = 3  # input, weights, extra, or a named device
RESOURCE = 4  # memory or disk, after fallbacks
PARTIAL = 5  # finished, but some items failed
INTERRUPTED = 130  # SIGINT or SIGTERM; resumable

_FAMILIES = (
    (errors.RequestError, REQUEST),
    (errors.MissingError, MISSING),
    (errors.ResourceError, RESOURCE),
)


def status_of(error: errors.Distill3rError) -> int:
    """The exit status of an error."""
    return next((status for family, status in _FAMILIES if isinstance(error, family)), FAILED)
