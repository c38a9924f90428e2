"""Take receivers of a run into the zoo, with their counts, operations and energy, and write docs/zoo.md anew.

    python scripts/reproduce/publish_to_zoo.py runs/family teacher hybrid-w13-d8-kd-s1=hybrid-w13-d8-kd --as tdl-6prb

takes the teacher as ``tdl-6prb-<its spec string>`` and the student as ``tdl-6prb-hybrid-w13-d8-kd``. Only receivers that the
run has evaluated and metered are taken, and their weights as they are, byte for byte. Without a run, the page alone is
written.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from energy.counting.counter import count
from energy.metering.table import inference_rows, reference_instrument
from leanrx.experiment.run import Run, load_run
from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY, write_atomic
from receivers import zoo
from receivers.classical import classical_receivers
from receivers.evaluation.error_counts import BlockCount, Counts
from receivers.neural.weights import Card, NeuralReceiver
from receivers.zoo.shipped_results import InferenceEnergy, Point, Results

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
MAX_BYTES = 20 * 2**20


def ship(run: Run, name: str, shipped_name: str, folder: Path = zoo.SHIPPED) -> None:
    """Take one receiver of a run into a zoo; one of the same name is replaced.

    Raises:
        UserError: if the run has no such receiver, or has not evaluated or metered it.
    """
    receiver = run.receiver(name)
    results = results_of(run, receiver)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as work:
        complete = Path(work) / "complete"
        weights = (run.receivers_folder / receiver.name / "weights.safetensors").read_bytes()
        write_atomic(complete / "weights.safetensors", weights)
        results.write(complete / "results.json")
        card = receiver.card.model_copy(update={"name": shipped_name})
        write_atomic(complete / "card.json", json.dumps(card.model_dump(mode="json"), indent=2) + "\n")
        if (folder / shipped_name).exists():
            (folder / shipped_name).rename(Path(work) / "old")
        complete.rename(folder / shipped_name)


def results_of(run: Run, receiver: NeuralReceiver) -> Results:
    """What a run has found out about one of its receivers.

    Raises:
        UserError: if it has not evaluated or metered these weights.
    """
    config = run.config
    counts, energy = run.counts(), run.energy()
    own = counts[counts["digest"] == receiver.digest]
    own = own[own["receiver"] == receiver.name]
    if own.empty:
        raise UserError(f"{run.ber_path}: no counts of {receiver.name} as it is; run: leanrx evaluate {run.folder}")
    rows = inference_rows(energy)
    metered = rows[(rows["digest"] == receiver.digest) & (rows["receiver"] == receiver.name)]
    if metered.empty:
        raise UserError(f"{run.energy_path}: no energy of {receiver.name} as it is; run: leanrx energy {run.folder}")
    reference = reference_instrument(energy, config.metering.reference_instrument)
    operations = count(receiver, config.scenario.grid)
    if not operations.counters_agree:
        raise UserError(f"{receiver.name}: two counters disagree on its operations; see leanrx count")
    return Results(
        weights_sha256=receiver.digest,
        scenario=config.scenario,
        test_seed=config.seed,
        block_slots=config.evaluation.block_slots,
        stream=own["stream"].iloc[0],
        device=own["device"].iloc[0],
        points=tuple(_points(counts, own, [r.name for r in classical_receivers(config.scenario)])),
        macs=operations.macs,
        macs_method=operations.method,
        energy=tuple(_inference_energy(row) for row in metered[metered["method"] == reference].to_dict("records")),
    )


def _points(counts: pd.DataFrame, own: pd.DataFrame, classical: Sequence[str]) -> list[Point]:
    keys = ["interference_fraction", "sinr_db"]
    found = []
    for (share, sinr_db), rows in own.groupby(keys, sort=True):
        here = counts[(counts["interference_fraction"] == share) & (counts["sinr_db"] == sinr_db)]
        here = here[here["block"].isin(rows["block"])]
        beside = {name: _sum(here[here["receiver"] == name]) for name in classical}
        found.append(
            Point(
                interference_fraction=share,
                sinr_db=sinr_db,
                realised_sinr_db=rows["realised_sinr_db"].mean(),
                counts=_sum(rows),
                classical=beside,
            )
        )
    return found


def _sum(rows: pd.DataFrame) -> Counts:
    total = Counts()
    for row in rows.to_dict("records"):
        total = total + BlockCount(**row)
    return total


def _inference_energy(row: dict[str, Any]) -> InferenceEnergy:
    values = {**row, "instrument": f"{row['method']} {row['description']}"}
    return InferenceEnergy(**{name: values[name] for name in InferenceEnergy.model_fields})


def page(folder: Path = zoo.SHIPPED) -> str:
    """The page of a zoo, in Markdown: every figure from its files."""
    entries = {name: (zoo.card(name, folder), zoo.results(name, folder)) for name in zoo.names(folder)}
    scenarios: dict[str, list[str]] = {}
    for name, (_, found) in entries.items():
        scenarios.setdefault(found.scenario.model_dump_json() + found.stream, []).append(name)
    return "\n".join([HEAD, *(_scenario({name: entries[name] for name in names}) for names in scenarios.values())])


HEAD = """# Receivers that come with leanrx

Written by `scripts/reproduce/publish_to_zoo.py` from the cards and results in `receivers/zoo`. `receivers.load(name)` loads one, and
`receivers.zoo.results(name)` has its counts; `teacher.pretrained` of a sweep takes a name too. Test slots and their
channel models are none that a receiver was trained on. BER with its 95 % interval over slots, all receivers of a table
on slots of one stream; "below" is the upper end of an interval that begins at zero. `scripts/reproduce/evaluate_zoo.py` tests
receivers on another grid.
"""


def _scenario(entries: dict[str, tuple[Card, Results]]) -> str:
    found = next(iter(entries.values()))[1]
    scenario, grid = found.scenario, found.scenario.grid
    points = {(p.interference_fraction, p.sinr_db): p for _, results in entries.values() for p in results.points}
    pilots = " or ".join("+".join(map(str, pattern)) for pattern in grid.pilot_patterns)
    counted = [p.counts.slots for p in points.values()]
    slots = dict.fromkeys(f"{n:,}" for n in (min(counted), max(counted)))
    lines = [
        f"## {scenario.name}",
        "",
        f"{grid.num_prb} PRB at {grid.subcarrier_spacing_hz / 1e3:g} kHz, {grid.num_rx} antennas, "
        f"{', '.join(scenario.modulations)}, pilots in symbols {pilots}, Doppler "
        f"{scenario.max_doppler_hz[0]:g} to {scenario.max_doppler_hz[1]:g} Hz; tested on "
        f"{', '.join(scenario.channels.test)}, {' to '.join(slots)} slots per point.",
        "",
        *_table(
            ["receiver", "network", "parameters", "MACs per slot", "mJ per slot", "kind, instrument, machine"],
            [
                [
                    f"`{name}`",
                    card.receiver,
                    f"{card.parameters:,}",
                    f"{results.macs:,}",
                    f"{1e3 * energy.energy_j_per_slot:.3g}",
                    f"{energy.provenance}, {energy.instrument}, {energy.machine}",
                ]
                for name, (card, results) in entries.items()
                for energy in results.energy
            ],
        ),
        "",
        *(_trained(name, card) for name, (card, _) in entries.items()),
    ]
    for share in sorted({share for share, _ in points}):
        columns = {sinr_db: point for (s, sinr_db), point in sorted(points.items()) if s == share}
        rows = [
            [name, *(_rate(point.classical[name]) for point in columns.values())]
            for name in next(iter(columns.values())).classical
        ]
        for name, (_, results) in entries.items():
            own = {p.sinr_db: p.counts for p in results.points if p.interference_fraction == share}
            rows.append([f"`{name}`", *(_rate(own[s]) if s in own else "" for s in columns)])
        lines += ["", f"BER, interference share {share:g}:", ""]
        lines += _table(["receiver", *(f"{sinr_db:g} dB" for sinr_db in columns)], rows)
    return "\n".join(lines) + "\n"


def _trained(name: str, card: Card) -> str:
    training, low, high = card.training, *card.trained_sinr_db
    taught = f" by {' and '.join(training['teachers'])}" if training["teachers"] else ""
    return (
        f"* `{name}`: {card.role}{' taught' if taught else ''}{taught}, {training['steps']:,} steps of "
        f"{training['batch_slots']} slots, {training['optimizer']} at {training['learning_rate']:g}, seed {card.seed}; "
        f"{', '.join(card.channels)} at {low:.0f} to {high:.0f} dB SINR."
    )


def _rate(counts: Counts) -> str:
    low, high = counts.ber_interval()
    return f"{counts.ber:.2e} ({low:.2e} to {high:.2e})" if low > 0 else f"below {high:.2e}"


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [headings, ["---"] * len(headings), *rows]]


def size_bytes(folder: Path = zoo.SHIPPED) -> int:
    """Of all receivers of a zoo."""
    return sum(path.stat().st_size for name in zoo.names(folder) for path in (folder / name).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    parser.add_argument("names", nargs="*", metavar="NAME[=SHIPPED]", help="receivers of the run")
    parser.add_argument("--as", dest="prefix", help="how names in the zoo begin; the scenario's name if not given")
    parser.add_argument("--zoo", type=Path, default=zoo.SHIPPED)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    try:
        if arguments.run:
            run = load_run(arguments.run)
            for given in arguments.names or run.receiver_names():
                name, _, own = given.partition("=")
                card = run.receiver(name).card
                own = own or (card.receiver if card.role == "teacher" else card.name)
                ship(run, name, f"{arguments.prefix or run.config.scenario.name}-{own}", arguments.zoo)
        write_atomic(arguments.page, page(arguments.zoo))
    except UserError as error:
        sys.exit(f"publish_to_zoo: {error}")
    size = size_bytes(arguments.zoo)
    print(
        f"{len(zoo.names(arguments.zoo))} receivers, {size / 2**20:.2f} of {MAX_BYTES / 2**20:g} MiB; {arguments.page}"
    )
    if size > MAX_BYTES:
        sys.exit("publish_to_zoo: too large; take fewer or smaller receivers")


if __name__ == "__main__":
    main()
