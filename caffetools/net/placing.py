"""Which convolutions write their outputs where a Concat wants them: among the channels of its top.

A Concat of whole batches puts the channels of its bottoms side by side in every item, so that no bottom is one piece of
the top. A convolution does not mind where its outputs go: what a Concat would copy is written there in the first place,
finished by what runs in one step with the convolution (see `fusion`). The bottom itself then stays away, which is why
this happens only where it is `hidden`. Of single items each bottom is a piece of the top: the memory plan lets it lie
there, whatever layer it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caffetools.layer import Layer
from caffetools.net.fusion import Step, in_place, place_in_chain, role_of
from caffetools.net.wiring import Wiring


@dataclass(frozen=True)
class Placement:
    """That a step writes bottom number `bottom` of the layer `concat` into that layer's top."""

    step: Step
    concat: int
    bottom: int


def find_placements(
    wiring: Wiring, steps: Sequence[Step], backward: bool, hidden: Callable[[int], bool]
) -> list[Placement]:
    """Return what may be written into the tops of Concats, in the order of these.

    steps: the net's; a convolution alone is none, but becomes one here. backward, hidden: as for `find_steps`.
    """
    step_of = {step.last: step for step in steps}
    inside = {i for step in steps for i in range(step.first, step.last + 1)}
    placements = []
    for concat, layer in enumerate(wiring.layers):
        if layer.type != "Concat" or layer.axis != 1 or wiring.loss_weights[wiring.top_ids[concat][0]]:
            continue
        for bottom, blob in enumerate(wiring.bottom_ids[concat]):
            last = max(i for i in range(-1, concat) if i < 0 or blob in wiring.top_ids[i])
            step = step_of.get(last)
            if step is None and last >= 0 and last not in inside and place_in_chain(wiring, last) is not None:
                step = Step("affine", last, last)
            if (
                step is not None
                and hidden(blob)
                and _writes_elsewhere(wiring, step)
                and _shapes_are_known(wiring, step, concat)
                and _goes_back(wiring, step, concat, bottom, backward)
            ):
                placements.append(Placement(step, concat, bottom))
    return placements


def _writes_elsewhere(wiring, step):
    """Say whether a step's last word is that of a convolution; a sum's other bottom lies where its own top is."""
    roles = [role_of(wiring.layers[i]) for i in range(step.first, step.last + 1)]
    return step.kind == "affine" and roles[0] == "Convolution" and "Eltwise" not in roles


def _shapes_are_known(wiring, step, concat):
    """Say whether, when a step runs, the shape of the Concat's top follows from shapes alone."""
    between = range(step.last + 1, concat)
    return not any(not wiring.bottom_ids[i] or wiring.layers[i].reshape_every_forward for i in between)


def _goes_back(wiring, step, concat, bottom, backward):
    """Say whether gradients find their way where the bottom's data stay away, if there are any."""
    layers = range(step.first, step.last + 1)
    if not backward or not any(wiring.layer_needs_backward[i] for i in layers):
        return True
    if not wiring.bottom_needs_backward[concat][bottom]:
        return False
    if len(layers) == 1:
        return True
    # A ReLU's gradient is told by the signs of what the Concat's top holds.
    roles = [role_of(wiring.layers[i]) for i in layers]
    (top,) = wiring.top_ids[concat]
    above = [wiring.layers[i] for i in range(concat + 1, len(wiring.layers)) if top in wiring.top_ids[i]]
    signs_stay = all(each.type in SIGN_KEEPING and SIGN_KEEPING[each.type](each) for each in above)
    return roles == ["Convolution", "ReLU"] and in_place(wiring, step.last) and signs_stay


#: Layers that may work in place on the Concat's top, and when: signs stay, but where no gradient comes back anyway.
SIGN_KEEPING: dict[str, Callable[[Layer], bool]] = {
    "Dropout": lambda layer: True,
    "ReLU": lambda layer: layer.negative_slope >= 0,
}
