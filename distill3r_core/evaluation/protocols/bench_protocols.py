"""DA3-BENCH and SpatialBench: poses in a form of their own, and F-scores of fused surfaces.

Facts: ByteDance-Seed/Depth-Anything-3 `src/depth_anything_3/bench`, Ropedia/SpatialBench
`benchmark/`. Their relative pose mixes rotation and translation: no other figure compares.
"""

from functools import partial
from pathlib import Path

import torch

from distill3r_core.evaluation.clouds.surface_files import read_surface_points
from distill3r_core.evaluation.clouds.tsdf import VolumeRules
from distill3r_core.evaluation.pose_metrics import DA3, SPATIALBENCH
from distill3r_core.evaluation.protocols.frame_rules import AllFrames, ShuffledFrames
from distill3r_core.evaluation.protocols.record import Protocol
from distill3r_core.evaluation.protocols.sequence_alignments import NO_CLOUDS
from distill3r_core.evaluation.protocols.table2 import POSES
from distill3r_core.evaluation.scene_depth_metrics import SCENE_DEPTH_METRICS
from distill3r_core.evaluation.spatialbench.read import read_spatialbench
from distill3r_core.evaluation.spatialbench.readers import Density
from distill3r_core.evaluation.truth import TrueSurface

_SURFACES = ("fscore", "chamfer", "fscore_true_poses", "chamfer_true_poses")
_MOST, _SEED = 100, 42
_VOXEL = 4 / 512  # meters


def _mesh_of_scene(root: Path, sequence: str) -> TrueSurface | None:
    """`meshes/<scene>.ply` of 7-Scenes, with the rules of Depth Anything 3."""
    path = root / "meshes" / f"{sequence.split('/')[-2]}.ply" if "/" in sequence else root
    if not path.is_file():
        return None
    return TrueSurface(
        points=torch.from_numpy(read_surface_points(path)),
        volume=VolumeRules(_VOXEL, truncation=0.04, farthest=1e6),
        voxel=_VOXEL,
        threshold=0.05,
    )


DA3_BENCH = Protocol(
    name="da3-bench",
    frames=ShuffledFrames(
        most=_MOST,
        seed=_SEED,
        sequences={
            "7scenes": (
                "chess/seq-01",
                "fire/seq-01",
                "heads/seq-01",
                "office/seq-01",
                "pumpkin/seq-01",
                "redkitchen/seq-01",
                "stairs/seq-02",
            )
        },
        text=f"7-Scenes: seq-01 of every scene, seq-02 of stairs; at most {_MOST} frames, the "
        f"first of a shuffle by seed {_SEED}, in order",
    ),
    alignment=NO_CLOUDS,
    metrics=tuple(f"da3:{name}" for name in (*POSES, *_SURFACES)),
    columns=tuple(f"da3:{name}" for name in ("auc_3", "auc_30", "fscore", "chamfer")),
    grid=(392, 518),
    poses=DA3,
    surface=_mesh_of_scene,
    # Their sequences cross the data set's own split; what a student was trained on is left out.
    test_only=False,
    rules={
        "note": "five of the seven sequences of 7-Scenes are training sequences of its own split",
        "alignment of cameras": "similarity of the best of ten random halves of the cameras",
        "surface": "TSDF of 4/512 m, truncation 0.04 m; 10^6 points of it and of "
        "meshes/<scene>.ply; without that file no F-score",
        "not as published": "depth is fused at the grid of the maps (theirs: 640x480, nearest), "
        "where registered depth is valid (theirs: where the raw depth image is neither 0 nor "
        "65535), and with true poses by the data set's color K (theirs: 585, the depth camera's)",
    },
)


def _spatialbench(density: Density) -> Protocol:
    single = density == "single"
    depth = tuple(
        f"scene:{metric.name}"
        for metric in SCENE_DEPTH_METRICS
        if not (single and metric.name == "tgm")  # of neighboring frames
    )
    poses = tuple(f"spatialbench:{name}" for name in POSES)
    surfaces = tuple(f"spatialbench:{name}" for name in _SURFACES)
    posed, fused = not single, density in ("medium", "dense")
    columns = ("scene:abs_rel", "scene:delta_125")
    if posed:
        columns += ("spatialbench:auc_30", "spatialbench:ate")
    if fused:
        columns += ("spatialbench:fscore", "spatialbench:fscore_true_poses")
    return Protocol(
        name=f"spatialbench-{density}",
        frames=AllFrames(f"all frames of the folders below {density}/, in one forward pass"),
        alignment=NO_CLOUDS,
        metrics=(*depth, *(poses if posed else ()), *(surfaces if fused else ())),
        columns=columns,
        grid=(392, 518),
        poses=SPATIALBENCH,
        reader=partial(read_spatialbench, density=density),
        by_data_set=True,
        rules={
            "depth": "one scale for a scene: the ratio of its median depths; *_metric: none, which "
            "means something of models that know meters alone",
            "images": "cropped and resized as its readers do, then brought to the input",
            "prediction": "poses moved to the first camera before they are compared",
            "surface": "TSDF with the scale of the camera centers (ratio of their spreads), at "
            "the grid of the maps; 10^6 points of it and of the data set's mesh",
        },
    )


SPATIALBENCH_PROTOCOLS = tuple(
    _spatialbench(density) for density in ("single", "sparse", "medium", "dense")
)
BENCH_PROTOCOLS = (DA3_BENCH, *SPATIALBENCH_PROTOCOLS)
