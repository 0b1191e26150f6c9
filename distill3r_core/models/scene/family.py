"""The record of the scene family."""

from distill3r_core.models.family import Cost, Family
from distill3r_core.models.scene.build import build
from distill3r_core.models.scene.cost import estimate_bytes, flop_parts, head_chunk_of
from distill3r_core.models.scene.pretrained import initializers
from distill3r_core.models.scene.spec import PatchSpec, SceneSpec


def smallest(spec: SceneSpec) -> int:
    """Side of the smallest view: a patch, where nothing is padded."""
    network = spec.network
    return network.patch if isinstance(network, PatchSpec) and network.edges == "drop" else 1


SCENE = Family(
    name="scene",
    spec=SceneSpec,
    build=build,
    multiple=lambda spec: 1,  # sides are padded, or their rest is left unseen
    cost=Cost(flop=flop_parts, memory=estimate_bytes, head_chunk=head_chunk_of),
    smallest=smallest,
    frame="scene",
    recipe={
        "loss": {
            "alpha_global": 0.0,
            "alpha_local": 0.0,
            "gamma": 0.0,
            "metric": False,  # the frame of the scene has a unit of its own
            "terms": {"scene_points": {"weight": 1.0}},
        },
        "optim": {"betas": [0.9, 0.999], "weight_decay": 0.0},
        "schedule": {"steps": 2000, "warmup_steps": None, "final_lr": 1e-5},
        "validation": {"every_steps": 200, "samples": 8},
        "checkpoint": {"every_steps": 200},
    },
    initializers=initializers,
)
