"""Published weights of encoders that students can start from, beside DUNE's."""

from distill3r_core.io.published_weights import PublicFigure, PublishedWeights
from distill3r_core.registry import Registry

APACHE = "Apache-2.0"
ON_IMAGENET = "Apache-2.0 (trained on ImageNet)"
NOT_STATED = "not stated (trained on ImageNet)"
_DINO = "https://dl.fbaipublicfiles.com/dinov2"
_TORCHVISION = "https://download.pytorch.org/models/"
_MB = 1e6
FILE = "model.safetensors"  # of a hub folder

ENCODER_FILES: Registry[PublishedWeights] = Registry("encoder")


def _add(weights: PublishedWeights) -> None:
    ENCODER_FILES.add(weights.name, weights)


for _arch, _plain, _registers in (
    ("vits14", 22_056_576, 22_058_112),
    ("vitb14", 86_580_480, 86_583_552),
    ("vitl14", 304_368_640, 304_372_736),
):
    for _suffix, _tag, _parameters in (("", "", _plain), ("-reg", "_reg4", _registers)):
        _file = f"dinov2_{_arch}{_tag}_pretrain.pth"
        _add(
            PublishedWeights(
                f"dinov2-{_arch}{_suffix}",
                (_file,),
                round(4 * _parameters / _MB),
                APACHE,
                url=f"{_DINO}/dinov2_{_arch}/{_file}",
                folder="dinov2",
                commercial="yes",
                parameters=_parameters,
            )
        )

# timm's and torchvision's networks are the same with other names: their files are not interchanged.
for _name, _repo, _megabytes, _parameters in (
    ("mobilenetv3-large", "mobilenetv3_large_100.ra_in1k", 22, 5_483_032),
    ("mobilenetv3-large-ra4", "mobilenetv3_large_100.ra4_e3600_r224_in1k", 22, 5_483_032),
    ("mobilenetv3-large-miil", "mobilenetv3_large_100.miil_in21k_ft_in1k", 22, 5_483_032),
    ("vit-tiny", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 23, 5_717_416),
    ("vit-tiny-21k", "vit_tiny_patch16_224.augreg_in21k", 39, None),
):
    _add(
        PublishedWeights(
            _name,
            (FILE,),
            _megabytes,
            ON_IMAGENET,
            repo=f"timm/{_repo}",
            commercial="yes",
            parameters=_parameters,
        )
    )
for _version, _file, _accuracy in (
    ("1", "mobilenet_v3_large-8738ca79.pth", 74.04),
    ("2", "mobilenet_v3_large-5c1a4163.pth", 75.27),
):
    _add(
        PublishedWeights(
            f"mobilenetv3-large-tv{_version}",
            (_file,),
            22,
            NOT_STATED,
            url=_TORCHVISION + _file,
            folder="mobilenetv3",
            parameters=5_483_032,
            figure=PublicFigure(
                f"ImageNet top-1 {_accuracy} %", "torchvision 0.29.1, models/mobilenetv3.py"
            ),
        )
    )
