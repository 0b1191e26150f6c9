"""The warm starts of pair students: the cut of arXiv:2607.01851, and one common basis."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.io.checksums import file_hash
from distill3r_core.models.pairs.spec import PairSpec
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.warm_starts.block_maps import blocks_of
from distill3r_core.models.warm_starts.block_projection import (
    BlockShape,
    project_block,
    projected_norm,
    read_normed,
    unit_scores,
)
from distill3r_core.models.warm_starts.measured_streams import measure_streams
from distill3r_core.models.warm_starts.pair_tensors import PairTensors, open_pair_tensors
from distill3r_core.models.warm_starts.stream_basis import projector, random_columns, written
from distill3r_core.models.warm_starts.tensor_cut import cut, cut_apart
from distill3r_core.models.warm_starts.warm_start import (
    WARM_STARTS,
    ImagePairs,
    StartedFrom,
    WarmStart,
)

BRANCHES = ("first", "second")
HEADS = ("first_head", "second_head")
_SEED = 0  # of the random map from the student's encoder tokens to the teacher's
_QKV = 3


def start_by_cut(student: PairStudent, path: Path) -> StartedFrom:
    """Fill decoder, norms and heads, each tensor by `cut`; the encoder keeps its weights.

    Unlike the released code it cuts queries, keys and values apart, and concatenated inputs too.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, is not that of a pair network, or has smaller tensors.
    """
    tensors = open_pair_tensors(path)
    spec = student.spec
    _require_larger(tensors, student)
    channels = "the number of channels of a token before the decoder"  # no cut gives more of them
    _compare_sizes(tensors, channels, spec.token_width, tensors.encoder_width)
    blocks = blocks_of(tensors.depth, spec.decoder.depth, "uniform")
    for number, source in enumerate(blocks):
        for branch in BRANCHES:
            for name, tensor in tensors.block(branch, source).items():
                target = student.get_parameter(f"decoder.{branch}.{number}.{name}")
                whole = name.startswith("attn.qkv.")
                rows = (tensors.decoder_width,) * _QKV if whole else ()
                _fill(target, cut_apart(tensor, target.shape, rows=rows))
    for name in ("embed.weight", "embed.bias", "norm.weight", "norm.bias"):
        target = student.get_parameter(f"decoder.{name}")
        _fill(target, cut(tensors.read(f"decoder.{name}"), target.shape))
    heads = _cut_heads(student, tensors)
    descriptors = _cut_descriptors(student, tensors)
    return _started("svd", tensors, blocks, heads, *descriptors)


def start_by_projection(
    student: PairStudent, path: Path, pairs: ImagePairs | None = None
) -> StartedFrom:
    """Fill decoder and heads in one basis of the residual stream; see `stream_basis`.

    Blocks are taken evenly from the first to the last. Where the decoders are equal, the decoder
    is copied as it is, and heads and descriptors are cut, which leaves tensors of equal shape as
    they are; where the student's encoder is the teacher's as well, it is copied, too.

    Args:
        pairs: Images on which the basis, and the map from the student's tokens before the decoder
            to the teacher's, are measured; see `measured_streams`. None: the basis is that of the
            weights, the map is random.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, is not that of a pair network, or has smaller tensors.
        ConfigError: The student's attention heads are not as wide as the teacher's; or there are
            `pairs` for equal decoders.
    """
    tensors = open_pair_tensors(path)
    spec = student.spec
    _require_larger(tensors, student)
    _require_equal_heads(tensors, spec)
    if tensors.depth == spec.decoder.depth and all(
        tensors.shapes.get(f"decoder.{name}") == tuple(tensor.shape)
        for name, tensor in student.decoder.named_parameters()
    ):
        if pairs is not None:
            raise ConfigError(
                f"init_images: the student's decoder is as large as that in {path}, and is copied "
                "whole: nothing is measured",
                hint="leave init_images out",
            )
        return _copy_decoder(student, tensors)
    blocks = blocks_of(tensors.depth, spec.decoder.depth, "ends")
    if pairs is None:
        gram, source = written(tensors.writers()), "basis of the weights"
        inputs = _unmeasured_inputs(tensors, spec)
    else:
        measured = measure_streams(tensors, student, pairs)
        gram, inputs = measured.gram, measured.inputs
        source = f"basis measured on {measured.images} images"
    basis = projector(gram, spec.decoder.width)
    kept = fill_decoder(student, tensors, basis, inputs, blocks=blocks)
    heads = _project_heads(student, tensors, basis, inputs)
    descriptors = _project_descriptors(student, tensors, basis, inputs)
    return _started("subspace", tensors, blocks, heads, *descriptors, kept, source)


def _unmeasured_inputs(tensors: PairTensors, spec: PairSpec) -> Float[Tensor, "C T"]:
    """From the student's tokens before the decoder to the teacher's: random, orthonormal.

    Where they are as wide it is the identity, as the student may be given the teacher's own.
    """
    if spec.token_width == tensors.encoder_width:
        return torch.eye(spec.token_width, dtype=torch.float64)
    return random_columns(tensors.encoder_width, spec.token_width, seed=_SEED)


def fill_decoder(
    student: PairStudent,
    tensors: PairTensors,
    basis: Float[Tensor, "D W"],
    inputs: Float[Tensor, "C T"],
    *,
    blocks: tuple[int, ...],
) -> str:
    """Fill the decoder in a basis; which attention heads were kept, in words.

    Args:
        basis: P of `stream_basis.projector`.
        inputs: Map from the student's tokens before the decoder to the teacher's.
        blocks: Number of the teacher's block for each of the student's.
    """
    decoder = student.spec.decoder
    shape = BlockShape(
        decoder.heads,
        decoder.width // decoder.heads,
        student.get_parameter("decoder.first.0.mlp.fc1.bias").shape[0],
    )
    kept = []
    for number, source in enumerate(blocks):
        for branch in BRANCHES:
            found = project_block(tensors.block(branch, source), basis, shape)
            for name, tensor in found.tensors.items():
                _fill(student.get_parameter(f"decoder.{branch}.{number}.{name}"), tensor)
            heads = (",".join(map(str, it)) for it in (found.self_heads, found.cross_heads))
            kept.append("/".join(heads))
    weight = tensors.read("decoder.embed.weight").double()
    _fill(student.get_parameter("decoder.embed.weight"), basis.T @ weight @ inputs)
    bias = tensors.read("decoder.embed.bias").double()
    _fill(student.get_parameter("decoder.embed.bias"), basis.T @ bias)
    for name, tensor in projected_norm("norm", basis).items():
        _fill(student.get_parameter(f"decoder.{name}"), tensor)
    return f"heads of self/cross attention, both branches block by block, {' | '.join(kept)}"


def _project_heads(
    student: PairStudent, tensors: PairTensors, basis: Tensor, inputs: Tensor
) -> str:
    """The DPT heads: what reads tokens in the student's basis, the rest cut."""

    def projected(name: str, tensor: Tensor) -> Tensor:
        head, tap = name.rsplit(".", 3)[0], name.split(".")[-2]
        if not name.startswith(tuple(f"{one}.project." for one in HEADS)):
            return tensor
        weight = tensors.read(f"{head}.project.{tap}.weight")[:, :, 0, 0].double()
        bias = tensors.read(f"{head}.project.{tap}.bias").double()
        if tap == "3":  # the one layer behind the decoder's norm
            weight, bias = read_normed(weight, bias, *_last_norm(tensors), basis)
        else:
            weight = weight @ (inputs if tap == "0" else basis)
        return weight[:, :, None, None] if name.endswith("weight") else bias

    return _cut_heads(student, tensors, change=projected)


def _cut_heads(
    student: PairStudent,
    tensors: PairTensors,
    *,
    change: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> str:
    """Fill both DPT heads by `cut`; what was filled, in words.

    Args:
        change: Makes the tensor that is cut of the teacher's, by name.
    """
    wanted = [name for name, _ in student.named_parameters() if name.startswith(tuple(HEADS))]
    missing = [
        name for name in wanted if name not in tensors.shapes and "stages.3.skip" not in name
    ]
    if missing:
        return "heads random, as the teacher has none of this kind"
    copied = 0
    for name in wanted:
        if name not in tensors.shapes:  # the unit that no forward pass reads
            continue
        target = student.get_parameter(name)
        tensor = change(name, tensors.read(name))
        if tensor.ndim != target.ndim or any(
            mine > theirs for mine, theirs in zip(target.shape, tensor.shape, strict=True)
        ):
            raise WeightsError(
                f"{tensors.path}: {name} is {tuple(tensor.shape)}, smaller than the student's "
                f"{tuple(target.shape)}",
                hint="a student starts from a network that is as large in every part",
            )
        copied += tuple(tensor.shape) == tuple(target.shape)
        _fill(target, cut(tensor, target.shape))
    return f"heads ({copied} of {len(wanted)} tensors whole)"


def _cut_descriptors(student: PairStudent, tensors: PairTensors) -> list[str]:
    """The descriptor branches by `cut`, inputs from encoder and decoder apart; in words."""
    names = _descriptor_names(student)
    if not names or not _has_descriptors(tensors, names):
        return _without_descriptors(names)
    spec = student.spec
    widths = (
        (tensors.encoder_width, spec.token_width),
        (tensors.decoder_width, spec.decoder.width),
    )
    for name in names:
        target, tensor = student.get_parameter(name), tensors.read(name)
        columns = widths if name.endswith("fc1.weight") else ()
        _fill(target, cut_apart(tensor, target.shape, columns=columns))
    return ["descriptors"]


def _project_descriptors(
    student: PairStudent, tensors: PairTensors, basis: Tensor, inputs: Tensor
) -> list[str]:
    """The descriptor branches: inputs in the student's basis, hidden units selected; in words."""
    names = _descriptor_names(student)
    if not names or not _has_descriptors(tensors, names):
        return _without_descriptors(names)
    for number in range(len(BRANCHES)):
        prefix = f"descriptor_heads.{number}."
        inner, outer = (tensors.read(f"{prefix}{name}.weight").double() for name in ("fc1", "fc2"))
        early, late = inner.split([tensors.encoder_width, tensors.decoder_width], dim=1)
        bias = tensors.read(f"{prefix}fc1.bias").double()
        late, bias = read_normed(late, bias, *_last_norm(tensors), basis)
        weight = torch.cat([early @ inputs, late], 1)
        count = student.get_parameter(f"{prefix}fc1.bias").shape[0]
        order = torch.sort(unit_scores(weight, outer), descending=True, stable=True).indices
        units = order[:count].sort().values
        found = {
            "fc1.weight": weight[units],
            "fc1.bias": bias[units],
            "fc2.weight": outer[:, units],
            "fc2.bias": tensors.read(f"{prefix}fc2.bias"),
        }
        for name, tensor in found.items():
            _fill(student.get_parameter(prefix + name), tensor)
    return ["descriptors"]


def _descriptor_names(student: PairStudent) -> list[str]:
    """The student's tensors of the descriptor branches."""
    return [n for n, _ in student.named_parameters() if n.startswith("descriptor_heads.")]


def _has_descriptors(tensors: PairTensors, names: list[str]) -> bool:
    return all(name in tensors.shapes for name in names)


def _without_descriptors(names: list[str]) -> list[str]:
    """What the summary says where no descriptor branch was filled."""
    return ["descriptors random, as the file has none"] if names else []


def _last_norm(tensors: PairTensors) -> tuple[Tensor, Tensor]:
    scale, shift = (tensors.read(f"decoder.norm.{name}").double() for name in ("weight", "bias"))
    return scale, shift


def _copy_decoder(student: PairStudent, tensors: PairTensors) -> StartedFrom:
    """Equal decoders: copied as they are; so is the encoder, where it is the same.

    Heads and descriptors may be smaller than the teacher's, and are cut.
    """
    state = student.state_dict()
    fitting = {
        name for name, tensor in state.items() if tensors.shapes.get(name) == tuple(tensor.shape)
    }
    encoder = {name for name in state if name.startswith("encoder.")}
    whole = student.adapter is None and encoder <= fitting
    decoder = {name for name in fitting if name.startswith("decoder.")}
    for name in decoder | (encoder if whole else set()):
        _fill(state[name], tensors.read(name))
    heads = _cut_heads(student, tensors)
    descriptors = _cut_descriptors(student, tensors)
    copied = "all tensors of the decoder" + (" and the encoder" if whole else "")
    blocks = tuple(range(tensors.depth))
    started = _started("subspace", tensors, blocks, copied, heads, *descriptors)
    return replace(started, encoder=whole)


def _require_larger(tensors: PairTensors, student: PairStudent) -> None:
    """Refuse a file whose network is smaller, or whose descriptors do not fit its own widths.

    Raises:
        WeightsError: It is; names the size.
    """
    decoder = student.spec.decoder
    hidden = math.floor(decoder.width * decoder.mlp_ratio)
    _compare_sizes(tensors, "decoder.width", decoder.width, tensors.decoder_width)
    _compare_sizes(tensors, "decoder.depth", decoder.depth, tensors.depth)
    (theirs,) = tensors.shapes["decoder.first.0.mlp.fc1.bias"]
    _compare_sizes(tensors, "the number of hidden channels of the MLPs", hidden, theirs)
    names = _descriptor_names(student)
    if not names or not _has_descriptors(tensors, names):
        return
    inputs = tensors.encoder_width + tensors.decoder_width
    for number in range(len(BRANCHES)):
        prefix = f"descriptor_heads.{number}."
        outputs, mine = student.get_parameter(f"{prefix}fc2.weight").shape
        theirs = (*tensors.shapes[f"{prefix}fc1.weight"], 0)[0]
        shapes = {
            "fc1.weight": (theirs, inputs),
            "fc1.bias": (theirs,),
            "fc2.weight": (outputs, theirs),
            "fc2.bias": (outputs,),
        }
        for name, wanted in shapes.items():
            found = tensors.shapes[prefix + name]
            if found != wanted:
                raise WeightsError(f"{tensors.path}: {prefix + name} is {found}, not {wanted}")
        _compare_sizes(tensors, "the number of hidden channels of the descriptors", mine, theirs)


def _compare_sizes(tensors: PairTensors, name: str, mine: int, theirs: int) -> None:
    if mine > theirs:
        raise WeightsError(
            f"{tensors.path}: {name} is {mine} in the student and {theirs} in the file",
            hint="a student starts from a network that is as large in every part",
        )


def _require_equal_heads(tensors: PairTensors, spec: PairSpec) -> None:
    theirs = tensors.decoder_width // tensors.decoder_heads
    mine = spec.decoder.width // spec.decoder.heads
    if mine == theirs:
        return
    heads = spec.decoder.width // theirs
    hint = (
        f"--set model.decoder.heads={heads}"
        if spec.decoder.width % theirs == 0
        else f"take a model.decoder.width that is a multiple of {theirs}"
    )
    raise ConfigError(
        f"init: subspace keeps whole attention heads, and the student's have {mine} channels, "
        f"those in {tensors.path} {theirs}",
        hint=hint,
    )


def _fill(target: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        target.copy_(value)


def _started(name: str, tensors: PairTensors, blocks: tuple[int, ...], *parts: str) -> StartedFrom:
    listed = ", ".join(map(str, blocks))
    return StartedFrom(
        f"init {name} of {tensors.path.name} ({file_hash(tensors.path)}): decoder blocks "
        f"{listed}, {'; '.join(parts)}",
        tensors.licenses,
    )


WARM_STARTS.add(
    "svd",
    WarmStart("pairs", "Cut every tensor in its own coordinates (the paper's).", start_by_cut),
)
WARM_STARTS.add(
    "subspace",
    WarmStart(
        "pairs",
        "Project decoder and heads into one basis of their stream.",
        start_by_projection,
        measure=start_by_projection,
    ),
)
