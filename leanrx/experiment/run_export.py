"""Export of receivers to ONNX, LiteRT and C files, and the slots on which the files are checked."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from channels import NUM_SYMBOLS, Scenario, SlotStream
from energy.counting.onnx_file import count_onnx
from leanrx.experiment.model_card import BerPoint, model_card
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import ReportConfig
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation
from receivers.export import Parity, PrecisionComparison, export_c, export_float16, export_int8, export_onnx
from receivers.export.export_card import file_name
from receivers.export.exported_file import CARD, card_receiver
from receivers.export.litert import export_litert
from receivers.export.onnx import write_graph
from receivers.neural.weights import NeuralReceiver

PARITY_BLOCK_SLOTS = 32
CALIBRATION_SLOTS = 256

CLASSICAL = {cls.label.lower(): cls for cls in (LmmseReceiver, LmmseIrcReceiver)}
"""Classical receivers that can be exported, by the name that users give."""


@dataclass(frozen=True)
class ExportSource:
    """A receiver to export, and the conditions under which its files are compared with it.

    Attributes:
        receiver: with its card.
        folder: of the files; replaced as a whole.
        scenario, seed: of the slots; they are neither training nor test slots.
        evaluation: points of the comparison, and slots per point of the int8 file.
        target_ber: BER at which the loss of the int8 file is determined.
        test_points: BER of the receiver in its test, for the model card; none if it was not tested.
        is_shipped: whether the receiver comes with leanrx.
    """

    receiver: Receiver
    folder: Path
    scenario: Scenario
    seed: int
    evaluation: Evaluation
    target_ber: float
    test_points: tuple[BerPoint, ...] = ()
    is_shipped: bool = False

    @classmethod
    def of_run(cls, run: Run, name: str) -> Self:
        """A receiver of a run, or a classical one, under the conditions of its configuration.

        Raises:
            UserError: if the run has no such receiver.
        """
        config, classical = run.config, CLASSICAL.get(name.lower())
        receiver: Receiver = classical(config.scenario) if classical else run.receiver(name)
        folder = run.folder / "exports" / file_name(receiver)
        points: tuple[BerPoint, ...] = ()
        if run.ber_path.exists():
            counts = run.counts()
            tested = rates(counts[(counts["receiver"] == receiver.name) & (counts["digest"] == receiver.digest)])
            points = tuple(BerPoint(*row) for row in tested[list(BerPoint._fields)].itertuples(index=False))
        return cls(receiver, folder, config.scenario, config.seed, config.evaluation, config.report.target_ber, points)

    @classmethod
    def of_zoo(cls, name: str, root: Path) -> Self:
        """A receiver that ships with leanrx, under the conditions of its shipped results.

        Args:
            name: in the zoo.
            root: a folder for the files of this and other receivers.

        Raises:
            UserError: if there is no such receiver.
        """
        results, folder = zoo.results(name), root / name
        evaluation = Evaluation(
            sinr_db=tuple(dict.fromkeys(p.sinr_db for p in results.points)),
            interference_fractions=tuple(dict.fromkeys(p.interference_fraction for p in results.points)),
        )
        target_ber = ReportConfig.model_fields["target_ber"].default
        points = tuple(
            BerPoint(p.interference_fraction, p.sinr_db, p.counts.slots, p.counts.ber, *p.counts.ber_interval())
            for p in results.points
        )
        conditions = (results.scenario, results.test_seed, evaluation, target_ber, points)
        return cls(zoo.load(name), folder, *conditions, is_shipped=True)

    @classmethod
    def of_scenario(cls, name: str, scenario: Scenario, root: Path) -> Self:
        """A classical receiver with the covariance of a scenario, compared at five points of its SNR range.

        Args:
            name: a key of :data:`CLASSICAL`.
            scenario: its conditions.
            root: a folder for the files of this and other receivers.
        """
        low_db, high_db = scenario.snr_db
        has_interference = any(interferer.probability > 0 for interferer in scenario.interferers)
        evaluation = Evaluation(
            sinr_db=tuple(low_db + (high_db - low_db) * i / 4 for i in range(5)),
            interference_fractions=(0.0, 0.8) if has_interference else (0.0,),
        )
        target_ber = ReportConfig.model_fields["target_ber"].default
        receiver = CLASSICAL[name](scenario)
        return cls(receiver, root / name, scenario, 1, evaluation, target_ber)

    @property
    def neural_receiver(self) -> NeuralReceiver:
        """The receiver, which must be a network.

        Raises:
            UserError: if it is a classical one.
        """
        if not isinstance(self.receiver, NeuralReceiver):
            raise UserError(f"receiver: {self.receiver.name} has no network; give a learned receiver")
        return self.receiver


def export_float32(source: ExportSource) -> tuple[Path, Parity]:
    """Write a receiver as a float32 ONNX file with its model card, and compare its LLRs with the original.

    Returns:
        the file, and the comparison on slots that are neither training nor test slots.

    Raises:
        UserError: if the file's decisions differ from the original's, or its folder is no export.
    """
    _check_replaceable(source.folder)
    stream = SlotStream(source.scenario, source.seed, PARITY_BLOCK_SLOTS, "test", purpose="export")
    evaluation = source.evaluation
    parity = export_onnx(source.receiver, source.folder, stream, evaluation.sinr_db, evaluation.interference_fractions)
    path = source.folder / f"{file_name(source.receiver)}.onnx"
    _write_model_card(source, source.folder, path)
    return path, parity


def export_tflite(source: ExportSource) -> tuple[Path, Parity]:
    """Write a receiver as a float32 LiteRT file with its model card, and compare its LLRs with the original.

    Returns:
        the file, and the comparison on slots that are neither training nor test slots.

    Raises:
        UserError: if TensorFlow is not installed, the file's decisions differ from the original's, or its folder is no
            export.
    """
    folder, receiver = source.folder.with_name(f"{source.folder.name}-litert"), source.receiver
    _check_replaceable(folder)
    stream = SlotStream(source.scenario, source.seed, PARITY_BLOCK_SLOTS, "test", purpose="export")
    points = source.evaluation.sinr_db, source.evaluation.interference_fractions
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / f"{file_name(receiver)}.onnx"
        write_graph(receiver, graph, source.scenario.grid)
        parity = export_litert(receiver, graph, folder, stream, *points)
        _write_model_card(source, folder, graph)
    return folder / f"{file_name(receiver)}.tflite", parity


def _write_model_card(source: ExportSource, folder: Path, graph: Path) -> None:
    """Write ``README.md`` of an export, with the operations of the ONNX graph."""
    grid = source.scenario.grid
    macs = count_onnx(graph, [1, grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers, 2]).macs
    card = json.loads((folder / "card.json").read_bytes())
    page = model_card(card, macs, grid.num_prb, source.test_points, source.is_shipped)
    write_atomic(folder / "README.md", page)


def export_source_code(source: ExportSource) -> tuple[Path, Parity]:
    """Write a receiver as C files, compile them, and compare their LLRs with the original.

    Returns:
        the C file, and the comparison on slots that are neither training nor test slots.

    Raises:
        UserError: if the receiver cannot be written in C, no compiler is there, decisions differ, or the folder is
            no export.
    """
    stream = SlotStream(source.scenario, source.seed, PARITY_BLOCK_SLOTS, "test", purpose="export")
    folder, evaluation = source.folder.with_name(f"{source.folder.name}-c"), source.evaluation
    _check_replaceable(folder)
    parity = export_c(source.receiver, folder, stream, evaluation.sinr_db, evaluation.interference_fractions)
    return folder / f"{file_name(source.receiver)}.c", parity


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not (folder / "card.json").is_file():
        raise UserError(f"{folder}: exists and is no export, so it is not replaced; move it or give --exports")


def exported_files(run: Run, receiver: Receiver, file_format: str = "onnx") -> list[Path]:
    """The ONNX or LiteRT files of a receiver in the run.

    Args:
        run: the run.
        receiver: of the run.
        file_format: ``onnx`` or ``litert``.

    Raises:
        UserError: if they were exported from other weights than the receiver's, or another covariance.
    """
    end, suffix = ("", ".onnx") if file_format == "onnx" else ("-litert", ".tflite")
    folder = run.folder / "exports" / f"{file_name(receiver)}{end}"
    files = sorted(folder.glob(f"*{suffix}"))
    if files:
        try:
            _, exported = card_receiver(json.loads((folder / CARD).read_bytes()))
        except (OSError, ValueError, LookupError, TypeError):
            exported = ""
        if exported != receiver.digest:
            raise UserError(
                f"{folder}: exported from other weights than the present ones; delete the folder, or run: "
                f"leanrx export {run.folder} {file_name(receiver)} --format {file_format}"
            )
    return files


PRECISIONS = ("int8", "fp16")
"""Lower precisions of a network in an ONNX file."""


def export_precision(source: ExportSource, path: Path, precision: str) -> PrecisionComparison:
    """Write a file of lower precision from a float32 file, and count the bit errors of both on the same slots.

    Each point has the evaluation's ``min_slots``, which suffice for an interval. The stop rule would count until both
    files have many errors.

    Args:
        source: that ``path`` was exported from.
        path: the float32 file, ONNX or LiteRT.
        precision: one of :data:`PRECISIONS`.

    Raises:
        UserError: if a file cannot be loaded.
    """
    evaluation = source.evaluation.model_copy(
        update={
            "max_slots": source.evaluation.min_slots,
            "code_rate": None,
            "mcs": None,
            "target_block_errors": None,
        }
    )
    stream = SlotStream(source.scenario, source.seed, evaluation.block_slots, "test", purpose="export")
    if precision == "fp16":
        return export_float16(path, stream, evaluation, source.target_ber)
    slots = SlotStream(source.scenario, source.seed, CALIBRATION_SLOTS, "train", purpose="calibration").block(0)
    with tempfile.TemporaryDirectory() as work:
        graph = path
        if path.suffix != ".onnx":
            graph = Path(work) / f"{path.stem}.onnx"
            write_graph(source.receiver, graph, source.scenario.grid)
        return export_int8(path, graph, slots, stream, evaluation, source.target_ber)
