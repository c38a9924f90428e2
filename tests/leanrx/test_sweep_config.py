"""The configuration of a sweep: what may be written, and what is refused with which message."""

from typing import Any

import pytest
import yaml

from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError

SMALL: dict[str, Any] = {"label": "x", "scenario": "tdl-6prb", "evaluation": {"sinr_db": [0]}}


def configuration(teacher: dict[str, Any] | None = None, **students: Any) -> dict[str, Any]:
    return {**SMALL, "teacher": teacher or {}, "students": {"receivers": ["hybrid-w8-d2"], **students}}


def test_scenarios_are_runs_of_their_own(tmp_path) -> None:
    data = {"label": "x", "scenario": ["tdl-6prb", "pusch-fr1"], "students": {"receivers": ["deeprx-d3"]}}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({**data, "evaluation": {"sinr_db": [0]}}))
    assert [(c.label, c.scenario.name) for c in SweepConfig.load_all(path)] == [
        ("x-tdl-6prb", "tdl-6prb"),
        ("x-pusch-fr1", "pusch-fr1"),
    ]
    path.write_text(yaml.safe_dump({**data, "scenario": ["tdl-6prb", "tdl-6prb"], "evaluation": {"sinr_db": [0]}}))
    with pytest.raises(UserError, match="tdl-6prb twice"):
        SweepConfig.load_all(path)
    path.write_text(yaml.safe_dump({**data, "scenario": "tdl-6prb", "evaluation": {"sinr_db": [0]}}))
    assert [c.label for c in SweepConfig.load_all(path)] == ["x"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"teacher": {"trained": {"deeprx": "x"}}}, r"x\.yaml: teacher\.trained: renamed to 'pretrained'"),
        ({"recorded": {"train": "x"}}, r"x\.yaml: recorded: renamed to 'dataset'"),
        ({"ecal": {"teacher": "charged"}}, r"x\.yaml: ecal\.teacher: renamed to 'teacher_allocation'"),
        ({"ecal": {"teacher_allocation": "shared"}}, r"ecal\.teacher_allocation: .*'full' or 'split'.*'shared'"),
    ],
)
def test_old_keys_are_refused_with_their_new_names(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SweepConfig.parse({**configuration(), **section}, "x.yaml")


@pytest.mark.parametrize(
    ("students", "message"),
    [
        ({"receivers": ["deeprx-d5", "deeprx-d5"]}, "names deeprx-d5 twice"),
        ({"receivers": []}, "is empty"),
        ({"seeds": [1, 1]}, "names 1 twice"),
        ({"distillation": {"temperature": [1, 1]}}, "twice"),
        ({"distillation": {"temperature": [2, 0]}}, r"students\.distillation\.1\.temperature"),
        ({"distillation": {"alpha": 1.5}}, r"students\.distillation\.0\.alpha"),
        ({"distillation": {"alpha": []}}, "is empty"),
        (
            {"teacher": {"seeds": [1, 2], "pretrained": {"deeprx": "x"}}},
            "pretrained: one receiver would stand for several",
        ),
    ],
)
def test_mistakes_of_students_are_named(students: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SweepConfig.parse(configuration(**students), "x.yaml")
