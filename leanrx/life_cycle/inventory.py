"""What each receiver of a run costs over its life: eCAL fed by the run's own joules, slots and bit errors.

::

    collection    training and test slots of the simulation, carried over hops (0 J without a network)
    teacher       the training of its teachers, and of theirs: in full for each student, or a teacher's split over all
                  students that rest on it
    distillation  the teachers' forward passes on the student's training slots
    training      the rest of the energy that the run recorded for this receiver's training, simulated slots included
    evaluation    its forward passes on the test slots
    inference     its forward pass, per slot in service, preprocessing included

Every source of energy (meter or estimate) gives a result of its own. The recorded energy of a student's training holds
its part of the teachers' forward passes; they are told apart as slots times the teacher's inference energy by the same
source, so that only their split, not their sum, rests on that product.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from scipy import stats

from channels import NUM_SYMBOLS, Grid
from energy.ecal import AccountingConvention, Cost, Ecal, Outcome, break_even, correct_bits, hop, transport_energy_j
from energy.metering.table import EnergyRow
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import EcalConfig as Settings
from leanrx_core.errors import UserError
from receivers.evaluation.rates import rates

METERED = "CodeCarbon"

_WEAKEST_FIRST = ("none", "assumed", "modelled", "measured")
_LEVEL = 0.95


@dataclass(frozen=True)
class Repeatability:
    """How well the meter repeats itself in this run.

    Nets of one architecture differ in their weights, not in their work, so a student and its twin (of any seed) are
    metered twice for the same energy, and trainings of one role that differ in the seed are too. The standard deviation
    of their logarithms, pooled over architectures, is the relative standard uncertainty of one window.

    It covers what varies from window to window. It does not cover the instrument's scale (a wrong TDP), which is common
    to all windows and cancels in a break-even, nor other machines.

    Attributes:
        relative_sd: of one window.
        degrees: degrees of freedom; 0 if nothing was metered twice, and then nothing is known.
    """

    relative_sd: float
    degrees: int

    @property
    def coverage(self) -> float | None:
        """Standard deviations on each side of a 95 % interval; none if nothing is known."""
        return float(stats.t.ppf(0.5 + _LEVEL / 2, self.degrees)) if self.degrees else None


EXACT = Repeatability(0.0, 10**9)
"""Of estimates: a formula repeats itself. How far it is from the truth is not in it."""


@dataclass(frozen=True)
class LifeCycleResult:
    """One receiver's life cycle by one source of energy.

    Attributes:
        receiver, role: role is teacher, student, twin or classical.
        source, kind: of its joules; the weakest mark of all that entered.
        ecal: the result.
        training_j, inference_j_per_slot: as recorded.
        teachers_j: the part of its teachers' training energy, and of theirs, that is in it.
        test_slots: slots of the evaluation.
    """

    receiver: str
    role: str
    source: str
    kind: str
    ecal: Ecal
    training_j: float
    inference_j_per_slot: float
    teachers_j: dict[str, float]
    test_slots: int

    def cost(self, repeatability: Repeatability) -> Cost:
        """The result as a start and a price per slot, with what the repeatability of each window does to them."""
        factor = 1 + self.ecal.virtualisation
        sd = factor * repeatability.relative_sd
        per_slot_j = sd * self.inference_j_per_slot
        uncertainty = {
            f"training {self.receiver}": (sd * self.training_j, 0.0),
            f"inference {self.receiver}": (self.test_slots * per_slot_j, per_slot_j),
        }
        uncertainty |= {f"training {name}": (sd * energy_j, 0.0) for name, energy_j in self.teachers_j.items()}
        return Cost(factor * self.ecal.development_j, factor * self.ecal.inference_j_per_inference, uncertainty)


@dataclass(frozen=True)
class Payback:
    """A student's break-even against one alternative.

    Attributes:
        student, source, kind: whose, and by which joules.
        teacher: ``full`` or ``split``.
        against: the alternative.
        per: ``slot``: equal numbers of slots; ``correct bit``: equal numbers of correctly received bits.
        slots, low, high, outcome, significant: as :class:`energy.ecal.BreakEven`, in slots of the student.
    """

    student: str
    source: str
    kind: str
    teacher: str
    against: str
    per: str
    slots: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    significant: bool | None


RUN_TEACHER = "running the teacher"
TRAIN_AND_RUN_TEACHER = "training and running the teacher"


def slot_bits(grid: Grid, bits_per_value: int = 32) -> int:
    """Application bits of one slot: real and imaginary part of every received sample of every antenna."""
    return 2 * grid.num_rx * NUM_SYMBOLS * grid.num_subcarriers * bits_per_value


class LifeCycleInventory:
    """What a run recorded, as far as life cycles need it.

    Args:
        run: trained, evaluated and metered.
        settings: other than the run's own.

    Attributes:
        sources: of energy, the meter first.
        roles: by receiver: classical, teacher, student or twin.
        bits_per_slot: application bits.
        slot_s: duration of a slot.
        repeatability: of the meter.
        goodput: error rates and correct bits per slot, by receiver, interference share and SINR.
        share, sinr_db: the point at which break-evens per correct bit are read.
        point_rows: the rows of ``goodput`` at that point, by receiver.

    Raises:
        UserError: if the run has no counts or no energy, or a receiver was trained without a meter.
    """

    def __init__(self, run: Run, settings: Settings | None = None) -> None:
        config = run.config
        self.run, self.settings = run, settings or config.ecal
        table = run.energy()
        names = run.receiver_names()
        missing = [r.name for r in run.plan if r.role == "teacher" and r.name not in names]
        if missing:
            raise UserError(f"{run.folder}: {missing[0]} is not trained; run: leanrx sweep on its configuration")
        self._cards = {n: run.receiver(n).card for n in names}
        self._rows = {(r.receiver, r.phase, r.source): r for r in (EnergyRow(**d) for d in table.to_dict("records"))}
        self.sources = sorted(table["source"].unique(), key=lambda s: s != METERED)
        classical = [n for n in table["receiver"].unique() if n not in {r.name for r in run.plan.neural}]
        self.roles = {**dict.fromkeys(classical, "classical"), **{n: c.role for n, c in self._cards.items()}}
        self._ancestors = {n: [r.name for r in run.plan.upstream(n)] for n in names}
        self._students_per_teacher = Counter(a for n in self.students for a in self._ancestors[n])
        self._check_energy()
        self.bits_per_slot = slot_bits(config.scenario.grid, self.settings.bits_per_value)
        self.slot_s = 1e-3 * 15e3 / config.scenario.grid.subcarrier_spacing_hz
        self.repeatability = self._estimate_repeatability()
        self._test_slots, self.goodput = self._count()
        self.interference_fraction = float(self.goodput["interference_fraction"].min())
        points = (
            self.goodput[self.goodput["interference_fraction"] == self.interference_fraction]
            .groupby("sinr_db")["receiver"]
            .nunique()
        )
        shared = points.index[points == points.max()]
        self.sinr_db = float(min(shared, key=lambda s: abs(s - config.report.sinr_db)))
        here = (self.goodput["interference_fraction"] == self.interference_fraction) & (
            self.goodput["sinr_db"] == self.sinr_db
        )
        self.point_rows = {row["receiver"]: row for row in self.goodput[here].to_dict("records")}

    @property
    def students(self) -> list[str]:
        return [n for n, role in self.roles.items() if role == "student"]

    def trained_teacher(self, student: str) -> str | None:
        """The teacher that a student could be replaced by; none if it learnt from bounds alone."""
        return next((a for a in self._ancestors[student] if self.roles[a] == "teacher"), None)

    def _check_energy(self) -> None:
        path = self.run.energy_path
        for name, role in self.roles.items():
            for source in self.sources:
                row = self._rows.get((name, "inference", source))
                stale = role != "classical" and row is not None and row.digest != self._cards[name].weights_sha256
                if row is None or stale:
                    raise UserError(
                        f"{path}: no energy of inference of {name} as it is now ({source}); "
                        f"run: leanrx energy {self.run.folder}"
                    )
                if role != "classical" and (name, "training", source) not in self._rows:
                    raise UserError(
                        f"{path}: {name} was trained without a meter, so its life cycle has no training energy; "
                        f"delete {self.run.receivers_folder / name} and run leanrx sweep again"
                    )

    def _estimate_repeatability(self) -> Repeatability:
        groups: dict[tuple[str, ...], list[float]] = {}
        for row in self._rows.values():
            if row.source != METERED or row.receiver not in self._cards:
                continue
            card = self._cards[row.receiver]
            work = (row.phase, card.receiver) + ((card.role,) if row.phase == "training" else ())
            groups.setdefault(work, []).append(math.log(row.energy_j / row.slots))
        squares, degrees = 0.0, 0
        for values in groups.values():
            mean = sum(values) / len(values)
            squares += sum((v - mean) ** 2 for v in values)
            degrees += len(values) - 1
        return Repeatability(math.sqrt(squares / degrees) if degrees else 0.0, degrees)

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
        # Coded slots carry information bits, and are lost with their transport block; uncoded ones with any bit.
        coded = table["transport_blocks"] > 0
        carried = bits.where(~coded, bits * current["code_rate"].max())
        lost = table["slot_error_rate"].where(~coded, table["bler"])
        table["bits_of_correct_slots_per_slot"] = [correct_bits(b, e) for b, e in zip(carried, lost, strict=True)]
        return {str(k): int(v) for k, v in current.groupby("receiver")["slots"].sum().items()}, table

    def result(
        self, name: str, source: str, teacher: str | None = None, inferences: int | None = None
    ) -> LifeCycleResult:
        """The life cycle of one receiver.

        Args:
            name: a receiver of :attr:`roles`.
            source: one of :attr:`sources`.
            teacher: ``full`` or ``split``; the settings' if not given.
            inferences: slots in service; the settings' if not given.
        """
        settings, role = self.settings, self.roles[name]
        inferences = settings.inferences if inferences is None else inferences
        row = self._rows[name, "inference", source]
        kinds, per_slot_j = [row.kind], row.energy_j / row.slots
        test_slots = self._test_slots[name]
        slots, training_j = float(test_slots), 0.0
        teachers_j: dict[str, float] = {}
        parts: dict[str, float] = {}
        if role != "classical":
            trained = self._rows[name, "training", source]
            training_j = trained.energy_j
            kinds.append(trained.kind)
            slots += trained.slots
        if role == "student":
            for ancestor in self._ancestors[name]:
                taught = self._rows[ancestor, "training", source]
                kinds.append(taught.kind)
                shared = (teacher or settings.teacher_allocation) == "split" and self.roles[ancestor] == "teacher"
                part = 1 / self._students_per_teacher[ancestor] if shared else 1.0
                teachers_j[ancestor] = part * taught.energy_j
                slots += part * taught.slots
            passes_j = 0.0
            for heard, passes in self._cards[name].training.get("teacher_slots", {}).items():
                if heard in self._cards:  # a bound has no energy
                    asked = self._rows[heard, "inference", source]
                    kinds.append(asked.kind)
                    passes_j += passes * asked.energy_j / asked.slots
            parts = {"teacher": sum(teachers_j.values()), "distillation": min(training_j, passes_j)}
        convention = AccountingConvention(settings.overhead, settings.radio)
        hops = (hop("generic"),)
        ecal = Ecal(
            development={
                "collection": transport_energy_j(
                    slots * self.bits_per_slot, settings.development_hops * hops, convention
                ),
                **parts,
                "training": training_j - parts.get("distillation", 0.0),
                "evaluation": test_slots * per_slot_j,
            },
            inference={
                "inference_collection": transport_energy_j(
                    inferences * self.bits_per_slot, settings.hops * hops, convention
                ),
                "inference": inferences * per_slot_j,
            },
            inferences=inferences,
            development_bits=slots * self.bits_per_slot,
            inference_bits=inferences * self.bits_per_slot,
            virtualisation=settings.virtualisation,
        )
        if settings.hops or settings.development_hops:
            kinds.append("assumed")
        kind = min(kinds, key=_WEAKEST_FIRST.index)
        return LifeCycleResult(name, role, source, kind, ecal, training_j, per_slot_j, teachers_j, test_slots)

    def results(self, teacher: str | None = None, inferences: int | None = None) -> list[LifeCycleResult]:
        """Every receiver by every source."""
        return [self.result(n, s, teacher, inferences) for n in self.roles for s in self.sources]

    def repeatability_of(self, source: str) -> Repeatability:
        """The meter's, or none at all for an estimate."""
        return self.repeatability if source == METERED else EXACT

    def alternatives(self, student: str, source: str) -> dict[str, tuple[str, Cost]]:
        """What else could be run in a student's place: by name, the receiver and its cost per slot.

        The twin is the same net with other weights. What the meter finds between the two is its repeatability and no
        saving, so the twin is given the student's energy per slot.
        """
        repeatability = self.repeatability_of(source)
        cost = {n: self.result(n, source).cost(repeatability) for n in self.roles if self.roles[n] != "student"}
        found = {}
        if (teacher := self.trained_teacher(student)) is not None:
            uncertainty = {k: (0.0, unit) for k, (_, unit) in cost[teacher].uncertainty.items() if unit}
            found[RUN_TEACHER] = (teacher, Cost(0.0, cost[teacher].marginal_j, uncertainty))
            found[TRAIN_AND_RUN_TEACHER] = (teacher, cost[teacher])
        twin = self.run.plan.scratch_of(student)
        if twin is not None and twin.name in cost:
            found[twin.name] = (
                twin.name,
                self._equal_architecture(cost[twin.name], self.result(student, source).cost(repeatability)),
            )
        return {**found, **{n: (n, cost[n]) for n, role in self.roles.items() if role == "classical"}}

    @staticmethod
    def _equal_architecture(twin: Cost, student: Cost) -> Cost:
        starts = {k: (start, 0.0) for k, (start, _) in twin.uncertainty.items()}
        units = {k: (0.0, unit) for k, (_, unit) in student.uncertainty.items() if unit}
        return Cost(twin.fixed_j, student.marginal_j, {**starts, **units})

    def paybacks(self) -> list[Payback]:
        """Every student against its alternatives, for both teacher allocations, per slot and per correct bit."""
        return [
            self._payback(student, source, teacher, against, receiver, other, per)
            for student in self.students
            for source in self.sources
            for teacher in ("full", "split")
            for against, (receiver, other) in self.alternatives(student, source).items()
            for per in ("slot", "correct bit")
        ]

    def _payback(
        self, student: str, source: str, teacher: str, against: str, receiver: str, other: Cost, per: str
    ) -> Payback:
        result, repeatability = self.result(student, source, teacher), self.repeatability_of(source)
        mine, bits = result.cost(repeatability), 1.0
        if per == "correct bit":
            bits = self._correct(student)[0]
            mine, other = self._per_correct_bit(mine, student), self._per_correct_bit(other, receiver)
        found = break_even(mine, other, repeatability.coverage)
        slots, low, high = (None if v is None else v / bits for v in (found.units, found.low, found.high))
        return Payback(
            student, source, result.kind, teacher, against, per, slots, low, high, found.outcome, found.significant
        )

    def _correct(self, name: str) -> tuple[float, float]:
        """Correct bits per slot at the point of the break-evens, and their relative standard deviation."""
        row = self.point_rows[name]
        sd = (row["ber_high"] - row["ber_low"]) / (2 * stats.norm.ppf(0.5 + _LEVEL / 2))
        return float(row["correct_bits_per_slot"]), float(sd / (1 - row["ber"]))

    def _per_correct_bit(self, cost: Cost, name: str) -> Cost:
        bits, relative_sd = self._correct(name)
        uncertainty = {k: (start, unit / bits) for k, (start, unit) in cost.uncertainty.items()}
        per_bit_j = cost.marginal_j / bits
        return replace(
            cost, marginal_j=per_bit_j, uncertainty={**uncertainty, f"BER {name}": (0.0, relative_sd * per_bit_j)}
        )

    def correct_bit_rows(self) -> list[dict[str, Any]]:
        """Joules per correctly received bit at every tested point, by source; none where no slot was right.

        ``inference`` counts inference alone, ``ecal`` the whole life cycle; ``correct_slots`` counts the bits of slots
        without any error, the others correct bits whatever their slot.
        """
        results = {(b.receiver, b.source): b.ecal for b in self.results()}
        rows = []
        for row in self.goodput.itertuples():
            right, whole = row.correct_bits_per_slot, row.bits_of_correct_slots_per_slot
            energies = {}
            for source in self.sources:
                ecal = results[row.receiver, source]
                per_slot_j = (1 + ecal.virtualisation) * ecal.inference_j_per_inference
                energies[source] = {
                    "inference_j_per_correct_bit": per_slot_j / right,
                    "ecal_j_per_correct_bit": ecal.absolute_j / ecal.inferences / right,
                    "inference_j_per_bit_of_correct_slots": per_slot_j / whole if whole else None,
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
                    "correct_bits_per_slot": right,
                    "sources": energies,
                }
            )
        return rows
