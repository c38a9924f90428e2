"""Coded transport blocks: decoding a receiver's LLRs with the 5G LDPC code.

One transport block fills the data REs of a slot. Its format is that of :mod:`receivers.evaluation.transport_block`. CRC
and LDPC code are Sionna's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache

import torch

from channels import Slots
from leanrx_core.errors import UserError
from receivers.evaluation.mcs import MAX_CODE_RATE, MIN_CODE_RATE
from receivers.evaluation.transport_block import TransportFormat, transport_format

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
    together (TS 38.211, 6.3.1.6). Decoding is sum-product with flooding. It stops after the first
    iteration where the CRC holds.

    Args:
        code_rate: target of information bits per coded bit, from 30/1024 to 948/1024.
        num_iterations: maximum number of decoder iterations.
        device: torch device that decodes.

    Raises:
        UserError: if the rate or the number of iterations is out of range.
    """

    def __init__(self, code_rate: float, num_iterations: int = 20, device: str = "cpu") -> None:
        if not MIN_CODE_RATE <= code_rate <= MAX_CODE_RATE:
            raise UserError(f"code_rate: {code_rate:g} is no code rate of 5G; write a rate from 30/1024 to 948/1024")
        if num_iterations < 1:
            raise UserError(f"num_iterations: {num_iterations} is below 1")
        self.code_rate, self.num_iterations = code_rate, num_iterations
        target = torch.device(device)
        self.device = target.type if target.type == "cpu" else f"{target.type}:{target.index or 0}"  # Sionna's names

    def sizes_bits(self, slots: Slots) -> torch.Tensor:
        """Information bits of each slot's transport block, int64 ``(B,)``.

        Raises:
            UserError: as :meth:`errors`.
        """
        sizes = torch.empty(len(slots), dtype=torch.int64, device=slots.bits.device)
        for block, indices in self._formats(slots):
            sizes[indices] = block.size_bits
        return sizes

    @torch.no_grad()
    def errors(self, slots: Slots, llrs: torch.Tensor) -> torch.Tensor:
        """Decode the transport blocks and find the wrong ones.

        Args:
            slots: slots with the transmitted bits.
            llrs: log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)``, as of receivers.

        Returns:
            Whether each block is wrong, bool ``(B,)``.

        Raises:
            UserError: if a transport block of this rate does not fit into a slot.
        """
        wrong = torch.empty(len(slots), dtype=torch.bool, device=slots.bits.device)
        for block, indices in self._formats(slots):
            code = _code(block, self.num_iterations, self.device)
            for part in indices.split(max(1, _MAX_CODED_BITS // block.coded_bits)):
                is_data = slots.is_data[part]
                bits, coded_llrs = (
                    x[part, : block.bits_per_symbol].permute(0, 2, 3, 1)[is_data].view(len(part), -1).to(self.device)
                    for x in (slots.bits, llrs)
                )
                wrong[part] = code.errors(bits, coded_llrs).to(wrong.device)
        return wrong

    def _formats(self, slots: Slots) -> Iterator[tuple[TransportFormat, torch.Tensor]]:
        """The transport formats of a batch, each with the indices of its slots."""
        num_prb = slots.is_data.shape[-1] / 12
        kinds = torch.stack([slots.bits_per_symbol, slots.is_data.sum((1, 2))], 1)
        for order, num_res in kinds.unique(dim=0).tolist():
            indices = torch.nonzero((kinds == kinds.new_tensor([order, num_res])).all(1))[:, 0]
            yield transport_format(self.code_rate, order, num_res, num_prb), indices


class _Code:
    """The code of one transport format, with one of its code words."""

    def __init__(self, block: TransportFormat, num_iterations: int, device: str) -> None:
        from sionna.phy.fec.crc import CRCDecoder, CRCEncoder  # takes seconds

        options = {"precision": "single", "device": device}
        self._num_blocks = block.code_blocks
        self._num_iterations = num_iterations
        self._ldpc = _LdpcCode(block, device)
        crc_encoder = CRCEncoder("CRC24A" if block.crc_bits == 24 else "CRC16", **options)
        own_crc_encoder = CRCEncoder("CRC24B", **options) if block.code_blocks > 1 else None
        generator = torch.Generator().manual_seed(_MESSAGE_SEED)
        self.message = torch.randint(2, (1, block.size_bits), generator=generator).float().to(device)
        segments = crc_encoder(self.message).view(block.code_blocks, -1)
        if own_crc_encoder is not None:
            segments = own_crc_encoder(segments)
        self._crc_decoder = CRCDecoder(crc_encoder, **options)
        self._own_crc_decoder = None if own_crc_encoder is None else CRCDecoder(own_crc_encoder, **options)
        self.word = self._ldpc.encode(segments)

    def errors(self, bits: torch.Tensor, llrs: torch.Tensor) -> torch.Tensor:
        """Whether blocks are decoded wrongly, bool ``(b,)``, from transmitted bits and LLRs, both ``(b, n)``."""
        scrambling = bits ^ self.word
        llrs = self._ldpc.combine(llrs * (1 - 2 * scrambling.float()))
        wrong = torch.ones(len(bits), dtype=torch.bool, device=bits.device)
        undecoded = torch.arange(len(bits), device=bits.device)
        state: torch.Tensor | None = None
        for _ in range(self._num_iterations):
            segments, state = self._ldpc.decode(llrs[undecoded].flatten(0, 1), state)
            message, crc_holds = self._desegment(segments)
            wrong[undecoded] = (message != self.message).any(1)
            undecoded = undecoded[~crc_holds]
            if not len(undecoded):
                break
            state = state.unflatten(0, (-1, self._num_blocks))[~crc_holds].flatten(0, 1)
        return wrong

    def _desegment(self, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Messages ``(b, A)``, and whether the CRC of the transport block holds, ``(b,)``."""
        if self._own_crc_decoder is not None:
            segments, _ = self._own_crc_decoder(segments)
        message, crc_holds = self._crc_decoder(segments.reshape(len(segments) // self._num_blocks, -1))
        return message, crc_holds[:, 0].bool()


class _LdpcCode:
    """LDPC coding and rate matching of all code blocks of a transport block (TS 38.212, 5.3.2 and 5.4.2).

    Where a block needs more bits than Sionna's encoder gives, this class takes the whole circular buffer: redundancy
    version 0 has its first bits, version 2 the rest. Beyond the buffer, bits are repeated, and their LLRs are added.
    """

    def __init__(self, block: TransportFormat, device: str) -> None:
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

        num_bits, lengths = block.code_block_bits, block.rate_matched_bits
        options = {"bg": f"bg{block.base_graph}", "precision": "single", "device": device}
        mother_rate = {1: 1 / 3, 2: 1 / 5}[block.base_graph]
        self._versions: list[int] | None = None
        if num_bits / max(lengths) < mother_rate:  # Sionna refuses
            encoder = LDPC5GEncoder(num_bits, int(2.5 * num_bits), **options)  # of any length, for its buffer
            self._size, self._versions = encoder.n_cb_comp, [0, 2]
            self._start = encoder.get_start_positions_comp(self._versions)[1]
            self._encoder = LDPC5GEncoder(num_bits, self._size - self._start, **options)
        else:
            self._size, self._start = max(lengths), 0
            with warnings.catch_warnings():  # about rates from 948/1024 to 0.95, which rounding of the size gives
                warnings.simplefilter("ignore", UserWarning)
                self._encoder = LDPC5GEncoder(num_bits, self._size, **options)
        self._rounds = -(-max(lengths) // self._size)  # of the buffer
        self._position = torch.cat(
            [i * self._rounds * self._size + _interleaver(n, block.bits_per_symbol) for i, n in enumerate(lengths)]
        ).to(device)
        self._num_blocks = len(lengths)
        self._decoder = LDPC5GDecoder(
            self._encoder,
            return_state=True,
            num_iter=1,
            harq_mode=self._versions is not None,
            precision="single",
            device=device,
        )

    def encode(self, segments: torch.Tensor) -> torch.Tensor:
        """Code word of all code blocks, uint8 ``(n,)``, from their bits, ``(C, K')``."""
        if self._versions is None:
            buffer = self._encoder(segments)
        else:
            parts = self._encoder(segments, rv=self._versions)
            buffer = torch.cat([parts[:, 0, : self._start], parts[:, 1]], 1)
        return buffer.repeat(1, self._rounds).flatten()[self._position].to(torch.uint8)

    def combine(self, llrs: torch.Tensor) -> torch.Tensor:
        """LLRs of the bits of each code block before rate matching, ``(b, C, bits)``, from those of the code word."""
        rounds = llrs.new_zeros(len(llrs), self._num_blocks, self._rounds, self._size)
        rounds.view(len(llrs), -1)[:, self._position] = llrs
        return rounds.sum(2)

    def decode(self, buffer: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """One iteration of the decoder.

        Args:
            buffer: LLRs of code blocks before rate matching, ``(b, bits)``.
            state: messages after the iterations before, ``(b, edges)``; none before the first.

        Returns:
            Bits ``(b, K')``, and the messages after this iteration.
        """
        if self._versions is None:
            return self._decoder(buffer, msg_v2c=state)
        first = torch.nn.functional.pad(buffer[:, : self._start], (0, self._encoder.n - self._start))
        return self._decoder(torch.stack([first, buffer[:, self._start :]], 1), rv=self._versions, msg_v2c=state)


def _interleaver(length: int, bits_per_symbol: int) -> torch.Tensor:
    """Positions before bit interleaving (TS 38.212, 5.4.2.2), int64 ``(length,)``."""
    return torch.arange(length).view(bits_per_symbol, -1).T.flatten()


@lru_cache(maxsize=32)
def _code(block: TransportFormat, num_iterations: int, device: str) -> _Code:
    return _Code(block, num_iterations, device)
