"""What a token costs in the data centre: by floating-point operations, or by the regression of EcoLogits."""

from __future__ import annotations

import math

from pydantic import Field

from carbon.footprint import Provenance
from leanrx_core.checks import fraction, integer, positive
from leanrx_core.records import Record
from leanrx_core.units import JOULES_PER_KWH


class TokenCosts(Record):
    """Energy and time per token of prompt and of output. All costs are linear in the number of tokens.

    The attention of a long context is left out. It matters where the context approaches parameters / (2 x layers x
    width) tokens.

    Attributes:
        name: of model and method.
        prefill_j, decode_j: energy per token, J, at the socket of the computers, so without PUE.
        prefill_s, decode_s: time per token, s.
        prefill_device_s, decode_device_s: time of one device that a token occupies, s, for embodied emissions. All
            three of prefill are none where the prompt is not modelled by itself.
        provenance: of the joules.

    Example:
        >>> costs = ecologits_costs(active_billions=8, total_billions=8)
        >>> round(costs.decode_j, 4), round(costs.scaled(10).decode_j, 3)
        (0.2675, 2.675)
    """

    name: str
    prefill_j: float | None = Field(None, ge=0)
    decode_j: float = Field(ge=0)
    prefill_s: float | None = Field(None, ge=0)
    decode_s: float = Field(ge=0)
    prefill_device_s: float | None = Field(None, ge=0)
    decode_device_s: float = Field(ge=0)
    provenance: Provenance = "modelled"

    def scaled(self, factor: float) -> TokenCosts:
        """The same times with ``factor`` times the joules, to see whether a conclusion depends on them."""
        positive("factor", factor)
        prefill_j = None if self.prefill_j is None else factor * self.prefill_j
        joules = {"prefill_j": prefill_j, "decode_j": factor * self.decode_j}
        return self.model_copy(update={"name": f"{self.name}, {factor:g} x the joules", **joules})


def flop_costs(
    billions: float,
    devices: int,
    peak_flops: float,
    prefill_efficiency: float,
    decode_efficiency: float,
    device_power_w: float,
) -> TokenCosts:
    """Costs by floating-point operations, two per parameter and token (the form of LLMCarbon, 2309.14393).

    Decoding one request alone reads all weights for each token, so its efficiency is far below that of prefill.

    Args:
        billions: parameters that a token uses.
        devices: number of devices.
        peak_flops: of one device, FLOP/s.
        prefill_efficiency, decode_efficiency: achieved part of the peak, above 0 and up to 1.
        device_power_w: of one device under load.

    Example:
        >>> costs = flop_costs(8, devices=1, peak_flops=1e15, prefill_efficiency=0.4, decode_efficiency=0.02,
        ...     device_power_w=700)
        >>> round(costs.decode_j, 6)  # 700 W x 16 GFLOP / 20 TFLOP/s
        0.56
    """
    positive("billions", billions)
    integer("devices", devices, 1)
    positive("peak_flops", peak_flops)
    positive("device_power_w", device_power_w)
    seconds = {}
    for phase, efficiency in (("prefill", prefill_efficiency), ("decode", decode_efficiency)):
        positive(f"{phase}_efficiency", fraction(f"{phase}_efficiency", efficiency))
        seconds[phase] = 2e9 * billions / (devices * peak_flops * efficiency)
    return TokenCosts(
        name=f"{billions:g} B parameters by FLOPs",
        prefill_s=seconds["prefill"],
        decode_s=seconds["decode"],
        prefill_j=devices * device_power_w * seconds["prefill"],
        decode_j=devices * device_power_w * seconds["decode"],
        prefill_device_s=devices * seconds["prefill"],
        decode_device_s=devices * seconds["decode"],
    )


def ecologits_costs(active_billions: float, total_billions: float, batch: int = 64) -> TokenCosts:
    """Costs by the regression of EcoLogits 0.11.3 over measurements of the ML.ENERGY leaderboard.

    The model runs with 16 bits on servers of eight GPUs with 80 GB. The regression has no term for the prompt, so
    prefill is not modelled by itself.

    Args:
        active_billions: parameters that a token uses.
        total_billions: all parameters, which must fit the memory.
        batch: requests that the server decodes together.

    Returns:
        costs whose embodied emissions belong to the record ``NVIDIA H100``, boundary ``share of server``.
    """
    positive("active_billions", active_billions)
    positive("total_billions", total_billions)
    integer("batch", batch, 1)
    memory_gb = 1.2 * total_billions * _WEIGHT_BITS / 8
    gpus = 2 ** math.ceil(math.log2(math.ceil(memory_gb / _GPU_MEMORY_GB)))
    gpu_kwh = (_GPU_WH_ALPHA * math.exp(_GPU_WH_BETA * batch) * active_billions + _GPU_WH_GAMMA) / 1000
    latency_s = _LATENCY_ALPHA * active_billions + _LATENCY_BETA * batch + _LATENCY_GAMMA
    device_s = latency_s * gpus / batch
    server_j = 1e3 * _SERVER_KW * device_s / _SERVER_GPUS
    return TokenCosts(
        name=f"{active_billions:g} B active parameters by EcoLogits",
        decode_j=gpus * gpu_kwh * JOULES_PER_KWH + server_j,
        decode_s=latency_s,
        decode_device_s=device_s,
    )


# EcoLogits 0.11.3: energy of one GPU per token in Wh, latency per token in s, memory, and the server without GPUs.
_GPU_WH_ALPHA, _GPU_WH_BETA, _GPU_WH_GAMMA = 1.1665273170451914e-06, -0.011205921025579175, 4.052928146734005e-05
_LATENCY_ALPHA, _LATENCY_BETA, _LATENCY_GAMMA = 0.0006785088094353663, 0.0003119310311688259, 0.019473717579473387
_WEIGHT_BITS, _GPU_MEMORY_GB, _SERVER_GPUS, _SERVER_KW = 16, 80, 8, 1.2
