from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from leanrx_core.errors import UserError
from leanrx_core.records import Range, Record, read_yaml


class Inner(Record):
    renamed_keys: ClassVar[Mapping[str, str]] = {"gain": "gain_db"}

    gain_db: float = Field(0.0, ge=-10, le=10)


class Outer(Record):
    label: str = Field("x", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    snr_db: Range = (0.0, 10.0)
    count: int | None = None


def message(data: object) -> str:
    with pytest.raises(UserError) as error:
        Outer.parse(data, "outer.yaml")
    text = str(error.value)
    assert text.startswith("outer.yaml: ")
    assert "\n" not in text
    return text.removeprefix("outer.yaml: ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"lable": "x"}, "lable: unknown key; did you mean 'label'?"),
        ({"zzz": 1}, "zzz: unknown key; known keys: label, inner, parts, snr_db, count"),
        ({"inner": {"gain": 1}}, "inner.gain: renamed to 'gain_db'"),
        ({"parts": [{}, {"gain": 1}]}, "parts.1.gain: renamed to 'gain_db'"),
        ({"inner": {"gain_db": 11}}, "inner.gain_db: Input should be less than or equal to 10 (given: 11)"),
        ({"inner": {"gain_db": float("nan")}}, "inner.gain_db: write a finite number (given: nan)"),
        ({"label": 5}, "label: write text, and put numbers in quotes (given: 5)"),
        (
            {"label": "-x"},
            "label: use letters, digits, '.', '_' and '-', and begin with a letter or a digit (given: '-x')",
        ),
        ({"snr_db": [3, 1]}, "snr_db: the range is empty: write the lower end first (given: [3, 1])"),
        ({"parts": 3}, "parts: write a list, in square brackets (given: 3)"),
        ({"lable": "x", "count": "many"}, "lable: unknown key; did you mean 'label'? (and 1 more)"),
        ("text", "Outer: write keys and values, such as 'label: quickstart' (given: 'text')"),
    ],
)
def test_errors_name_the_field_the_value_and_the_remedy(data: object, expected: str) -> None:
    assert message(data) == expected


def test_records_are_frozen_and_hashable() -> None:
    assert hash(Outer(label="a")) == hash(Outer(label="a"))
    assert {Outer(label="a"), Outer(label="a"), Outer(label="b")} == {Outer(label="a"), Outer(label="b")}
    with pytest.raises(ValueError, match="frozen"):
        Outer().label = "b"


def test_yaml_round_trip(tmp_path: Path) -> None:
    record = Outer(label="a", parts=(Inner(gain_db=3),), snr_db=(-4, 32))
    path = tmp_path / "record.yaml"
    path.write_text(record.to_yaml())
    assert Outer.load(path) == record


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("{a: 15e3, b: 1e-9, c: -4, d: .5, e: 15e3 Hz}")
    assert read_yaml(path) == {"a": 15e3, "b": 1e-9, "c": -4, "d": 0.5, "e": "15e3 Hz"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", "not valid YAML at line 2 (key 'a' appears twice); correct the file"),
        ("a: [1", "not valid YAML at line 1"),
        (b"\xff\xfe\xfd", "not valid YAML"),
        (None, "cannot be read (No such file or directory); give the path of a YAML file"),
    ],
)
def test_unreadable_yaml_is_refused(tmp_path: Path, text: str | bytes | None, expected: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)
