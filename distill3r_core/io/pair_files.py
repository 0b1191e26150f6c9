"""What stands beside the tensors of DUSt3R and MASt3R."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core.errors import WeightsError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of

CONFIG = "config.json"


def head_counts(file: Path, rest: Any) -> tuple[int | None, int | None]:
    """Attention heads of encoder and decoder, as far as a description tells them."""
    described = file.parent / CONFIG
    counts: list[int | None] = [None, None]
    if isinstance(rest, Mapping) and hasattr(rest.get("args"), "model"):
        text = str(rest["args"].model)
        for index, name in enumerate(("enc_num_heads", "dec_num_heads")):
            found = re.search(rf"\b{name}\s*=\s*(\d{{1,3}})\b", text)
            counts[index] = int(found[1]) if found else None
    elif described.is_file():
        try:
            content = json.loads(read_text_file(described))
        except (ValueError, OSError, RecursionError) as error:
            raise WeightsError(f"cannot read {described}: {reason_of(error)}") from error
        if isinstance(content, Mapping):
            for index, name in enumerate(("enc_num_heads", "dec_num_heads")):
                value = content.get(name)
                counts[index] = value if isinstance(value, int) and 0 < value < 1000 else None
    return counts[0], counts[1]
