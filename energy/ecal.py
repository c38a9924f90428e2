"""The inference term of eCAL: joules per application bit that a receiver takes in.

eCAL (S.-K. Chou et al., "The Energy Cost of Artificial Intelligence Lifecycle in Communication Networks", IEEE JSAC
44, 2026) divides the energy of an AI life cycle by the application bits it handled. For very many inferences it tends
to its inference term ``(1 + gamma_v) E_inf / (f IS N_IP)`` with ``E_inf`` = data collection + preprocessing +
forward pass of one inference, f bits per value, IS values per sample, N_IP samples per inference, and gamma_v the
overhead of virtualisation. A receiver beside its radio collects nothing over a network, so ``hops`` is 0 by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from channels import NUM_SYMBOLS, Grid, UserError

_LAYERS = 7
_OVERHEAD = (0.10, 0.05)  # data plane, control plane: added at each layer
_J_PER_BIT = 2e-8 + 5e-10 + 100 * 2e-10 + 100 * 1e-10  # transmit, receive, device and gateway processing


def collection_j(payload_bits: float, truncate: bool = False) -> float:
    """Energy of carrying a payload over one hop of the generic seven-layer stack of the authors' calculator.

    Bits grow from the application layer down by the overheads of each layer; each layer's bits cost the same per bit.

    Args:
        payload_bits: application bits.
        truncate: cut each overhead to whole bits, as the calculator does.
    """
    bits, energy_j = payload_bits, 0.0
    for _ in range(_LAYERS):
        extra = [bits * share for share in _OVERHEAD]
        bits += sum(int(e) if truncate else e for e in extra)
        energy_j += bits * _J_PER_BIT
    return energy_j


@dataclass(frozen=True)
class InferenceTerm:
    """eCAL's limit for many inferences, and what it is made of.

    Attributes:
        ecal_j_per_bit: joules per application bit.
        bits: application bits per inference (of one slot).
        collection_j, processing_j, virtualisation_j: joules per inference by component.
        kind: mark of ``processing_j``: measured, modelled or assumed.
    """

    ecal_j_per_bit: float
    bits: int
    collection_j: float
    processing_j: float
    virtualisation_j: float
    kind: str


def slot_bits(grid: Grid, bits_per_value: int = 32) -> int:
    """Application bits of one slot: real and imaginary part of every received sample of every antenna."""
    return 2 * grid.num_rx * NUM_SYMBOLS * grid.num_subcarriers * bits_per_value


def inference_term(
    processing_j: float,
    bits: int,
    kind: str,
    hops: int = 0,
    virtualisation: float = 0.0,
    truncate: bool = False,
) -> InferenceTerm:
    """eCAL's inference term.

    Args:
        processing_j: preprocessing and forward pass of one inference.
        bits: application bits per inference.
        kind: mark of ``processing_j``.
        hops: network hops that the received samples cross before inference.
        virtualisation: overhead share gamma_v, 0 to 1.
        truncate: whole overhead bits, as the authors' calculator.

    Raises:
        UserError: if an argument is outside its range.
    """
    if bits < 1:
        raise UserError(f"bits: {bits} per inference; give 1 or more")
    if processing_j < 0 or hops < 0:
        raise UserError(f"processing_j {processing_j} and hops {hops} must not be negative")
    if not 0 <= virtualisation <= 1:
        raise UserError(f"virtualisation: {virtualisation} is outside 0..1")
    collection = hops * collection_j(bits, truncate)
    extra = virtualisation * (collection + processing_j)
    return InferenceTerm((collection + processing_j + extra) / bits, bits, collection, processing_j, extra, kind)
