"""The frame around every stored record: a header, a table of sections, their bytes.

All integers are little-endian. The header is `magic version flags height width planes sections
body_crc head_crc`; the table has `code packing 0 stored_length length` per section; the sections'
bytes follow in the same order and fill the record to its end.

Three checks watch over it. `head_crc` covers the header, the table, sections that are not packed,
and the first bytes of those that are. A packed section is one zstd frame with a checksum of its
content, which every reader compares. `body_crc` covers all bytes, and only `verify` computes it: it
finds the few bits that a decoder ignores.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zstandard

from distill3r_core.errors import DamageError
from distill3r_core.untrusted.printable import reason_of

RECORD_VERSION = 1

_HEADER = struct.Struct("<4sBBHHBBII")
_ENTRY = struct.Struct("<BBHII")
_STORED, _ZSTD = 0, 1
_FRAME_HEAD = 18  # the longest head of a zstd frame: flags, window, size; it has no checksum
_WORST_BYTES = 16  # of a value: more than an exception, or a run of one pixel
_MAX_CHANNELS = 1 << 16  # bytes of a patch of teacher features, which have one plane
_LEVEL = 1  # higher levels cost 3 to 5 times the time and save 4 % (measured)
# Residuals of a network's maps hardly repeat. 1,024 places for what may repeat instead of zstd's
# 16,384: packed in 3/4 of the time, read in 11/12 of it; maps and images are 0.4 % smaller
# together, those of a noiseless depth camera 0.8 % larger (measured).
_HASH_LOG = 10


class RecordError(DamageError):
    """A stored record is not the record that was written."""


@dataclass(frozen=True)
class Section:
    """One part of a record, before packing."""

    code: int  # what it is; unique within a record
    content: bytes | memoryview
    packed: bool = True


@dataclass(frozen=True)
class PackedRecord:
    """A parsed record; its sections are still packed, and borrow the memory they came from."""

    flags: int
    height: int
    width: int
    planes: int
    sections: Mapping[int, tuple[memoryview, bool, int]]

    @property
    def most_bytes(self) -> int:
        """Bytes that no section of a record of this size exceeds."""
        vectors = _MAX_CHANNELS if self.planes == 1 else _WORST_BYTES * self.planes
        return (self.height * self.width + 1) * vectors


class Packer:
    """Builds records. zstd objects are not safe to share: one packer per thread."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(
                _LEVEL, hash_log=_HASH_LOG, write_checksum=True, write_content_size=True
            )
        )

    def build(
        self,
        magic: bytes,
        sections: Sequence[Section],
        *,
        flags: int,
        shape: tuple[int, int, int],
    ) -> bytes:
        """A record of (planes, height, width) `shape` as bytes."""
        planes, height, width = shape
        bodies = [
            self._zstd.compress(s.content) if s.packed else bytes(s.content) for s in sections
        ]
        table = b"".join(
            _ENTRY.pack(s.code, _ZSTD if s.packed else _STORED, 0, len(body), len(s.content))
            for s, body in zip(sections, bodies, strict=True)
        )
        body_crc = 0
        for body in bodies:
            body_crc = zlib.crc32(body, body_crc)
        head = _HEADER.pack(
            magic, RECORD_VERSION, flags, height, width, planes, len(sections), body_crc, 0
        )[:-4]
        heads = [
            body[:_FRAME_HEAD] if s.packed else body
            for s, body in zip(sections, bodies, strict=True)
        ]
        head_crc = zlib.crc32(b"".join([head, table, *heads]))
        return b"".join([head, struct.pack("<I", head_crc), table, *bodies])


class Unpacker:
    """Reads records. zstd objects are not safe to share: one unpacker per thread."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def parse(self, data: memoryview, magic: bytes, *, thorough: bool = False) -> PackedRecord:
        """Check a record's head and find its sections.

        Args:
            data: The whole record; the result borrows it.
            thorough: Check every byte, as `verify` does.

        Raises:
            RecordError: It is damaged, or of another version.
        """
        if len(data) < _HEADER.size:
            raise RecordError(f"the record ends after {len(data)} bytes, within its header")
        found, version, flags, height, width, planes, count, body_crc, head_crc = (
            _HEADER.unpack_from(data)
        )
        at = _HEADER.size + count * _ENTRY.size
        if found != magic or len(data) < at:
            raise RecordError(f"the record's header is damaged (starts with {found!r})")
        check = zlib.crc32(data[: _HEADER.size - 4])
        check = zlib.crc32(data[_HEADER.size : at], check)
        sections: dict[int, tuple[memoryview, bool, int]] = {}
        body = at
        for index in range(count):
            code, packing, _, stored, length = _ENTRY.unpack_from(
                data, _HEADER.size + index * _ENTRY.size
            )
            packed = packing == _ZSTD
            content = data[at : at + stored]
            check = zlib.crc32(content[:_FRAME_HEAD] if packed else content, check)
            sections[code] = (content, packed, length)
            at += stored
        if at != len(data) or check != head_crc:
            raise RecordError("the record's header or length does not match its checksum")
        if version != RECORD_VERSION:
            raise RecordError(
                f"the record has version {version}, this program reads {RECORD_VERSION}"
            )
        if thorough and zlib.crc32(data[body:]) != body_crc:
            raise RecordError("the record's bytes do not match their checksum")
        return PackedRecord(flags, height, width, planes, sections)

    def content(self, record: PackedRecord, code: int) -> bytes | memoryview:
        """A section's bytes, unpacked; its checksum is compared.

        Raises:
            RecordError: It is damaged, or not there.
        """
        if code not in record.sections:
            raise RecordError(f"the record lacks its section {code}")
        data, packed, length = record.sections[code]
        if not packed:
            return data
        try:
            # zstd allocates what the frame declares, which is not what the record's table says
            # unless both come from the same writer.
            declared = zstandard.frame_content_size(data)
            if declared != length or length > record.most_bytes:
                raise RecordError(
                    f"section {code} claims {max(declared, length)} bytes, the record has room "
                    f"for {record.most_bytes}"
                )
            content = self._zstd.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            if "not enough memory" in str(error):  # no word about the record
                raise MemoryError(str(error)) from error
            raise RecordError(f"section {code} cannot be unpacked: {reason_of(error)}") from error
        if len(content) != length:
            raise RecordError(f"section {code} has {len(content)} bytes instead of {length}")
        return content
