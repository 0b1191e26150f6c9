"""Color management: ICC profiles, wide gamuts and HDR curves to sRGB, in which networks see.

Sources: ICC.1:2022 (perceptual intent), ITU-R BT.2100-2 (HLG and PQ), BT.2408 (203 nits as the
white of a graphic), BT.2087 (primaries), IEC 61966-2-1 (sRGB). The numbers of primaries and curves
are those of ITU-T H.273, which video and HEIC files carry.
"""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, ImageCms

_SPACE = slice(16, 20)  # of a profile's header: what the values of the image are
_SAME = 1  # gray levels: a profile that moves no color further is sRGB under another name
_LATTICE = 9  # colors a side, at which that is tested
# What a profile describes, by the mode of the image that it is attached to.
_SPACES = {"RGB": ("RGB ",), "L": ("GRAY",), "CMYK": ("CMYK",)}

_BT709, _BT2020, _DCI_P3, _DISPLAY_P3 = 1, 9, 11, 12
_PQ, _HLG = 16, 18
_WHITE_NITS, _PEAK_NITS = 203.0, 10_000.0
_HLG_WHITE = 0.75
_CODES = 65535
_D65, _DCI_WHITE = (0.3127, 0.3290), (0.314, 0.351)
# x, y of red, green and blue, and of white.
_CHROMATICITIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    _DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI_WHITE),
    _DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_GAMUTS = {_BT2020: "BT.2020", _DCI_P3: "DCI-P3", _DISPLAY_P3: "Display P3"}
_CURVES = {_PQ: "PQ", _HLG: "HLG"}


@dataclass(frozen=True)
class CodedColor:
    """Color space of a signal, by the numbers of ITU-T H.273.

    Args:
        primaries: Primaries; numbers that are not known here count as BT.709.
        transfer: Transfer curve; all but PQ and HLG count as that of sRGB.
    """

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        """Whether its curve reaches beyond the white of a display."""
        return self.transfer in _CURVES

    @property
    def name(self) -> str | None:
        """For people ("HDR: HLG, BT.2020"); None where it is sRGB as it stands."""
        parts = [_CURVES.get(self.transfer), _GAMUTS.get(self.primaries)]
        named = ", ".join(part for part in parts if part)
        if not named:
            return None
        return f"HDR: {named}" if self.is_hdr else named


def is_srgb(profile: bytes, mode: str) -> bool:
    """Whether an ICC profile leaves the values of an image as they are, or cannot be used.

    Args:
        profile: The profile.
        mode: RGB, L or CMYK.
    """
    try:
        return _transform(profile, mode) is None
    except ValueError:
        return True


def managed(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The image in sRGB by its ICC profile, with perceptual intent.

    Args:
        image: RGB, L or CMYK.
        profile: The profile that is embedded in it.

    Returns:
        RGB; None where the profile moves no color by more than one level, so that the values stand
        as they are.

    Raises:
        ValueError: The profile cannot be read, or does not describe this kind of image.
    """
    transform = _transform(profile, image.mode)
    return None if transform is None else ImageCms.applyTransform(image, transform)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform to sRGB; None where it moves nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = profile[_SPACE].decode("latin-1")
        if space not in _SPACES[mode]:
            raise ValueError(f"it describes {space.strip()}, the image is {mode}")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(str(error) or "it is damaged") from error
    return None if mode != "CMYK" and _moves_nothing(transform, mode) else transform


def coded_to_srgb(
    signal: UInt16[np.ndarray, "H W 3"], color: CodedColor
) -> UInt8[np.ndarray, "H W 3"]:
    """R'G'B' of a wide gamut or an HDR curve as sRGB; what lies outside of it is clipped.

    HLG is taken back by the inverse of its OETF, with the signal 0.75 as white; PQ by its EOTF,
    with 203 nits as white.

    Args:
        signal: Full range, 65535 is 1.
        color: Color space of the signal.
    """
    linear = _linear_codes(color.transfer)[signal]
    linear = linear @ _to_bt709(color.primaries).T.astype(np.float32)
    encoded = _srgb_encoded(np.clip(linear, 0, 1))
    return np.rint(255 * encoded).astype(np.uint8)


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.rint(np.linspace(0, 255, _LATTICE)).astype(np.uint8)
    if mode == "L":
        before = np.arange(256, dtype=np.uint8)[None]
        wanted = np.repeat(before[..., None], 3, axis=-1)
    else:
        before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        wanted = before
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(before), transform))
    return int(np.abs(after.astype(int) - wanted).max()) <= _SAME


@functools.cache
def _linear_codes(transfer: int) -> Float[np.ndarray, "65536"]:
    """Linear light of every code, 1 at the white of a display."""
    curves: dict[int, Callable[[np.ndarray], np.ndarray]] = {_PQ: _from_pq, _HLG: _from_hlg}
    signal = np.arange(_CODES + 1) / _CODES
    return curves.get(transfer, srgb_decoded)(signal).astype(np.float32)


def _from_pq(signal: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_"]:
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    nits = _PEAK_NITS * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return nits / _WHITE_NITS


def _from_hlg(signal: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_"]:
    a = 0.17883277
    b = 1 - 4 * a
    c = 0.5 - a * np.log(4 * a)

    def scene(value: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_"]:
        return np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)

    return scene(signal) / scene(np.array([_HLG_WHITE]))


def srgb_decoded(signal: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light of sRGB signals, both in [0, 1] (IEC 61966-2-1)."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _srgb_encoded(linear: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@functools.cache
def _to_bt709(primaries: int) -> Float[np.ndarray, "3 3"]:
    """Linear RGB of some primaries to that of BT.709, white to white."""
    known = primaries if primaries in _CHROMATICITIES else _BT709
    rgb = np.linalg.inv(_xyz_from_rgb(_BT709)) @ _xyz_from_rgb(known)
    # The white of DCI-P3 is not D65: von Kries in the target's own primaries.
    return rgb if _CHROMATICITIES[known][3] == _D65 else np.diag(1 / rgb.sum(axis=1)) @ rgb


def _xyz_from_rgb(primaries: int) -> Float[np.ndarray, "3 3"]:
    *colors, white = (
        np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in _CHROMATICITIES[primaries]
    )
    columns = np.stack(colors, axis=1)
    return columns * np.linalg.solve(columns, white)
