"""The record of the pair family."""

from distill3r_core.models.family import Cost, Family, ViewLimits
from distill3r_core.models.pairs.chunks import pair_chunk_of
from distill3r_core.models.pairs.cost import estimate_pair_bytes, flop_parts
from distill3r_core.models.pairs.encoder_files import encoder_initializers
from distill3r_core.models.pairs.network import build_pair_student
from distill3r_core.models.pairs.published import published_pairs
from distill3r_core.models.pairs.spec import PATCH, PairSpec

PAIRS = Family(
    name="pairs",
    spec=PairSpec,
    build=build_pair_student,
    multiple=lambda spec: PATCH,
    cost=Cost(flop=flop_parts, memory=estimate_pair_bytes, head_chunk=pair_chunk_of),
    views=ViewLimits(maximum=1000),
    recipe={"data": {"views": 2, "random_view_numbers": False}},
    initializers=encoder_initializers,
    published=published_pairs,
)
