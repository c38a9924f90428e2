"""Coded transport blocks: decoding a receiver's LLRs with the 5G LDPC code.

One transport block fills the data REs of a slot. CRC, segmentation, LDPC coding and rate matching follow TS 38.212 and
use Sionna.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from channels import Slots
from leanrx_core.errors import UserError

if TYPE_CHECKING:
    from sionna.phy.nr import TBDecoder

MAX_CODE_RATE = 948 / 1024
"""Highest code rate (TS 38.212, 5.4.2.1)."""

_MESSAGE_SEED = 38212
_MAX_CODED_BITS = 2**17
"""Coded bits in one call of the decoder, which needs about a kilobyte for each."""


class TransportBlocks:
    """Counts block errors: one transport block per slot.

    The bits of a slot are uniformly random, not code words. This needs no change: NR scrambles a code word by adding a
    pseudo-random sequence (TS 38.211, 6.3.1.1). So any transmitted bits b are the code word c scrambled by
    ``s = b xor c``. As b is uniform, s is uniform too, independently of c. The statistics are those of a coded and
    scrambled slot. Multiplying the LLRs by ``1 - 2 s`` removes the scrambling, so slots of any stream give block
    errors. The code and its decoder treat all code words alike. So c is one fixed word per block size, and equal slots
    and LLRs give equal errors.

    The bits of a code word fill the slot's data REs over subcarriers first, then over symbols, all bits of an RE
    together (TS 38.211, 6.3.1.6). The block size follows TS 38.214, 5.1.3.2 from the number of coded bits and the
    rate. Decoding is sum-product with flooding. It stops after a third of the iterations where the CRC holds.

    Args:
        code_rate: target of information bits per coded bit, above 0 and at most 948/1024. Rates below 1/3 exist for
            small blocks only.
        num_iterations: maximum number of decoder iterations.
        device: torch device that decodes.

    Raises:
        UserError: if the rate or the number of iterations is out of range.
    """

    def __init__(self, code_rate: float, num_iterations: int = 20, device: str = "cpu") -> None:
        if not 0 < code_rate <= MAX_CODE_RATE:
            raise UserError(f"code_rate: {code_rate:g} is outside 0..948/1024 (0 excluded); 5G codes no higher")
        if num_iterations < 1:
            raise UserError(f"num_iterations: {num_iterations} is below 1")
        self.code_rate, self.num_iterations = code_rate, num_iterations
        target = torch.device(device)
        self.device = target.type if target.type == "cpu" else f"{target.type}:{target.index or 0}"  # Sionna's names

    @torch.no_grad()
    def errors(self, slots: Slots, llrs: torch.Tensor) -> torch.Tensor:
        """Decode the transport blocks and find the wrong ones.

        Args:
            slots: slots with the transmitted bits.
            llrs: log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)``, as of receivers.

        Returns:
            Whether each block is wrong, bool ``(B,)``.

        Raises:
            UserError: if there is no 5G code of this rate for the slots' number of coded bits.
        """
        wrong = torch.empty(len(slots), dtype=torch.bool, device=slots.bits.device)
        sizes = torch.stack([slots.bits_per_symbol, slots.is_data.sum((1, 2))], 1)
        for order, num_res in sizes.unique(dim=0).tolist():
            indices = torch.nonzero((sizes == sizes.new_tensor([order, num_res])).all(1))[:, 0]
            code = _code(self.code_rate, order, order * num_res, self.num_iterations, self.device)
            for part in indices.split(max(1, _MAX_CODED_BITS // (order * num_res))):
                is_data = slots.is_data[part]
                bits, coded_llrs = (
                    x[part, :order].permute(0, 2, 3, 1)[is_data].view(len(part), -1).to(self.device)
                    for x in (slots.bits, llrs)
                )
                wrong[part] = code.errors(bits, coded_llrs).to(wrong.device)
        return wrong


class _Code:
    """The code of one block size, with one of its code words."""

    def __init__(self, message: torch.Tensor, word: torch.Tensor, decoders: list[TBDecoder]) -> None:
        self._message, self._word, self._decoders = message, word, decoders

    def errors(self, bits: torch.Tensor, llrs: torch.Tensor) -> torch.Tensor:
        """Whether blocks are decoded wrongly, bool ``(b,)``, from transmitted bits and LLRs, both ``(b, n)``."""
        scrambling = bits ^ self._word
        llrs = llrs * (1 - 2 * scrambling.float())
        wrong = torch.ones(len(bits), dtype=torch.bool, device=bits.device)
        undecoded = torch.arange(len(bits), device=bits.device)
        for decoder in self._decoders:
            message, crc_holds = decoder(llrs[undecoded])
            wrong[undecoded] = (message != self._message).any(1)
            undecoded = undecoded[~crc_holds]
            if not len(undecoded):
                break
        return wrong


@lru_cache(maxsize=32)
def _code(code_rate: float, order: int, num_bits: int, num_iterations: int, device: str) -> _Code:
    from sionna.phy.nr import TBDecoder, TBEncoder  # takes seconds
    from sionna.phy.nr.utils import calculate_tb_size

    size = int(calculate_tb_size(order, code_rate, num_coded_bits=num_bits, return_cw_length=False, device=device)[0])
    try:
        encoder = TBEncoder(size, num_bits, code_rate, order, use_scrambler=False, precision="single", device=device)
    except ValueError as error:
        raise UserError(
            f"code_rate: {code_rate:g} gives no 5G code for {num_bits} coded bits in a slot "
            f"({str(error).rstrip('.')}); choose one nearer to 1/2, or a larger grid"
        ) from None
    message = torch.randint(2, (1, size), generator=torch.Generator().manual_seed(_MESSAGE_SEED)).float().to(device)
    decoders = [
        TBDecoder(encoder, num_bp_iter=n, precision="single", device=device)
        for n in sorted({-(-num_iterations // 3), num_iterations})
    ]
    return _Code(message, encoder(message).to(torch.uint8), decoders)
