"""What a pair network's decoder carries on images, and what the student's encoder knows of it.

The directions into which a decoder's weights write need not be those that its tokens are in. On
some images both can be measured: the second moment of the stream behind every layer, and the
linear map from the student's tokens before the decoder to those that the decoder was made for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill3r_core.errors import WeightsError
from distill3r_core.models.checkpoint import load_student
from distill3r_core.models.encoders.croco import CrocoSpec
from distill3r_core.models.pairs.spec import PATCH
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.warm_starts.pair_tensors import PairTensors
from distill3r_core.models.warm_starts.warm_start import ImagePairs
from distill3r_core.nn.pairs.pair_decoder import PairDecoder
from distill3r_core.nn.rotary import grid_rotation

_CHUNK = 4  # pairs that go through the networks at once
_RIDGE = 1e-4  # of the mean square of a channel: what keeps directions without variance at zero


@dataclass(frozen=True)
class MeasuredStreams:
    """What was measured, in float64.

    Args:
        gram: Sum over layers and branches of the second moments of centered tokens, each divided
            by its trace.
        inputs: By ridge regression, from the student's tokens before the decoder to the network's.
        images: Number of images.
    """

    gram: Float[Tensor, "D D"]
    inputs: Float[Tensor, "C T"]
    images: int


@dataclass(frozen=True)
class LargerNetwork:
    """Encoder and decoder of a pair network's file.

    Args:
        encode: From images in [0, 1] to the tokens that the decoder is given.
    """

    encode: Callable[[Float[Tensor, "n 3 H W"]], Float[Tensor, "n P C"]]
    decoder: PairDecoder
    heads: int  # of the decoder's attention

    def streams(
        self, first: Float[Tensor, "n P C"], second: Float[Tensor, "n P C"], grid: tuple[int, int]
    ) -> Iterator[Float[Tensor, "n P D"]]:
        """Tokens of both branches before the first layer and behind each."""
        embed = self.decoder.embed
        rotation = grid_rotation(*grid, embed.out_features // self.heads, device=first.device)
        one, two = embed(first), embed(second)
        yield from (one, two)
        for block, other in zip(self.decoder.first, self.decoder.second, strict=True):
            one, two = (
                block(one, two, rotation, rotation),
                other(two, one, rotation, rotation),
            )
            yield from (one, two)


@torch.no_grad()
def measure_streams(
    tensors: PairTensors, student: PairStudent, pairs: ImagePairs
) -> MeasuredStreams:
    """Run a pair network and a student's encoder on some images.

    Args:
        student: As it will be trained; its encoder has its weights. Left as it was.
        pairs: Images with sides that are multiples of a patch.

    Raises:
        WeightsError: The file has no encoder of the teachers' kind.
    """
    network = open_network(tensors, pairs.device)
    moments: list[Tensor] = []
    rows, columns = (side // PATCH for side in pairs.images.shape[-2:])
    mine_by_mine = torch.zeros(student.spec.token_width, student.spec.token_width).double()
    theirs_by_mine = torch.zeros(tensors.encoder_width, student.spec.token_width).double()
    training, place = student.training, student.device
    student.eval().to(pairs.device)
    for part in pairs.images.split(_CHUNK):
        images = part.to(pairs.device).float() / 255
        theirs = [network.encode(images[:, side]) for side in (0, 1)]
        for side, tokens in enumerate(theirs):
            mine = student.image_features(images[:, side]).flatten(0, 1)
            mine_by_mine += (mine.T @ mine).double().cpu()
            theirs_by_mine += (tokens.flatten(0, 1).T @ mine).double().cpu()
        for number, stream in enumerate(network.streams(theirs[0], theirs[1], (rows, columns))):
            centered = (stream - stream.mean(-1, keepdim=True)).flatten(0, 1)
            moment = (centered.T @ centered).double().cpu()
            if number == len(moments):
                moments.append(moment)
            else:
                moments[number] += moment
    student.train(training).to(place)
    gram = torch.stack([moment / moment.trace() for moment in moments]).sum(0)
    inputs = ridge(mine_by_mine, theirs_by_mine)
    return MeasuredStreams(gram, inputs, 2 * len(pairs.images))


def ridge(
    mine_by_mine: Float[Tensor, "T T"], theirs_by_mine: Float[Tensor, "C T"]
) -> Float[Tensor, "C T"]:
    """The map Q with the least |theirs - Q mine|^2 + r |Q|^2, r a small share of |mine|^2.

    Args:
        mine_by_mine: Sum of mine mine^T.
        theirs_by_mine: Sum of theirs mine^T.
    """
    size = len(mine_by_mine)
    weight = _RIDGE * mine_by_mine.trace() / size
    regular = mine_by_mine + weight * torch.eye(size, dtype=mine_by_mine.dtype)
    return torch.linalg.solve(regular, theirs_by_mine, left=False)


@torch.no_grad()
def open_network(tensors: PairTensors, device: torch.device) -> LargerNetwork:
    """Encoder and decoder of a file, in float32.

    Raises:
        WeightsError: Its encoder is none of the teachers' kind.
    """
    if tensors.encoder_heads is None:
        student = load_student(tensors.path, device=str(device))
        assert isinstance(student, PairStudent), "checked when the file was opened"
        return LargerNetwork(student.image_features, student.decoder, tensors.decoder_heads)
    encoder = _croco(tensors, tensors.encoder_heads)
    hidden = tensors.shapes["decoder.first.0.mlp.fc1.bias"][0]
    decoder = PairDecoder(
        tensors.encoder_width,
        width=tensors.decoder_width,
        depth=tensors.depth,
        heads=tensors.decoder_heads,
        mlp_ratio=hidden / tensors.decoder_width,
    )
    for prefix, module in (("encoder", encoder), ("decoder", decoder)):
        for name, parameter in module.named_parameters():
            whole = f"{prefix}.{name}"
            if tensors.shapes.get(whole) != tuple(parameter.shape):
                raise WeightsError(
                    f"{tensors.path}: {whole} is {tensors.shapes.get(whole, 'missing')}, not "
                    f"{tuple(parameter.shape)}: it cannot be run on images",
                    hint="leave out init_images: subspace then reads the weights alone",
                )
            parameter.copy_(tensors.read(whole))
        module.eval().requires_grad_(False).to(device)
    return LargerNetwork(lambda images: encoder(2 * images - 1), decoder, tensors.decoder_heads)


def _croco(tensors: PairTensors, heads: int) -> nn.Module:
    """The encoder of DUSt3R and MASt3R in the file's size, with random weights."""
    prefix, width = "encoder.blocks.", tensors.encoder_width
    depth = {
        name.removeprefix(prefix).partition(".")[0]
        for name in tensors.shapes
        if name.startswith(prefix)
    }
    if not depth or width % heads:
        raise WeightsError(
            f"{tensors.path}: no encoder of {heads} heads and {width} channels",
            hint="leave out init_images: subspace then reads the weights alone",
        )
    return CrocoSpec(kind="croco", width=width, depth=len(depth), heads=heads).build()
