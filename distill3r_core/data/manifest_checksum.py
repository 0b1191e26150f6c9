"""Whether a manifest is still the text that `distill3r manifest` wrote."""

from pathlib import Path

from distill3r_core.data.frame_processing import RECORD
from distill3r_core.errors import DamageError
from distill3r_core.files import read_own
from distill3r_core.io.checksums import bytes_hash, read_sealed

MANIFEST_CHECKSUM = "manifest"  # key of the record beside the manifest


def manifest_warning(path: Path) -> str | None:
    """Says that a manifest differs from the one that was written; None where it does not.

    A person may edit a manifest: this is no error. A manifest of another program, or of an earlier
    version, has no checksum.
    """
    try:
        written = read_sealed(path.parent / RECORD, required=False).get(MANIFEST_CHECKSUM)
    except OSError:
        return None
    except DamageError as error:
        return f"warning: {error.message}; `distill3r manifest ... --overwrite` writes it again"
    if written is None or written == bytes_hash(read_own(path)):
        return None
    return (
        f"warning: {path} is not the text that was written: it was edited, or it is damaged; "
        "`distill3r manifest ... --overwrite` writes it again"
    )
