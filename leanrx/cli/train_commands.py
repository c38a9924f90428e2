"""``leanrx train``, ``leanrx sweep`` and ``leanrx tune``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import (
    ConfigArgument,
    CoresOption,
    JsonOption,
    OptionalWorkersOption,
    RayOption,
    RootOption,
    ThreadsOption,
)
from leanrx.cli.sessions import make_executor, open_runs, raise_failures

if TYPE_CHECKING:
    from leanrx.experiment.search import Trial


def train(
    config: ConfigArgument,
    receiver: Annotated[
        str | None, typer.Argument(help="Train only this receiver and its teachers.", metavar="[RECEIVER]")
    ] = None,
    runs: RootOption = Path("runs"),
    ray: RayOption = None,
    cores: CoresOption = None,
    threads: ThreadsOption = 1,
) -> None:
    """Train teachers, students and scratch baselines. It resumes after an interruption; torchrun uses several GPUs."""
    from distillation.distributed import init
    from leanrx.experiment.workflow import check_run

    group = init()
    executor = make_executor(ray, cores, threads)
    failures: list[str] = []
    for run, progress in open_runs(config, runs, lambda run: check_run(run, receiver)):
        failures += dict.fromkeys(executor.train_all(run, progress, receiver).values())
        if group.rank == 0:
            print(f"receivers: {run.receivers_folder}")
    raise_failures(failures)


def sweep(
    config: ConfigArgument,
    runs: RootOption = Path("runs"),
    workers: OptionalWorkersOption = None,
    ray: RayOption = None,
    cores: CoresOption = None,
    threads: ThreadsOption = 1,
) -> None:
    """Run all steps: train, evaluate, meter, eCAL, report. The command resumes after an interruption."""
    from leanrx.experiment.workflow import check_run, default_workers, evaluate_all
    from leanrx.report.life_cycle_json import write_life_cycle
    from leanrx.report.page import write_report

    executor = make_executor(ray, cores, threads)
    failures: list[str] = []
    for run, progress in open_runs(config, runs, check_run):
        progress.show_transport_formats(run.config)
        failures += dict.fromkeys(executor.train_all(run, progress).values())
        if not run.receiver_names():  # every training diverged
            continue
        evaluate_all(run, progress, workers=workers or default_workers(run))
        executor.meter_all(run, progress)
        write_life_cycle(run)
        print(f"report: {write_report(run)}")
    raise_failures(failures)


def tune(config: ConfigArgument, runs: RootOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Search the hyper-parameters in the section 'search'. The command resumes after an interruption."""
    from leanrx.experiment.search import best_trial, check_search, search
    from leanrx.report.search_charts import write_search_charts

    for run, progress in open_runs(config, runs, check_search, quiet=as_json):
        trials = []
        for trial in search(run, progress):
            trials.append(trial)
            if not as_json:
                print(_trial_line(trial))
        write_search_charts(run, trials)
        best, path = best_trial(trials), run.folder / "search" / "search.csv"
        if as_json:
            print(json.dumps({"path": str(path), "best": asdict(best), "trials": [asdict(t) for t in trials]}))
        else:
            print(f"trials: {path}")
            print(f"The best is trial {best.index} with mean BER {best.ber:.4g}:\n\n{best.to_yaml()}", end="")


def _trial_line(trial: Trial) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in trial.values.items())
    return f"trial {trial.index}: {values}: " + ("diverged" if trial.ber is None else f"mean BER {trial.ber:.4g}")
