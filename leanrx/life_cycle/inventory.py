"""The life cycle of every receiver of a run: eCAL from the run's own joules, slots and bit errors.

::

    collection    training and test slots of the simulation, transported over hops (0 J without a network)
    teacher       the training of its teachers, and of theirs: in full for each student, or a teacher's split over all
                  students that rest on it
    distillation  the teachers' forward passes on the student's training slots
    training      the rest of the energy of this receiver's training, simulated slots included
    evaluation    its forward passes on the test slots
    inference     a slot in service in the deployed form, preprocessing included

Distillation and evaluation are what the run executed, in torch. A slot in service has the energy of the deployed form,
see :mod:`energy.metering.deployment`. Estimates from FLOPs are those of torch for both.

Every method gives a life cycle of its own: the run's reference instrument, and each estimator. Where the reference
instrument did not meter the trainings, as a wattmeter that was connected later, training energy comes from the
instrument that did, and the result has the weaker provenance. The energy of a student's training contains its part of
the teachers' forward passes. They are the slots times the teacher's inference energy by the method of the training, so
that only their split, not their sum, depends on that product.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd
from scipy import stats

from channels import NUM_SYMBOLS, Grid
from energy.ecal import AccountingConvention, Cost, Ecal, break_even, correct_bits, hop, transport_energy_j
from energy.metering.deployment import deployed_form, deployed_rows
from energy.metering.instruments import rank
from energy.metering.measurement import weakest
from energy.metering.table import inference_rows, reference_instrument, trainer_rows
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import EcalConfig
from leanrx.life_cycle.life_cycle_result import (
    EXACT,
    RUN_TEACHER,
    TRAIN_AND_RUN_TEACHER,
    LifeCycleResult,
    Payback,
    Repeatability,
)
from leanrx_core.errors import UserError
from receivers.evaluation.rates import rates


def slot_bits(grid: Grid, bits_per_value: int = 32) -> int:
    """Application bits of one slot: real and imaginary part of every received sample of every antenna."""
    return 2 * grid.num_rx * NUM_SYMBOLS * grid.num_subcarriers * bits_per_value


@dataclass(frozen=True)
class _Energy:
    """Energy of one receiver in one phase and runtime by one method."""

    digest: str
    runtime: str
    batch_slots: int
    method: str
    provenance: str
    estimated: bool
    energy_j: float
    slots: int

    @property
    def per_slot_j(self) -> float:
        return self.energy_j / self.slots


@dataclass(frozen=True)
class _Development:
    """Training of a receiver and of its teachers; nothing for a classical one.

    Attributes:
        training_j, training_method: energy of its own training, and what metered it.
        slots: of its training, and its part of its teachers' slots.
        provenances: of all joules.
        parts: energy of teachers and distillation, for a student.
        teachers_j: its part of the energy of each teacher's training.
    """

    training_j: float = 0.0
    training_method: str = ""
    slots: float = 0.0
    provenances: tuple[str, ...] = ()
    parts: dict[str, float] = field(default_factory=dict)
    teachers_j: dict[str, float] = field(default_factory=dict)


def _by_receiver(rows: pd.DataFrame) -> dict[tuple[str, str], _Energy]:
    """Energy by receiver and method."""
    columns = [f.name for f in fields(_Energy)]
    values = rows[columns].itertuples(index=False, name=None)
    return {key: _Energy(*v) for key, v in zip(zip(rows["receiver"], rows["method"], strict=True), values, strict=True)}


class LifeCycleInventory:
    """The energy, slots and bit errors of a run that its life cycles consist of.

    Args:
        run: trained, evaluated and metered.
        settings: other than the run's own.
        reference: name of the reference instrument; the run's own if not given.

    Attributes:
        reference_instrument: whose energy of inference is used.
        methods: the reference instrument, then the estimators.
        roles: by receiver: classical, teacher, student or scratch.
        bits_per_slot: application bits.
        slot_s: duration of a slot.
        repeatability: of the reference instrument.
        goodput: error rates and correct bits per slot, by receiver, interference fraction and SINR.
        interference_fraction, sinr_db: the point at which paybacks per correct bit are read.
        point_rows: the rows of ``goodput`` at that point, by receiver.

    Raises:
        UserError: if the run has no counts or no energy, or a receiver was trained without a meter.
    """

    def __init__(self, run: Run, settings: EcalConfig | None = None, reference: str | None = None) -> None:
        config = run.config
        self.run, self.settings = run, settings or config.ecal
        table = run.energy()
        names = run.receiver_names()
        missing = [r.name for name in names for r in run.plan.upstream(name) if r.name not in names]
        if missing:
            raise UserError(f"{run.folder}: {missing[0]} is not trained; run: leanrx sweep on its configuration")
        self._cards = {n: run.receiver(n).card for n in names}
        classical = [n for n in table["receiver"].unique() if n not in {r.name for r in run.plan.neural}]
        self.roles = {**dict.fromkeys(classical, "classical"), **{n: c.role for n, c in self._cards.items()}}
        self._executed, self._training = _by_receiver(inference_rows(table)), _by_receiver(trainer_rows(table))
        self._deployed = {**self._executed, **_by_receiver(deployed_rows(table))}
        self._check_inference()
        self.reference_instrument = reference_instrument(
            table, config.metering.reference_instrument if reference is None else reference
        )
        estimators = dict.fromkeys(e.method for e in self._executed.values() if e.estimated)
        self.methods = [self.reference_instrument, *estimators]
        self._check_energy()
        self._ancestors = {n: [r.name for r in run.plan.upstream(n)] for n in names}
        self._students_per_teacher = Counter(a for n in self.students for a in self._ancestors[n])
        self.bits_per_slot = slot_bits(config.scenario.grid, self.settings.bits_per_value)
        self.slot_s = 1e-3 * 15e3 / config.scenario.grid.subcarrier_spacing_hz
        self.repeatability = self._estimate_repeatability()
        self._test_slots, self.goodput = self._count()
        self.interference_fraction = float(self.goodput["interference_fraction"].min())
        at_fraction = self.goodput[self.goodput["interference_fraction"] == self.interference_fraction]
        receivers = at_fraction.groupby("sinr_db")["receiver"].nunique()
        shared = receivers.index[receivers == receivers.max()]
        self.sinr_db = float(min(shared, key=lambda s: abs(s - config.report.sinr_db)))
        at_point = at_fraction[at_fraction["sinr_db"] == self.sinr_db]
        self.point_rows = {row["receiver"]: row for row in at_point.to_dict("records")}

    @property
    def students(self) -> list[str]:
        """Names of the students."""
        return [n for n, role in self.roles.items() if role == "student"]

    def trained_teacher(self, student: str) -> str | None:
        """The teacher that could be run in a student's place; none if its teachers are genie-aided."""
        return next((a for a in self._ancestors[student] if self.roles[a] == "teacher"), None)

    def reaches_target(self, receiver: str) -> bool:
        """Whether a receiver reaches the run's target BER at any SINR, at :attr:`interference_fraction`."""
        rows = self.goodput[self.goodput["interference_fraction"] == self.interference_fraction]
        return bool(rows.loc[rows["receiver"] == receiver, "ber"].min() <= self.run.config.report.target_ber)

    def _check_inference(self) -> None:
        """Every receiver has energy of inference as it is now."""
        for name, role in self.roles.items():
            digests = {e.digest for (receiver, _), e in self._executed.items() if receiver == name}
            if not digests or (role != "classical" and digests != {self._cards[name].weights_sha256}):
                raise self._no_inference(name, "any method")

    def _check_energy(self) -> None:
        """Every method has energy of inference and of training of every receiver."""
        for name, role in self.roles.items():
            for method in self.methods:
                if (name, method) not in self._executed:
                    raise self._no_inference(name, method)
                if role != "classical" and self._training_of(name, method) is None:
                    raise UserError(
                        f"{self.run.energy_path}: {name} was trained without a meter, so its life cycle has no "
                        f"training energy; delete {self.run.receivers_folder / name} and run leanrx sweep again"
                    )

    def _no_inference(self, name: str, method: str) -> UserError:
        return UserError(
            f"{self.run.energy_path}: no energy of inference of {name} as it is now, by {method}; "
            f"run: leanrx energy {self.run.folder}"
        )

    def _training_of(self, name: str, method: str) -> _Energy | None:
        """Energy of a training by a method, else by the best instrument that metered it."""
        if (name, method) in self._training or method != self.reference_instrument:
            return self._training.get((name, method))
        metered = [e for (receiver, _), e in self._training.items() if receiver == name and not e.estimated]
        return min(metered, key=lambda e: (e.provenance != "measured", rank(e.method)), default=None)

    def _estimate_repeatability(self) -> Repeatability:
        groups: dict[tuple[str, ...], list[float]] = {}
        for name, card in self._cards.items():
            key, training = (name, self.reference_instrument), self._trained(name)
            by_runtime = {energy.runtime: energy for energy in (self._executed[key], self._deployed[key])}
            for runtime, energy in by_runtime.items():
                groups.setdefault(("inference", card.receiver, runtime), []).append(math.log(energy.per_slot_j))
            work = ("training", card.receiver, card.role, training.method)
            groups.setdefault(work, []).append(math.log(training.per_slot_j))
        squares, degrees = 0.0, 0
        for values in groups.values():
            mean = sum(values) / len(values)
            squares += sum((v - mean) ** 2 for v in values)
            degrees += len(values) - 1
        return Repeatability(math.sqrt(squares / degrees) if degrees else 0.0, degrees)

    def _trained(self, name: str, method: str | None = None) -> _Energy:
        energy = self._training_of(name, method or self.reference_instrument)
        assert energy is not None, "checked when the inventory was made"
        return energy

    def _count(self) -> tuple[dict[str, int], pd.DataFrame]:
        counts = self.run.counts()
        digests = {n: c.weights_sha256 for n, c in self._cards.items()}
        current = counts[counts["receiver"].map(digests).fillna(counts["digest"]) == counts["digest"]]
        current = current[current["receiver"].isin(list(self.roles))]
        missing = [n for n in self.roles if n not in set(current["receiver"])]
        if missing:
            raise UserError(
                f"{self.run.ber_path}: no counts of {', '.join(missing)}; run: leanrx evaluate {self.run.folder}"
            )
        table = rates(current)
        bits = table["bits"] / table["slots"]
        table["correct_bits_per_slot"] = [correct_bits(b, e) for b, e in zip(bits, table["ber"], strict=True)]
        # A transport block is lost as a whole; an uncoded slot is lost with any bit.
        decoded_bits = table["decoded_bits"] / table["transport_blocks"]
        table["bits_of_correct_slots_per_slot"] = decoded_bits.fillna(table["correct_slot_bits"] / table["slots"])
        return {str(k): int(v) for k, v in current.groupby("receiver")["slots"].sum().items()}, table

    def result(
        self, name: str, method: str, teacher_allocation: str | None = None, inferences: int | None = None
    ) -> LifeCycleResult:
        """The life cycle of one receiver.

        Args:
            name: a receiver of :attr:`roles`.
            method: one of :attr:`methods`.
            teacher_allocation: ``full`` or ``split``; the settings' if not given.
            inferences: slots in service; the settings' if not given.
        """
        settings, role = self.settings, self.roles[name]
        inferences = settings.inferences if inferences is None else inferences
        inference, executed = self._deployed[name, method], self._executed[name, method]
        test_slots, development = self._test_slots[name], _Development()
        if role != "classical":
            development = self._development(name, method, teacher_allocation or settings.teacher_allocation)
        provenances = [inference.provenance, executed.provenance, *development.provenances]
        if settings.hops or settings.development_hops:
            provenances.append("assumed")
        convention, hops = AccountingConvention(**settings.convention.model_dump()), (hop("generic"),)
        development_bits = (test_slots + development.slots) * self.bits_per_slot
        inference_bits = inferences * self.bits_per_slot
        ecal = Ecal(
            development={
                "collection": transport_energy_j(development_bits, settings.development_hops * hops, convention),
                **development.parts,
                "training": development.training_j - development.parts.get("distillation", 0.0),
                "evaluation": test_slots * executed.per_slot_j,
            },
            inference={
                "inference_collection": transport_energy_j(inference_bits, settings.hops * hops, convention),
                "inference": inferences * inference.per_slot_j,
            },
            inferences=inferences,
            development_bits=development_bits,
            inference_bits=inference_bits,
            virtualisation=settings.virtualisation,
        )
        return LifeCycleResult(
            receiver=name,
            role=role,
            method=method,
            training_method=development.training_method,
            provenance=weakest(provenances),
            ecal=ecal,
            training_j=development.training_j,
            inference_j_per_slot=inference.per_slot_j,
            form=deployed_form(inference.runtime, inference.batch_slots),
            evaluation_j_per_slot=executed.per_slot_j,
            teachers_j=development.teachers_j,
            test_slots=test_slots,
        )

    def _development(self, name: str, method: str, allocation: str) -> _Development:
        """Training of a receiver, and what it takes of its teachers."""
        training = self._trained(name, method)
        if self.roles[name] != "student":
            return _Development(training.energy_j, training.method, training.slots, (training.provenance,))
        teachers = self._teachers(name, method, allocation)
        passes_j, pass_provenances = self._teacher_passes(name, training.method, method)
        teachers_j = {teacher: part * e.energy_j for teacher, (part, e) in teachers.items()}
        return _Development(
            training.energy_j,
            training.method,
            training.slots + sum(part * e.slots for part, e in teachers.values()),
            (training.provenance, *(e.provenance for _, e in teachers.values()), *pass_provenances),
            {"teacher": sum(teachers_j.values()), "distillation": min(training.energy_j, passes_j)},
            teachers_j,
        )

    def _teachers(self, student: str, method: str, allocation: str) -> dict[str, tuple[float, _Energy]]:
        """The receivers that a student rests on: the part of each training that it bears, and its energy."""
        parts = {}
        for name in self._ancestors[student]:
            is_split = allocation == "split" and self.roles[name] == "teacher"
            part = 1 / self._students_per_teacher[name] if is_split else 1.0
            parts[name] = part, self._trained(name, method)
        return parts

    def _teacher_passes(self, student: str, training_method: str, method: str) -> tuple[float, list[str]]:
        """Energy of the teachers' forward passes in a student's training, and its provenances."""
        energy_j, provenances = 0.0, []
        for teacher, slots in self._cards[student].training.get("teacher_slots", {}).items():
            if teacher in self._cards:  # a genie-aided teacher has no energy
                fallback = self._executed[teacher, method]
                inference = self._executed.get((teacher, training_method), fallback)
                energy_j += slots * inference.per_slot_j
                provenances.append(inference.provenance)
        return energy_j, provenances

    def results(self, teacher_allocation: str | None = None, inferences: int | None = None) -> list[LifeCycleResult]:
        """Every receiver by every method."""
        return [self.result(n, m, teacher_allocation, inferences) for n in self.roles for m in self.methods]

    def repeatability_of(self, method: str) -> Repeatability:
        """That of the reference instrument; exact for an estimate."""
        return self.repeatability if method == self.reference_instrument else EXACT

    def alternatives(self, student: str, method: str) -> dict[str, tuple[str, Cost]]:
        """What could be run in a student's place: by name, the receiver and its cost per slot.

        The scratch baseline is the same network with other weights. A difference between the two is no saving but the
        repeatability of the instrument, so the baseline gets the student's energy per slot.
        """
        repeatability = self.repeatability_of(method)
        cost = {n: self.result(n, method).cost(repeatability) for n in self.roles if self.roles[n] != "student"}
        options = {}
        if (teacher := self.trained_teacher(student)) is not None:
            uncertainty = {k: (0.0, unit) for k, (_, unit) in cost[teacher].uncertainty.items() if unit}
            options[RUN_TEACHER] = (teacher, Cost(0.0, cost[teacher].marginal_j, uncertainty))
            options[TRAIN_AND_RUN_TEACHER] = (teacher, cost[teacher])
        baseline = self.run.plan.scratch_of(student)
        if baseline is not None and baseline.name in cost:
            own = self.result(student, method).cost(repeatability)
            options[baseline.name] = baseline.name, self._equal_architecture(cost[baseline.name], own)
        return {**options, **{n: (n, cost[n]) for n, role in self.roles.items() if role == "classical"}}

    @staticmethod
    def _equal_architecture(baseline: Cost, student: Cost) -> Cost:
        """The baseline's fixed energy with the student's energy per slot."""
        fixed = {k: (sd, 0.0) for k, (sd, _) in baseline.uncertainty.items()}
        marginal = {k: (0.0, sd) for k, (_, sd) in student.uncertainty.items() if sd}
        return Cost(baseline.fixed_j, student.marginal_j, {**fixed, **marginal})

    def paybacks(self) -> list[Payback]:
        """Every student against its alternatives, for both teacher allocations, per slot and per correct bit."""
        return [
            self._payback(student, method, allocation, against, receiver, cost, per)
            for student in self.students
            for method in self.methods
            for allocation in ("full", "split")
            for against, (receiver, cost) in self.alternatives(student, method).items()
            for per in ("slot", "correct bit")
        ]

    def _payback(
        self, student: str, method: str, allocation: str, against: str, receiver: str, alternative: Cost, per: str
    ) -> Payback:
        result, repeatability = self.result(student, method, allocation), self.repeatability_of(method)
        candidate, bits = result.cost(repeatability), 1.0
        if per == "correct bit":
            bits = self._correct(student)[0]
            candidate = self._per_correct_bit(candidate, student)
            alternative = self._per_correct_bit(alternative, receiver)
        point = break_even(candidate, alternative, repeatability.coverage)
        return Payback(
            student=student,
            method=method,
            provenance=result.provenance,
            teacher_allocation=allocation,
            against=against,
            per=per,
            slots=None if point.units is None else point.units / bits,
            low=None if point.low is None else point.low / bits,
            high=None if point.high is None else point.high / bits,
            outcome=point.outcome,
            significant=point.significant,
        )

    def _correct(self, name: str) -> tuple[float, float]:
        """Correct bits per slot at the operating point, and their relative standard deviation."""
        row = self.point_rows[name]
        sd = (row["ber_high"] - row["ber_low"]) / (2 * stats.norm.ppf(0.975))
        return float(row["correct_bits_per_slot"]), float(sd / (1 - row["ber"]))

    def _per_correct_bit(self, cost: Cost, name: str) -> Cost:
        bits, relative_sd = self._correct(name)
        uncertainty = {k: (fixed, marginal / bits) for k, (fixed, marginal) in cost.uncertainty.items()}
        per_bit_j = cost.marginal_j / bits
        return replace(
            cost, marginal_j=per_bit_j, uncertainty={**uncertainty, f"BER {name}": (0.0, relative_sd * per_bit_j)}
        )

    def correct_bit_rows(self) -> list[dict[str, Any]]:
        """Joules per correctly received bit at every tested point, by method; none where no slot was correct.

        ``inference`` counts inference alone, ``ecal`` the whole life cycle. ``correct_slots`` counts the bits of slots
        without any error, the others count correct bits in any slot.
        """
        results = {(r.receiver, r.method): r.ecal for r in self.results()}
        rows = []
        for row in self.goodput.itertuples():
            correct, of_slots = row.correct_bits_per_slot, row.bits_of_correct_slots_per_slot
            energies = {}
            for method in self.methods:
                ecal = results[row.receiver, method]
                per_slot_j = (1 + ecal.virtualisation) * ecal.inference_j_per_inference
                energies[method] = {
                    "inference_j_per_correct_bit": per_slot_j / correct,
                    "ecal_j_per_correct_bit": ecal.absolute_j / ecal.inferences / correct,
                    "inference_j_per_bit_of_correct_slots": per_slot_j / of_slots if of_slots else None,
                }
            rows.append(
                {
                    "receiver": row.receiver,
                    "interference_fraction": row.interference_fraction,
                    "sinr_db": row.sinr_db,
                    "ber": row.ber,
                    "ber_low": row.ber_low,
                    "ber_high": row.ber_high,
                    "slot_error_rate": row.slot_error_rate,
                    "correct_bits_per_slot": correct,
                    "methods": energies,
                }
            )
        return rows
