"""Error rates with confidence intervals, from tables of counts."""

from __future__ import annotations

import pandas as pd

from receivers.evaluation.error_counts import COUNTED, POWER_SUMS, Counts

MIN_RELIABLE_ERRORS = 100
"""Wrong slots or transport blocks below which an interval is unreliable and no error floor can be claimed."""


def rates(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """BER, slot error rate and BLER per receiver and point, with confidence intervals.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount`.
        level: confidence level.

    Returns:
        columns ``receiver, interference_fraction, sinr_db, realised_sinr_db, slots, bits, bit_errors, slot_errors,
        correct_slot_bits, transport_blocks, block_errors, transport_block_bits, decoded_bits, ber, ber_low, ber_high,
        slot_error_rate, slot_error_rate_low, slot_error_rate_high, bler, bler_low, bler_high, reliable,
        bler_reliable``. A rate is reliable with at least :data:`MIN_RELIABLE_ERRORS` wrong slots or transport blocks.
        BLER is NaN where uncoded. The realised SINR is the mean wanted power over the mean unwanted power of the slots.

    Example:
        >>> import pandas as pd
        >>> from dataclasses import asdict
        >>> from receivers.evaluation.error_counts import BlockCount
        >>> row = BlockCount(receiver="LS", digest="ls/2", stream="", device="cpu", code_rate=0, block=0,
        ...     interference_fraction=0.0, sinr_db=10.0, slots=4, bits=400, bit_errors=20,
        ...     slot_errors=2, correct_slot_bits=200, bit_errors_sq=200, bit_errors_x_bits=2000, bits_sq=40000)
        >>> table = rates(pd.DataFrame([asdict(row)]))
        >>> float(table["ber"][0]), float(table["slot_error_rate"][0]), bool(table["reliable"][0])
        (0.05, 0.5, False)
    """
    keys = ["interference_fraction", "receiver", "sinr_db"]
    grouped = counts.astype(dict.fromkeys(POWER_SUMS, float)).groupby(keys, sort=True)
    table = grouped[[*COUNTED, "correct_slot_bits"]].sum().reset_index()
    sums = [Counts(**row) for row in table[list(COUNTED)].to_dict("records")]
    table["realised_sinr_db"] = [c.realised_sinr_db for c in sums]
    table["ber"] = table["bit_errors"] / table["bits"]
    table["slot_error_rate"] = table["slot_errors"] / table["slots"]
    table["bler"] = table["block_errors"] / table["transport_blocks"]
    for name, interval in (
        ("ber", Counts.ber_interval),
        ("slot_error_rate", Counts.slot_error_interval),
        ("bler", Counts.bler_interval),
    ):
        table[[f"{name}_low", f"{name}_high"]] = [interval(c, level) for c in sums]
    table["reliable"] = table["slot_errors"] >= MIN_RELIABLE_ERRORS
    table["bler_reliable"] = table["block_errors"] >= MIN_RELIABLE_ERRORS
    return table.drop(columns=[*POWER_SUMS, "wanted_power", "unwanted_power"])
