"""Unpack a `.r3d`, the recording that Record3D shares: a ZIP that may come from anybody."""

import errno
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from distill3r_core.errors import ImageError
from distill3r_core.files import open_file, replacing, shown_name
from distill3r_core.untrusted.printable import reason_of

SUFFIX = ".r3d"
# All that is read of a recording; no other name is written to the disk.
_WANTED = re.compile(r"metadata|rgbd/\d{1,9}\.(jpg|depth|conf)")
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # a flag of a member
_LARGEST = 1 << 28  # bytes of a member
_MOST = 100  # bytes out of one of the archive, all members together: images and LZFSE do not shrink
_CHUNK = 1 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError),
    *(OverflowError, RuntimeError, NotImplementedError),
)


def unpack_record3d(archive: Path, folder: Path) -> None:
    """Write `metadata` and the files of `rgbd` into a folder, each whole or not at all.

    Raises:
        ImageError: It is no ZIP, is damaged, holds no recording, or unpacks to far more than it
            is. The message is the reason alone.
        DiskFullError: There is no room.
    """
    try:
        file = open_file(archive)
    except OSError as error:
        raise ImageError(f"the archive cannot be read: {reason_of(error)}") from error
    try:
        with file, zipfile.ZipFile(file) as members:
            for member in _checked(members.infolist(), archive.stat().st_size):
                # zipfile ends where the member's size does, whatever its stream unpacks to.
                with (
                    members.open(member) as packed,
                    replacing(folder / member.filename) as beside,
                    beside.open("wb") as unpacked,
                ):
                    shutil.copyfileobj(packed, unpacked, _CHUNK)
    except _DAMAGED as error:
        raise ImageError(f"the archive is damaged: {reason_of(error)}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a seek to where no file is
            raise
        raise ImageError(f"the archive is damaged: {reason_of(error)}") from error


def _checked(members: list[zipfile.ZipInfo], size: int) -> list[zipfile.ZipInfo]:
    """The members that are read.

    Args:
        size: Bytes of the archive.

    Raises:
        ImageError: See `unpack_record3d`.
    """
    wanted = [member for member in members if _WANTED.fullmatch(member.filename)]
    names = {member.filename for member in wanted}
    if "metadata" not in names or len(names) < 2:
        raise ImageError("the archive holds no recording: no metadata, or nothing in rgbd")
    if len(names) < len(wanted):
        raise ImageError("the archive holds two members of one name")
    for member in wanted:
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _PACKINGS:
            raise ImageError(
                f"{shown_name(member.filename)} is encrypted, or packed in an unusual way"
            )
        if member.file_size > _LARGEST:
            raise ImageError(f"{shown_name(member.filename)} claims {member.file_size} bytes")
    total = sum(member.file_size for member in wanted)
    if total > _MOST * size:
        raise ImageError(f"the archive of {size} bytes claims to unpack to {total}")
    return wanted
