"""The model card of an exported receiver: a page in words beside the file (M. Mitchell et al., arXiv 1810.03993)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class BerPoint(NamedTuple):
    """BER of a receiver at one point of its test.

    Attributes:
        interference_fraction, sinr_db: the point.
        slots: counted.
        ber, ber_low, ber_high: BER and its 95 % interval.
    """

    interference_fraction: float
    sinr_db: float
    slots: int
    ber: float
    ber_low: float
    ber_high: float


def model_card(
    card: dict[str, Any], macs: int, num_prb: int, points: Sequence[BerPoint], is_shipped: bool = False
) -> str:
    """The page in Markdown.

    Args:
        card: of the file, as :func:`receivers.export.export_onnx` writes it.
        macs: of one slot of ``num_prb`` resource blocks, all operators of the file.
        num_prb: resource blocks of the tested slots.
        points: of the receiver's test; none if it was not tested.
        is_shipped: whether the weights come with leanrx, and so have its licence.
    """
    receiver, parity = card["receiver"], card["parity"]
    is_network = "weights_sha256" in receiver
    lines = [
        f"# {receiver['name']}",
        "",
        f"A receiver of one OFDM slot, {_kind(receiver)}, from received samples to LLRs.",
        _licence(is_network, is_shipped),
        "",
        "## Interface",
        "",
        "| input | type | shape |",
        "|---|---|---|",
        *(f"| `{name}` | {x['dtype']} | {' x '.join(map(str, x['shape']))} |" for name, x in card["inputs"].items()),
        "",
        "The last dimension of 2 is real and imaginary part. The mean power of the wanted signal is 1, per resource",
        "element and antenna. `pilots` is 0 where there is no pilot.",
        "",
        f"The output `llrs` is {card['output']['dtype']}, {' x '.join(map(str, card['output']['shape']))}. It is "
        f"{card['output']['description']}.",
        "It is 0 where there is no data bit.",
        "",
        "## Grid",
        "",
        *_grid_lines(card["slots"]),
        "",
        "## Range of validity",
        "",
        _range_of_validity(receiver),
        "Outside of these conditions nothing is known. `card.json` holds them in full.",
        "",
        "## Bit error rate",
        "",
        *_error_table(points),
        "",
        f"The file and the receiver agree on {parity['slots']} new slots: the largest LLR difference is "
        f"{parity['max_llr_difference']:.1e}, with LLRs up to {parity['max_llr']:.1f}.",
        "",
        "## Cost",
        "",
        f"* Operations: {macs:,} MACs per slot of {num_prb} resource blocks, all operators of the file.",
        f"* Size: {card['bytes']:,} bytes"
        + (f", with {receiver['parameters']:,} trained parameters." if is_network else "."),
        "* Latency: not metered.",
        "* Energy: not metered.",
        "",
        f"SHA-256 of `{card['file']}`: `{card['sha256']}`.",
        f"SHA-256 of the weights: `{receiver['weights_sha256']}`."
        if is_network
        else f"Digest of the receiver: `{receiver['digest']}`.",
    ]
    return "\n".join(lines) + "\n"


def _grid_lines(slots: dict[str, Any]) -> list[str]:
    limits = str(slots["max_prb"]) if slots["max_prb"] else f"{slots['min_prb']} or more"
    return [
        f"* Resource blocks of 12 subcarriers: {limits}.",
        f"* Subcarrier spacing: {slots['subcarrier_spacing_hz']} Hz. Receive antennas: {slots['num_rx']}.",
        *(
            f"* Pilots: OFDM symbols {', '.join(map(str, symbols))}, subcarriers {', '.join(map(str, subcarriers))} of "
            "each resource block."
            for symbols, subcarriers in slots["pilots"]
        ),
    ]


def _kind(receiver: dict[str, Any]) -> str:
    return f"`{receiver['receiver']}`" if "receiver" in receiver else "with a covariance of the channel"


def _licence(is_network: bool, is_shipped: bool) -> str:
    if not is_network:
        return "The graph is part of leanrx, under the licence Apache-2.0."
    if is_shipped:
        return "Graph and weights are part of leanrx, under the licence Apache-2.0."
    return "The graph is part of leanrx, under the licence Apache-2.0. The weights belong to those who trained them."


def _range_of_validity(receiver: dict[str, Any]) -> str:
    if "weights_sha256" not in receiver:
        scenario = receiver["scenario"]
        return (
            f"Its covariance is that of scenario {scenario['name']}, test channels "
            f"{', '.join(scenario['channels']['test'])}."
        )
    low, high = receiver["trained_sinr_db"]
    return (
        f"It was trained on scenario {receiver['scenario']}, channels {', '.join(receiver['channels'])}, at a SINR of "
        f"{low:.1f} to {high:.1f} dB."
    )


def _error_table(points: Sequence[BerPoint]) -> list[str]:
    if not points:
        return ["Not tested yet."]
    rows = (
        f"| {x.interference_fraction:g} | {x.sinr_db:g} | {x.slots} | {x.ber:.2e} | "
        f"{x.ber_low:.2e} to {x.ber_high:.2e} |"
        for x in points
    )
    return ["| interference fraction | SINR [dB] | slots | BER | 95 % interval |", "|---|---|---|---|---|", *rows]
