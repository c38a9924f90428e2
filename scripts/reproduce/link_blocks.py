"""Count transport blocks of shipped receivers, and find the power of least carbon per correct block.

    python scripts/reproduce/link_blocks.py [--family tdl-6prb] [--code-rate 0.5] [--slots 256] [--link radio-head]

The shipped results are uncoded, so the receivers are first evaluated with a code. Counts are stored in ``--folder``,
and a second call resumes. The path loss is that of ``leanrx carbon link`` at BER 0.01, unless ``--path-loss`` gives
another. ``--keep`` writes the counts into ``docs/data/link-blocks.json``, from which
``scripts/reproduce/link_tables.py`` writes the table of the documentation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from carbon import Site, carbon_intensity
from carbon.block_power import block_optima
from carbon.link_table import LinkCase, carrier_link, edge_path_loss_db
from carbon.receiver_options import ReceiverFamily, error_curve, zoo_family
from channels import SlotStream
from leanrx.report.carbon_link import block_sentences
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.classical import classical_receivers
from receivers.evaluation.error_counts import COUNTED, Counts
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation

BLOCK_SLOTS = 32
KEPT = Path(__file__).parents[2] / "docs" / "data" / "link-blocks.json"


def coded_family(family: ReceiverFamily, evaluation: Evaluation, folder: Path) -> ReceiverFamily:
    """The family with counted transport blocks at its own interference fraction."""
    shipped = [option.name for option in family.options if option.name in zoo.names()]
    record = zoo.results(shipped[0])
    names = {option.name for option in family.options}
    receivers = [*(r for r in classical_receivers(record.scenario) if r.name in names), *map(zoo.load, shipped)]
    path = folder / f"{family.name}-rate-{evaluation.code_rate:g}.parquet"
    stream = SlotStream(record.scenario, record.test_seed, evaluation.block_slots, "test")
    for state in count_errors(receivers, stream, evaluation, path, 1):
        if state.stopped:
            print(f"{state.sinr_db:g} dB: {state.slots} slots", file=sys.stderr, flush=True)
    rows = pd.read_parquet(path)
    options = []
    for option in family.options:
        own = rows[rows["receiver"] == option.name].groupby("sinr_db")[list(COUNTED)].sum()
        counts = {float(sinr_db): Counts(**row) for sinr_db, row in zip(own.index, own.to_dict("records"), strict=True)}
        options.append(replace(option, blocks=error_curve(counts, blocks=True)))
    return replace(family, options=tuple(options))


def run(arguments: argparse.Namespace) -> None:
    """Evaluate the family, and print the optimum of each receiver."""
    family = zoo_family(arguments.family)
    names = arguments.receivers or [option.name for option in family.options]
    family = replace(family, options=tuple(o for o in family.options if o.name in names))
    settings = {
        "sinr_db": arguments.sinr_db,
        "interference_fractions": [family.interference_fraction],
        "code_rate": arguments.code_rate,
        "target_slot_errors": None,
        "block_slots": BLOCK_SLOTS,
        "min_slots": arguments.slots,
        "max_slots": arguments.slots,
    }
    coded = coded_family(family, Evaluation.parse(settings, "link_blocks"), arguments.folder)
    if arguments.keep:
        write_atomic(KEPT, json.dumps(kept_counts(coded, arguments), indent=1) + "\n")
    world = Site(intensity=carbon_intensity("world-2023"))
    case = LinkCase(carrier_link(arguments.link), world, world, path_loss_db=arguments.path_loss)
    path_loss_db = edge_path_loss_db(family, case) if case.path_loss_db is None else case.path_loss_db
    print(f"{case.link.name}, {path_loss_db:.1f} dB path loss, code rate {arguments.code_rate:g}")
    for sentence in block_sentences(block_optima(coded, case, path_loss_db)):
        print(sentence)


def kept_counts(family: ReceiverFamily, arguments: argparse.Namespace) -> dict[str, Any]:
    """The counts of a coded family as plain values, with the weights that they belong to."""
    shipped = {o.name: zoo.results(o.name).weights_sha256 for o in family.options if o.name in zoo.names()}
    curves = {o.name: {name: list(values) for name, values in vars(o.blocks).items()} for o in family.options}
    return {
        "family": family.name,
        "code_rate": arguments.code_rate,
        "slots": arguments.slots,
        "weights_sha256": shipped,
        "receivers": curves,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="tdl-6prb", help="of the zoo")
    parser.add_argument("--receivers", nargs="*", help="of the family; default: all")
    parser.add_argument("--code-rate", type=float, default=0.5)
    parser.add_argument("--slots", type=int, default=256, help=f"slots per point, a multiple of {BLOCK_SLOTS}")
    parser.add_argument("--sinr-db", type=float, nargs="+", default=[0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0])
    parser.add_argument("--link", default="radio-head")
    parser.add_argument("--path-loss", type=float, help="dB")
    parser.add_argument("--folder", type=Path, default=Path("runs/zoo"), help="of the counts")
    parser.add_argument("--keep", action="store_true", help="keep the counts for the documentation")
    try:
        run(parser.parse_args(argv))
    except UserError as error:
        sys.exit(f"link_blocks: {error}")


if __name__ == "__main__":
    main()
