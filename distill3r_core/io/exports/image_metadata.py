"""Leave metadata out of JPEG and PNG files: place, time, camera, owner, comments, previews.

The pixels are not coded again. Color profiles stay, as the pixels mean nothing without them.
"""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")
_JPEG_END, _SCAN, _APP0, _APP15, _COMMENT = 0xD9, 0xDA, 0xE0, 0xEF, 0xFE
_RESTARTS = range(0xD0, 0xD8)
# Application data that decoders need, by segment and first bytes.
_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}


def without_metadata(data: bytes) -> bytes:
    """The file without metadata, and without what follows the end of the image.

    Args:
        data: A whole JPEG or PNG file.
    """
    return _png(data) if data.startswith(_PNG) else _jpeg(data)


def _png(data: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _PNG_METADATA:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":
            break
    return b"".join(kept)


def _jpeg(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:  # a filling byte
            at += 1
            continue
        marker = data[at + 1]
        if marker == _JPEG_END:
            break
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SCAN:
            end = _scan_end(data, end)
        is_application = _APP0 <= marker <= _APP15
        needed = marker in _KEPT and data.startswith(_KEPT[marker], at + 4)
        if needed or not (is_application or marker == _COMMENT):
            kept.append(data[at:end])
        at = end
    return b"".join((*kept, bytes((0xFF, _JPEG_END))))


def _scan_end(data: bytes, at: int) -> int:
    """Where the coded pixels that begin at `at` end: at the next marker."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] not in (0x00, 0xFF, *_RESTARTS):
            return at
        at += 1
    return len(data)
