"""Images that let a person judge maps at a glance: photo, depth and confidence side by side."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Rgb = UInt8[np.ndarray, "_ _ 3"]

# Anchors of two color tables whose lightness rises steadily, so that they survive gray print.
_TABLES = {
    "depth": (
        (4, 4, 20), (66, 17, 104), (137, 34, 106), (203, 66, 72), (243, 130, 47), (252, 220, 130)
    ),
    "confidence": ((40, 10, 70), (52, 84, 138), (38, 130, 142), (64, 178, 115), (190, 220, 60)),
}  # fmt: skip
_INVALID = (70, 70, 70)
BACKGROUND = (250, 250, 250)
_INK = (20, 20, 20)
_GAP = 6  # pixels between panels
_LINE = 18  # pixels of a line of text
_LIMITS = (2.0, 98.0)  # percentiles: a few wild points must not flatten the rest
_WIDEST = 6.0  # a panel's width over its height, and the reverse, at most


def limits(
    values: Float[np.ndarray, "..."], mask: Bool[np.ndarray, "..."] | None = None
) -> tuple[float, float]:
    """The range that a color table spreads over: all finite values but the wildest.

    Args:
        values: Values of one or several maps that share the color scale.
    """
    counted = np.isfinite(values) if mask is None else np.isfinite(values) & mask
    if not counted.any():
        return 0.0, 1.0
    low, high = np.percentile(values[counted], _LIMITS)
    return float(low), float(high)


def colorize(
    values: Float[np.ndarray, "H W"],
    *,
    table: Literal["depth", "confidence"],
    span: tuple[float, float] | None = None,
    mask: Bool[np.ndarray, "H W"] | None = None,
) -> Rgb:
    """A map as an image.

    Args:
        values: Depth (near is bright) or confidence (high is bright).
        span: Values at the ends of the table; None: `limits` of this map. Give the same span to
            maps that stand side by side.
        mask: Pixels that count; the others, and those not finite, are gray.
    """
    low, high = limits(values, mask) if span is None else span
    counted = np.isfinite(values) if mask is None else np.isfinite(values) & mask
    share = np.clip((np.where(counted, values, low) - low) / max(high - low, 1e-12), 0.0, 1.0)
    if table == "depth":
        share = 1.0 - share
    anchors = np.array(_TABLES[table], np.float64)
    places = np.linspace(0.0, 1.0, len(anchors))
    channels = [np.interp(share, places, anchors[:, channel]) for channel in range(3)]
    image = np.round(np.stack(channels, axis=-1)).astype(np.uint8)
    image[~counted] = _INVALID
    return image


def compose(
    rows: Sequence[Sequence[Rgb]],
    *,
    headings: Sequence[str],
    captions: Sequence[str] = (),
    aspects: Sequence[float] = (),
    height: int = 150,
) -> Rgb:
    """Panels in rows under headings.

    Args:
        rows: Images of one view a row, as many as there are headings; sizes may differ.
        aspects: Width over height at which the panels of each row are shown, where they are
            squashed; empty: their own.
        height: Rows of pixels of a panel.
    """
    assert all(len(row) == len(headings) for row in rows)
    shapes = aspects or [None] * len(rows)
    scaled = [
        [_scale(panel, height, aspect) for panel in row]
        for row, aspect in zip(rows, shapes, strict=True)
    ]
    widths = [max(row[column].width for row in scaled) for column in range(len(headings))]
    step = height + _GAP + (_LINE if captions else 0)
    canvas = Image.new(
        "RGB",
        (sum(widths) + _GAP * (len(widths) + 1), _LINE + _GAP + step * len(rows)),
        BACKGROUND,
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LINE * 0.7)
    left = _GAP
    for column, heading in enumerate(headings):
        draw.text((left, 2), heading, fill=_INK, font=font)
        for number, row in enumerate(scaled):
            panel, top = row[column], _LINE + step * number
            canvas.paste(panel, (left + (widths[column] - panel.width) // 2, top))
        left += widths[column] + _GAP
    for number, caption in enumerate(captions):
        draw.text((_GAP, _LINE + step * number + height + 2), caption, fill=_INK, font=font)
    return np.asarray(canvas)


def _scale(panel: Rgb, height: int, aspect: float | None) -> Image.Image:
    rows, columns = panel.shape[:2]
    shown = min(max(aspect or columns / rows, 1 / _WIDEST), _WIDEST)  # a strip is squashed
    size = (max(1, round(height * shown)), height)
    # Nearest where maps grow: invented values between pixels would look like detail.
    how = Image.Resampling.NEAREST if height > rows else Image.Resampling.BOX
    return Image.fromarray(panel).resize(size, how)
