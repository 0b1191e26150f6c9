"""The header of a cache as a record and as text that carries its own checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from distill3r_core import config
from distill3r_core.errors import CacheError, ConfigError, ConflictError
from distill3r_core.untrusted.printable import reason_of

FORMAT_VERSION = 1

_CHECKSUM = "checksum"
_MARK = b',\n "checksum": "'  # what follows the checksummed part of the text
_END = b'"\n}\n'
# May change from run to run, but for confidences: what is recorded of them must fit.
_FREE = frozenset({"plan", "processing", "confidence", "format_version", "identity", "revision"})


@dataclass(frozen=True)
class PlannedSample:
    """A sample that the cache is to hold."""

    name: str  # `<dataset>/<scene_id>/<window>`
    content: str  # hash of all that the teacher reads of it
    split: str


@dataclass(frozen=True)
class CacheHeader:
    """How a cache was made. Two caches with the same settings hold the same bytes.

    Args:
        size: Rows and columns of landscape samples, or "auto": one of a table per sample.
        fit: How images become the student's input: `ImageFit` as plain data. With size "auto"
            its size is the one that the table stands for.
        teacher_settings: What else decides the teacher's answers, as plain data.
        export: How raw maps became targets (`teachers.targets`), as plain data.
        codec: "similarity", or "exact": the float16 global map comes back bit for bit.
        plugins: Hash of each plugin that was loaded, by file name.
        features: Number of channels of every layer whose teacher features are stored beside the
            samples, by the name of the layer.
        views: Per sample, where the manifest had no windows and was cut; None where it had.
        processing: How the manifest's images were made, as plain data.
        confidence: How the teacher's own measure of trust became a confidence in [1, inf); "": it
            is not recorded of all records, as in caches that earlier versions began.
        identity: Drawn when the cache was begun, and written into its shards as well; "" before
            that, and in caches of earlier versions.
        revision: How often the header has been written. The copy in a shard may be an older one.
    """

    __pydantic_config__ = config.STRICT  # when it is read back

    teacher: str
    license: str  # of the teacher's weights, which a student inherits
    weights_hash: str | None  # of the weight file; None where there is none
    size: tuple[int, int] | Literal["auto"]
    fit: Mapping[str, Any]
    threshold: float | None  # on `C - 1`; None: the mask is the teacher's own
    metric: bool  # whether points are in meters
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    codec: Literal["similarity", "exact"] = "similarity"
    plugins: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, int] = field(default_factory=dict)
    views: int | None = None
    processing: Mapping[str, Any] = field(default_factory=dict)
    confidence: str = ""
    plan: tuple[PlannedSample, ...] = ()  # what the cache is to hold, in the manifest's order
    format_version: int = FORMAT_VERSION
    identity: str = field(default="", compare=False)
    revision: int = field(default=0, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what the cache's targets are, as plain data."""
        values = json.loads(json.dumps(asdict(replace(self, plan=()))))
        return {key: value for key, value in values.items() if key not in _FREE}


def header_text(header: CacheHeader) -> bytes:
    """The header as JSON, with one line per planned sample and a checksum at the end."""
    values = asdict(replace(header, plan=()))
    plan = ",\n  ".join(
        json.dumps([p.name, p.content, p.split], ensure_ascii=False) for p in header.plan
    )
    del values["plan"]
    head = json.dumps(values, indent=1, ensure_ascii=False).rstrip("\n}")
    body = f'{head},\n "plan": [\n  {plan}\n ]'.encode()
    return body + _MARK + _digest(body) + _END


def parse_header(data: bytes, *, source: str) -> CacheHeader:
    """The header that a text describes.

    Args:
        data: Content of the file.
        source: Its name, for messages.

    Raises:
        ConflictError: It was written in another version of the format.
        CacheError: It is damaged: not JSON, not a header, or not what its checksum says.
    """
    try:
        values = json.loads(data)
        version = values["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{source} cannot be read: {reason_of(error)}") from error
    if version != FORMAT_VERSION:
        raise ConflictError(
            f"{source} has cache format version {str(version)[:20]}, this program reads "
            f"{FORMAT_VERSION}",
            hint="use the version of distill3r that wrote it, or make the cache again elsewhere",
        )
    written = values.pop(_CHECKSUM, None)  # earlier versions wrote none
    entries = values.pop("plan", None)
    if not isinstance(entries, list):
        raise CacheError(f"{source} lacks its plan, the list of samples")
    for entry in entries:  # by hand: pydantic would take seconds for a million of them
        if not (isinstance(entry, list) and list(map(type, entry)) == [str] * 3):
            raise CacheError(f"{source}: an entry of the plan is not name, content and split")
    try:
        header = config.validate(CacheHeader, values, source=source)
    except ConfigError as error:
        raise CacheError(error.message) from error
    if written is not None and not checksum_fits(data):
        raise CacheError(f"{source} is damaged: its checksum is wrong")
    return replace(header, plan=tuple(PlannedSample(*entry) for entry in entries))


def checksum_fits(data: bytes) -> bool:
    """Whether a text ends with the checksum of what precedes it."""
    body, _, end = data.rpartition(_MARK)
    return end == _digest(body) + _END


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()
