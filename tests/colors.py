"""Profiles and video in color spaces other than sRGB, made from their definitions."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

# x, y of red, green and blue; white; exponent of the curve.
SPACES = {
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.3127, 0.3290), 2.2),
    "Adobe RGB": (((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)), (0.3127, 0.3290), 563 / 256),
    "ProPhoto": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), 1.8),
    "BT.709": (((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)), (0.3127, 0.3290), 2.2),
    "BT.2020": (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), (0.3127, 0.3290), 2.2),
}
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def xyz_from_rgb(space: str) -> np.ndarray:
    """Linear RGB to XYZ, in the white of the space."""
    primaries, white, _ = SPACES[space]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _xyz(white))


def to_srgb(rgb: np.ndarray, space: str) -> np.ndarray:
    """8-bit values of a space as 8-bit sRGB, computed by the definitions."""
    linear = (rgb / 255) ** SPACES[space][2]
    to_xyz = _adapted(xyz_from_rgb(space), SPACES[space][1])
    from_xyz = np.linalg.inv(_adapted(xyz_from_rgb("BT.709"), SPACES["BT.709"][1]))
    return 255 * srgb_curve(np.clip(linear @ (from_xyz @ to_xyz).T, 0, 1))


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_linear(signal: np.ndarray) -> np.ndarray:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def icc_profile(space: str) -> bytes:
    """An ICC profile (version 2.1, matrix and gamma) of a space."""
    columns = _adapted(xyz_from_rgb(space), SPACES[space][1]).T
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * SPACES[space][2])) + bytes(2)
    name = space.encode() + b"\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {
        b"desc": desc + bytes(-len(desc) % 4),
        b"cprt": b"text" + bytes(4) + b"none" + bytes(4),
        b"wtpt": _xyz_tag(_D50),
        **{
            key: _xyz_tag(column)
            for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _profile(tags)


def _profile(tags: dict[bytes, bytes], *, space: bytes = b"XYZ ", intent: int = 0) -> bytes:
    table, body, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += key + struct.pack(">II", place + len(body), len(data))
        body += padded
    header = struct.pack(
        ">I4sI4s4s4s12s4s", place + len(body), b"none", 0x02100000, b"mntr", b"RGB ", space,
        bytes(12), b"acsp",
    )  # fmt: skip
    header += bytes(64 - len(header)) + struct.pack(">I", intent)
    header += struct.pack(">3i", *np.rint(65536 * _D50).astype(int))
    return header + bytes(128 - len(header)) + table + body


def lut_profile(perceptual: float, colorimetric: float) -> bytes:
    """A profile of gray by tables: white is a share of L* = 100, another one for each intent.

    Its header asks for the colorimetric one.
    """
    tags = {b"A2B0": _gray_table(perceptual), b"A2B1": _gray_table(colorimetric)}
    tags[b"wtpt"] = _xyz_tag(_D50)
    return _profile(tags, space=b"Lab ", intent=1)


def _gray_table(share: float) -> bytes:
    """`mft2` from RGB to Lab: L* is the mean of the three, times a share."""
    line = struct.pack(">2H", 0, 65535)
    grid = b"".join(
        struct.pack(">3H", round(share * 0xFF00 * (r + g + b) / 3), 0x8000, 0x8000)
        for r in (0, 1)
        for g in (0, 1)
        for b in (0, 1)
    )
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    head = b"mft2" + bytes(4) + bytes((3, 3, 2, 0)) + matrix + struct.pack(">2H", 2, 2)
    return head + 3 * line + grid + 3 * line


def hlg_signal(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as R'G'B' of BT.2020 with the HLG curve, white at 0.75."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    white = (np.exp((0.75 - c) / a) + b) / 12
    scene = white * _to_bt2020(srgb)
    high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def pq_signal(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as R'G'B' of BT.2020 with the PQ curve, white at 203 nits."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (203 / 10000 * _to_bt2020(srgb)) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def linear_of(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Linear light of an HLG (18) or PQ (16) signal, 1 at the white of a graphic."""
    if transfer == 16:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        return 10000 / 203 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    high = (np.exp((signal - c) / a) + b) / 12
    return np.where(signal <= 0.5, signal**2 / 3, high) / ((np.exp((0.75 - c) / a) + b) / 12)


def write_hdr(path: Path, signal: np.ndarray, *, transfer: int, count: int = 4) -> None:
    """A 10-bit BT.2020 video of one image, R'G'B' in [0, 1]; its transfer curve by H.273."""
    import av

    red, green, blue = 0.2627, 0.6780, 0.0593
    luma = signal @ (red, green, blue)
    planes = (
        4 * (219 * luma + 16),
        4 * (224 * (signal[..., 2] - luma) / (2 * (1 - blue)) + 128),
        4 * (224 * (signal[..., 0] - luma) / (2 * (1 - red)) + 128),
    )
    height, width, _ = signal.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, 9
        context.colorspace, context.color_range = 9, 1
        for number in range(count):
            frame = av.VideoFrame(width, height, "yuv444p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                line = np.zeros((height, plane.line_size // 2), np.uint16)
                line[:, :width] = np.rint(values)
                plane.update(line.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _to_bt2020(srgb: np.ndarray) -> np.ndarray:
    matrix = np.linalg.inv(xyz_from_rgb("BT.2020")) @ xyz_from_rgb("BT.709")
    return np.clip(srgb_linear(srgb) @ matrix.T, 0, 1)


def _adapted(xyz: np.ndarray, white: tuple[float, float]) -> np.ndarray:
    cone = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz(white))
    return np.linalg.inv(_BRADFORD) @ np.diag(cone) @ _BRADFORD @ xyz


def _xyz(white: tuple[float, float]) -> np.ndarray:
    x, y = white
    return np.array([x / y, 1, (1 - x - y) / y])


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *np.rint(65536 * values).astype(int))
