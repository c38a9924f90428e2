"""Write the results of the agents into docs/carbon-case-studies.md: tables, and figures of curves and sweeps.

    leanrx carbon published aolo --train
    python scripts/reproduce/aolo_tables.py --folder runs/aolo --meter
    python scripts/benchmarks/bench_aolo.py --keep

The values are kept in ``docs/data/aolo.json``, and those of the benchmark in ``docs/data/aolo-speed.json``. Without a
folder, the script only writes the tables from these files. Trainings of the site may have settings of their own, as
they are given to ``leanrx carbon published aolo --task site``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carbon.aolo.study import ACTORS, LONGEST, PAPER_REDUCTION, Study, StudySettings
from carbon.aolo.tasks import RequestTask, SiteTask, Task, excess_by_length
from leanrx.report import aolo_study
from leanrx.report.charts import to_files
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "carbon-case-studies.md"
KEPT = ROOT / "docs" / "data" / "aolo.json"
SPEED = ROOT / "docs" / "data" / "aolo-speed.json"
IMAGES = {"aolo-learning-requests.png", "aolo-learning-site.png", "aolo-sweeps.png"}
_TITLES = {"sac": "SAC", "sdrl": "SDRL"}


def kept_values() -> dict[str, Any]:
    """The values that the tables are written from."""
    return dict(json.loads(KEPT.read_text(encoding="utf-8")))


def keep(requests: Study, site: Study, meter: bool) -> None:
    """Keep values and figures of the trainings that are complete.

    Args:
        requests, site: their studies.
        meter: whether to meter the agents; else earlier metered values are kept.
    """
    results = aolo_study.aolo_results(requests, site, meter)
    if results.requests.headline is None:
        raise UserError(
            f"{requests.folder}: has no seed that both agents have completed; run: leanrx carbon published aolo --train"
        )
    values = aolo_study.plain(results)
    rows = values.pop("sweeps")
    kept = {
        key: values[key]
        for key in ("text", "requests", "site", "myopic_excess", "planner_closed", "constant_closed", "days")
    }
    kept["sweeps"] = {
        p: _ends([r for r in rows if r["parameter"] == p]) for p in dict.fromkeys(r["parameter"] for r in rows)
    }
    for name, study in (("requests", requests), ("site", site)):
        rates = {agent: study.learning_rate(agent) for agent in kept[name]["summaries"]}
        settings = study.settings
        kept[name] |= {"steps": settings.steps, "max_steps": settings.max_steps, "learning_rates": rates}
        kept[name]["is_tuned"] = settings.learning_rate is None
        kept[name]["decisions"] = {
            agent: [run[-1].decided for run in study.until_flat(agent).values()] for agent in kept[name]["until_flat"]
        }
    kept["requests"]["excess_by_length"] = _excess_by_length(requests)
    controllers = values["controllers"]
    kept |= {"spike_rates": controllers["spike_rates"], "proxies_j": controllers["proxies_j"]}
    kept["metered"] = _metered(controllers) if meter else _kept_metering()
    write_atomic(KEPT, json.dumps(kept, indent=1) + "\n")
    for figure in aolo_study.figures(results):
        for file, data in to_files(figure).items():
            if file in IMAGES:
                write_atomic(ROOT / "docs" / "images" / file, data)


def _paired(folder: Path, task: Task, settings: StudySettings) -> Study:
    """The study of the seeds that both agents have completed."""
    runs = [Study(folder, task, settings).completed(name) for name in ACTORS]
    seeds = tuple(seed for seed in settings.seeds if all(seed in run for run in runs))
    return Study(folder, task, settings.model_copy(update={"seeds": seeds}))


def _excess_by_length(requests: Study) -> dict[str, float]:
    """Mean over seeds of the part of the excess that the lengths cause, by agent."""
    assert isinstance(requests.task, RequestTask)
    pool, means = requests.task.held_out, {}
    for name in ACTORS:
        agents = [requests.trained_agent(name, seed) for seed in requests.completed(name)]
        means[name] = _mean([excess_by_length(pool, agent.act(pool.observations)) for agent in agents])
    return means


def _metered(controllers: dict[str, Any]) -> dict[str, Any]:
    """Joules of a decision and of a gradient step of each agent, its gradient steps, and the instrument."""
    return {
        name: {
            "instrument": energy["decision"]["instrument"],
            "provenance": energy["decision"]["provenance"],
            "decision_j": energy["decision"]["energy_j"] / energy["decision"]["repeats"],
            "gradient_step_j": energy["gradient_step"]["energy_j"] / energy["gradient_step"]["repeats"],
            "gradient_steps": controllers["gradient_steps"][name],
        }
        for name, energy in controllers["metered"].items()
    }


def _kept_metering() -> dict[str, Any]:
    return dict(kept_values().get("metered", {})) if KEPT.exists() else {}


def _ends(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Least and greatest mean over seeds of each column, over the values of one parameter."""
    ends = {}
    for column in ("reduction", "sac_gap", "sdrl_gap"):
        values = sorted({row["value"] for row in rows})
        means = [_mean([row[column] for row in rows if row["value"] == value]) for value in values]
        ends[column] = [min(means), max(means)]
    return {"values": [min(r["value"] for r in rows), max(r["value"] for r in rows)], **ends}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def tables() -> str:
    """All tables, from the values that are kept."""
    values = kept_values()
    parts = [
        _text_table(values["text"]),
        _request_table(values["requests"]),
        _reduction_table(values),
        _sweep_table(values["sweeps"]),
    ]
    parts += [_site_table(values), _energy_table(values), _speed_table()]
    return "\n\n".join(parts)


def _text_table(text: dict[str, dict[str, float]]) -> str:
    """Materiality of transmission for text."""
    heads = ["text, joules per token", "transmission", "is a half at", "choice of the power changes the total by"]
    rows = [
        [
            f"{float(factor):g} times",
            f"{100 * value['transmission_fraction']:.2g} %",
            f"{value['half_bits'] / 1e3:,.0f} kbit per token",
            f"{100 * value['power_effect']:.2g} %",
        ]
        for factor, value in text.items()
    ]
    return markdown_table(heads, rows)


def _request_table(part: dict[str, Any]) -> str:
    heads = ["", "learning rate", "above the optimum", "not projected", "violations of quality", "of deadline", "flat"]
    rows = []
    for title, summaries in (("", part["summaries"]), (", until flat", _extended(part))):
        for name, summary in summaries.items():
            cells = [_percent(summary[key]) for key in ("gap", "raw_gap", "quality_violations", "deadline_violations")]
            rate = f"{part['learning_rates'][name]:g}"
            rows.append([_TITLES[name] + title, rate, *cells, _flat(summary)])
    lengths = " and ".join(
        f"{100 * value:.0f} % of {_TITLES[name]}" for name, value in part["excess_by_length"].items()
    )
    return (
        f"Requests, after projection unless stated. {_budget(part)}\n\n{markdown_table(heads, rows)}\n\n"
        f"Longer answers than the optimal ones cause {lengths}'s excess. The rest is the choice of the power."
    )


def _budget(part: dict[str, Any]) -> str:
    """Decisions of the trainings in words."""
    text = f"Each training has {part['steps']:,} decisions"
    if not _extended(part):
        return f"{text}."
    longest = " and ".join(f"{max(part['decisions'][name]):,} for {_TITLES[name]}" for name in _extended(part))
    return f"{text}. In the rows 'until flat', they are doubled while a curve is not flat: at most {longest}."


def _extended(part: dict[str, Any]) -> dict[str, Any]:
    """Summaries of the agents of which a training has gone on."""
    return {name: s for name, s in part["until_flat"].items() if s != part["summaries"][name]}


def _flat(summary: dict[str, Any]) -> str:
    return f"{summary['flat_seeds']} of {summary['gap']['seeds']} seeds"


def _reduction_table(values: dict[str, Any]) -> str:
    part = values["requests"]
    ends = [end for sweep in values["sweeps"].values() for end in sweep["reduction"]]
    rows = [
        [f"after projection, {part['headline']['seeds']} seeds", _percent(part["headline"])],
        ["not projected", _percent(part["raw_headline"])],
        ["after projection, over all sweeps", f"{100 * min(ends):.1f} % to {100 * max(ends):.1f} %"],
        ["stated in the paper, in a setting that is not public", f"{100 * PAPER_REDUCTION:.2f} %"],
    ]
    if part["flat_headline"] is not None:
        rows.insert(1, ["after projection, until flat", _percent(part["flat_headline"])])
    return markdown_table(["footprint of SDRL below that of SAC; above it where negative", ""], rows)


def _sweep_table(sweeps: dict[str, dict[str, list[float]]]) -> str:
    heads = ["five values of", "from, to", "SDRL below SAC", "SAC above the optimum", "SDRL above the optimum"]
    rows = []
    for parameter, sweep in sweeps.items():
        low, high = sweep["values"]
        ranges = [_span(sweep[key]) for key in ("reduction", "sac_gap", "sdrl_gap")]
        rows.append([aolo_study.PARAMETERS[parameter], f"{_plain(low)}, {_plain(high)}", *ranges])
    return markdown_table(heads, rows, text_columns=2)


def _site_table(values: dict[str, Any]) -> str:
    part = values["site"]
    heads = ["", "learning rate", "seeds", "above the reference", "part of the gap closed", "flat"]
    excess = f"{100 * values['myopic_excess']:.1f} %"
    rows = [["myopic", "", "", excess, "0 %", ""]]
    for title, key in (("best choice that never changes", "constant"), ("planner with the expected day", "planner")):
        closed = values[f"{key}_closed"]
        rest = f"{100 * values['myopic_excess'] * (1 - closed):.1f} %"
        rows.append([title, "", "", rest, f"{100 * closed:.1f} %", ""])
    for title, summaries in (("", part["summaries"]), (", until flat", _extended(part))):
        for name, summary in summaries.items():
            closed = _percent(_closed(summary["gap"], values["myopic_excess"]))
            rate, seeds = f"{part['learning_rates'][name]:g}", str(summary["gap"]["seeds"])
            rows.append([_TITLES[name] + title, rate, seeds, _percent(summary["gap"]), closed, _flat(summary)])
    rows.append(["dynamic programming on the known day", "", "", "0 %", "100 %", ""])
    tuned = "" if part["is_tuned"] else " The learning rate is given, not tuned."
    return (
        f"Receiver site, {values['days']} held-out days. {_budget(part)}{tuned}\n\n{markdown_table(heads, rows)}\n\n"
        f"On the site, the footprint of SDRL is {_percent(part['headline'])} below that of SAC."
    )


def _closed(gap: dict[str, Any], myopic_excess: float) -> dict[str, Any]:
    """Part of the gap that an excess over the reference closes, with the interval of the excess."""
    ends = (gap[key] for key in ("mean", "high", "low"))
    closed = (None if value is None else 1 - value / myopic_excess for value in ends)
    return dict(zip(("mean", "low", "high"), closed, strict=True))


def _energy_table(values: dict[str, Any]) -> str:
    """Energy of one decision by the proxies, and by the meter beside a training."""
    heads = ["one decision", "arithmetic, 45 nm", "with updates of neurons", "with weights and states moved"]
    columns = ("arithmetic_j", "with_updates_j", "with_traffic_j")
    metered = values["metered"]
    if metered:
        heads += ["metered", "gradient step, metered", "gradient steps of a training"]
    rows = []
    for name, proxies in values["proxies_j"].items():
        row = [_TITLES[name], *(f"{1e9 * proxies[column]:.1f} nJ" for column in columns)]
        if metered:
            energy = metered[name]
            training_j = energy["gradient_step_j"] * energy["gradient_steps"]
            row += [f"{1e3 * energy[key]:.2g} mJ" for key in ("decision_j", "gradient_step_j")]
            row.append(f"{training_j:,.0f} J")
        rows.append(row)
    if not metered:
        return markdown_table(heads, rows)
    instruments = " and ".join(sorted({f"{e['instrument']} ({e['provenance']})" for e in metered.values()}))
    least = _TITLES[min(metered, key=lambda name: metered[name]["decision_j"])]
    return (
        f"{markdown_table(heads, rows)}\n\nMetered values are by {instruments}, on one CPU core. By the meter, a "
        f"decision of {least} needs less."
    )


def _speed_table() -> str:
    speeds = json.loads(SPEED.read_text(encoding="utf-8"))
    rows = [[name, f"{_three_digits(value):,}"] for name, value in speeds.items()]
    return markdown_table(["by CPU time on one core", "decisions per second"], rows)


def _three_digits(value: float) -> int:
    return int(float(f"{value:.3g}"))


def _percent(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{100 * estimate['mean']:.1f} %"
    return f"{100 * estimate['mean']:.1f} % ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _span(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} % to {100 * ends[1]:.1f} %"


def page() -> str:
    """The page with the present tables."""
    return with_marked_content(PAGE, {"agents": tables()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder of trained agents")
    parser.add_argument("--meter", action="store_true", help="meter decisions and gradient steps")
    parser.add_argument("--steps", type=int, default=StudySettings().steps, help="decisions of a training on requests")
    parser.add_argument("--site-steps", type=int, default=StudySettings().steps, help="the same on the site")
    parser.add_argument("--site-learning-rate", type=float, help="of both agents of the site, if it was not tuned")
    arguments = parser.parse_args()
    try:
        if arguments.folder:
            own = {"steps": arguments.site_steps, "learning_rate": arguments.site_learning_rate}
            settings = [{"steps": arguments.steps}, own]
            given = [StudySettings.parse({**s, "max_steps": LONGEST * s["steps"]}, "aolo_tables") for s in settings]
            requests = _paired(arguments.folder, RequestTask(), given[0])
            site = _paired(arguments.folder, SiteTask(aolo_study.shipped_site()), given[1])
            keep(requests, site, arguments.meter)
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"aolo_tables: {error}")


if __name__ == "__main__":
    main()
