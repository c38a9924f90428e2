"""Receivers and transmit power of a run: its family of receivers, figures, tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd

from carbon import Site
from carbon.block_power import BlockOptimum, block_optima
from carbon.link_table import (
    LinkCase,
    LinkTable,
    architecture_options,
    break_even_powers,
    carrier_links,
    choose,
    edge_path_loss_db,
    link_table,
)
from carbon.receiver_options import ErrorCurve, ReceiverFamily, ReceiverOption
from energy.metering.deployment import deployed_form, deployed_rows
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.report.charts import Band, Curve, Figure
from leanrx.report.formatting import PageTable, interval, number
from leanrx_core.errors import UserError


def held_neighbours(family: ReceiverFamily) -> str:
    """What is assumed of the interferers."""
    return (
        f"The power of interferers is held. It is {family.interference_fraction:.0%} of interference and noise here. "
        "Only under this assumption does own power move the SINR dB for dB; neighbours that answer with more power "
        "would take the gain back."
    )


def run_family(inventory: LifeCycleInventory, interference_fraction: float | None = None) -> ReceiverFamily:
    """The receivers of a run that were both tested and metered.

    Args:
        inventory: of the run.
        interference_fraction: of the test points; the lowest one if not given.

    Raises:
        UserError: if the run has no such test points.
    """
    rates = inventory.goodput
    fractions = sorted(float(f) for f in rates["interference_fraction"].unique())
    fraction = fractions[0] if interference_fraction is None else interference_fraction
    if fraction not in fractions:
        listed = ", ".join(f"{f:g}" for f in fractions)
        raise UserError(f"carbon: interference fraction {fraction:g} was not tested; choose from {listed}")
    at_fraction = rates[rates["interference_fraction"] == fraction]
    metered = deployed_rows(inventory.run.energy())
    metered = metered[metered["method"] == inventory.reference_instrument].set_index("receiver")
    repeatability = inventory.repeatability
    sd = repeatability.relative_sd if repeatability.degrees else math.nan
    options = []
    for name in inventory.roles:
        rows = at_fraction[at_fraction["receiver"] == name].sort_values("sinr_db")
        if name in metered.index and len(rows) > 1:
            options.append(_option(name, inventory, rows, metered.loc[name], sd))
    grid = inventory.run.config.scenario.grid
    label = inventory.run.config.label
    return ReceiverFamily(label, tuple(options), grid.num_prb, grid.subcarrier_spacing_hz, fraction)


def _option(
    name: str, inventory: LifeCycleInventory, rows: pd.DataFrame, energy: pd.Series, sd: float
) -> ReceiverOption:
    record = inventory.run.plan[name]
    return ReceiverOption(
        name=name,
        network=record.spec or name,
        bits=_curve(rows, "bit_errors", "bits", "ber"),
        blocks=_curve(rows, "block_errors", "transport_blocks", "bler") if rows["transport_blocks"].all() else None,
        bits_per_slot=float(rows["bits"].sum() / rows["slots"].sum()),
        energy_j=float(energy["energy_j"] / energy["slots"]),
        energy_sd=sd,
        duration_s=float(energy["duration_s"] / energy["slots"]),
        timed=deployed_form(energy["runtime"], energy["batch_slots"]),
        provenance=str(energy["provenance"]),
    )


def _curve(rows: pd.DataFrame, errors: str, trials: str, rate: str) -> ErrorCurve:
    columns = ("sinr_db", errors, trials, f"{rate}_low", f"{rate}_high")
    return ErrorCurve(*(rows[column].to_numpy(float) for column in columns))


COLUMNS = (
    *("receiver", "verdict", "sinr_db", "sinr_low_db", "sinr_high_db", "output_w", "sent_j", "sent_low_j"),
    *("sent_high_j", "received_j", "received_low_j", "received_high_j", "duration_s", "slot_g", "slot_low_g"),
    *("slot_high_g", "correct_bit_g", "correct_block_g", "provenance", "timed"),
)
"""Columns of the link's CSV file."""


def link_frame(table: LinkTable) -> pd.DataFrame:
    """The rows of a link table, with the columns :data:`COLUMNS`."""
    return pd.DataFrame([asdict(row) for row in table.rows])[list(COLUMNS)]


def conclusion(table: LinkTable) -> str:
    """The choice of a table in one or two sentences."""
    case, choice = table.case, table.choice
    where = f"{case.link.name} at {table.path_loss_db:.1f} dB path loss, {case.metric} {case.target:g}"
    if choice is None:
        return f"{where}: no receiver can be used."
    distinct = (
        "Its interval lies below those of all others."
        if table.is_distinct
        else "Intervals overlap, so the choice between the first is within the uncertainty."
    )
    return f"{where}: {choice.receiver}, {choice.slot_g:.3g} g per slot. {distinct}"


def refusals(table: LinkTable) -> list[str]:
    """A sentence for each receiver that cannot be used."""
    case, slot_ms = table.case, 1e3 * table.family.slot_s
    limit_w = case.link.max_output_w(table.family.num_prb)
    sentences = []
    for row in table.rows:
        if row.verdict == "too slow" and case.deadline_s is not None:
            limit_ms = 1e3 * case.deadline_s
            sentences.append(
                f"{row.receiver} is too slow: {1e3 * row.duration_s:.3g} ms per slot ({row.timed}), limit {limit_ms:g} "
                f"ms, slot {slot_ms:g} ms."
            )
        elif row.verdict == "error floor above the target":
            sentences.append(f"{row.receiver} does not reach {case.metric} {case.target:g} at any tested SINR.")
        elif row.verdict == "power above the limit":
            sentences.append(f"{row.receiver} needs {row.output_w:.3g} W over its blocks, limit {limit_w:.3g} W.")
    return sentences


def break_even_sentences(table: LinkTable) -> list[str]:
    """When each larger receiver pays, beside the power that the transmitter consumes at its limit."""
    case, family = table.case, table.family
    full_w = case.link.transmitter.load_w(case.link.max_output_w(family.num_prb))
    return [
        f"{b.larger} pays over {b.smaller} where the transmitter consumes more than {b.consumed_w:.3g} W for this "
        f"receiver's blocks ({b.gain_db:.2f} dB for {1e3 * b.extra_j:.3g} mJ); at its limit it consumes {full_w:.3g} W."
        for b in break_even_powers(family, case.target, case.metric)
    ]


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#7f5539", "#999999")
_RANGE_DB = 30.0
_POINTS = 241
_NAMED_BAND = 0.04
"""Part of the axis from which a band has its name."""


def link_figures(table: LinkTable) -> list[Figure]:
    """Grams over path loss, the break-even plane, and grams per correct block where blocks are counted.

    There is no plane where one receiver wins at every power.
    """
    figures = run_link_figures([table])
    if all(option.blocks is not None for option in table.family.options):
        optima = block_optima(table.family, table.case, table.path_loss_db)
        figures.append(_block_figure(table, optima))
    return figures


def _colours(family: ReceiverFamily) -> dict[str, str]:
    """Colours by name of the receiver: one for each architecture."""
    networks = list(dict.fromkeys(option.network for option in family.options))
    return {option.name: _COLOURS[networks.index(option.network) % len(_COLOURS)] for option in family.options}


def _path_loss_figure(table: LinkTable) -> Figure:
    family, case, link = table.family, table.case, table.case.link
    drawn = {option.name for option in architecture_options(family, case.target, case.metric)}
    rows = {row.receiver: row for row in table.rows if row.receiver in drawn and row.verdict != "too slow"}
    edge_db = edge_path_loss_db(family, case)
    lowest_sinr = min(row.sinr_db for row in rows.values())
    last_db = edge_db + max(row.sinr_db for row in rows.values()) - lowest_sinr
    losses = np.linspace(min(edge_db, table.path_loss_db) - _RANGE_DB, last_db, _POINTS)
    watt_g = link.transmitter.slope * family.slot_s * case.transmitter_site.operational_g(1.0)
    output_w_at_0_db = link.noise_w(family) * 10 ** (losses / 10)
    limit_w, colours = link.max_output_w(family.num_prb) * (1 + 1e-9), _colours(family)
    curves = []
    for name, row in rows.items():
        output_w = output_w_at_0_db * 10 ** (row.sinr_db / 10)
        usable = output_w <= limit_w
        received_g = case.receiver_site.operational_g(row.received_j)
        grams = (received_g + watt_g * output_w)[usable]
        curves.append(Curve(name, losses[usable].tolist(), grams.tolist(), colour=colours[name], marker="none"))
    sinrs = [row.sinr_db for row in rows.values()]
    received = [case.receiver_site.operational_g(row.received_j) for row in rows.values()]
    winners = choose(sinrs, received, watt_g, output_w_at_0_db, limit_w)
    return Figure(
        name=f"link-{link.name}",
        caption=f"Emissions per slot over path loss on the link {link.name}, for {case.metric} {case.target:g}. A line "
        "ends where the transmitter reaches its limit. The shade has the colour of the receiver of least carbon. Of "
        "each architecture, the receiver that needs the least SINR is drawn. "
        f"{held_neighbours(family)}",
        x_title="path loss [dB]",
        y_title="emissions per slot [gCO2e]",
        curves=curves,
        bands=tuple(_bands(losses, winners, list(rows), colours)),
    )


def _bands(losses: np.ndarray, winners: np.ndarray, names: Sequence[str], colours: dict[str, str]) -> list[Band]:
    """Ranges in which one receiver wins; narrow ones are shaded without a name, because names would overlap."""
    ends = [0, *(int(i) + 1 for i in np.flatnonzero(np.diff(winners))), len(winners)]
    bands = []
    for begin, end in pairwise(ends):
        winner = int(winners[begin])
        if winner >= 0:
            high = losses[min(end, len(losses) - 1)]
            wide = high - losses[begin] >= _NAMED_BAND * (losses[-1] - losses[0])
            name = names[winner] if wide else ""
            bands.append(Band(name, float(losses[begin]), float(high), colours[names[winner]]))
    return bands


_LINK_MARKERS = ("circle", "square", "diamond", "triangle-up")


def _break_even_figure(table: LinkTable) -> Figure:
    """Lines of break-even between neighbouring receivers, and the preset links as points."""
    family, case = table.family, table.case
    pairs = break_even_powers(family, case.target, case.metric)
    links = {**carrier_links(), case.link.name: case.link}
    colours = _colours(family)
    ends = np.geomspace(0.3, 3.0, 2)
    curves = [
        Curve(
            f"{pair.larger} over {pair.smaller}",
            (pair.extra_j / family.num_prb * ends).tolist(),
            (pair.consumed_w / family.num_prb * ends).tolist(),
            colour=colours[pair.larger],
            marker="none",
        )
        for pair in pairs
    ]
    for (name, link), marker in zip(links.items(), _LINK_MARKERS, strict=False):
        full_w = link.transmitter.load_w(link.max_output_w(family.num_prb)) / family.num_prb
        curves += [
            Curve(
                "" if index else f"{name}, full power",
                [pair.extra_j / family.num_prb],
                [full_w],
                colour=colours[pair.larger],
                marker=marker,
                lines=False,
                labels=[f"{name}: {pair.larger} over {pair.smaller}"],
            )
            for index, pair in enumerate(pairs)
        ]
    powers = [value for line in curves for value in line.y]
    return Figure(
        name="link-break-even",
        caption="Break-even of a larger receiver, with equal intensities on both sides. The horizontal axis is the "
        "energy that the larger receiver needs more. The shape of a point names its link, and the colour its pair. A "
        "point above the line of its pair means that the larger receiver pays on this link at full power, for "
        f"{case.metric} {case.target:g}.",
        x_title="extra energy per resource block and slot [J]",
        y_title="consumed power per resource block [W]",
        curves=curves,
        x_log=True,
        y_range=(min(powers) / 3, max(powers) * 3),
    )


def _block_figure(table: LinkTable, optima: Sequence[BlockOptimum]) -> Figure:
    colours, curves = _colours(table.family), []
    networks = {option.name: option.network for option in table.family.options}
    best = {networks[optimum.receiver]: optimum for optimum in reversed(optima)}  # the least of each comes first
    for optimum in best.values():
        finite = np.isfinite(optimum.curve_g)
        x, y = optimum.sinrs_db[finite][::20].tolist(), optimum.curve_g[finite][::20].tolist()
        colour = colours[optimum.receiver]
        curves.append(Curve(optimum.receiver, x, y, colour=colour, marker="none"))
        curves.append(Curve("", [optimum.sinr_db], [optimum.block_g], colour=colour, marker="star", size=11))
    return Figure(
        name="link-blocks",
        caption=f"Emissions per correct transport block over SINR at {table.path_loss_db:.1f} dB path loss. A star is "
        "the least of a receiver; of each architecture, the best receiver is drawn. Less power loses blocks, and more "
        "power buys few.",
        x_title="SINR per receive antenna [dB]",
        y_title="emissions per correct transport block [gCO2e]",
        curves=curves,
    )


def block_sentences(optima: Sequence[BlockOptimum]) -> list[str]:
    """The best power of each receiver for transport blocks."""
    return [
        f"{o.receiver}: least {o.block_g:.3g} g per correct block at {o.sinr_db:.2f} dB, {o.output_w:.3g} W, BLER "
        f"{o.bler:.3g}{'' if o.is_interior else ' (at the end of the range)'}."
        for o in optima
    ]


def link_page_table(table: LinkTable) -> PageTable:
    """The comparison as a table of the page."""
    head = [
        *(
            "receiver",
            "verdict",
            "µg per slot (95 %)",
            f"SINR for {table.case.metric} {table.case.target:g} [dB] (95 %)",
        ),
        *("sent [W]", "sent [mJ per slot]", "received [mJ per slot]", "time per slot [ms]"),
        *("ng per correct bit", "µg per correct block"),
    ]
    rows = [
        [
            row.receiver,
            row.verdict,
            interval(1e6 * row.slot_g, 1e6 * row.slot_low_g, 1e6 * row.slot_high_g, "{:.3g}"),
            interval(row.sinr_db, row.sinr_low_db, row.sinr_high_db, "{:.2f}"),
            number(row.output_w, "{:.3g}"),
            interval(1e3 * row.sent_j, 1e3 * row.sent_low_j, 1e3 * row.sent_high_j, "{:.3g}"),
            interval(1e3 * row.received_j, 1e3 * row.received_low_j, 1e3 * row.received_high_j, "{:.3g}"),
            f"{1e3 * row.duration_s:.3g}",
            number(1e9 * row.correct_bit_g, "{:.3g}"),
            number(1e6 * row.correct_block_g, "{:.3g}"),
        ]
        for row in table.rows
    ]
    note = f"{conclusion(table)} {' '.join(refusals(table))}".strip()
    return PageTable(head, rows, note, [link_file(table)])


def link_file(table: LinkTable) -> str:
    """Name of the CSV file of a link."""
    return f"link-{table.case.link.name}.csv"


def run_link_figures(tables: Sequence[LinkTable]) -> list[Figure]:
    """The figures of several links: grams over path loss for each, and one break-even plane."""
    pairs = [break_even_powers(table.family, table.case.target, table.case.metric) for table in tables[:1]]
    planes = [_break_even_figure(table) for table, rows in zip(tables, pairs, strict=False) if rows]
    return [*(_path_loss_figure(table) for table in tables), *planes]


def run_link_tables(inventory: LifeCycleInventory, site: Site) -> list[LinkTable]:
    """The preset links on a run, at the run's target BER, with one intensity on both sides.

    Returns:
        none where no receiver reaches the target.
    """
    family, target = run_family(inventory), inventory.run.config.report.target_ber
    outside = site.model_copy(update={"pue": 1.0})
    cases = [LinkCase(link, site, outside, target=target) for link in carrier_links().values()]
    if all(math.isnan(option.bits.required_sinr_db(target)[0]) for option in family.options):
        return []
    return [link_table(family, case) for case in cases]
