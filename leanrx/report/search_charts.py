"""Charts of a hyper-parameter search: validation BER against each searched value."""

from __future__ import annotations

from collections.abc import Sequence

from leanrx.experiment.run import Run
from leanrx.experiment.search import Trial, spans_decade
from leanrx.report.charts import Curve, Figure, to_files
from leanrx_core.files import write_atomic

COLOUR = "#0072b2"


def search_chart(name: str, trials: Sequence[Trial]) -> Figure:
    """Validation BER of the trials against one of their values; diverged trials are left out."""
    points = [(trial.values[name], trial.ber) for trial in trials if trial.ber is not None]
    values, bers = [value for value, _ in points], [ber for _, ber in points]
    return Figure(
        name=f"search-{name}",
        caption=f"Search over {name}",
        x_title=name,
        y_title="mean BER, validation",
        curves=[Curve("trials", values, bers, colour=COLOUR, lines=False)],
        x_log=bool(values) and spans_decade(min(values), max(values)),
    )


def write_search_charts(run: Run, trials: Sequence[Trial]) -> None:
    """Write one chart per searched hyper-parameter into the run's ``search`` folder."""
    assert run.config.search is not None, "a search has settings"
    for name in run.config.search.ranges:
        for file, data in to_files(search_chart(name, trials)).items():
            write_atomic(run.folder / "search" / file, data)
