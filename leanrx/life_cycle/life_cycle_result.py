"""Results of a life cycle: the energy of one receiver, its payback, and how well its measurements repeat."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from energy.ecal import Cost, Ecal, Outcome


@dataclass(frozen=True)
class Repeatability:
    """How well the reference instrument repeats a measurement in this run.

    Networks of one architecture differ in their weights, not in their operations. A student and its scratch baseline
    (of any seed) are therefore metered twice for the same energy, and so are trainings of one role that differ in the
    seed. The standard deviation of their logarithms, pooled over architectures, is the relative standard uncertainty of
    one measurement.

    It covers what varies from measurement to measurement. It does not cover the instrument's scale (a wrong TDP), which
    is common to all and cancels in a payback, nor other machines.

    Attributes:
        relative_sd: of one measurement.
        degrees: degrees of freedom; 0 if nothing was metered twice, and then nothing is known.
    """

    relative_sd: float
    degrees: int

    @property
    def coverage(self) -> float | None:
        """Standard deviations on each side of a 95 % interval; none if nothing is known."""
        return float(stats.t.ppf(0.975, self.degrees)) if self.degrees else None


EXACT = Repeatability(0.0, 10**9)
"""Of estimates: a formula repeats itself exactly. Its distance from the truth is not included."""


@dataclass(frozen=True)
class LifeCycleResult:
    """One receiver's life cycle by one method.

    Attributes:
        receiver, role: role is teacher, student, scratch or classical.
        method: of the energy of inference: the reference instrument, or an estimator.
        training_method: of the energy of trainings; empty for a classical receiver.
        provenance: the weakest of all joules in the result.
        ecal: energy by component, and eCAL.
        training_j: as metered or estimated.
        inference_j_per_slot: of the deployed form, and ``form``, its name in words.
        evaluation_j_per_slot: as tested, in torch.
        teachers_j: the part of its teachers' training energy, and of theirs, that is in it.
        test_slots: slots of the evaluation.
    """

    receiver: str
    role: str
    method: str
    training_method: str
    provenance: str
    ecal: Ecal
    training_j: float
    inference_j_per_slot: float
    form: str
    evaluation_j_per_slot: float
    teachers_j: dict[str, float]
    test_slots: int

    def cost(self, repeatability: Repeatability) -> Cost:
        """Fixed and marginal energy per slot, with the effect of each measurement's repeatability."""
        factor = 1 + self.ecal.virtualisation
        sd = factor * repeatability.relative_sd
        evaluation_j, per_slot_j = (
            sd * x for x in (self.test_slots * self.evaluation_j_per_slot, self.inference_j_per_slot)
        )
        uncertainty = {f"training {self.receiver}": (sd * self.training_j, 0.0)}
        if self.evaluation_j_per_slot == self.inference_j_per_slot:  # one measurement
            uncertainty[f"inference {self.receiver}"] = evaluation_j, per_slot_j
        else:
            uncertainty[f"evaluation {self.receiver}"] = evaluation_j, 0.0
            uncertainty[f"inference {self.receiver}"] = 0.0, per_slot_j
        uncertainty |= {f"training {name}": (sd * energy_j, 0.0) for name, energy_j in self.teachers_j.items()}
        return Cost(factor * self.ecal.development_j, factor * self.ecal.inference_j_per_inference, uncertainty)


@dataclass(frozen=True)
class Payback:
    """Energy payback of a student against one alternative.

    Attributes:
        student: its name.
        method, provenance: of the joules.
        teacher_allocation: ``full`` or ``split``.
        against: the alternative.
        per: ``slot``: equal numbers of slots; ``correct bit``: equal numbers of correctly received bits.
        slots, low, high, outcome, significant: as :class:`energy.ecal.BreakEven`, in slots of the student.
    """

    student: str
    method: str
    provenance: str
    teacher_allocation: str
    against: str
    per: str
    slots: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    significant: bool | None


RUN_TEACHER = "running the teacher"
TRAIN_AND_RUN_TEACHER = "training and running the teacher"
