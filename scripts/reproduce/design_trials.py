"""Short trainings of small receivers of two designs, compared on validation channels.

    python scripts/reproduce/design_trials.py [--folder runs/design-trials] [--write]

All designs are trained with the same seed on the same slots, with the true bits. They are counted on other slots of the
training channels, so the test channels have no part in a choice. The shipped receivers of the family are counted beside
them. They were trained longer. An interrupted script resumes.

One design is the filter of a recurrent hybrid with constant gains. Its gains are learned, but no network computes them.
So it shows what the network of a recurrent hybrid is good for. Both are also trained as long as the shipped students.

``--write`` keeps the numbers in ``docs/data/design-trials.csv`` and writes the table into docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from channels import NUM_SYMBOLS, SlotStream, scenario
from distillation import Job, Training, train
from energy import count
from leanrx.report.formatting import interval
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.required_sinr import gap_db
from receivers.evaluation.stopping import Evaluation
from receivers.neural.recurrent_hybrid import NUM_MEMORIES, RecurrentHybrid, check_size
from receivers.neural.registry import Family, register
from receivers.neural.weights import NeuralReceiver
from receivers.neural.weights import load as load_folder
from receivers.zoo import load

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "design-trials.csv"
SCENARIO, SEED, SLOTS_SEED, TARGET_BER = "tdl-6prb", 2, 1, 1e-2
CONSTANT_GAINS = "constant-gains-d3"
LABELS = {CONSTANT_GAINS: "fixed learned gains, no network"}
DESIGNS = ("hybrid-recurrent-w10-d3", "hybrid-recurrent-w10-d2", CONSTANT_GAINS, "hybrid-w5-d5", "hybrid-w3-d5")
LONG_DESIGNS, LONG_STEPS = ("hybrid-recurrent-w10-d3", CONSTANT_GAINS), 1500
TEACHER = "tdl-6prb-hybrid-w64-d8"
SHIPPED = (TEACHER, "tdl-6prb-hybrid-w13-d8-kd", "tdl-6prb-hybrid-w5-d5-kd")
TRAINING = Training(
    steps=300,
    batch_slots=64,
    optimizer="adamw",
    learning_rate=5e-3,
    warmup_steps=50,
    max_gradient_norm=1.0,
    deep_supervision_weight=0.5,
    checkpoint_steps=10,
)
EVALUATION = Evaluation(
    sinr_db=(10, 12, 14, 16, 18, 20, 22),
    interference_fractions=(0, 0.8),
    min_slots=512,
    max_slots=512,
    target_slot_errors=None,
)


class Constants(nn.Module):
    """Learned constants in place of the last layer of a network: gains, predictions and steps of the error power.

    Args:
        bias: of that layer, float32 ``(C,)``. Its last entries are for the memory, which constants do not need.
    """

    def __init__(self, bias: torch.Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(bias[:-NUM_MEMORIES].detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = torch.cat([self.values, self.values.new_zeros(NUM_MEMORIES)])
        return values.view(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:])


class ConstantGains(RecurrentHybrid):
    """The filter of a recurrent hybrid whose gains are learned constants. It has no network, so no width.

    Args:
        num_rx, num_bits, depth: as of a recurrent hybrid.
        width: has no effect.
    """

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: float = 2, depth: int = 3) -> None:
        super().__init__(num_rx, num_bits, width, depth)
        for part in self.sweeps:
            layer = part.project
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            part.project, part.expand, part.depthwise = Constants(layer.bias), nn.Identity(), nn.Identity()
            del part.decay
            part.register_buffer("decay", torch.zeros(NUM_MEMORIES, 1, 1), persistent=False)


CONSTANT_GAINS_FAMILY = Family(
    name="constant-gains",
    network=ConstantGains,
    default_width=2,
    default_depth=3,
    check_size=check_size,
    colour="#999999",
    marker="cross",
)


def receivers(folder: Path) -> list[NeuralReceiver]:
    """The shipped receivers, and one of each design, trained if the folder lacks it."""
    long_training = TRAINING.model_copy(update={"steps": LONG_STEPS})
    short_jobs = [Job(spec, "scratch", spec, scenario(SCENARIO), TRAINING, SEED) for spec in DESIGNS]
    long_jobs = [Job(f"{spec}-long", "scratch", spec, scenario(SCENARIO), long_training, SEED) for spec in LONG_DESIGNS]
    for jobs in (short_jobs, long_jobs):
        missing = [job for job in jobs if not (folder / "receivers" / job.name).exists()]
        if missing:
            train(missing, folder)
    jobs = [*short_jobs, *long_jobs]
    return [*map(load, SHIPPED), *(load_folder(folder / "receivers" / job.name) for job in jobs)]


def rows(folder: Path) -> Iterator[dict[str, object]]:
    """Sizes, slots of the training and the loss to the teacher, for each receiver and interference fraction."""
    chosen, grid = receivers(folder), scenario(SCENARIO).grid
    stream = SlotStream(scenario(SCENARIO), SLOTS_SEED, EVALUATION.block_slots, "train", purpose="validation")
    path = folder / "validation.parquet"
    for _ in count_errors(chosen, stream, EVALUATION, path):
        pass
    counts = pd.read_parquet(path)
    for receiver in chosen:
        operations = count(receiver, grid)
        for fraction, part in counts.groupby("interference_fraction"):
            gap = gap_db(part, receiver.name, TEACHER, TARGET_BER)
            yield {
                "receiver": receiver.card.receiver,
                "shipped": receiver.name in SHIPPED,
                "slots": receiver.card.training["slots"],
                "parameters": operations.parameters,
                "kmacs_per_re": operations.macs / (NUM_SYMBOLS * grid.num_subcarriers * 1000),
                "interference_fraction": fraction,
                "loss_db": gap.gap_db,
                "low_db": gap.low_db,
                "high_db": gap.high_db,
            }


def table(numbers: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    head = ["receiver", "training slots", "parameters", "kMAC per RE", "loss [dB], without interferer"]
    head.append("loss [dB], with an interferer")
    lines = []
    for (name, shipped, slots, parameters, kmacs), part in numbers.groupby(
        ["receiver", "shipped", "slots", "parameters", "kmacs_per_re"], sort=False
    ):
        losses = part.sort_values("interference_fraction")
        cells = [
            "0" if row.loss_db == 0 else interval(row.loss_db, row.low_db, row.high_db, "{:.2f}")
            for row in losses.itertuples()
        ]
        label = LABELS.get(str(name), f"`{name}`, shipped" if shipped else f"`{name}`")
        lines.append([label, f"{slots:,}", f"{parameters:,}", f"{kmacs:.2f}", *cells])
    return head, lines


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"design trials": markdown_table(*table(pd.read_csv(NUMBERS)), text_columns=1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/design-trials"), help="trained receivers and counts")
    parser.add_argument("--write", action="store_true", help="keep the numbers and write the table into the page")
    arguments = parser.parse_args()
    register(CONSTANT_GAINS_FAMILY)
    try:
        numbers = pd.DataFrame(rows(arguments.folder))
        if arguments.write:
            write_atomic(NUMBERS, numbers.to_csv(index=False, float_format="%.6g"))
            write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"design_trials: {error}")
    head, lines = table(numbers)
    printed = Table(*map(escape, head))
    for line in lines:
        printed.add_row(*line)
    Console(width=140).print(printed)


if __name__ == "__main__":
    main()
