"""What the comparison of receivers on a link says and draws."""

import pytest

from carbon import Site, carbon_intensity
from carbon.link_table import LinkCase, carrier_link, link_table
from carbon.receiver_options import zoo_family
from leanrx.cli.main import app
from leanrx.report.carbon_link import link_figures


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
