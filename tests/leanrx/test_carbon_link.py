"""What the comparison of receivers on a link says and draws."""

from pathlib import Path

import pytest

from carbon import Site, carbon_intensity
from carbon.link_table import LinkCase, carrier_link, link_table
from carbon.receiver_options import zoo_family
from leanrx.cli.main import app
from leanrx.experiment.run import open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.report.carbon_link import link_figures
from leanrx_core.errors import UserError


@pytest.mark.parametrize("fraction", [0, 0.8])
def test_a_link_says_that_its_neighbours_are_held(fraction: float, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--link=radio-head", "--intensity=world-2023", "--ber=0.1", f"--interference-fraction={fraction}"]
    app(["carbon", "link", "tdl-6prb", *options], standalone_mode=False)
    said = capsys.readouterr().out.splitlines()[-1]
    world = Site(intensity=carbon_intensity("world-2023"))
    family = zoo_family("tdl-6prb", fraction)
    figures = link_figures(link_table(family, LinkCase(carrier_link("radio-head"), world, world, target=0.1)))
    for text in (said, figures[0].caption):
        assert f"The power of interferers is held. It is {fraction:.0%} of interference and noise here." in text
        assert "Only under this assumption does own power move the SINR dB for dB" in text


def test_a_run_without_results_is_refused(tmp_path: Path) -> None:
    scenario = {
        "name": "tiny",
        "grid": {"num_prb": 1, "pilot_patterns": [[2]]},
        "channels": {"train": {"TDL-B": 1.0}, "test": {"TDL-A": 1.0}},
    }
    config = {"label": "empty", "scenario": scenario, "device": "cpu", "teacher": {"receiver": "deeprx-w0.0625-d3"}}
    config |= {"students": {"receivers": ["hybrid-w2-d1"]}, "evaluation": {"sinr_db": [0]}}
    folder = open_run(SweepConfig.parse(config, "run"), tmp_path).folder
    with pytest.raises(UserError, match="run: leanrx"):
        app(["carbon", "link", str(folder), "--link=radio-head", "--intensity=world-2023"], standalone_mode=False)


def test_each_architecture_has_one_line_and_one_colour() -> None:
    world = Site(intensity=carbon_intensity("world-2023"))
    table = link_table(zoo_family("tdl-6prb"), LinkCase(carrier_link("nr-macro"), world, world))
    curves = link_figures(table)[0].curves
    networks = {option.name: option.network for option in table.family.options}
    assert len({networks[c.name] for c in curves}) == len({c.colour for c in curves}) == len(curves) == 3
    assert table.choice is not None
    assert table.choice.receiver in {c.name for c in curves}
