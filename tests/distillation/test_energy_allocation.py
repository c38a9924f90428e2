"""Division of time, energy and teacher passes among the receivers of a training group."""

import pytest
from energy_factories import FakeMeter

from distillation.energy_allocation import EnergyAllocator, TrainingCost


def test_shared_time_is_divided_equally(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 s of a block and 4 s of a teacher for two, then steps of 1 s and 3 s: 1 + 2 + 1 and 1 + 2 + 3 of 10 s."""

    clock = iter([0.0, 2.0, 2.0, 6.0, 6.0, 7.0, 7.0, 10.0])
    allocator = EnergyAllocator("cpu", FakeMeter(cpu_j=10.0, gpu_j=0.0, duration_s=10.0), 8)
    monkeypatch.setattr(allocator, "_now", lambda: next(clock))
    for names, teacher in ((["a", "b"], ""), (["a", "b"], "teacher"), (["a"], ""), (["b"], "")):
        with allocator.attribute(names, teacher):
            pass
    costs = allocator.allocate()
    assert list(costs) == ["a", "b"]
    assert [cost.energy and cost.energy.energy_j("fake") for cost in costs.values()] == pytest.approx([4.0, 6.0])
    assert [cost.teacher_slots for cost in costs.values()] == [{"teacher": 4.0}] * 2


def test_costs_add_up_by_teacher() -> None:
    first = TrainingCost(teacher_slots={"a": 1.0, "b": 2.0})
    second = TrainingCost(teacher_slots={"b": 0.5, "c": 4.0})
    assert first + second == TrainingCost(None, {"a": 1.0, "b": 2.5, "c": 4.0})
