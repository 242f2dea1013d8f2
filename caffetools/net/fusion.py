"""Which neighbouring layers run as one step, decided from how a net is wired.

A step is a chain of layers, each fed by the one before:

    Convolution, BatchNorm, Scale, Eltwise (a sum), ReLU

in this order, where any may be missing, or of InnerProduct and ReLU. There are four kinds (the keys of
`fused.STEPS`):

    dense       InnerProduct and ReLU
    affine      BatchNorm by collected statistics, Scale, Eltwise and ReLU in a Convolution's write-out or in one pass
    normalise   BatchNorm by the batch's statistics: one pass for these, and one for all that follows
    add         Eltwise and ReLU

Nobody can tell a fused pass from a plain one by the blobs: where all layers after the first work in place, the blob
shows the last one's result in either. A blob between two layers that does not is left out only where it is `hidden`,
that is, where the net is run by a tool that looks at nothing but the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.layer import Layer
from caffetools.layers.eltwise import SUM
from caffetools.net.wiring import Wiring


@dataclass(frozen=True)
class Step:
    """Layers `first` to `last`, both included, and the kind of step that they make."""

    kind: str
    first: int
    last: int


def role_of(layer: Layer) -> str:
    """Return the type whose part a layer plays in a chain."""
    return ALIASES.get(layer.type, layer.type)


def find_steps(wiring: Wiring, backward: bool, hidden: Callable[[int], bool]) -> list[Step]:
    """Return the steps of a net, in their order.

    backward: whether passes go backward, where gradients are wanted. hidden: says of the index of a blob whether its
    values may stay away.
    """
    steps: list[Step] = []
    i = 0
    while i < len(wiring.layers):
        chain = _chain_from(wiring, i)
        while len(chain) > 1 and not (kind := _kind_of(wiring, chain, backward, hidden)):
            chain.pop()
        if len(chain) > 1:
            steps.append(Step(kind, chain[0], chain[-1]))
        i = chain[-1] + 1
    return steps


def _chain_from(wiring, first):
    """Return the longest chain that starts with a layer: indices of layers; the layer alone if it starts none."""
    chain = [first]
    place = place_in_chain(wiring, first)
    if place is None:
        return chain
    for i in range(first + 1, len(wiring.layers)):
        above = place_in_chain(wiring, i)
        (top,) = wiring.top_ids[i - 1]
        if above is None or above <= place or top not in wiring.bottom_ids[i]:
            break
        chain.append(i)
        place = above
    return chain


def place_in_chain(wiring: Wiring, i: int) -> int | None:
    """Return where in a chain a layer has its place, or None."""
    layer = wiring.layers[i]
    role = role_of(layer)
    if any(wiring.loss_weights[top] for top in wiring.top_ids[i]):
        return None  # a pass adds its loss up when it has run
    if role not in CHAIN or not CHAIN[role](layer, wiring.bottom_ids[i], wiring.top_ids[i]):
        return None
    return list(CHAIN).index(role)


def _convolution(layer, bottoms, tops):
    return len(bottoms) == 1 and layer.axis == 1 and isinstance(layer.plan, ConvPlan)


def _inner_product(layer, bottoms, tops):
    return not layer.transpose


def _batch_norm(layer, bottoms, tops):
    """One that leaves scale and bias to the layer that follows."""
    return not layer.scale_bias


def _scale(layer, bottoms, tops):
    """One factor for each channel, learnt."""
    return len(bottoms) == 1 and layer.param.scale_param.axis == 1 and len(layer.blobs[0].shape) == 1


def _eltwise(layer, bottoms, tops):
    """The plain sum of two blobs into a third."""
    plain = layer.operation == SUM and all(c == 1 for c in layer.coefficients)
    return plain and len({*bottoms, *tops}) == 3 == len(bottoms) + 1


def _relu(layer, bottoms, tops):
    """Its gradient must be known from the sign of its top."""
    return layer.negative_slope >= 0


#: Types of forks that are Convolutions but for their name.
ALIASES = {"ConvolutionDepthwise": "Convolution", "DepthwiseConvolution": "Convolution"}
#: The types of layers in a chain, in their order, and what each must fulfil.
CHAIN: dict[str, Callable[[Layer, list[int], list[int]], bool]] = {
    "InnerProduct": _inner_product,
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Eltwise": _eltwise,
    "ReLU": _relu,
}


def _kind_of(wiring, chain, backward, hidden):
    """Return the kind of step that a chain makes, or an empty string."""
    types = [role_of(wiring.layers[i]) for i in chain]
    goes_backward = backward and any(wiring.layer_needs_backward[i] for i in chain)
    result = wiring.top_ids[chain[-1]][0]
    between = [wiring.top_ids[i][0] for i in chain[:-1]]
    if "BatchNorm" in types and not wiring.layers[chain[types.index("BatchNorm")]].use_global_stats:
        kind, known = "normalise", _is_normalise(wiring, chain, types, goes_backward, hidden)
        if types[0] == "Convolution":
            # What is normalised is kept for the backward pass anyway, where the layers would have it.
            between = [top for top in between if top != wiring.top_ids[chain[0]][0] or in_place(wiring, chain[1])]
    elif types[0] == "InnerProduct":
        kind, known = "dense", types == ["InnerProduct", "ReLU"]
    elif types == ["Eltwise", "ReLU"]:
        kind, known = "add", True
    else:
        kind, known = "affine", _is_affine(types, goes_backward)
    seen = [blob for blob in between if blob != result and not hidden(blob)]
    return kind if known and not seen else ""


def _is_normalise(wiring, chain, types, goes_backward, hidden):
    norm = chain[types.index("BatchNorm")]
    if types[0] not in ("Convolution", "BatchNorm") or not goes_backward:
        return types[0] in ("Convolution", "BatchNorm")
    # Where BatchNorm does not work in place, its top keeps the gradient that the whole step was given.
    seen = not in_place(wiring, norm) and not hidden(wiring.top_ids[norm][0])
    return wiring.bottom_needs_backward[norm][0] and not seen


def _is_affine(types, goes_backward):
    if goes_backward:
        # Layers go backward one by one, and Scale needs what it was given.
        return types[0] == "Convolution" and "Scale" not in types
    return types[0] == "Convolution" or "Eltwise" not in types


def in_place(wiring: Wiring, i: int) -> bool:
    """Say whether a layer's tops are its bottoms."""
    return wiring.bottom_ids[i] == wiring.top_ids[i]
