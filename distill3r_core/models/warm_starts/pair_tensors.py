"""The tensors of a pair network's file, read one at a time under the student's names."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.io.pair_files import head_counts
from distill3r_core.io.weights import read_pickled, tensor_shapes, tensors_in
from distill3r_core.models.checkpoint import check_weights, find_student, read_metadata
from distill3r_core.models.pairs.spec import PairSpec
from distill3r_core.nn.names import merge_aliases, rename
from distill3r_core.nn.pairs.official_names import FIRST, NAMES, SECOND, UNREAD

_SAFETENSORS = ".safetensors"
_STATE = "model"  # key of the tensors in a pickled checkpoint
_HUB_FILE = "model.safetensors"
_HEAD_WIDTH = 64  # channels of an attention head of every release
_LICENSE = "CC BY-NC-SA 4.0"
_HEADS = (("point_heads.0.", "first_head."), ("point_heads.1.", "second_head."))
_MAX_WIDTH = 1 << 14
_WANTED = "--set init_from=FILE takes DUSt3R's, MASt3R's, or a pair student of ours"


@dataclass(frozen=True)
class PairTensors:
    """A pair network on disk.

    Args:
        shapes: Shapes by the name that a pair student has for the tensor.
        names: Names in the file, by ours.
        encoder_heads: Attention heads of its encoder; None: it is a student of ours.
        decoder_heads: Attention heads of its decoder.
        licenses: Licenses of the weights, which a student made from them inherits.
        mapped: The tensors of a pickled file, which the system reads when they are used; empty for
            a safetensors file.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    encoder_heads: int | None
    decoder_heads: int
    licenses: tuple[str, ...]
    mapped: Mapping[str, Tensor]

    @property
    def decoder_width(self) -> int:
        """Channels of a token of the decoder."""
        return self.shapes["decoder.embed.weight"][0]

    @property
    def encoder_width(self) -> int:
        """Channels of a token that the decoder is given."""
        return self.shapes["decoder.embed.weight"][1]

    @property
    def depth(self) -> int:
        """Blocks of each branch of the decoder."""
        prefix = "decoder.first."
        rest = (name.removeprefix(prefix) for name in self.shapes if name.startswith(prefix))
        return len({name.partition(".")[0] for name in rest})

    def read(self, name: str) -> Tensor:
        """One tensor in float32.

        Raises:
            WeightsError: It is not finite.
        """
        stored = self.names[name]
        if self.mapped:
            tensor = self.mapped[stored]
        else:
            with safe_open(self.path, framework="pt") as file:
                tensor = file.get_tensor(stored)
        tensor = tensor.float()
        if not tensor.isfinite().all():
            raise WeightsError(f"{self.path}: {stored} has numbers that are not finite")
        return tensor

    def block(self, branch: str, number: int) -> dict[str, Tensor]:
        """The tensors of one block by name within it.

        Args:
            branch: `first` or `second`.
        """
        prefix = f"decoder.{branch}.{number}."
        return {
            name.removeprefix(prefix): self.read(name)
            for name in self.shapes
            if name.startswith(prefix)
        }

    def writers(self) -> Iterator[Tensor]:
        """The weights that write into the decoder's residual stream, one after the other."""
        ends = ("attn.proj.weight", "mlp.fc2.weight")
        for name in self.shapes:
            if name.startswith("decoder.") and name.endswith(ends):
                yield self.read(name)
        yield self.read("decoder.embed.weight")


def open_pair_tensors(path: Path) -> PairTensors:
    """The file of a pair network: DUSt3R's or MASt3R's, or one of our own pair students.

    Only names and shapes are read; a checkpoint of a run is compared with its checksum.

    Args:
        path: A `.safetensors` or `.pth` file, the folder of a hub, a run or a checkpoint folder.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or is not that of a pair network.
    """
    if path.is_dir() and not (path / _HUB_FILE).is_file():
        return _of_student(find_student(path))
    file = path / _HUB_FILE if path.is_dir() else path
    if file.suffix == _SAFETENSORS:
        shapes = tensor_shapes(file)
        if "decoder.embed.weight" in shapes:
            return _of_student(file)
        return _official(file, shapes, {}, rest=None)
    content = read_pickled(file)
    rest = None
    if isinstance(content, Mapping) and isinstance(content.get(_STATE), Mapping):
        rest = {name: value for name, value in content.items() if name != _STATE}
        content = content[_STATE]
    mapped = tensors_in(content, file)
    shapes = {name: tuple(tensor.shape) for name, tensor in mapped.items()}
    return _official(file, shapes, mapped, rest=rest)


def _of_student(file: Path) -> PairTensors:
    check_weights(file)
    metadata = read_metadata(file)
    spec = metadata.spec
    if not isinstance(spec, PairSpec):
        raise WeightsError(f"{file} holds a student of the family {spec.family!r}, not of pairs")
    shapes = tensor_shapes(file)
    found = PairTensors(
        file,
        shapes,
        {name: name for name in shapes},
        None,
        spec.decoder.heads,
        metadata.licenses,
        {},
    )
    return _checked(found)


def _official(
    file: Path,
    shapes: Mapping[str, tuple[int, ...]],
    mapped: Mapping[str, Tensor],
    *,
    rest: object,
) -> PairTensors:
    stored = merge_aliases({name: name for name in shapes if not name.startswith(UNREAD)})
    if not any(name.startswith(SECOND) for name in stored):  # CroCo's: both branches start alike
        branch = {name: value for name, value in stored.items() if name.startswith(FIRST)}
        stored |= {SECOND + name.removeprefix(FIRST): value for name, value in branch.items()}
    names = rename(rename(stored, NAMES), _HEADS)
    ours = {name: shapes[place] for name, place in names.items()}
    wanted = ours.get("decoder.embed.weight", (0, 0))  # decoder by encoder
    encoder, decoder = (
        count or max(width // _HEAD_WIDTH, 1)
        for count, width in zip(head_counts(file, rest), reversed(wanted), strict=True)
    )
    return _checked(PairTensors(file, ours, names, encoder, decoder, (_LICENSE,), mapped))


_WITHIN_A_BLOCK = re.compile(r"decoder\.(first|second)\.\d+\.(.+)")


def _checked(found: PairTensors) -> PairTensors:
    """Shapes and names are those of a two-branch decoder, before anything of them is used.

    Raises:
        WeightsError: A tensor is missing or of another shape.
    """
    embed = found.shapes.get("decoder.embed.weight")
    if embed is None or len(embed) != 2 or max(embed) > _MAX_WIDTH:
        raise WeightsError(
            f"{found.path} is no file of a pair network: it has no matrix 'decoder_embed.weight'",
            hint=_WANTED,
        )
    width, hidden = embed[0], None
    if found.decoder_heads < 1 or width % found.decoder_heads:
        raise WeightsError(f"{found.path}: {found.decoder_heads} heads do not divide {width}")
    if found.depth == 0:
        raise WeightsError(
            f"{found.path} is no file of a pair network: its decoder has no block",
            hint=_WANTED,
        )
    wanted: dict[str, tuple[int, ...]] = {
        f"decoder.{name}": (width,) for name in ("norm.weight", "norm.bias", "embed.bias")
    }
    with contextlib.suppress(KeyError, IndexError):
        hidden = found.shapes["decoder.first.0.mlp.fc1.weight"][0]
    for branch in ("first", "second"):
        for number in range(found.depth):
            prefix = f"decoder.{branch}.{number}."
            for name, shape in _block_shapes(width, hidden or 0).items():
                wanted[prefix + name] = shape
    for name, shape in wanted.items():
        if found.shapes.get(name) != shape:
            there = found.shapes.get(name, "missing")
            raise WeightsError(f"{found.path}: {name} is {there}, not {shape}")
    return found


def _block_shapes(width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of one block."""
    layers = {"attn.qkv": 3 * width, "attn.proj": width, "cross_attn.proj": width}
    layers |= {f"cross_attn.proj{one}": width for one in "qkv"}
    found: dict[str, tuple[int, ...]] = {}
    for name, rows in layers.items():
        found |= {f"{name}.weight": (rows, width), f"{name}.bias": (rows,)}
    found |= {"mlp.fc1.weight": (hidden, width), "mlp.fc1.bias": (hidden,)}
    found |= {"mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,)}
    for norm in ("norm1", "norm2", "norm3", "norm_y"):
        found |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return found
