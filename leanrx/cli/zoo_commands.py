"""``leanrx zoo``: the receivers that ship with leanrx."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from leanrx.cli.options import JsonOption

zoo = typer.Typer(no_args_is_help=True, help="List the receivers that ship with leanrx, and show their cards.")


@zoo.command("list")
def list_receivers(as_json: JsonOption = False) -> None:
    """List the shipped receivers: size, operations, and the SINR that each needs for a BER of 1e-2."""
    from leanrx.report.zoo_table import TARGET_BER, shipped_receivers

    receivers = shipped_receivers()
    if as_json:
        print(json.dumps({"receivers": [receiver.row() for receiver in receivers]}))
        return
    width = max((len(receiver.name) for receiver in receivers), default=0)
    required = f"SINR for BER {TARGET_BER:g} [dB]"
    print(f"{'receiver':<{width}} {'parameters':>10} {'MACs/RE':>8} {'bytes':>10}  {required:<24} scenario")
    for receiver in receivers:
        sinr = receiver.required_sinr(receiver.interference_fractions[0])
        print(
            f"{receiver.name:<{width}} {receiver.card.parameters:>10,} {receiver.macs_per_re:>8,.0f} "
            f"{receiver.weights_bytes:>10,}  {sinr:<24} {receiver.results.scenario.name}"
        )
    print("SINRs are without an interferer, with 95 % intervals. MACs include front end and detection.")
    print("Compare receivers of one scenario only. More: leanrx zoo show NAME")


@zoo.command("show")
def show_receiver(
    name: Annotated[str, typer.Argument(help="A receiver of the zoo.", metavar="NAME", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show a receiver's card: conditions, counts, energy, training, and the hash of its file."""
    from leanrx.report.zoo_table import card_lines, shipped_receiver

    receiver = shipped_receiver(name)
    if as_json:
        print(json.dumps(receiver.as_json()))
        return
    print("\n".join(card_lines(receiver)))
