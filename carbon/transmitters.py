"""Power that transmitters consume: a user's amplifier, EARTH's base stations of 2010, and TR 38.864's of 2022.

All of them are affine in the power sent. The static part is consumed whatever is sent, as long as the station is awake.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import Field

from leanrx_core.checks import fraction, number, positive
from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml


class Transmitter(Record):
    """A transmitter with affine consumption.

    Attributes:
        name: of the device.
        max_output_w: highest power sent over the whole carrier, W.
        static_w: power consumed whatever is sent, W.
        slope: watts consumed per watt sent.
        source: of the values.

    Example:
        >>> phone = amplifier(max_output_dbm=23, efficiency=0.35)
        >>> round(phone.load_w(phone.max_output_w), 2)
        0.57
    """

    name: str
    max_output_w: float = Field(gt=0)
    static_w: float = Field(0.0, ge=0)
    slope: float = Field(gt=0)
    source: str

    def load_w(self, output_w: float) -> float:
        """The part of the consumption that follows the power sent, W."""
        return self.slope * output_w

    def consumed_w(self, output_w: float) -> float:
        """Consumption, W."""
        return self.static_w + self.load_w(output_w)


def amplifier(max_output_dbm: float, efficiency: float) -> Transmitter:
    """The power amplifier of a user's device; the rest of the device is not modelled.

    Args:
        max_output_dbm: 23 for power class 3 of TS 38.101-1.
        efficiency: power sent over power consumed, above 0 and up to 1.

    Raises:
        UserError: if the efficiency is outside its range.
    """
    positive("efficiency", fraction("efficiency", efficiency))
    return Transmitter(
        name=f"amplifier of {max_output_dbm:g} dBm",
        max_output_w=10 ** (max_output_dbm / 10 - 3),
        slope=1 / efficiency,
        source=f"assumed efficiency of {efficiency:g}, amplifier alone",
    )


class EarthStation(Record):
    """A base station by EARTH (G. Auer et al., IEEE Wireless Commun. 18, 2011): ``N (P0 + slope P)``, ``P`` per chain.

    Codes that cite the model differ on whether the slope is multiplied by the number of chains. Here it is.

    Attributes:
        name: type of the station.
        chains: number of transceiver chains.
        max_output_w: per chain.
        static_w: P0 per chain.
        slope: watts consumed per watt sent.
        sleep_w: per chain.

    Example:
        >>> earth_station("macro").consumed_w(20.0)
        1344.0
    """

    name: str
    chains: int = Field(ge=1)
    max_output_w: float = Field(gt=0)
    static_w: float = Field(gt=0)
    slope: float = Field(gt=0)
    sleep_w: float = Field(gt=0)

    def consumed_w(self, output_w: float) -> float:
        """Consumption of all chains, W; asleep where ``output_w``, the power sent per chain, is 0."""
        number("output_w", output_w, 0, self.max_output_w)
        return self.chains * (self.static_w + self.slope * output_w if output_w else self.sleep_w)

    def transmitter(self, chains: int = 1) -> Transmitter:
        """Some of the chains as one transmitter."""
        return Transmitter(
            name=f"EARTH {self.name}, {chains} of {self.chains} chains",
            max_output_w=chains * self.max_output_w,
            static_w=chains * self.static_w,
            slope=self.slope,
            source="Auer et al., 2011",
        )


class NrStation(Record):
    """A base station by TR 38.864, clause 5.1: power in units of the deepest sleep.

    Attributes:
        name: category and set.
        units: P1 to P5: deep sleep, light sleep, micro sleep, active downlink, active uplink.

    Example:
        >>> station = nr_station("category 1, set 1")
        >>> [station.downlink_units(power=p) for p in (1.0, 0.5, 0.25)], station.uplink_units()
        ([280.0, 212.5, 178.75], 110.0)
    """

    name: str
    units: tuple[float, float, float, float, float]

    def downlink_units(self, active: float = 1.0, bandwidth: float = 1.0, power: float = 1.0) -> float:
        """``P3 + s_a (P4 - P3) (A + s_f s_p (1 - A) / eta)`` with A = 0.4 and eta = 1.

        Args:
            active: ``s_a``: part of the antennas and time in use.
            bandwidth: ``s_f``: part of the bandwidth in use.
            power: ``s_p``: power spectral density over the highest one.
        """
        for name, value in (("active", active), ("bandwidth", bandwidth), ("power", power)):
            fraction(name, value)
        _, _, micro, downlink, _ = self.units
        return micro + active * (downlink - micro) * (_STATIC_PART + bandwidth * power * (1 - _STATIC_PART))

    def uplink_units(self, active: float = 1.0) -> float:
        """``P3 + s_a (P5 - P3)``."""
        _, _, micro, _, uplink = self.units
        return micro + fraction("active", active) * (uplink - micro)

    def transmitter(self, watts_per_unit: float, max_output_w: float) -> Transmitter:
        """The active station as a transmitter.

        Args:
            watts_per_unit: TR 38.864 has none; 39.29 gives 11 kW at full load for category 1, set 1.
            max_output_w: power sent at full load.
        """
        positive("watts_per_unit", watts_per_unit)
        positive("max_output_w", max_output_w)
        static = self.downlink_units(power=0.0)
        return Transmitter(
            name=f"TR 38.864 {self.name}",
            max_output_w=max_output_w,
            static_w=watts_per_unit * static,
            slope=watts_per_unit * (self.downlink_units() - static) / max_output_w,
            source=f"TR 38.864, clause 5.1; {watts_per_unit:g} W per unit and {max_output_w:g} W sent are assumed",
        )


_STATIC_PART = 0.4


@cache
def _presets() -> dict[str, list[dict[str, object]]]:
    path = resources.files("carbon") / "presets" / "transmitters.yaml"
    presets: dict[str, list[dict[str, object]]] = read_yaml(str(path))
    return presets


def earth_station(name: str) -> EarthStation:
    """A station of EARTH: macro, radio head, micro, pico or femto.

    Raises:
        UserError: if there is no such station.
    """
    records = {r.name: r for r in (EarthStation.parse(e, "transmitters.yaml") for e in _presets()["earth-2011"])}
    if name not in records:
        raise UserError(f"transmitter: no station '{name}' in earth-2011; choose from {', '.join(records)}")
    return records[name]


def nr_station(name: str) -> NrStation:
    """A station of TR 38.864, such as ``"category 1, set 1"``.

    Raises:
        UserError: if there is no such station.
    """
    records = {r.name: r for r in (NrStation.parse(e, "transmitters.yaml") for e in _presets()["tr38864"])}
    if name not in records:
        raise UserError(f"transmitter: no station '{name}' in tr38864; choose from {'; '.join(records)}")
    return records[name]
