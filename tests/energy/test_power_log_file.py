"""Logs of wattmeters as their makers and tools write them, with energies by hand."""

from pathlib import Path

import numpy as np
import pytest

from energy.metering.power_log import Wattmeter
from leanrx_core.errors import UserError

BEGIN_S = 1_772_359_200  # 2026-03-01T10:00:00Z


def log(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode(encoding))
    return path


def rows(form: str, count: int = 20) -> str:
    """Lines in one form; ``{i}`` counts seconds, ``{t}`` is that time since 1970."""
    return "\n".join(form.format(i=i, t=BEGIN_S + i, ms=1000 * (BEGIN_S + i)) for i in range(count)) + "\n"


METERS = {
    "plain": ("time,power_w\n", "{t}.0,41.9", 41.9),
    "UTC, Z": ("time,power_w\n", "2026-03-01T10:00:{i:02d}Z,41.9", 41.9),
    "offset after a space": ("timestamp,Watts\n", "2026-03-01 11:00:{i:02d} +0100,41.9", 41.9),
    "semicolons and decimal commas, kW": ("Zeit;Leistung [kW]\n", "{t},0;0,412", 412.0),
    "semicolons and decimal points": ("time;power_w\n", "{t};41.9", 41.9),
    "semicolon line of a spreadsheet": ("sep=;\ntime;power (W)\n", "{t};41,9", 41.9),
    "tabulators": ("time\tP [mW]\n", "{t}\t41900", 41.9),
    "milliseconds": ("Timestamp(ms),Voltage(V),Current(A),Power(W),\n", "{ms},5.0,2.0,10.0,", 10.0),
    "date and time of day, direct voltage": (
        "Datum;Zeit;Spannung [V];Strom [mA]\n",
        "01.03.2026;11:00:{i:02d}+01:00;5,062;115",
        0.58213,
    ),
    "UM25C by a Python tool": (
        "Date;Voltage (V);Intensity (A);Power (W);USB D+ (V);Temperature (°C);Record intensity (A);Energy (Wh)\n",
        "2026-03-01 10:00:{i:02d}.500000+00:00;5.06;0.115;0.58;0.01;25;0.13;0.009",
        0.58,
    ),
    "FNIRSI's packets, which overlap": (
        "\ntimestamp sample_in_packet voltage_V current_A dp_V dn_V temp_C_ema energy_Ws capacity_As\n",
        "{t}.000 0 5.02 0.5 0 0 28.2 0 0\n{t}.350 1 5.02 0.5 0 0 28.2 0 0\n{t}.300 0 5.02 0.5 0 0 28.2 0 0\n"
        "{t}.650 1 5.02 0.5 0 0 28.2 0 0",
        2.51,
    ),
    "Energy Logger 4000 with its power factor": (
        "timestamp,voltage_v,current_a,power_factor\n",
        "{t},230.0,0.200,0.91",
        41.86,
    ),
    "Shelly's status": ("timestamp,apower,voltage,current,aenergy\n", "{t},41.9,230.1,0.2,1000", 41.9),
    "Tasmota's sensor messages": (
        "Time,ENERGY.Total,ENERGY.Power,ENERGY.ApparentPower,ENERGY.Factor,ENERGY.Voltage,ENERGY.Current\n",
        "2026-03-01T10:00:{i:02d}+00:00,1.234,41.9,46,0.91,230,0.2",
        41.9,
    ),
    "settings before the header": ("Model,PM1000\nInterval,1\n\nTime,Voltage(V),Power(W)\n", "{t},230,41.9", 41.9),
    "twice a second, times of whole seconds": ("time,power_w\n", "{t},40\n{t},42", 41.0),
    "day before month with points": ("Date;Power W\n", "01.03.2026 10:00:{i:02d}Z;41,9", 41.9),
    "year first with slashes": ("Date,Power/W\n", "2026/03/01 10:00:{i:02d}Z,41.9", 41.9),
}


@pytest.mark.parametrize("name", METERS)
def test_common_meters(name: str, tmp_path: Path) -> None:
    header, form, power_w = METERS[name]
    meter = Wattmeter.read(log(tmp_path, header + rows(form)))
    assert meter.times_s[[0, -1]] == pytest.approx([BEGIN_S, BEGIN_S + 19], abs=0.66)
    assert (np.diff(meter.times_s) > 0).all()
    assert meter.between(BEGIN_S + 3, BEGIN_S + 13).energy_j == pytest.approx(10 * power_w)


def test_energies_of_intervals_are_mean_powers(tmp_path: Path) -> None:
    """Shelly's meters store watt-hours of each minute, at its begin: 0.7 Wh a minute are 42 W."""
    header = "timestamp,total_act_energy,total_act_ret_energy,max_act_power,min_act_power,avg_voltage\n"
    text = header + "\n".join(f"{BEGIN_S + 60 * i},0.7000,0.0000,90.1,10.2,230.1" for i in range(30))
    meter = Wattmeter.read(log(tmp_path, text))
    measurement = meter.between(BEGIN_S + 60, BEGIN_S + 660)
    assert measurement.energy_j == pytest.approx(600 * 42)
    assert "mean power of 60 s" in measurement.instrument_version
    assert meter.times_s[0] == BEGIN_S + 30


@pytest.mark.parametrize(("header", "form", "energy_j"), [("kW", "0,412", 4120.0), ("W", "41,9", 419.0)])
def test_decimal_commas_are_read_or_refused(header: str, form: str, energy_j: float, tmp_path: Path) -> None:
    """10 s at 412 W and at 41.9 W. Between commas, a decimal comma would give 0 W and 41 W."""
    with pytest.raises(UserError, match=r"line 2: 3 values for 2 names .* write decimal points, or separate columns"):
        Wattmeter.read(log(tmp_path, f"time,power_{header}\n" + rows("{t}.0," + form)))
    meter = Wattmeter.read(log(tmp_path, f"time;power_{header}\n" + rows("{t},0;" + form)))
    assert meter.between(BEGIN_S + 3, BEGIN_S + 13).energy_j == pytest.approx(energy_j)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_files_of_spreadsheets(encoding: str, tmp_path: Path) -> None:
    text = "Zeit;Leistung (W);Temperatur (°C)\r\n" + rows("{t};41,9;25").replace("\n", "\r\n")
    meter = Wattmeter.read(log(tmp_path, text, encoding))
    assert meter.between(BEGIN_S + 3, BEGIN_S + 13).energy_j == pytest.approx(419)


@pytest.mark.parametrize(
    ("header", "form", "words"),
    [
        ("time,power_w", "{t},41.9,0.3", "3 values for 2 names"),
        ("time;power_w", "{t};1.234,5", "'1.234,5' has a point where others have decimal commas"),
        ("time,power_w", '{t},"41,9"', "'41,9' is no power; write a decimal point"),
        ("time,power_w", "{t},1_0", "'1_0' is no power"),
        ("time,power", "{t},41.9", "column 'power' names no unit; rename it power_w, power_mw or power_kw"),
        ("time,voltage,current_a", "{t},5,1", "column 'voltage' names no unit; rename it voltage_v"),
        ("time,power_w,power_mw", "{t},1,1000", "several columns of power: power_w, power_mw; leave one in"),
        ("time,timestamp,power_w", "{t},{t},1", "several columns of time: time, timestamp"),
        ("time,voltage_v,current_a", "{t},230,0.2", "230 V are mains, .* apparent power; log power_w"),
        ("time,voltage_v,current_a,pf", "{t},230,0.2,91", "power factors must be from 0 to 1"),
        ("time,power_kw,voltage_v,current_a", "{t},0.5,5,0.1", "power is 1e.03 times voltage times current"),
        ("time,apparent_power_va", "{t},41.9", "no column of watts"),
        ("time,max_act_power_w", "{t},41.9", "no column of watts"),
        ("time,power_wh", "{t},41.9", "no column of watts"),
        ("Zone,power_w", "{t},41.9", "no column of times among Zone, power_w"),
        ("time,power_w", "03/01/2026 10:00:{i:02d},41.9", "has day and month in an unknown order"),
        ("time,power_w", "0001-01-01T00:00:00+14:00,41.9", "is before 1970; check the clock"),
        ("time,power_w", "10:00:{i:02d},41.9", "is no time; write ISO 8601"),
        ("time,power_w", "2026-03-01 10:00:{i:02d},41.9", "has no time zone; .* --utc-offset"),
        ("time,power_w", "{ms},41.9", "no seconds since 1970; .* time_ms"),
        ("time,power_w", "{t},41.9\n1772359100,41.9", "time does not increase at line 3"),
        ("time,power_w", "", "fewer than two samples"),
    ],
)
def test_what_is_refused(header: str, form: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as error:
        Wattmeter.read(log(tmp_path, header + "\n" + rows(form)))
    assert len(str(error.value).removeprefix(str(tmp_path))) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"PK\x03\x04\0\0", b"\xff\xfe\x00", b"sep=;\n"])
def test_files_that_are_no_logs(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match="CSV"):
        Wattmeter.read(path)


def test_times_that_begin_at_zero_are_named(tmp_path: Path) -> None:
    """Some meters count seconds since their start. Their log cannot be laid over the windows of a session."""
    meter = Wattmeter.read(log(tmp_path, "time,power_w\n" + "\n".join(f"{i},5" for i in range(20))))
    with pytest.raises(UserError, match="its times are no seconds since 1970"):
        meter.between(BEGIN_S, BEGIN_S + 5)
    assert meter.between(3, 13).energy_j == 50


def test_long_logs_are_read_at_once(tmp_path: Path) -> None:
    """Ten minutes at 100 samples a second."""
    text = "timestamp voltage_V current_A\n" + "\n".join(f"{BEGIN_S + 0.01 * i:.2f} 5.0 0.5" for i in range(60_000))
    assert Wattmeter.read(log(tmp_path, text)).between(BEGIN_S, BEGIN_S + 599).energy_j == pytest.approx(599 * 2.5)


def test_damaged_logs_are_refused_in_one_line(tmp_path: Path) -> None:
    """Bytes of a good log, replaced at random: it is read, or refused without a traceback."""
    random = np.random.default_rng(1)
    good = ("Datum;Zeit;Spannung [V];Strom [mA]\n" + rows("01.03.2026;11:00:{i:02d}+01:00;5,062;115")).encode()
    refusals = 0
    for _ in range(200):
        data = np.frombuffer(good, np.uint8).copy()
        places = random.integers(len(data), size=random.integers(1, 6))
        data[places] = random.integers(256, size=len(places))
        path = tmp_path / "log.csv"
        path.write_bytes(data.tobytes()[: random.integers(1, len(data))])
        try:
            meter = Wattmeter.read(path)
        except UserError:
            refusals += 1
        else:
            assert (np.diff(meter.times_s) > 0).all()
            assert (meter.watts >= 0).all()
    assert 100 < refusals < 200
