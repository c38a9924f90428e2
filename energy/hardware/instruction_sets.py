"""What one core computes per clock, by its microarchitecture.

The rules hold for families of processors. A processor that no rule names gets what its instruction set needs at least,
and the record says "assumed".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_ARM = 0x41
_FP32_PER_CLOCK = {
    **dict.fromkeys((0xD03, 0xD04, 0xD05, 0xD07, 0xD08, 0xD09), 8),  # Cortex-A53, A35, A55, A57, A72, A73
    **dict.fromkeys((0xD0A, 0xD0B, 0xD0D, 0xD41, 0xD42, 0xD47), 16),  # Cortex-A75, A76, A77, A78, A78AE, A710
    **dict.fromkeys((0xD44, 0xD48, 0xD4E), 32),  # Cortex-X1, X2, X3
    **dict.fromkeys((0xD0C, 0xD49), 16),  # Neoverse N1, N2
    **dict.fromkeys((0xD40, 0xD4F), 32),  # Neoverse V1, V2
}
"""FP32 FLOPs per clock by Arm's part number, from Arm's software optimization guides. One 128-bit FMA makes 8."""


@dataclass(frozen=True)
class InstructionSet:
    """What one core computes per clock.

    Attributes:
        fp32, int8: FLOPs, or integer operations, per clock; two per multiply-accumulate.
        assumption: about its units.
    """

    name: str
    fp32: int
    int8: int
    assumption: str


def instruction_set(
    info: dict[str, Any], part: tuple[int, int] | None = None, efficiency: bool = False
) -> InstructionSet:
    """Of a core of the CPU that ``cpuinfo`` describes.

    A VNNI or dot-product instruction does four 8-bit multiply-accumulates per 32-bit lane. Without it, 8-bit products
    run at most at twice the rate of fp32.

    Args:
        info: of ``cpuinfo``.
        part: implementer and part number of an Arm core.
        efficiency: whether it is one of the smaller cores of a hybrid Intel processor.
    """
    flags, vendor = set(info.get("flags") or ()), info.get("vendor_id_raw")
    if "avx512f" in flags:
        fp32, assumption = _avx512(info)
        dot = {"avx512_vnni", "avx512vnni"} & flags
        return InstructionSet("AVX-512 VNNI" if dot else "AVX-512", fp32, fp32 * (4 if dot else 2), assumption)
    if {"avx2", "fma"} <= flags:
        fp32, assumption = _avx2(info, efficiency)
        dot = {"avx_vnni"} & flags
        return InstructionSet("AVX2 VNNI" if dot else "AVX2", fp32, fp32 * (4 if dot else 2), assumption)
    if {"asimd", "neon"} & flags or vendor == "ARM":
        fp32, assumption = _neon(part)
        return InstructionSet("NEON", fp32, fp32 * (4 if "asimddp" in flags else 2), assumption)
    return InstructionSet("no FMA", 8, 8, "no FMA found, two 128-bit units assumed")


def _avx512(info: dict[str, Any]) -> tuple[int, str]:
    """AMD executes AVX-512 on 256-bit units up to Zen 4 (family 25) and in mobile Zen 5, else on 512-bit units.

    Intel's server cores have two 512-bit FMA units and its client cores one. Skylake servers (model 85) of the Bronze,
    Silver and Gold 5000 series have one, too.
    """
    family, model = _number(info, "family"), _number(info, "model")
    if info.get("vendor_id_raw") == "AuthenticAMD":
        mobile_zen_5 = family == 26 and (0x20 <= model <= 0x2F or 0x60 <= model <= 0x6F)
        narrow = family < 26 or mobile_zen_5
        return (32, "two 256-bit FMA units") if narrow else (64, "two 512-bit FMA units assumed")
    brand = str(info.get("brand_raw", ""))
    small_server = model == 0x55 and re.search(r"Bronze|Silver|Gold 5\d{3}", brand)
    if small_server or ("Core" in brand and model != 0x55):
        return 32, "one 512-bit FMA unit"
    return 64, "two 512-bit FMA units assumed"


def _avx2(info: dict[str, Any], efficiency: bool) -> tuple[int, str]:
    """The first Zen (family 23, models below 48), Intel's smaller cores, and processors of such cores halve AVX2."""
    family, model = _number(info, "family"), _number(info, "model")
    first_zen = info.get("vendor_id_raw") == "AuthenticAMD" and family == 23 and model < 0x30
    only_small = info.get("vendor_id_raw") == "GenuineIntel" and model in (0xBE, 0xAF, 0xB6)  # N100, Sierra Forest
    if first_zen or only_small or efficiency:
        return 16, "two 128-bit FMA units"
    return 32, "two 256-bit FMA units assumed"


def _neon(part: tuple[int, int] | None) -> tuple[int, str]:
    implementer, number = part or (0, 0)
    if implementer == _ARM and number in _FP32_PER_CLOCK:
        fp32 = _FP32_PER_CLOCK[number]
        return fp32, f"{fp32 // 8} x 128-bit FMA per clock"
    return 16, "two 128-bit FMA units assumed"


def _number(info: dict[str, Any], key: str) -> int:
    return int(info.get(key) or 0)
