"""The energy of transporting bits over a hop: seven protocol layers, their overheads, radio and processing energy.

::

    application   b1 = b0 + data overhead + control overhead       b0: payload
    presentation  b2 = b1 + ...                                     each layer adds fractions of the bits
      ...                                                           that it receives
    physical      b7                                                bits on air

The values are those of the authors' calculator, which gives no source for them. Its code and the paper's
data-collection equation, as the authors' follow-up quotes it, differ in the sum over layers; see
:class:`AccountingConvention`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from leanrx_core.checks import choice, number
from leanrx_core.errors import UserError

_DEVICE_J_PER_BIT = 100 * 2e-10  # 100 cycles a bit
_GATEWAY_J_PER_BIT = 100 * 1e-10


@dataclass(frozen=True)
class TransportProtocol:
    """One protocol of one layer.

    Attributes:
        data_overhead, control_overhead: bits that the layer adds, as fractions of the bits handed down.
        tx_j_per_bit, rx_j_per_bit: radio, sender and receiver.
        device_j_per_bit, gateway_j_per_bit: processing at the end device and at the gateway.

    Raises:
        UserError: if a value is negative or not finite.
    """

    data_overhead: float
    control_overhead: float
    tx_j_per_bit: float
    rx_j_per_bit: float
    device_j_per_bit: float = _DEVICE_J_PER_BIT
    gateway_j_per_bit: float = _GATEWAY_J_PER_BIT

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number(f"protocol.{name}", value, 0.0)


def _symmetric(data_overhead: float, control_overhead: float, radio_nj_per_bit: float) -> TransportProtocol:
    return TransportProtocol(data_overhead, control_overhead, 1e-9 * radio_nj_per_bit, 1e-9 * radio_nj_per_bit)


_GENERIC = TransportProtocol(0.10, 0.05, 2e-8, 5e-10)

PROTOCOLS: dict[str, dict[str, TransportProtocol]] = {
    "application": {"HTTP": _symmetric(0.10, 0.05, 10), "FTP": _symmetric(0.03, 0.04, 10)},
    "presentation": {"TLS": _symmetric(0.08, 0.03, 20), "SSL": _symmetric(0.07, 0.04, 20)},
    "session": {"RPC": _symmetric(0.02, 0.02, 10)},
    "transport": {"TCP": _symmetric(0.05, 0.10, 20), "UDP": _symmetric(0.02, 0.01, 10)},
    "network": {"IPv4": _symmetric(0.03, 0.05, 20), "IPv6": _symmetric(0.04, 0.05, 20)},
    "datalink": {"ETHERNET": _symmetric(0.05, 0.05, 30), "WIFI_MAC": _symmetric(0.06, 0.08, 40)},
    "physical": {"WIFI_PHY": _symmetric(0.10, 0.15, 100), "BLUETOOTH": _symmetric(0.08, 0.12, 50)},
}
"""The calculator's table, by layer from the application down; each layer also has ``Generic_<layer>``."""
for _layer, _protocols in PROTOCOLS.items():
    _protocols[f"Generic_{_layer}"] = _GENERIC

LAYERS = tuple(PROTOCOLS)
_PHYSICAL = LAYERS.index("physical")

STACKS = {
    "generic": {layer: f"Generic_{layer}" for layer in LAYERS},
    "wifi": dict(zip(LAYERS, ("HTTP", "TLS", "RPC", "TCP", "IPv4", "WIFI_MAC", "WIFI_PHY"), strict=True)),
}
"""Named stacks: ``generic`` is the published curve's, ``wifi`` the calculator's other default."""


@dataclass(frozen=True)
class Hop:
    """One hop: a protocol per layer, application first, and the probability that a transmission fails and is repeated.

    Raises:
        UserError: if there are not seven layers, or the failure rate is outside 0..1 (1 excluded).

    Example:
        >>> f"{transport_energy_j(1e6, (hop('generic'),)):.3f} J for a million bits"
        '0.643 J for a million bits'
    """

    layers: tuple[TransportProtocol, ...]
    failure_rate: float = 0.0

    def __post_init__(self) -> None:
        if len(self.layers) != len(LAYERS):
            raise UserError(f"hop: {len(self.layers)} layers; give one protocol for each of {', '.join(LAYERS)}")
        number("hop.failure_rate", self.failure_rate, 0.0, 1.0)
        if self.failure_rate == 1:
            raise UserError("hop.failure_rate: at 1 nothing ever arrives; give a rate below 1")

    @property
    def transmissions(self) -> float:
        """Expected transmissions until one succeeds: the calculator repeats the whole stack, end to end."""
        return 1 / (1 - self.failure_rate)


def hop(
    stack: str | None = None, failure_rate: float = 0.0, protocols: Mapping[str, str | TransportProtocol] | None = None
) -> Hop:
    """A hop from names.

    Args:
        stack: a name of :data:`STACKS` that gives the layers not named in ``protocols``.
        failure_rate: from 0 to below 1.
        protocols: by layer, a name of :data:`PROTOCOLS` or a protocol of your own.

    Raises:
        UserError: if a stack, layer or protocol is unknown, or a layer has no protocol.
    """
    by_layer: dict[str, str | TransportProtocol] = dict(protocols or {})
    for unknown in by_layer.keys() - PROTOCOLS.keys():
        choice("hop", unknown, (*LAYERS, "stack", "failure_rate"))
    if stack is not None:
        by_layer = {**STACKS[choice("hop.stack", stack, STACKS)], **by_layer}
    missing = [layer for layer in LAYERS if layer not in by_layer]
    if missing:
        raise UserError(
            f"hop: no protocol for {', '.join(missing)}; name one each, or give stack: {' or '.join(STACKS)}"
        )
    return Hop(tuple(_protocol(layer, by_layer[layer]) for layer in LAYERS), failure_rate)


def _protocol(layer: str, protocol: str | TransportProtocol) -> TransportProtocol:
    if isinstance(protocol, TransportProtocol):
        return protocol
    table = PROTOCOLS[layer]
    return table[protocol if protocol in table else choice(f"hop.{layer}", protocol, table)]


@dataclass(frozen=True)
class AccountingConvention:
    """How the sum over layers is taken, where the calculator and the quoted equation differ.

    Attributes:
        overhead: ``truncated`` cuts each layer's two overheads to whole bits, as the calculator does; ``exact`` does
            not.
        radio: ``all-layers`` charges transmitting, receiving and processing at each of the seven layers, as the
            calculator does. ``physical`` charges the radio at the physical layer and processing at the six layers above
            it, as the paper's equation (3) is quoted.
        TOOL: the calculator's convention. The published curve was computed in it, and it is the default everywhere.
        EQUATION: the convention of the quoted equation.

    Raises:
        UserError: if a value is unknown.
    """

    overhead: Literal["truncated", "exact"] = "truncated"
    radio: Literal["all-layers", "physical"] = "all-layers"
    TOOL: ClassVar[AccountingConvention]
    EQUATION: ClassVar[AccountingConvention]

    def __post_init__(self) -> None:
        choice("convention.overhead", self.overhead, ("truncated", "exact"))
        choice("convention.radio", self.radio, ("all-layers", "physical"))


AccountingConvention.TOOL = AccountingConvention()
AccountingConvention.EQUATION = AccountingConvention("exact", "physical")


def layer_bits(payload_bits: float, hop: Hop, overhead: str = AccountingConvention.TOOL.overhead) -> list[float]:
    """Bits on each layer, application first."""
    bits, per_layer = payload_bits, []
    for protocol in hop.layers:
        extra = (bits * protocol.data_overhead, bits * protocol.control_overhead)
        bits += int(extra[0]) + int(extra[1]) if overhead == "truncated" else sum(extra)
        per_layer.append(bits)
    return per_layer


def transport_energy_j(
    payload_bits: float, hops: tuple[Hop, ...], convention: AccountingConvention = AccountingConvention.TOOL
) -> float:
    """Energy of transporting a payload over all hops, each of which starts from the payload; 0 J without hops."""
    return sum((_over_one_hop(payload_bits, hop, convention) for hop in hops), 0.0)


def _over_one_hop(payload_bits: float, hop: Hop, convention: AccountingConvention) -> float:
    energy_j, all_layers = 0.0, convention.radio == "all-layers"
    for index, (protocol, bits) in enumerate(
        zip(hop.layers, layer_bits(payload_bits, hop, convention.overhead), strict=True)
    ):
        if all_layers or index == _PHYSICAL:
            energy_j += bits * (protocol.tx_j_per_bit + protocol.rx_j_per_bit)
        if all_layers or index != _PHYSICAL:
            energy_j += bits * (protocol.device_j_per_bit + protocol.gateway_j_per_bit)
    return energy_j * hop.transmissions
