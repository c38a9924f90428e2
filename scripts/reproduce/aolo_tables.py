"""Write the results of the agents into docs/carbon-case-studies.md: tables, and figures of curves and sweeps.

    leanrx carbon published aolo --train
    python scripts/reproduce/aolo_tables.py --folder runs/aolo

The values are kept in ``docs/data/aolo.json``. Without a folder, the script only writes the tables from this file.
Trainings of the site may have settings of their own, as they are given to ``leanrx carbon published aolo --task site``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carbon.aolo.study import PAPER_REDUCTION, Study, StudySettings
from carbon.aolo.tasks import RequestTask, SiteTask
from leanrx.report import aolo_study
from leanrx.report.charts import to_files
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "carbon-case-studies.md"
KEPT = ROOT / "docs" / "data" / "aolo.json"
IMAGES = {"aolo-learning-requests.png", "aolo-learning-site.png", "aolo-sweeps.png"}
_TITLES = {"sac": "SAC", "sdrl": "SDRL"}
_PARAMETERS = {
    "min_quality": "lowest quality",
    "path_loss_db": "path loss, dB",
    "bandwidth_hz": "bandwidth, Hz",
    "intensity ratio": "radio intensity over that of the data centre",
    "token_bits": "bits per token",
}


def kept_values() -> dict[str, Any]:
    """The values that the tables are written from."""
    return dict(json.loads(KEPT.read_text(encoding="utf-8")))


def keep(folder: Path, steps: int, site_settings: StudySettings) -> None:
    """Keep values and figures of the trainings that are complete."""
    requests = Study(folder, RequestTask(), StudySettings(steps=steps))
    site = Study(folder, SiteTask(aolo_study.shipped_site()), site_settings)
    results = aolo_study.aolo_results(requests, site, meter=False)
    if results.requests.headline is None:
        raise UserError(
            f"{folder}: has no seed that both agents have completed; run: leanrx carbon published aolo --train"
        )
    values = aolo_study.plain(results)
    rows = values.pop("sweeps")
    kept = {key: values[key] for key in ("requests", "site", "myopic_excess", "planner_closed", "days")}
    kept["sweeps"] = {
        p: _ends([r for r in rows if r["parameter"] == p]) for p in dict.fromkeys(r["parameter"] for r in rows)
    }
    for name, study in (("requests", requests), ("site", site)):
        rates = {agent: study.learning_rate(agent) for agent in kept[name]["summaries"]}
        kept[name] |= {"steps": study.settings.steps, "learning_rates": rates}
    kept["spike_rates"] = values["controllers"]["spike_rates"]
    kept["proxies_j"] = values["controllers"]["proxies_j"]
    write_atomic(KEPT, json.dumps(kept, indent=1) + "\n")
    for figure in aolo_study.figures(results):
        for file, data in to_files(figure).items():
            if file in IMAGES:
                write_atomic(ROOT / "docs" / "images" / file, data)


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
    parts = [_request_table(values["requests"]), _reduction_table(values), _sweep_table(values["sweeps"])]
    return "\n\n".join([*parts, _site_table(values), _proxy_table(values)])


def _request_table(part: dict[str, Any]) -> str:
    lines = [
        f"Requests, {part['steps']:,} decisions, after projection unless stated:",
        "",
        "| | learning rate | above the optimum | not projected | violations of quality | of deadline | flat |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, summary in part["summaries"].items():
        cells = [_percent(summary[key]) for key in ("gap", "raw_gap", "quality_violations", "deadline_violations")]
        flat = f"{summary['flat_seeds']} of {summary['gap']['seeds']} seeds"
        lines.append(f"| {_TITLES[name]} | {part['learning_rates'][name]:g} | {' | '.join(cells)} | {flat} |")
    return "\n".join(lines)


def _reduction_table(values: dict[str, Any]) -> str:
    part = values["requests"]
    ends = [end for sweep in values["sweeps"].values() for end in sweep["reduction"]]
    return "\n".join(
        [
            "| footprint of SDRL below that of SAC | |",
            "|---|---:|",
            f"| after projection, {part['headline']['seeds']} seeds | {_percent(part['headline'])} |",
            f"| not projected | {_percent(part['raw_headline'])} |",
            f"| after projection, over all sweeps | {100 * min(ends):.1f} % to {100 * max(ends):.1f} % |",
            f"| stated in the paper, in a setting that is not public | {100 * PAPER_REDUCTION:.2f} % |",
        ]
    )


def _sweep_table(sweeps: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        "| five values of | from, to | SDRL below SAC | SAC above the optimum | SDRL above the optimum |",
        "|---|---|---:|---:|---:|",
    ]
    for parameter, sweep in sweeps.items():
        ranges = [_span(sweep[key]) for key in ("reduction", "sac_gap", "sdrl_gap")]
        low, high = sweep["values"]
        lines.append(f"| {_PARAMETERS[parameter]} | {_plain(low)}, {_plain(high)} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def _site_table(values: dict[str, Any]) -> str:
    part = values["site"]
    lines = [
        f"Receiver site, {values['days']} held-out days; the myopic policy emits {100 * values['myopic_excess']:.1f} % "
        "more than dynamic programming:",
        "",
        "| | decisions of the training | seeds | part of the gap closed |",
        "|---|---:|---:|---:|",
        "| myopic | | | 0 % |",
        f"| planner with the expected day | | | {100 * values['planner_closed']:.1f} % |",
    ]
    for name, summary in part["summaries"].items():
        closed = 100 * part["closed"][name]
        lines.append(f"| {_TITLES[name]} | {part['steps']:,} | {summary['gap']['seeds']} | {closed:.1f} % |")
    return "\n".join([*lines, "| dynamic programming on the known day | | | 100 % |"])


def _proxy_table(values: dict[str, Any]) -> str:
    columns = ("arithmetic_j", "with_updates_j", "with_traffic_j")
    lines = [
        "| one decision by the 45 nm proxy | arithmetic | with updates of neurons | with weights and states moved |",
        "|---|---:|---:|---:|",
    ]
    for name, proxies in values["proxies_j"].items():
        lines.append(f"| {_TITLES[name]} | {' | '.join(f'{1e9 * proxies[c]:.1f} nJ' for c in columns)} |")
    return "\n".join(lines)


def _percent(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{100 * estimate['mean']:.1f} %"
    return f"{100 * estimate['mean']:.1f} % ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _span(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} % to {100 * ends[1]:.1f} %"


def page() -> str:
    """The page with the present tables between its two marks.

    Raises:
        UserError: if the page has no marks.
    """
    text = PAGE.read_text(encoding="utf-8")
    marks = r"(<!-- agents: begin -->\n).*?(\n<!-- agents: end -->)"
    if not re.search(marks, text, re.DOTALL):
        raise UserError(f"{PAGE}: has no marks around the tables of the agents; restore them")
    return re.sub(marks, lambda match: f"{match[1]}\n{tables()}\n{match[2]}", text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder of trained agents")
    parser.add_argument(
        "--steps", type=int, default=StudySettings().steps, help="decisions of each training on requests"
    )
    parser.add_argument("--site-steps", type=int, default=StudySettings().steps, help="the same on the site")
    parser.add_argument("--site-learning-rate", type=float, help="of both agents of the site, if it was not tuned")
    arguments = parser.parse_args()
    try:
        if arguments.folder:
            values = {"steps": arguments.site_steps, "learning_rate": arguments.site_learning_rate}
            keep(arguments.folder, arguments.steps, StudySettings.parse(values, "site"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"aolo_tables: {error}")


if __name__ == "__main__":
    main()
