"""Publish receivers of a run to the zoo, with their counts, operations and energy, and rewrite docs/zoo.md.

    python scripts/reproduce/publish_to_zoo.py runs/family teacher hybrid-w13-d8-kd-s1=hybrid-w13-d8-kd --as tdl-6prb

publishes the teacher as ``tdl-6prb-<its spec string>`` and the student as ``tdl-6prb-hybrid-w13-d8-kd``. The run must
have evaluated and metered them. The weights are copied byte for byte. Without a run, the script only rewrites the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from channels import Scenario
from energy.counting.counter import count
from energy.metering.deployment import deployed_form, deployed_rows
from energy.metering.table import inference_rows, reference_instrument
from leanrx.experiment.run import Run, load_run
from leanrx.report.coded_table import TARGET_BLERS, code_phrase, coded_cell
from leanrx.report.page import pilot_phrase
from leanrx.report.zoo_table import ROLES, ShippedReceiver, rate, shipped_receivers
from leanrx_core.errors import UserError
from leanrx_core.files import replaced_folder, write_atomic
from leanrx_core.markdown import markdown_table
from receivers import zoo
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.error_counts import BlockCount, Counts
from receivers.neural.weights import Card, NeuralReceiver
from receivers.zoo.coded_results import CodedResults
from receivers.zoo.shipped_results import InferenceEnergy, Point, Results

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
MAX_BYTES = 20 * 2**20


def publish(run: Run, name: str, shipped_name: str, folder: Path = zoo.SHIPPED) -> None:
    """Publish one receiver of a run to a zoo; it replaces a receiver of the same name.

    Raises:
        UserError: if the run has no such receiver, or has not evaluated or metered it.
    """
    receiver = run.receiver(name)
    results = results_of(run, receiver)
    with replaced_folder(folder / shipped_name) as complete:
        weights = (run.receivers_folder / receiver.name / "weights.safetensors").read_bytes()
        write_atomic(complete / "weights.safetensors", weights)
        results.write(complete / "results.json")
        card = receiver.card.model_copy(update={"name": shipped_name})
        write_atomic(complete / "card.json", json.dumps(card.model_dump(mode="json"), indent=2) + "\n")


def results_of(run: Run, receiver: NeuralReceiver) -> Results:
    """Error counts, operations and energy of one receiver of a run.

    Raises:
        UserError: if it has not evaluated or metered these weights.
    """
    config = run.config
    counts, energy = run.counts(), run.energy()
    rows = counts[(counts["digest"] == receiver.digest) & (counts["receiver"] == receiver.name)]
    if rows.empty:
        raise UserError(f"{run.ber_path}: no counts of the present {receiver.name}; run: leanrx evaluate {run.folder}")
    metered = inference_rows(energy)
    metered = metered[(metered["digest"] == receiver.digest) & (metered["receiver"] == receiver.name)]
    if metered.empty:
        raise UserError(f"{run.energy_path}: no energy of the present {receiver.name}; run: leanrx energy {run.folder}")
    reference = reference_instrument(energy, config.metering.reference_instrument)
    operations = count(receiver, config.scenario.grid)
    if not operations.counters_agree:
        raise UserError(f"{receiver.name}: two counters disagree on its operations; see leanrx count")
    return Results(
        weights_sha256=receiver.digest,
        scenario=config.scenario,
        test_seed=config.seed,
        block_slots=config.evaluation.block_slots,
        stream=rows["stream"].iloc[0],
        device=rows["device"].iloc[0],
        points=tuple(_points(counts, rows, [r.name for r in classical_receivers(config.scenario)])),
        macs=operations.macs,
        macs_method=operations.method,
        energy=_energy(energy, reference, receiver.name),
        classical_energy=_classical_energy(energy, reference, [r.name for r in classical_receivers(config.scenario)]),
    )


def _classical_energy(
    energy: pd.DataFrame, reference: str, names: Sequence[str]
) -> dict[str, tuple[InferenceEnergy, ...]]:
    """Energy of the classical receivers that can be built, by the reference instrument."""
    metered = set(inference_rows(energy)["receiver"])
    return {name: _energy(energy, reference, name) for name in names if name in metered - set(GENIE_AIDED)}


def _energy(energy: pd.DataFrame, reference: str, name: str) -> tuple[InferenceEnergy, ...]:
    """Energy of a receiver by the reference instrument: in its cheapest form, and as tested."""
    rows = pd.concat([deployed_rows(energy), inference_rows(energy)])
    rows = rows[(rows["method"] == reference) & (rows["receiver"] == name)].drop_duplicates("runtime")
    return tuple(_inference_energy(row) for row in rows.to_dict("records"))


def _points(counts: pd.DataFrame, receiver_rows: pd.DataFrame, classical: Sequence[str]) -> list[Point]:
    points = []
    for (fraction, sinr_db), rows in receiver_rows.groupby(["interference_fraction", "sinr_db"], sort=True):
        at_point = counts[(counts["interference_fraction"] == fraction) & (counts["sinr_db"] == sinr_db)]
        at_point = at_point[at_point["block"].isin(rows["block"])]
        points.append(
            Point(
                interference_fraction=fraction,
                sinr_db=sinr_db,
                counts=_sum(rows),
                classical={name: _sum(at_point[at_point["receiver"] == name]) for name in classical},
            )
        )
    return points


def _sum(rows: pd.DataFrame) -> Counts:
    total = Counts()
    for row in rows.to_dict("records"):
        total = total + BlockCount(**row)
    return total


def _inference_energy(row: dict[str, Any]) -> InferenceEnergy:
    values = {**row, "instrument": f"{row['method']} {row['description']}"}
    return InferenceEnergy(**{name: values[name] for name in InferenceEnergy.model_fields})


def page(folder: Path = zoo.SHIPPED) -> str:
    """The page of a zoo in Markdown; all numbers come from its files."""
    scenarios: dict[str, list[ShippedReceiver]] = {}
    for receiver in shipped_receivers(folder):
        results = receiver.results
        scenarios.setdefault(results.scenario.model_dump_json() + results.stream, []).append(receiver)
    return "\n".join([HEAD, *(_scenario(receivers) for receivers in scenarios.values())])


HEAD = """# Receivers that ship with leanrx

`receivers.load(name)` loads a receiver, and `receivers.zoo.results(name)` returns its error counts.
`teacher.pretrained` in the YAML file of a sweep takes a name too. `scripts/reproduce/evaluate_zoo.py` tests receivers
on another grid. `scripts/reproduce/publish_to_zoo.py` writes this page from the files in `receivers/zoo`.

    leanrx zoo list
    leanrx zoo show tdl-6prb-hybrid-w5-d5-kd

`leanrx zoo list` prints the receivers with their size and required SINR. `leanrx zoo show NAME` prints the card of one:
conditions, counts, energy, training, and the hash of its file. Both take `--json`.

All receivers are tested on channel models they were not trained on. All receivers of a table see the same test slots.
The tables show the BER with its 95 % interval over slots. "below" gives the upper end of an interval that begins at
zero. A name that ends in `-scratch` is a scratch baseline: the student's network, trained from scratch on the same
slots.

With the LDPC code of 5G, each slot carries one [transport block](sinr-and-ber.md#coded-blocks), which is sent once.
`scripts/reproduce/coded_zoo.py` counts the wrong blocks.
"""


def _scenario(receivers: Sequence[ShippedReceiver]) -> str:
    scenario = receivers[0].results.scenario
    points = [point for receiver in receivers for point in receiver.results.points]
    lines = [f"## {scenario.name}", "", _conditions(scenario, points), "", *_cost_table(receivers), ""]
    lines += ["SINR is the one for a BER of 1e-2 without an interferer, with its 95 % interval.", ""]
    lines += [_training(receiver.name, receiver.card) for receiver in receivers]
    lines += _coded_table(receivers)
    for fraction in sorted({point.interference_fraction for point in points}):
        lines += ["", f"BER at interference fraction {fraction:g}:", "", *_ber_table(receivers, fraction)]
    return "\n".join(lines) + "\n"


def _conditions(scenario: Scenario, points: Sequence[Point]) -> str:
    grid = scenario.grid
    num_slots = [point.counts.slots for point in points]
    slots = " to ".join(dict.fromkeys(f"{n:,}" for n in (min(num_slots), max(num_slots))))
    return (
        f"The grid has {grid.num_prb} PRB at {grid.subcarrier_spacing_hz / 1e3:g} kHz and {grid.num_rx} receive "
        f"antennas. Modulation: {', '.join(scenario.modulations)}. Pilots: {pilot_phrase(grid)}. Doppler: "
        f"{scenario.max_doppler_hz[0]:g} to {scenario.max_doppler_hz[1]:g} Hz. Test channels: "
        f"{', '.join(scenario.channels.test)}, {slots} slots per point."
    )


def _cost_table(receivers: Sequence[ShippedReceiver]) -> list[str]:
    """Sizes, operations, required SINR and energy; each instrument is named once, below the table."""
    notes: dict[str, int] = {}
    rows = []
    for receiver in receivers:
        for energy in receiver.results.energy[:1]:
            form = deployed_form(energy.runtime, energy.batch_slots)
            note = notes.setdefault(f"{form}; {energy.instrument}, on {energy.machine}", len(notes) + 1)
            rows.append(
                [
                    f"`{receiver.name}`",
                    receiver.card.receiver,
                    f"{receiver.card.parameters:,}",
                    f"{receiver.results.macs:,}",
                    f"{receiver.macs_per_re:,.0f}",
                    f"{receiver.weights_bytes:,}",
                    receiver.required_sinr(0.0),
                    f"{1e3 * energy.energy_j_per_slot:.3g}",
                    f"{energy.provenance} ({note})",
                ]
            )
    headings = ["receiver", "network", "parameters", "MACs per slot", "MACs per RE", "bytes", "SINR [dB]"]
    headings += ["mJ per slot", "provenance"]
    return [*_table(headings, rows), "", *(f"({note}) {text}." for text, note in notes.items())]


def _coded_table(receivers: Sequence[ShippedReceiver]) -> list[str]:
    """Required SINRs with the code, where a code was tested; classical receivers come first."""
    tested = {r.name: r.results.coded for r in receivers if r.results.coded is not None}
    if not tested:
        return []
    first = next(iter(tested.values()))
    fractions = first.interference_fractions
    rows = [[name, *_coded_cells(first, fractions, name)] for name in first.classical]
    rows += [[f"`{name}`", *_coded_cells(coded, fractions)] for name, coded in tested.items()]
    heads = [f"BLER {target:g}, fraction {fraction:g}" for fraction in fractions for target in TARGET_BLERS]
    phrase = next(code_phrase(r.results) for r in receivers if r.name in tested)
    title = f"SINR [dB] with the LDPC code of 5G, by BLER and interference fraction: {phrase}."
    note = 'The intervals are of 95 %. "above" names the highest SINR that was tested.'
    return ["", f"{title} {note}", "", *_table(["receiver", *heads], rows)]


def _coded_cells(coded: CodedResults, fractions: Sequence[float], classical: str = "") -> list[str]:
    return [coded_cell(coded, fraction, target, classical) for fraction in fractions for target in TARGET_BLERS]


def _ber_table(receivers: Sequence[ShippedReceiver], fraction: float) -> list[str]:
    points = {(r.name, point.sinr_db): point for r in receivers for point in r.points(fraction)}
    columns = {sinr_db: point for (_, sinr_db), point in sorted(points.items(), key=lambda item: item[0][1])}
    classical = next(iter(columns.values())).classical
    rows = [[name, *(rate(point.classical[name]) for point in columns.values())] for name in classical]
    rows += [
        [f"`{r.name}`", *(rate(points[r.name, s].counts) if (r.name, s) in points else "" for s in columns)]
        for r in receivers
    ]
    return _table(["receiver", *(f"{sinr_db:g} dB" for sinr_db in columns)], rows)


def _training(name: str, card: Card) -> str:
    training, low, high = card.training, *card.trained_sinr_db
    teachers = f" of {' and '.join(training['teachers'])}" if training["teachers"] else ""
    return (
        f"* `{name}`: {ROLES[card.role]}{teachers}, {training['steps']:,} steps of "
        f"{training['batch_slots']} slots, {training['optimizer']} at {training['learning_rate']:g}, seed {card.seed}; "
        f"{', '.join(card.channels)} at {low:.0f} to {high:.0f} dB SINR."
    )


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    return markdown_table(headings, rows, text_columns=len(headings)).splitlines()


def size_bytes(folder: Path = zoo.SHIPPED) -> int:
    """Size of all files of a zoo."""
    return sum(path.stat().st_size for name in zoo.names(folder) for path in (folder / name).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    parser.add_argument("names", nargs="*", metavar="NAME[=SHIPPED]", help="receivers of the run")
    parser.add_argument("--as", dest="prefix", help="prefix of the names in the zoo; the scenario's name if not given")
    parser.add_argument("--zoo", type=Path, default=zoo.SHIPPED)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    try:
        if arguments.run:
            run = load_run(arguments.run)
            for argument in arguments.names or run.receiver_names():
                name, _, suffix = argument.partition("=")
                card = run.receiver(name).card
                suffix = suffix or (card.receiver if card.role == "teacher" else card.name)
                publish(run, name, f"{arguments.prefix or run.config.scenario.name}-{suffix}", arguments.zoo)
        write_atomic(arguments.page, page(arguments.zoo))
    except UserError as error:
        sys.exit(f"publish_to_zoo: {error}")
    size = size_bytes(arguments.zoo)
    print(
        f"{len(zoo.names(arguments.zoo))} receivers, {size / 2**20:.2f} of {MAX_BYTES / 2**20:g} MiB; {arguments.page}"
    )
    if size > MAX_BYTES:
        sys.exit("publish_to_zoo: too large; publish fewer or smaller receivers")


if __name__ == "__main__":
    main()
