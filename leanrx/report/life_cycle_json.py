"""The life cycles of a run as plain values, and the file ``ecal.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import EcalConfig
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.report.life_cycle_text import notes, sentences
from leanrx_core.files import write_atomic


def write_life_cycle(run: Run, settings: EcalConfig | None = None, reference: str | None = None) -> LifeCycleInventory:
    """Write ``ecal.json``: the life cycle of every receiver, by every method.

    Args:
        run: trained, evaluated and metered.
        settings: other than the run's own.
        reference: name of the reference instrument; the run's own if not given.

    Returns:
        the life cycles.

    Raises:
        UserError: if the run was not evaluated or metered yet.
    """
    inventory = LifeCycleInventory(run, settings, reference)
    write_atomic(run.ecal_path, json.dumps(life_cycle_json(inventory), indent=2) + "\n")
    return inventory


def life_cycle_json(inventory: LifeCycleInventory) -> dict[str, Any]:
    """All life cycles as plain values. ``inference`` holds eCAL's inference term alone."""
    life_cycle: dict[str, dict[str, Any]] = {}
    inference: dict[str, dict[str, Any]] = {}
    for result in inventory.results():
        ecal = result.ecal
        life_cycle.setdefault(result.receiver, {})[result.method] = {
            **ecal.as_json(),
            "provenance": result.provenance,
            "training_method": result.training_method,
        }
        inference.setdefault(result.receiver, {})[result.method] = {
            "ecal_j_per_bit": ecal.asymptotic_j_per_bit,
            "bits": inventory.bits_per_slot,
            "provenance": result.provenance,
            "processing_j": result.inference_j_per_slot,
            "form": result.form,
            "collection_j": ecal.inference["inference_collection"] / ecal.inferences,
        }
    return {
        "inputs": inventory.run.input_digests(),
        "settings": inventory.settings.model_dump(),
        "reference_instrument": inventory.reference_instrument,
        "bits_per_slot": inventory.bits_per_slot,
        "slot_s": inventory.slot_s,
        "notes": notes(inventory),
        "sentences": sentences(inventory),
        "life_cycle": life_cycle,
        "inference": inference,
        "correct_bits": inventory.correct_bit_rows(),
        "payback_point": {"interference_fraction": inventory.interference_fraction, "sinr_db": inventory.sinr_db},
        "repeatability": asdict(inventory.repeatability),
        "paybacks": [asdict(p) for p in inventory.paybacks()],
    }
