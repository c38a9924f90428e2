"""The configuration of a sweep: what may be written, and what is refused with which message."""

from typing import Any

import pytest
import yaml

from channels import scenario as shipped_scenario
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
            {"distillation": {"alpha": 0}},
            r"distillation\.0\.alpha: 0 gives the teacher no weight, and the student would",
        ),
        (
            {"distillation": {"loss": "regression", "temperature": [1, 4]}},
            "temperature: has no effect with loss regression",
        ),
        ({"distillation": {"clip": [2, 4]}}, "clip: has no effect with loss soft-bits"),
        (
            {"distillation": {"transfers": [{"student": "a", "teacher": "b"}], "alpha": 0, "temperature": [1, 4]}},
            r"distillation\.1: trains the same student as distillation\.0, because what differs has no effect",
        ),
        (
            {"teacher": {"seeds": [1, 2], "pretrained": {"deeprx": "x"}}},
            "pretrained: one receiver would stand for several",
        ),
    ],
)
def test_mistakes_of_students_are_named(students: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SweepConfig.parse(configuration(**students), "x.yaml")


def coded(scenario: dict[str, Any] | str, **evaluation: Any) -> dict[str, Any]:
    return {**configuration(), "scenario": scenario, "evaluation": {"sinr_db": [0], **evaluation}}


ONE_PRB: dict[str, Any] = {
    "name": "x",
    "grid": {"num_prb": 1, "pilot_patterns": [[2]]},
    "modulations": ["QPSK"],
    "channels": {"train": ["TDL-A"], "test": ["TDL-B"]},
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            coded("tdl-6prb", code_rate=0.95),
            r"x: evaluation\.code_rate: is not a code rate of 5G; write a number .*\(given: 0\.95\)",
        ),
        (coded("tdl-6prb", code_rate="3/2"), r"x: evaluation\.code_rate: is not a code rate of 5G.*\(given: '3/2'\)"),
        (coded(ONE_PRB, code_rate=948 / 1024), r"evaluation\.code_rate: 0\.9258 needs 288 bits .* write \d+/1024"),
        (
            coded("tdl-6prb", mcs={"index": 4}),
            r"evaluation\.mcs: index 4 of table 1 has QPSK, the scenario 16-QAM; write 'modulations: \[QPSK\]'",
        ),
        (
            coded({**ONE_PRB, "modulations": ["QPSK", "16-QAM"]}, mcs={"index": 4}),
            r"evaluation\.mcs: index 4 of table 1 has QPSK, the scenario QPSK, 16-QAM",
        ),
        (coded("tdl-6prb", mcs={"index": 29}), r"x: evaluation\.mcs: index: 29 has no code rate in table 1"),
        (coded("tdl-6prb", mcs={"index": 4, "table": 4}), r"x: evaluation\.mcs\.table"),
    ],
)
def test_codes_that_the_slots_cannot_carry_are_refused_when_read(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SweepConfig.parse(data, "x")


def test_networks_that_cannot_receive_the_grid_are_refused_when_read() -> None:
    grid = {"subcarriers": {"fft_size": 128, "guards": [5, 6], "dc_null": True}, "pilot_patterns": [[2]]}
    data = {**coded({**ONE_PRB, "grid": grid}), "students": {"receivers": ["deeprx-w0.25-d5", "hybrid-w5-d5"]}}
    with pytest.raises(
        UserError, match=r"'hybrid-w5-d5' needs whole resource blocks, and the grid has 117 subcarriers"
    ):
        SweepConfig.parse(data, "x")
    assert SweepConfig.parse({**data, "students": {"receivers": ["deeprx-w0.25-d5"]}}, "x").scenario.grid.num_prb == 10


def test_a_low_rate_on_a_wide_grid_is_accepted() -> None:
    """0.3008 with 50 PRB of QPSK repeats bits of base graph 1."""
    wide = {**ONE_PRB, "grid": {"num_prb": 50, "pilot_patterns": [[2]]}}
    for evaluation in ({"code_rate": 0.3008}, {"code_rate": "308/1024"}, {"mcs": {"index": 4}}):
        (block,) = (config := SweepConfig.parse(coded(wide, **evaluation), "x")).evaluation.transport_formats(
            config.scenario
        )
        assert (block.size_bits, block.coded_bits, block.base_graph) == (4608, 15600, 1)


def test_each_listed_loss_has_its_own_settings() -> None:
    """Two temperatures and one clip are three students, and the stored configuration says the same."""
    entry = {"loss": ["soft-bits", "regression"], "temperature": [1, 4], "clip": 6}
    config = SweepConfig.parse(configuration(distillation=entry), "x.yaml")
    settings = [(s.loss, s.temperature, s.clip) for s in config.students.distillation]
    assert settings == [("soft-bits", 1, 8), ("soft-bits", 4, 8), ("regression", 2, 6)]
    assert SweepConfig.parse(yaml.safe_load(config.to_yaml()), "x.yaml") == config


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"report": {"sinr_db": 7}}, "report.sinr_db 7 is not tested; the report takes 0 dB"),
        (
            {"teacher": {"receiver": "deeprx-d3", "training": {"steps": 700}}},
            "teacher.training.warmup_steps 800 is more than the 700 steps, so the learning rate never reaches 0.01",
        ),
        (
            {"teacher": {"receiver": "deeprx-d3", "training": {"deep_supervision_weight": 0.5}}},
            "teacher.training.deep_supervision_weight has no effect on deeprx-d3, which have no intermediate LLRs",
        ),
        (
            {"teacher": {"receiver": "deeprx-d3", "training": {"steps": 900}, "pretrained": {"deeprx-d3": "x"}}},
            "teacher.training has no effect, because all teachers are pretrained",
        ),
    ],
)
def test_settings_with_little_effect_are_warned_about(changes: dict[str, Any], warning: str) -> None:
    quiet = {**configuration(), "report": {"sinr_db": 0}}
    assert SweepConfig.parse(quiet, "x.yaml").warnings() == []
    assert SweepConfig.parse({**quiet, **changes}, "x.yaml").warnings() == [warning]


def test_a_mixture_needs_networks_for_all_its_antennas_and_channels_for_all_members() -> None:
    scenario = {**shipped_scenario("tdl-6prb").model_dump(exclude={"mixture"}), "mixture": [{"grid": {"num_rx": 8}}]}
    shared = {"teacher": {"receiver": "hybrid-shared"}, "students": {"receivers": "hybrid-shared-w4-d2"}}
    SweepConfig.parse({**SMALL, **shared, "scenario": scenario}, "x.yaml")
    for change, words in (
        ({"students": {"receivers": "hybrid-w4-d2"}}, "'hybrid-w4-d2' has one number of antennas"),
        ({"dataset": {"train": "folder"}}, "dataset.train: has slots of one scenario"),
        (
            {"scenario": {**scenario, "mixture": [{"channels": {"train": [], "test": ["TDL-A"]}}]}},
            r"scenario.mixture.0.channels.train is empty; name at least one",
        ),
        ({"scenario": {**scenario, "mixture": []}}, "scenario.mixture: too few entries"),
    ):
        with pytest.raises(UserError, match=words):
            SweepConfig.parse({**SMALL, **shared, "scenario": scenario, **change}, "x.yaml")
