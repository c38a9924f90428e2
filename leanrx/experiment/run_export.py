"""Export of a run's receivers to ONNX files, and the slots on which the files are checked."""

from __future__ import annotations

from pathlib import Path

from channels import SlotStream
from leanrx.experiment.run import Run
from receivers.export import Int8Comparison, Parity, export_int8, export_onnx

PARITY_BLOCK_SLOTS = 32
CALIBRATION_SLOTS = 64


def export_float32(run: Run, name: str) -> tuple[Path, Parity]:
    """Write a receiver as a float32 ONNX file and compare its LLRs with the original.

    Returns:
        the file, and the comparison on slots that are neither training nor test slots.

    Raises:
        UserError: if the run has no such receiver, or the file's decisions differ from the original's.
    """
    receiver, evaluation = run.receiver(name), run.config.evaluation
    folder = run.folder / "exports" / receiver.name
    stream = SlotStream(run.config.scenario, run.config.seed, PARITY_BLOCK_SLOTS, "test", purpose="export")
    parity = export_onnx(receiver, folder, stream, evaluation.sinr_db, evaluation.interference_fractions)
    return folder / f"{receiver.name}.onnx", parity


def export_quantised(run: Run, name: str, path: Path) -> Int8Comparison:
    """Write an int8 file from a float32 file, and count the bit errors of both on the same slots.

    Each point has the evaluation's ``min_slots``, which suffice for an interval. The stop rule would count until both
    files have many errors.

    Args:
        run: its configuration sets slots and test points.
        name: the receiver that ``path`` was exported from.
        path: the float32 ONNX file.

    Raises:
        UserError: if a file cannot be loaded.
    """
    config = run.config
    evaluation = config.evaluation.model_copy(
        update={"max_slots": config.evaluation.min_slots, "code_rate": None, "mcs": None, "target_block_errors": None}
    )
    slots = SlotStream(config.scenario, config.seed, CALIBRATION_SLOTS, "train", purpose="calibration").block(0)
    stream = SlotStream(config.scenario, config.seed, evaluation.block_slots, "test", purpose="export")
    features = run.receiver(name).net.features(slots)
    return export_int8(path, features, stream, evaluation, config.report.target_ber)
