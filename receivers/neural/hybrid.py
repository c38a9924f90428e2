"""Hybrid receivers: a classical receiver that detects, and a small network that follows the channel between detections.

The front end, LMMSE channel estimation with a fixed covariance (:func:`receivers.classical.robust_estimator`), knows
the channel near the pilots; farther away a moving channel has drifted. The data can serve as further pilots once they
are detected, and a better channel detects them better, after the manner of expectation maximisation (A. P. Dempster,
N. M. Laird, D. B. Rubin, J. Royal Statistical Society B 39(1), 1977): each block detects with the channel as it is
(exact means of the symbols, nothing to learn), sees what these symbols say about the channel, and moves it (learned). A
channel changes little over half a resource block, so that there the network sees means and moves the channel once.

The last layers start at zero, so that the untrained network puts out the LLRs of the classical receiver.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from channels import NUM_SYMBOLS, Grid, Slots
from channels.grid import pam_levels
from receivers.base import FormulaCount
from receivers.classical import formula_count, robust_estimator
from receivers.classical.combining import apply_per_prb, residual_covariance, residual_covariance_macs, whitening_matrix
from receivers.classical.slot_sizes import SlotSizes
from receivers.neural.network import Network

SUBCARRIERS_PER_STATE = 6
"""The network has one state for so many neighbouring REs of a symbol."""

EXPANSION = 3
"""Channels inside a block for each channel of the state (inverted bottleneck, 1801.04381)."""

_DILATIONS = ((1, 1), (2, 1), (3, 2), (1, 1))
"""Over symbols and states; the blocks take the dilations in turn."""

_LEAST_ERROR_VAR = 1e-5
_LEAST_GAIN = 1e-4
_LEAST_VAR = 1e-4
_LEAST_EXCESS = 1e-3
"""Powers are kept above these so that no logarithm or quotient explodes; the last one bites above 30 dB of SINR, but
only in what the network sees."""


class Hybrid(Network):
    """The network: features to LLRs ``(B, num_bits, S, F)``, positive meaning 1; F is whole resource blocks.

    It has no batch normalisation, so that a slot's LLRs depend on that slot alone in training too.

    Args:
        num_rx: receive antennas R.
        num_bits: LLRs per RE, even; those beyond a slot's modulation mean nothing.
        width: channels of a state.
        depth: blocks.

    ``net(x, intermediate=True)`` gives the LLRs, and then the exact ones of the detections after each block but the last,
    which training can use.
    """

    feature_description: ClassVar[str] = (
        "received grid per antenna in white noise, real parts, then imaginary parts; the front end's channel "
        "estimate, likewise; known symbol, real and imaginary part (0 on data); 1 on data, else 0; error power of the "
        "channel estimate in its own direction; noise-plus-interference power; bits per symbol of the slot"
    )
    levels: torch.Tensor
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format  # most of its time goes to planes
    has_intermediate_llrs: ClassVar[bool] = True

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: float = 16, depth: int = 6) -> None:
        super().__init__(num_features=4 * num_rx + 6, num_bits=num_bits)
        width = int(width)
        self.num_rx, self.width = num_rx, width
        self.blocks = nn.ModuleList(_Block(num_rx, width, _DILATIONS[i % len(_DILATIONS)]) for i in range(depth))
        self.conv_out = nn.Conv2d(width, 2 * num_bits, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]
        self.register_buffer("levels", _levels_by_order(num_bits), persistent=False)
        self._labels = [
            (torch.nonzero(bit == 1)[:, 0].tolist(), torch.nonzero(bit == 0)[:, 0].tolist())
            for bit in pam_levels(num_bits // 2)[1].T
        ]  # of the levels, by bit: those where it is 1, those where it is 0

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        """Received grid, the front end's channel estimate and side information, see :attr:`feature_description`.

        Returns:
            float32 ``(B, 4 R + 6, S, F)``.
        """
        y, channel, error_var = front_end(slots)
        noise_plus_interference_var = (slots.noise_var + slots.interference_var)[:, None, None]
        known = torch.where(slots.is_data, 0, slots.pilots)
        planes = [
            known.real,
            known.imag,
            slots.is_data,
            error_var[:, 0],
            noise_plus_interference_var,
            slots.bits_per_symbol[:, None, None],
        ]
        return torch.cat(
            [
                y.real,
                y.imag,
                channel.real,
                channel.imag,
                torch.stack([plane.float().expand(known.shape) for plane in planes], 1),
            ],
            1,
        )

    def forward(self, x: torch.Tensor, intermediate: bool = False) -> torch.Tensor | tuple[torch.Tensor, ...]:
        r = self.num_rx
        y, channel, known, is_data, error_var, noise_plus_interference_var, order = x.split(
            [2 * r, 2 * r, 2, 1, 1, 1, 1], 1
        )
        levels = self.levels[order[:, 0, 0, 0].long() // 2 - 1][..., None, None]
        apart = (levels.amax(1, keepdim=True) - levels.amin(1, keepdim=True)) / (2 ** (order[:, :, :1, :1] / 2) - 1)
        occupied = is_data + (known != 0).any(1, keepdim=True)
        received = Received(y, noise_plus_interference_var, known, is_data, occupied, levels, apart.square())
        log_error = error_var.clamp_min(_LEAST_ERROR_VAR).log()
        state = x.new_zeros(x.shape[0], self.width, x.shape[2], x.shape[3] // SUBCARRIERS_PER_STATE)
        detected = detect(received, channel, log_error)
        before = []
        for block in self.blocks:
            found = findings(received, channel, log_error, detected)
            steps = block(state, avg_pool2d(found, (1, SUBCARRIERS_PER_STATE)))
            state = state + steps[0]
            channel = channel + _over_subcarriers(steps[1])
            log_error = log_error + _over_subcarriers(steps[2])
            detected = detect(received, channel, log_error)
            if intermediate:
                before.append(detected)
        scale, shift = _over_subcarriers(self.conv_out(torch.relu(state))).chunk(2, 1)
        llrs = self._llrs(detected)
        llrs = llrs + scale * llrs + shift
        return (llrs, *(self._llrs(detected) for detected in before[:-1])) if intermediate else llrs

    def formula_count(self, grid: Grid) -> FormulaCount:
        """Operations on one slot outside of the convolutions.

        These are the operations of LMMSE and, with R antennas, in complex MACs:

        * for the front end's white noise: residuals and their covariance as for rejecting interference, ``10 R^3`` for
          the inverse square root in each resource block (``9 R^3`` for eigenvalues and vectors, G. H. Golub, C. F. Van
          Loan, Matrix Computations, section 8.3, and a product), ``3 R^2 + R`` per RE for y, the channel and its error;
        * combining, per RE and block: ``1.5 R``;
        * soft symbols, per RE and block, with L levels per axis: ``1.75 L + 1`` (square and scale of 2 L distances,
          mean and second moment of both axes, two squared magnitudes), whose exponentials torch counts;
        * EM features, per RE and block: ``3.5 R`` (two products, one with a real number, a squared magnitude, a
          product with the reliability);
        * interpolating ``2 R + 1`` real values between two neighbours, per RE and block: half a complex MAC each;
        * interpolating the last layer's ``2 K`` values and scaling K LLRs, per RE: ``1.25 K``.
        """
        lmmse, r, levels = formula_count("LMMSE", grid, self.num_bits), grid.num_rx, 2 ** (self.num_bits // 2)
        whitening = residual_covariance_macs(SlotSizes.of(grid)) + 10 * r**3 * grid.num_prb
        per_block = 1.5 * r + 1.75 * levels + 1 + 3.5 * r + (2 * r + 1) / 2
        per_re = len(self.blocks) * per_block + 1.25 * self.num_bits + 3 * r * r + r
        complex_macs = whitening + per_re * NUM_SYMBOLS * grid.num_subcarriers
        return FormulaCount(lmmse.macs + int(4 * complex_macs), lmmse.elements)

    def _llrs(self, detected: Detected) -> torch.Tensor:
        """Exact LLRs ``(B, K, S, F)``, bits of both axes in turn (TS 38.211, 5.1)."""
        return torch.cat(
            [
                torch.logsumexp(metric[:, ones], 1, keepdim=True) - torch.logsumexp(metric[:, zeros], 1, keepdim=True)
                for ones, zeros in self._labels
                for metric in detected.metrics
            ],
            1,
        )


def front_end(slots: Slots) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The classical part: a channel estimate, and antennas turned so that interference is white noise.

    The covariance of noise and interference comes from the residuals at the pilots of each resource block, as that of
    LMMSE-IRC, and ``y`` and the channel are multiplied by its inverse square root.

    Returns:
        y and channel, complex64 ``(B, R, S, F)``, in white noise of the power that was told as far as the pilots tell
        its covariance, and the error power of the channel in its own direction, by which combining is hurt, float32
        ``(B, 1, S, F)``.
    """
    noise_plus_interference_var = slots.noise_var + slots.interference_var
    estimator = robust_estimator(slots.y.shape[-1], str(slots.y.device))
    channel, error_var = estimator.estimate(slots)
    parts = estimator.error_decomposition(slots, error_var)
    weights = whitening_matrix(residual_covariance(slots, channel), parts, noise_plus_interference_var)
    channel = apply_per_prb(weights, channel)
    gain = channel.abs().square().sum(1).clamp_min(_LEAST_GAIN)
    stretch = apply_per_prb(weights, channel).abs().square().sum(1) / gain  # what white power became
    error_var = (parts.gain * noise_plus_interference_var[:, None])[..., None] + parts.own[..., None] * stretch
    return apply_per_prb(weights, slots.y), channel, error_var[:, None]


class _Block(nn.Module):
    """Compare what was found with the state, look around, and say by how much to move state, channel and its error."""

    def __init__(self, num_rx: int, width: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.sizes = [width, 2 * num_rx, 1]
        inner = EXPANSION * width
        padding = (2 * dilation[0], dilation[1])
        self.compare = nn.Conv2d(width + num_em_features(num_rx), inner, 1)
        self.look_around = nn.Conv2d(inner, inner, (5, 3), padding=padding, dilation=dilation, groups=inner)
        self.move = nn.Conv2d(inner, sum(self.sizes), 1)
        with torch.no_grad():  # the channel stays the front end's until there is a reason to move it
            self.move.weight[width:] = 0
            self.move.bias[width:] = 0  # type: ignore[index]

    def forward(self, state: torch.Tensor, found: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.compare(torch.cat([state, found], 1)))
        return self.move(torch.relu(self.look_around(x))).split(self.sizes, 1)


class Received(NamedTuple):
    """What does not change from block to block, in real numbers.

    Attributes:
        y: received grid, real parts of the R antennas, then imaginary parts, float32 ``(B, 2 R, S, F)``.
        noise_plus_interference_var: noise-plus-interference power, float32 ``(B, 1, S, F)``.
        known: known symbols, real and imaginary part, 0 on data, float32 ``(B, 2, S, F)``.
        is_data: 1 on data, else 0, float32 ``(B, 1, S, F)``.
        occupied: 1 where a symbol was sent, else 0, float32 ``(B, 1, S, F)``.
        levels: of each slot's PAM in the order of labels, float32 ``(B, L, 1, 1)``.
        square_distance: of neighbouring levels, float32 ``(B, 1, 1, 1)``.
    """

    y: torch.Tensor
    noise_plus_interference_var: torch.Tensor
    known: torch.Tensor
    is_data: torch.Tensor
    occupied: torch.Tensor
    levels: torch.Tensor
    square_distance: torch.Tensor


class Detected(NamedTuple):
    """What a channel says about the symbols.

    Attributes:
        var: error power of the symbol estimate, float32 ``(B, 1, S, F)``.
        metrics: log-probabilities of the levels of both axes, up to a constant each, float32 ``(B, L, S, F)``.
    """

    var: torch.Tensor
    metrics: tuple[torch.Tensor, torch.Tensor]


def detect(received: Received, channel: torch.Tensor, log_error: torch.Tensor) -> Detected:
    """:func:`receivers.classical.mrc` in real numbers, and the distances to the levels.

    Args:
        received: what was received.
        channel: estimate h, laid out as ``received.y``.
        log_error: logarithm of the estimate's error power, float32 ``(B, 1, S, F)``.
    """
    (y_re, y_im), (h_re, h_im) = received.y.chunk(2, 1), channel.chunk(2, 1)
    gain = (h_re.square() + h_im.square()).sum(1, keepdim=True).clamp_min(_LEAST_GAIN)
    z_re = (h_re * y_re + h_im * y_im).sum(1, keepdim=True) / gain
    z_im = (h_re * y_im - h_im * y_re).sum(1, keepdim=True) / gain
    var = ((received.noise_plus_interference_var + log_error.clamp(-12, 3).exp()) / gain).clamp_min(_LEAST_VAR)
    return Detected(var, (-(z_re - received.levels).square() / var, -(z_im - received.levels).square() / var))


def num_em_features(num_rx: int) -> int:
    """Channels of :func:`findings` for ``num_rx`` receive antennas."""
    return 4 * num_rx + 6


def findings(received: Received, channel: torch.Tensor, log_error: torch.Tensor, detected: Detected) -> torch.Tensor:
    """What the symbols that were detected with a channel h say about it.

    With the mean x and the variance v of each symbol given ``y`` and h (the known symbol and 0 off data) and the error
    ``e_r = y_r - h_r x`` of each antenna.

    Args:
        received: what was received.
        channel, log_error: as those of :func:`detect`.
        detected: with them.

    Returns:
        float32 ``(B, 4 R + 6, S, F)``: ``e_r x* - h_r v``, which is the way that expectation maximisation would move
        h, real parts, then imaginary parts; the same times the reliability, 1 for a symbol that is certain, less with
        more v over the squared distance of neighbouring symbols, 0 for an RE without a symbol; that reliability;
        ``v``; ``|x|^2``; and logarithms of the error powers of the symbol estimate, of ``y`` as a multiple of what was
        told, and of the channel.
    """
    levels = received.levels
    shares = [torch.softmax(metric, 1) for metric in detected.metrics]
    mean = torch.cat([(share * levels).sum(1, keepdim=True) for share in shares], 1)
    square = ((shares[0] + shares[1]) * levels.square()).sum(1, keepdim=True)
    x = received.is_data * mean + received.known
    v = received.is_data * (square - mean.square().sum(1, keepdim=True))
    (y_re, y_im), (h_re, h_im), (x_re, x_im) = received.y.chunk(2, 1), channel.chunk(2, 1), x.chunk(2, 1)
    e_re = y_re - h_re * x_re + h_im * x_im
    e_im = y_im - h_re * x_im - h_im * x_re
    towards = torch.cat([e_re * x_re + e_im * x_im - h_re * v, e_im * x_re - e_re * x_im - h_im * v], 1)
    reliability = received.occupied * torch.exp(-8 * v / received.square_distance)
    error = (e_re.square() + e_im.square()).sum(1, keepdim=True)
    excess = (error + _LEAST_EXCESS) / received.noise_plus_interference_var.clamp_min(_LEAST_EXCESS)
    logs = 0.3 * torch.cat([detected.var.log(), excess.log(), log_error], 1)
    return torch.cat([towards, towards * reliability, reliability, v, x.square().sum(1, keepdim=True), logs], 1)


def _over_subcarriers(states: torch.Tensor) -> torch.Tensor:
    """From states to REs, by linear interpolation."""
    return interpolate(states, scale_factor=(1.0, float(SUBCARRIERS_PER_STATE)), mode="bilinear", align_corners=False)


def _levels_by_order(num_bits: int) -> torch.Tensor:
    """Levels of one axis by label, float32 ``(K / 2, L)``: row i is for i + 1 bits, whose labels repeat each level.

    So one detector serves all modulations up to K bits: equal levels share their probability, and a bit that
    distinguishes none has an LLR of 0.
    """
    most = num_bits // 2
    labels = torch.arange(2**most)
    return torch.stack([pam_levels(bits)[0][labels >> (most - bits)] for bits in range(1, most + 1)])


def check_size(width: float, depth: int) -> None:
    """Check that a hybrid of this width and depth exists.

    Raises:
        ValueError: if not.
    """
    if not 2 <= width <= 128 or not width.is_integer():
        raise ValueError(f"width {width:g} is not a whole number of channels in 2..128")
    if not 1 <= depth <= 32:
        raise ValueError(f"depth {depth} is outside 1..32 blocks")
