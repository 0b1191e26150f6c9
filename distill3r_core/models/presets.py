"""The students that have a name. Plain data: reading it imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distill3r_core.registry import Registry


@dataclass(frozen=True)
class Preset:
    """A student and how it is trained.

    Args:
        size: Rows and columns it is trained at, landscape; None: those of the cache.
        recipe: Training settings that differ from those of its family.
    """

    summary: str  # the student in a few words, for help and documentation
    spec: Mapping[str, Any]  # architecture: `family`, and the fields of that family's spec
    size: tuple[int, int] | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def train_settings(self) -> dict[str, Any]:
        """The recipe with the size in its place."""
        if self.size is None:
            return dict(self.recipe)
        data = {"size": list(self.size), **self.recipe.get("data", {})}
        return {**self.recipe, "data": data}


PRESETS: Registry[Preset] = Registry("student preset", entry_points="distill3r.presets")
PRESETS.add(
    "paper",
    Preset(
        summary="the 72M model of Distill3R (arXiv:2602.00865)",
        spec={
            "family": "multiview",
            "encoder": {"kind": "dune", "arch": "vits14", "width": 384, "depth": 12, "heads": 6},
            "fusion": {"width": 384, "depth": 6, "heads": 6},
            "heads": {
                "features": 256,
                "layers": [96, 192, 384, 768],
                "tail": 128,
                "spare_parameters": True,
            },
            "normalization": "imagenet",
        },
    ),
)
PRESETS.add(
    "small",
    Preset(
        summary="about 5M, for small data of your own",
        spec={
            "family": "multiview",
            "encoder": {
                "kind": "rotary",
                "width": 192,
                "depth": 6,
                "heads": 6,
                "stem": "convolutional",
            },
            "fusion": {"width": 192, "depth": 4, "heads": 6},
            "heads": {
                "features": 32,
                "layers": [32, 48, 64, 64],
                "tail": 32,
                "initial_depth": 0.7,
            },
        },
        size=(112, 154),
        recipe={
            "data": {"views": 8, "batch": 2, "accumulation": 1, "mirror": True, "colors": True},
            "optim": {"lr": 1e-3},
            "schedule": {"steps": 800, "warmup_steps": None, "final_lr": 1e-5},
            "validation": {"every_steps": 200, "samples": 8},
            "checkpoint": {"every_steps": 100},
        },
    ),
)
PRESETS.add(
    "tiny",
    Preset(
        summary="about 2M, for a demo or a test",
        spec={
            "family": "multiview",
            "encoder": {
                "kind": "rotary",
                "width": 128,
                "depth": 4,
                "heads": 4,
                "stem": "convolutional",
            },
            "fusion": {"width": 128, "depth": 2, "heads": 4},
            "heads": {
                "features": 24,
                "layers": [24, 48, 96, 96],
                "tail": 24,
                "initial_depth": 0.7,
            },
        },
        size=(70, 98),
        recipe={
            "data": {"views": 4, "batch": 2, "accumulation": 1},
            "optim": {"lr": 1.5e-3},
            "schedule": {"steps": 800, "warmup_steps": None, "final_lr": 1.5e-5},
            "validation": {"every_steps": 200, "samples": 8},
            "checkpoint": {"every_steps": 100},
        },
    ),
)

# Students of arXiv:2607.01851, at the sizes of its repository's README. The decoders' heads of 128
# channels are the paper's; a warm start that projects wants heads of 64 (`model.decoder.heads`).
_DINOV2 = {"kind": "vit", "width": 384, "depth": 12, "heads": 6, "position_grid": 37}
_VIT_TINY = {
    "kind": "vit",
    "width": 192,
    "depth": 12,
    "heads": 3,
    "kernel": 16,
    "layer_scale": False,
    "position_grid": 32,
}


def _lunar(summary: str, encoder: Mapping[str, Any], *, width: int, depth: int) -> Preset:
    heads = {"features": 256, "layers": [96, 192, 384, 768], "tail": 128, "spare_parameters": True}
    return Preset(
        summary=summary,
        spec={
            "family": "pairs",
            "encoder": encoder,
            "decoder": {"width": width, "depth": depth, "heads": 4},
            "heads": heads,
        },
        recipe={
            "data": {"batch": 7, "accumulation": 4},
            "optim": {"lr": 3e-5, "weight_decay": 0.05},
            "schedule": {
                "epochs": 50,
                "warmup_steps": None,
                "warmup_share": 0.2,
                "final_lr": 0.0,
            },
        },
    )


PRESETS.add(
    "lunar-s1",
    _lunar("72M pair student on MobileNetV3-Large (S1)", {"kind": "cnn"}, width=512, depth=6),
)
PRESETS.add(
    "lunar-s2",
    _lunar("94M pair student on DINOv2 ViT-S/14 (S2)", _DINOV2, width=512, depth=6),
)
PRESETS.add(
    "lunar-s3",
    _lunar("66M pair student on DINOv2 ViT-S/14 (S3)", _DINOV2, width=256, depth=4),
)
PRESETS.add(
    "lunar-s4",
    _lunar("77M pair student on ViT-Tiny/16 (S4)", _VIT_TINY, width=512, depth=6),
)
PRESETS.add(
    "pair-tiny",
    Preset(
        summary="about 3M pair student, for tests and own small data",
        spec={
            "family": "pairs",
            "encoder": {
                "kind": "vit",
                "width": 128,
                "depth": 4,
                "heads": 4,
                "kernel": 16,
                "layer_scale": False,
                "position_grid": 8,
            },
            "decoder": {"width": 128, "depth": 4, "heads": 2, "mlp_ratio": 2.0},
            "heads": {
                "features": 24,
                "layers": [24, 48, 96, 96],
                "tail": 24,
                "initial_depth": 0.7,
            },
        },
        size=(64, 96),
        recipe={
            "data": {"batch": 4, "accumulation": 1},
            "optim": {"lr": 1e-3},
            "schedule": {"steps": 800, "warmup_steps": None, "final_lr": 1e-5},
            "validation": {"every_steps": 200, "samples": 8},
            "checkpoint": {"every_steps": 100},
        },
    ),
)

# Students of arXiv:2412.02039.
_IMAGES = {"views": 2, "batch": 4, "accumulation": 1, "colors": True}
for _name, _summary, _network, _lr in (
    ("scene-cnn", "11.7M for one scene, convolutions alone", {"kind": "cnn"}, 1e-4),
    ("scene-mobilenet", "0.9M for one scene, MobileNetV3", {"kind": "mobilenet"}, 1e-3),
    ("scene-vit", "10.5M for one scene, a transformer", {"kind": "vit"}, 2.5e-4),
):
    PRESETS.add(
        _name,
        Preset(
            summary=f"{_summary} (arXiv:2412.02039)",
            spec={"family": "scene", "network": _network},
            recipe={"data": _IMAGES, "optim": {"lr": _lr}},
        ),
    )
