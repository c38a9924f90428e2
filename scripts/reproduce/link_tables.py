"""Write what the shipped receivers give on the preset links into docs/carbon-case-studies.md, and draw its figures.

    python scripts/reproduce/link_tables.py

Powers, joules, receivers and counted transport blocks are those of the zoo.
"""

from __future__ import annotations

import sys
from pathlib import Path

from carbon import Site, carbon_intensity
from carbon.block_power import BlockOptimum, block_optima
from carbon.link_table import LinkCase, LinkRow, break_even_powers, carrier_link, edge_path_loss_db, link_table
from carbon.receiver_options import ReceiverFamily, zoo_family
from leanrx.report.carbon_link import run_link_figures
from leanrx.report.charts import to_files
from leanrx.report.coded_table import code_phrase
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers import zoo

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "carbon-case-studies.md"
FAMILY = "tdl-6prb"
LINKS = {"uplink-ue": "phone", "radio-head": "radio head", "nr-macro": "NR macro"}
TARGETS = (0.1, 0.01)
DEADLINE_S = 1e-3
FIGURES = ("link-nr-macro.png", "link-break-even.png")


def _case(link: str, **options: float) -> LinkCase:
    world = Site(intensity=carbon_intensity("world-2023"))
    return LinkCase(carrier_link(link), world, world, **options)  # type: ignore[arg-type]


def _short(name: str) -> str:
    return name.removeprefix(f"{FAMILY}-")


def _cells(row: LinkRow) -> list[str]:
    grams = (1e6 * value for value in (row.slot_g, row.slot_low_g, row.slot_high_g))
    return [f"`{_short(row.receiver)}`", "{:#.3g} ({:#.3g} to {:#.3g})".format(*grams)]


def choice_table(family: ReceiverFamily) -> str:
    """The receiver of least carbon on each link, and the next one of another architecture."""
    heads = [
        "link",
        "BER",
        "path loss",
        "least carbon",
        "µg per slot (95 %)",
        "next architecture",
        "µg per slot (95 %)",
    ]
    networks = {option.name: option.network for option in family.options}
    rows = []
    for link, title in LINKS.items():
        for target in TARGETS:
            table = link_table(family, _case(link, target=target))
            usable = [row for row in table.rows if row.verdict in ("chosen", "more carbon")]
            rest = [row for row in usable[1:] if networks[row.receiver] != networks[usable[0].receiver]]
            cells = [cell for row in (usable[0], *rest[:1]) for cell in _cells(row)]
            rows.append([title, f"{target:g}", f"{table.path_loss_db:.1f} dB", *cells])
    return markdown_table(heads, rows)


def deadline_sentence(family: ReceiverFamily) -> str:
    """Which receivers a deadline of one slot refuses."""
    limit_ms = 1e3 * DEADLINE_S
    slow = [o for o in family.options if o.duration_s > DEADLINE_S]
    if not slow:
        return f"With a deadline of {limit_ms:g} ms, all receivers are in time."
    named = ", ".join(f"`{_short(o.name)}` ({1e3 * o.duration_s:.2f} ms)" for o in slow)
    begin = f"With a deadline of {limit_ms:g} ms, these are too slow: {named}."
    if len(slow) == len(family.options):
        return begin
    table = link_table(family, _case("nr-macro", deadline_s=DEADLINE_S))
    chosen = table.choice
    assert chosen is not None, "the path loss lets the last receiver in time reach the target"
    return f"{begin} On the NR macro at BER 0.01, `{_short(chosen.receiver)}` is then chosen."


def break_even_table(family: ReceiverFamily) -> str:
    """Consumption above which a larger receiver pays."""
    heads = ["BER", "larger", "over", "gain", "extra energy per slot", "pays above"]
    rows = [
        [
            f"{target:g}",
            f"`{_short(pair.larger)}`",
            f"`{_short(pair.smaller)}`",
            f"{pair.gain_db:.2f} dB",
            f"{1e3 * pair.extra_j:.2f} mJ",
            f"{pair.consumed_w:.3g} W",
        ]
        for target in TARGETS
        for pair in break_even_powers(family, target)
    ]
    return markdown_table(heads, rows, text_columns=3)


def optima(family: ReceiverFamily) -> dict[str, tuple[float, list[BlockOptimum]]]:
    """Path loss and optima of each link, at the path loss of the tables without a code."""
    result: dict[str, tuple[float, list[BlockOptimum]]] = {}
    for link in LINKS:
        path_loss_db = edge_path_loss_db(family, _case(link))
        result[link] = path_loss_db, block_optima(family, _case(link), path_loss_db)
    return result


def block_table(family: ReceiverFamily) -> str:
    """The power of least carbon per correct transport block."""
    links = optima(family)
    by_name = {link: {optimum.receiver: optimum for optimum in of_link} for link, (_, of_link) in links.items()}
    heads = ["receiver", *(f"{title}, {links[link][0]:.1f} dB" for link, title in LINKS.items())]
    rows = [
        [f"`{_short(option.name)}`", *(_block_cell(by_name[link].get(option.name)) for link in LINKS)]
        for option in sorted(family.options, key=lambda option: option.energy_j)
    ]
    shipped = next(option.name for option in family.options if option.name in zoo.names())
    return f"{code_phrase(zoo.results(shipped))}:\n\n{markdown_table(heads, rows)}"


def _block_cell(optimum: BlockOptimum | None) -> str:
    if optimum is None:
        return ""
    end = "" if optimum.is_interior else ", at the end of the range"
    return f"{f'{1e6 * optimum.block_g:#.2g}'.rstrip('.')} µg, BLER {optimum.bler:.2f}{end}"


def page() -> str:
    """The page with the present tables."""
    family = zoo_family(FAMILY)
    links = "\n\n".join([choice_table(family), deadline_sentence(family), break_even_table(family)])
    return with_marked_content(PAGE, {"links": links, "blocks": block_table(family)})


def draw() -> None:
    """The figures of the page, at BER 0.01."""
    family = zoo_family(FAMILY)
    for figure in run_link_figures([link_table(family, _case("nr-macro"))]):
        for name, data in to_files(figure).items():
            if name in FIGURES:
                write_atomic(ROOT / "docs" / "images" / name, data)


def main() -> None:
    try:
        write_atomic(PAGE, page())
        draw()
    except UserError as error:
        sys.exit(f"link_tables: {error}")


if __name__ == "__main__":
    main()
