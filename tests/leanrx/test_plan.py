"""What a sweep trains: names, teachers, order, and who shares a stream."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from leanrx.experiment.plan import Plan, build_plan
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError


def sweep(teacher: dict[str, Any] | None = None, **students: Any) -> SweepConfig:
    students = {"receivers": ["hybrid-w8-d2"], **students}
    return SweepConfig.parse(
        {
            "label": "x",
            "scenario": "tdl-6prb",
            "seed": 3,
            "teacher": teacher or {},
            "students": students,
            "evaluation": {"sinr_db": [0]},
        },
        "x.yaml",
    )


def names(config: SweepConfig) -> list[str]:
    return [r.name for r in build_plan(config).neural]


def group_names(plan: Plan) -> list[list[str]]:
    return [[record.name for record in group] for group in plan.training_groups()]


def test_one_of_each_has_short_names() -> None:
    assert names(sweep()) == ["teacher", "hybrid-w8-d2-kd", "hybrid-w8-d2-scratch"]


def test_a_grid_is_every_combination_named_by_what_differs() -> None:
    config = sweep(distillation={"temperature": [1, 4], "alpha": [0.5, 0.9]})
    kd = "hybrid-w8-d2-kd"
    assert names(config) == [
        "teacher",
        f"{kd}-T1-a0.5",
        f"{kd}-T1-a0.9",
        f"{kd}-T4-a0.5",
        f"{kd}-T4-a0.9",
        "hybrid-w8-d2-scratch",
    ]
    settings = [r.distillation for r in build_plan(config) if r.distillation]
    assert [(s.temperature, s.alpha) for s in settings] == [(1, 0.5), (1, 0.9), (4, 0.5), (4, 0.9)]
    assert SweepConfig.parse(config.model_dump(mode="json"), "again") == config


def test_a_list_of_settings_and_several_seeds() -> None:
    config = sweep(distillation=[{"alpha": 0.1}, {"alpha": 0.9, "temperature": [1, 2]}], seeds=[1, 2])
    assert names(config)[1:5] == [f"hybrid-w8-d2-kd-T{w}-s1" for w in ("2-a0.1", "1-a0.9", "2-a0.9")] + [
        "hybrid-w8-d2-scratch-s1"
    ]
    plan = build_plan(config)
    student = plan["hybrid-w8-d2-kd-T1-a0.9-s2"]
    assert plan.scratch_of(student.name) == plan["hybrid-w8-d2-scratch-s2"]
    assert plan.scratch_of("hybrid-w8-d2-scratch-s2") is None
    assert (student.variant, student.seed, student.family) == ("hybrid-w8-d2-kd-T1-a0.9", 2, "hybrid")
    assert student.setting_labels == {"temperature": "T1", "alpha": "a0.9"}


def test_several_teachers_each_teach_every_student() -> None:
    config = sweep({"receiver": ["deeprx-d5", "deeprx-d3"]})
    kd = "hybrid-w8-d2-kd"
    assert names(config) == [
        "teacher-deeprx-d5",
        "teacher-deeprx-d3",
        f"{kd}-deeprx-d5",
        f"{kd}-deeprx-d3",
        "hybrid-w8-d2-scratch",
    ]
    plan = build_plan(config)
    assert plan.reference_teacher(f"{kd}-deeprx-d3") == plan["teacher-deeprx-d3"]
    assert plan.reference_teacher("hybrid-w8-d2-scratch") == plan["teacher-deeprx-d5"]


def test_an_ensemble_an_assistant_a_bound_and_the_born_again() -> None:
    config = sweep(
        {"receiver": "deeprx-d3", "seeds": [1, 2]},
        receivers=["hybrid-w8-d2", "hybrid-w16-d4"],
        seeds=[5, 6],
        distillation=[
            {"teacher": "teacher-s1 + teacher-s2"},
            {"teacher": "perfect CSI"},
            {"teacher": "teacher-s1", "generations": 3},
        ],
    )
    plan = build_plan(config)
    assert plan["hybrid-w8-d2-kd-s1+s2-s5"].teachers == ("teacher-s1", "teacher-s2")
    assert plan["hybrid-w8-d2-kd-perfect-CSI-s5"].teachers == ("perfect CSI",)
    assert plan["hybrid-w8-d2-kd-s1-s5"].teachers == ("teacher-s1",)
    assert plan["hybrid-w8-d2-kd-s1-g3-s6"].teachers == ("hybrid-w8-d2-kd-s1-g2-s6",)
    assert [r.name for r in plan.upstream("hybrid-w8-d2-kd-s1-g3-s6")] == [
        "teacher-s1",
        "hybrid-w8-d2-kd-s1-s6",
        "hybrid-w8-d2-kd-s1-g2-s6",
    ]
    assert plan.upstream("hybrid-w8-d2-kd-perfect-CSI-s5") == []
    assert plan.reference_teacher("hybrid-w8-d2-kd-perfect-CSI-s5") == plan["perfect CSI"]
    assert plan.reference_teacher("hybrid-w8-d2-kd-s1-g3-s6") == plan["teacher-s1"]
    assert plan.reference_teacher("teacher-s1") is plan.reference_teacher("LMMSE") is None


def test_a_student_may_be_an_assistant_of_a_smaller_one() -> None:
    settings = [{"teacher": "teacher"}, {"teacher": "hybrid-w16-d4-kd-teacher"}]
    plan = build_plan(sweep(receivers=["hybrid-w8-d2", "hybrid-w16-d4"], distillation=settings))
    assistant = "hybrid-w16-d4-kd-teacher"
    assert plan[f"hybrid-w8-d2-kd-{assistant}"].teachers == (assistant,)
    assert plan[f"hybrid-w16-d4-kd-{assistant}"].teachers == (assistant,)  # born again
    order = plan.names
    assert order.index(assistant) < order.index(f"hybrid-w8-d2-kd-{assistant}")


def test_unknown_and_circular_teachers_are_refused() -> None:
    with pytest.raises(UserError, match=r"no 'nobody' for hybrid-w8-d2-kd; teachers: teacher, hybrid-w8-d2-kd"):
        build_plan(sweep(distillation={"teacher": "nobody"}))
    with pytest.raises(UserError, match="circular teacher reference: hybrid-w8-d2-kd -> hybrid-w8-d2-kd; remove"):
        build_plan(sweep(distillation={"teacher": "hybrid-w8-d2-kd"}))
    settings = [{"teacher": "hybrid-w8-d2-kd-b", "alpha": 0.1}, {"teacher": "a"}]
    with pytest.raises(UserError, match="no 'hybrid-w8-d2-kd-b'"):
        build_plan(sweep(distillation=settings))


def test_an_ensemble_names_each_teacher_once() -> None:
    scratch = "hybrid-w8-d2-scratch"
    config = sweep(seeds=[1, 2], distillation={"teacher": f"{scratch} + {scratch}-s1"})
    with pytest.raises(UserError, match=f"names the same teacher twice: {scratch}-s1, {scratch}-s1"):
        build_plan(config)


def test_settings_with_equal_labels_are_numbered() -> None:
    paths = [[{"student": f"blocks.{n}.move", "teacher": "conv_in"}] for n in range(3)]
    plan = build_plan(sweep(distillation={"transfers": paths}))
    assert [p.name for p in plan if p.role == "student"] == [f"hybrid-w8-d2-kd-feature{n}" for n in ("", "-2", "-3")]
    followed = [p.distillation.transfers[0].student for p in plan if p.distillation]
    assert followed == ["blocks.0.move", "blocks.1.move", "blocks.2.move"]


def test_settings_that_differ_in_generations_alone_are_refused() -> None:
    with pytest.raises(UserError, match=r"distillation\.generations: two settings differ in it only; write the larger"):
        build_plan(sweep(distillation={"generations": [1, 2, 3]}))


def test_names_that_no_file_can_have_are_refused() -> None:
    with pytest.raises(UserError, match=r"has \d{3} characters, above 200"):
        build_plan(
            sweep(
                {"receiver": "deeprx-d3", "seeds": list(range(60))},
                distillation=[{"teacher": "+".join(f"teacher-s{n}" for n in range(60))}, {"teacher": "teacher-s1"}],
            )
        )


def test_a_scratch_baseline_may_be_a_teacher() -> None:
    """Born again as its authors have it: the first teacher is the same net, trained from scratch."""
    config = sweep(distillation=[{"teacher": "hybrid-w8-d2-scratch"}, {"teacher": "teacher"}])
    kd = "hybrid-w8-d2-kd"
    assert group_names(build_plan(config)) == [
        ["teacher"],
        ["hybrid-w8-d2-scratch"],
        [f"{kd}-hybrid-w8-d2-scratch", f"{kd}-teacher"],
    ]


def test_a_circle_is_named_without_the_students_that_lead_to_it() -> None:
    config = sweep(receivers=["hybrid-w8-d2", "hybrid-w16-d4"], distillation={"teacher": "hybrid-w16-d4-kd"})
    with pytest.raises(UserError, match="reference: hybrid-w16-d4-kd -> hybrid-w16-d4-kd; remove"):
        build_plan(config)


def test_a_plan_holds_every_receiver_by_name() -> None:
    plan = build_plan(sweep())
    assert plan.names[:4] == ["LS", "LMMSE", "LMMSE-IRC", "perfect CSI"]
    assert len(plan) == len(plan.names) == len(plan.classical) + len(plan.neural)
    assert [r.role for r in plan.neural] == ["teacher", "student", "scratch"]
    assert "LMMSE" in plan
    assert "hybrid" not in plan
    assert (plan["LMMSE"].role, plan["LMMSE"].family, plan["teacher"].family) == ("classical", "classical", "deeprx")
    with pytest.raises(UserError, match="no 'hybrid' in this run; receivers: LS, LMMSE"):
        plan["hybrid"]


def test_the_subset_of_a_student_is_what_it_is_distilled_from() -> None:
    plan = build_plan(sweep({"receiver": ["deeprx-d5", "deeprx-d3"]}, distillation={"generations": 2}))
    subset = plan.subset("hybrid-w8-d2-kd-deeprx-d3-g2")
    kd = "hybrid-w8-d2-kd-deeprx-d3"
    assert [r.name for r in subset.neural] == ["teacher-deeprx-d3", kd, f"{kd}-g2"]
    assert subset.classical == plan.classical
    with pytest.raises(UserError, match="no 'LS' in this run; trained receivers: teacher-deeprx-d5"):
        plan.subset("LS")


def test_a_scratch_baseline_can_be_trained_alone() -> None:
    subset = build_plan(sweep()).subset("hybrid-w8-d2-scratch")
    assert group_names(subset) == [["hybrid-w8-d2-scratch"]]


def test_receivers_of_a_group_share_a_stream() -> None:
    config = sweep(
        {"receiver": ["deeprx-d5", "deeprx-d3"]},
        seeds=[1, 2],
        distillation=[{"teacher": "teacher-deeprx-d3", "generations": 2}, {"teacher": "perfect CSI"}],
    )
    kd = "hybrid-w8-d2-kd"
    assert group_names(build_plan(config)) == [
        ["teacher-deeprx-d5", "teacher-deeprx-d3"],
        [f"{kd}-deeprx-d3-s1", f"{kd}-perfect-CSI-s1", "hybrid-w8-d2-scratch-s1"],
        [f"{kd}-deeprx-d3-s2", f"{kd}-perfect-CSI-s2", "hybrid-w8-d2-scratch-s2"],
        [f"{kd}-deeprx-d3-g2-s1"],
        [f"{kd}-deeprx-d3-g2-s2"],
    ]


def test_the_sweep_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "distillation.md").read_text()
    blocks = [yaml.safe_load(part.split("```")[0]) for part in page.split("```yaml")[1:]]
    (written,) = [block for block in blocks if "teacher" in block]
    plan = build_plan(sweep(written["teacher"], **written["students"]))
    num_settings = 3 * 2 + 1 + 1 + 2
    assert len(plan.neural) == 2 * 2 + 2 * 3 * (num_settings + 1)
    smaller = [r for r in plan if r.name.startswith("deeprx-w0.125-d5-kd-hybrid") and r.seed == 3]
    assert [p.teachers for p in smaller] == [("hybrid-w16-d4-kd-deeprx-w0.5-s1-T2-a0.5-s3",)]
