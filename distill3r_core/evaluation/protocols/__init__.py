"""Protocols: each is a record in `PROTOCOLS`, whose name says all that a reader could vary."""

from distill3r_core.evaluation.protocols.bench_protocols import BENCH_PROTOCOLS
from distill3r_core.evaluation.protocols.held_out import HELD_OUT
from distill3r_core.evaluation.protocols.localization import LOCALIZATION
from distill3r_core.evaluation.protocols.lunar import LUNAR
from distill3r_core.evaluation.protocols.point_protocols import POINT_PROTOCOLS
from distill3r_core.evaluation.protocols.pose_protocols import POSE_PROTOCOLS
from distill3r_core.evaluation.protocols.record import Protocol, Published, PublishedRow
from distill3r_core.evaluation.protocols.table2 import TABLE2
from distill3r_core.registry import Registry

__all__ = ["PROTOCOLS", "Protocol", "Published", "PublishedRow"]

PROTOCOLS: Registry[Protocol] = Registry("protocol")
for _protocol in (
    TABLE2,
    HELD_OUT,
    LOCALIZATION,
    LUNAR,
    *POINT_PROTOCOLS,
    *POSE_PROTOCOLS,
    *BENCH_PROTOCOLS,
):
    PROTOCOLS.add(_protocol.name, _protocol)
