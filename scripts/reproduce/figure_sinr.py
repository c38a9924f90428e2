"""Draw docs/images/sinr.png: the nominal and realised SNR, SIR and SINR of simulated slots.

python scripts/reproduce/figure_sinr.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from channels import SlotStream, scenario

PATH = Path(__file__).parents[2] / "docs" / "images" / "sinr.png"
FRACTION, SINR_DB, SLOTS = 0.8, 9.0, 2000


def main() -> None:
    stream = SlotStream(scenario("tdl-6prb"), 1, SLOTS, "test")
    figure, (powers, spread) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    unwanted = 10 ** (-SINR_DB / 10)
    bars = {"wanted": 1.0, "interference": FRACTION * unwanted, "noise": (1 - FRACTION) * unwanted}
    colours = {"wanted": "#3b6ea8", "interference": "#c8553d", "noise": "#9a9a9a"}
    levels = {name: 10 * np.log10(power) for name, power in bars.items()}
    powers.bar(list(bars), [level + 25 for level in levels.values()], bottom=-25, color=colours.values(), width=0.55)
    for x, (name, level) in enumerate(levels.items()):
        powers.text(x, level - 1.6, f"{level:.1f} dB", ha="center", color="white")
        if name != "wanted":
            powers.annotate("", (x, level), (x, 0), arrowprops={"arrowstyle": "<->", "color": "#333333"})
            label = "SIR" if name == "interference" else "SNR"
            powers.text(x + 0.05, level / 2 + 1, f"{label} {-level:.1f} dB")
    powers.axhline(-SINR_DB, color="#333333", ls="--", lw=1, xmin=0.28)
    powers.text(1.5, -SINR_DB + 0.4, f"sum: SINR {SINR_DB:g} dB", ha="center")
    powers.set(
        ylim=(-25, 3),
        ylabel="mean power per RE and receive antenna, dB",
        title=f"A test point: SINR {SINR_DB:g} dB, interference fraction {FRACTION:g}",
    )
    slots = stream.at_sinr(SINR_DB, FRACTION).block(0)
    for values, name, colour in (
        (slots.snr_db, "SNR", "#9a9a9a"),
        (slots.sir_db, "SIR", "#c8553d"),
        (slots.sinr_db, "SINR", "#3b6ea8"),
    ):
        spread.hist(values.numpy(), np.arange(-15, 40, 1), histtype="step", lw=1.8, label=name, color=colour)
    spread.axvline(SINR_DB, color="#333333", ls="--", lw=1)
    spread.set(
        xlabel="realised ratio of a slot, dB",
        ylabel="slots",
        title=f"{SLOTS} slots of this point (tdl-6prb, test channels)",
    )
    spread.legend()
    for axes in (powers, spread):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PATH, dpi=130)
    print(PATH)


if __name__ == "__main__":
    main()
