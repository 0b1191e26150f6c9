"""Check variables of the environment that this program, or a library it uses, reads."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from distill3r_core.errors import ConfigError
from distill3r_core.files import shown_name

_RANKS = {  # what a launcher sets: name, least value
    "RANK": 0,
    "WORLD_SIZE": 1,
    "LOCAL_RANK": 0,
    "TORCHELASTIC_RESTART_COUNT": 0,
}
_COUNTS = ("COLUMNS", "LINES", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LEVELS = re.compile(r"\s*[1-9]\d{0,5}\s*(,\s*[1-9]\d{0,5}\s*)*")  # of nested parallel regions


def check_environment(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Warnings about values that the libraries ignore.

    Args:
        environment: Values by name.

    Raises:
        ConfigError: A value that the program needs is wrong.
    """
    for name, least in _RANKS.items():
        value = environment.get(name)
        if value is not None and not (value.strip().isdecimal() and int(value) >= least):
            raise ConfigError(
                f"{name} in the environment is {shown_name(value)}, not a whole number of at "
                f"least {least}",
                hint=f"a launcher such as torchrun sets it; `unset {name}` without one",
            )
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        if rank >= size:
            raise ConfigError(
                f"RANK in the environment is {rank}, and WORLD_SIZE {size}: ranks are below it",
                hint="a launcher such as torchrun sets both; unset them without one",
            )
    home = environment.get("DISTILL3R_HOME")
    if home and Path(home).expanduser().exists() and not Path(home).expanduser().is_dir():
        raise ConfigError(f"DISTILL3R_HOME in the environment names a file: {shown_name(home)}")
    wrong = [
        name
        for name in _COUNTS
        if environment.get(name) and not re.fullmatch(r"\s*[1-9]\d{0,5}\s*", environment[name])
    ]
    threads = environment.get("OMP_NUM_THREADS")
    if threads and not _LEVELS.fullmatch(threads):
        wrong.append("OMP_NUM_THREADS")
    return [
        f"warning: {name} in the environment is {shown_name(environment[name])}, not a number "
        "above 0: it is ignored"
        for name in sorted(wrong)
    ]
