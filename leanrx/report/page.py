"""The page of a report and its files, written together and swapped in at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pandas as pd

from carbon.deta.receiver_network import ReceiverNetwork
from carbon.link_table import LinkTable
from channels import Grid
from leanrx.experiment.run import Run
from leanrx.report import (
    ber_figures,
    carbon_link,
    comparison_figures,
    impact_statement,
    life_cycle_figures,
    life_cycle_tables,
    page_tables,
    receiver_sites,
    site_figures,
)
from leanrx.report import text as report_text
from leanrx.report.charts import AnyFigure, to_files, to_plotly
from leanrx.report.emissions import EmissionBasis, emission_table, emissions
from leanrx.report.formatting import PageTable
from leanrx.report.life_cycle_text import notes
from leanrx.report.receiver_sites import SiteResults
from leanrx.report.results import RunResults, run_results
from leanrx_core.files import replaced_folder, write_atomic


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading.
        texts: paragraphs.
        figures, tables: in this order, after the paragraphs.
    """

    title: str
    texts: Sequence[str] = ()
    figures: Sequence[AnyFigure] = ()
    tables: Sequence[PageTable] = field(default_factory=list)


def write_report(run: Run, basis: EmissionBasis | None = None, network: ReceiverNetwork | None = None) -> Path:
    """Write ``report/index.html``, each figure as PNG and PDF, and each table as CSV.

    Args:
        run: trained, evaluated and metered.
        basis: of the emissions; without it the report has none.
        network: of receiving sites that run the receivers; without it the report has none.

    Returns:
        the page.

    Raises:
        UserError: if the run was not evaluated or metered yet, or has no such functional units.
    """
    results = run_results(run)
    charts = figures(results)
    tables, page_sections = csv_tables(results), sections(results, charts)
    page_sections.insert(-1, _statement_section(results, basis, tables))
    if basis is not None:
        by_receiver = emissions(results.life_cycles, results.deployed_energy, basis)
        tables["carbon.csv"] = emission_table(by_receiver, basis.unit, results.deployed_energy["form"].to_dict())
        page_sections.insert(-1, _carbon_section(results, tables["carbon.csv"], basis))
        link_tables = carbon_link.run_link_tables(results.life_cycles, basis.site)
        link_charts = carbon_link.run_link_figures(link_tables)
        tables |= {carbon_link.link_file(table): carbon_link.link_frame(table) for table in link_tables}
        charts += link_charts
        page_sections.insert(-1, _link_section(results, link_tables, link_charts))
    if network is not None:
        sites = receiver_sites.site_results(network, carbon_link.run_family(results.life_cycles))
        site_section = network_section(sites)
        tables |= receiver_sites.csv_tables(sites)
        charts += site_section.figures
        page_sections.insert(-1, site_section)
    files: dict[str, bytes] = {"index.html": _html(results, page_sections).encode()}
    files["inputs.json"] = (json.dumps({"inputs": run.input_digests()}, indent=2) + "\n").encode()
    for figure in charts:
        files |= to_files(figure)
    for name, table in tables.items():
        if len(table):
            files[name] = table.to_csv(index=False, lineterminator="\n").encode()
    with replaced_folder(run.report_folder) as complete:
        for name, data in files.items():
            (complete / name).write_bytes(data)
    return run.report_folder / "index.html"


def figures(results: RunResults) -> list[AnyFigure]:
    """All figures of a report."""
    return [
        *ber_figures.figures(results),
        *comparison_figures.figures(results),
        *life_cycle_figures.figures(results.life_cycles),
    ]


def csv_tables(results: RunResults) -> dict[str, pd.DataFrame]:
    """All tables of a report by file name; an empty one is not written."""
    comparisons, life_cycles = results.comparisons, results.life_cycles
    return {
        "ber.csv": results.rates,
        "receivers.csv": results.receivers,
        "energy.csv": results.energy,
        "energy-files.csv": results.file_energy,
        "energy-estimates.csv": results.estimates,
        "training.csv": results.training,
        "variants.csv": comparisons.variants,
        "gains.csv": comparisons.gains,
        "gains-by-seed.csv": comparisons.gains_by_seed,
        "losses.csv": comparisons.losses,
        "error-floors.csv": comparisons.error_floors,
        "teachers.csv": comparisons.students_by_teacher,
        "families.csv": comparisons.families,
        "savings.csv": life_cycle_tables.savings_table(life_cycles),
        "life-cycle.csv": life_cycle_tables.life_cycle_table(life_cycles),
        "correct-bits.csv": life_cycle_tables.correct_bit_table(life_cycles),
        "payback.csv": life_cycle_tables.payback_table(life_cycles),
    }


_TRADE_OFF_FIGURES = ("trade-off", "ber-macs")
_GAIN_FIGURES = ("gain", "loss", "teachers", "map-", "settings")
_LIFE_CYCLE_FIGURES = ("ecal", "savings", "payback")


def sections(results: RunResults, charts: Sequence[AnyFigure]) -> list[Section]:
    """The sections of the page without emissions.

    Args:
        results: of the run.
        charts: of :func:`figures`.
    """

    def named(*prefixes: str) -> list[AnyFigure]:
        return [chart for chart in charts if chart.name.startswith(prefixes)]

    gains = Section(
        "Distillation gain",
        [report_text.GAIN_TEXT, *report_text.distillation_sentences(results)],
        named(*_GAIN_FIGURES),
        [page_tables.gain_page_table(results)],
    )
    validation = results.validation
    files = [page_tables.file_page_table(results)] if len(results.file_energy) else []
    return [
        Section("Bit error rate", [report_text.BIT_ERROR_RATE_TEXT], named("ber-interference")),
        *_coded_section(results, named("bler-interference")),
        Section(
            "Energy and latency against BER" if len(results.file_energy) else "Energy against BER",
            [report_text.energy_text(results)],
            named(*_TRADE_OFF_FIGURES),
            [page_tables.receiver_page_table(results), *files],
        ),
        *([gains] if len(results.comparisons.gains) else []),
        Section(
            "Energy model validation",
            [report_text.validation_text(results)],
            named("energy-estimates"),
            [
                page_tables.energy_page_table(results),
                *(page_tables.validation_page_tables(validation) if validation else []),
            ],
        ),
        Section("Training", [report_text.training_text(results)], tables=[page_tables.training_page_table(results)]),
        Section(
            "Life cycle",
            notes(results.life_cycles),
            named(*_LIFE_CYCLE_FIGURES),
            [
                life_cycle_tables.payback_page_table(results.life_cycles),
                life_cycle_tables.life_cycle_page_table(results.life_cycles),
            ],
        ),
        Section("Instruments and assumptions", tables=[page_tables.instrument_page_table(results)]),
    ]


def _coded_section(results: RunResults, charts: Sequence[AnyFigure]) -> list[Section]:
    """Block error rates and the formats of the blocks; nothing for an uncoded run."""
    formats = results.config.evaluation.transport_formats(results.config.scenario)
    if not formats or not charts:
        return []
    tables = [page_tables.transport_format_page_table(formats, results.config.evaluation.code_rate or 0.0)]
    return [Section("Block error rate", [report_text.BLOCK_ERROR_RATE_TEXT], charts, tables)]


def _carbon_section(results: RunResults, table: pd.DataFrame, basis: EmissionBasis) -> Section:
    intensity, life_cycles = basis.site.intensity, results.life_cycles
    place = f"{intensity.place} in {intensity.year}" if intensity.year else intensity.place
    text = (
        "Software Carbon Intensity by ISO/IEC 21031: ((E x I) + M) per R. E is the energy of inference in "
        f"the deployed form, by {results.reference_instrument}. I is the carbon intensity of {place} "
        f"({intensity.source}). R is one {basis.unit}, received at {life_cycles.sinr_db:g} dB SINR and interference "
        f"fraction {life_cycles.interference_fraction:g}."
    )
    return Section("Carbon", [text], tables=[page_tables.carbon_page_table(table)])


def _statement_section(results: RunResults, basis: EmissionBasis | None, tables: dict[str, pd.DataFrame]) -> Section:
    """The carbon impact statement; its table joins the tables."""
    inventory = results.life_cycles
    site = basis.site if basis else impact_statement.default_site()
    footprint = impact_statement.run_footprint(inventory, site)
    tables["carbon-statement.csv"] = impact_statement.statement_table(footprint)
    texts = impact_statement.statement_sentences(inventory, footprint, site, is_default=basis is None)
    return Section(
        "Carbon impact statement", [" ".join(texts)], tables=[impact_statement.statement_page_table(footprint)]
    )


def _link_section(results: RunResults, tables: Sequence[LinkTable], charts: Sequence[AnyFigure]) -> Section:
    title, target = "Receiver and transmit power", results.config.report.target_ber
    if not tables:
        return Section(title, [f"No receiver that was metered reaches BER {target:g}, so no link is compared."])
    text = (
        "A receiver that needs less SINR lets the transmitter send less. Each table compares receivers on one link, "
        "at the path loss at which the receiver that needs the most SINR requires full power. Sent joules are those "
        "that follow the power sent, over the receiver's resource blocks."
    )
    held = carbon_link.held_neighbours(tables[0].family)
    texts = [f"{text} {held}", *carbon_link.break_even_sentences(tables[0])]
    return Section(title, texts, charts, [carbon_link.link_page_table(table) for table in tables])


def network_section(results: SiteResults) -> Section:
    """Receiving sites over a day: what is chosen, the day as a strip, policies, choices, and stages."""
    texts = [" ".join([receiver_sites.headline(results), *receiver_sites.receiver_lines(results)])]
    tables = [receiver_sites.policy_page_table(results), receiver_sites.footprint_page_table(results)]
    return Section("Receiving sites over a day", texts, site_figures.figures(results), tables)


def write_network_page(results: SiteResults, folder: Path) -> None:
    """Write a page on receiving sites, its figures as PNG and PDF, and its tables as CSV into a folder."""
    section = network_section(results)
    family = results.family
    introduction = (
        f"{len(results.network.sites)} sites, {family.num_prb} resource blocks, link {results.network.link}. The "
        "joules of a receiver are those of its results. Path loss, traffic, panels, batteries and jobs are those of "
        "the file."
    )
    files = {
        name: table.to_csv(index=False, lineterminator="\n").encode()
        for name, table in receiver_sites.csv_tables(results).items()
    }
    for figure in section.figures:
        files |= to_files(figure)
    heading = f"Carbon of a network with receivers of {family.name}"
    files["index.html"] = page_html(heading, introduction, (), [section]).encode()
    for name, data in files.items():
        write_atomic(folder / name, data)


def _html(results: RunResults, page_sections: Sequence[Section]) -> str:
    heading = f"BER / energy trade-off: {results.config.label}"
    return page_html(heading, subtitle(results), report_text.key_results(results), page_sections)


def page_html(heading: str, introduction: str, key_results: Sequence[str], page_sections: Sequence[Section]) -> str:
    """A page that needs no other file but those that its links name.

    Args:
        heading: of the page.
        introduction: below it.
        key_results: sentences in a box; no box without any.
        page_sections: in order.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    template = (resources.files("leanrx.report") / "page.html.jinja").read_text()
    environment = jinja2.Environment(autoescape=True)
    environment.globals["plotly_html"] = _plotly_html
    return environment.from_string(template).render(
        heading=heading,
        introduction=introduction,
        key_results=key_results,
        sections=page_sections,
        plotly_js=get_plotlyjs(),
    )


def _plotly_html(figure: AnyFigure) -> str:
    return to_plotly(figure).to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{figure.name.replace('.', '-')}",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )


def subtitle(results: RunResults) -> str:
    """Scenario and channel models of the run in two sentences."""
    scenario = results.config.scenario
    grid = scenario.grid
    shortest_ns, longest_ns = (1e9 * s for s in scenario.delay_spread_s)
    mixed = f" in a mixture of {len(scenario.mixture)} conditions" if scenario.mixture else ""
    width = f"{grid.num_prb} PRB" if grid.subcarriers is None else f"{grid.num_subcarriers} subcarriers"
    return (
        f"Scenario {scenario.name}: {width} x 14 symbols, {grid.num_rx} receive antennas, "
        f"{', '.join(scenario.modulations)}, pilots: {pilot_phrase(grid)}, delay spread {shortest_ns:g} to "
        f"{longest_ns:g} ns, Doppler up to {scenario.max_doppler_hz[1]:g} Hz. Receivers are trained on "
        f"{', '.join(scenario.channels.train)}{mixed} and tested on {', '.join(scenario.channels.test)}."
    )


def pilot_phrase(grid: Grid) -> str:
    """The pilots of a grid.

    >>> pilot_phrase(Grid(pilot_patterns=((2,), (2, 11))))
    'symbols 2 or 2+11'
    """
    if grid.dmrs is None:
        return "symbols " + " or ".join("+".join(map(str, pattern)) for pattern in grid.pilot_patterns)
    dmrs = grid.dmrs
    length = "double-symbol" if dmrs.length == 2 else "single-symbol"
    positions = " or ".join(map(str, dmrs.additional_positions))
    return (
        f"{length} DMRS of type {dmrs.config_type} and mapping type {dmrs.mapping_type} with {positions} additional "
        "positions"
    )
