"""Limits that hold for every input by rule: each count of a configuration has an upper limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from channels.dataset import Dataset
from energy.ecal.life_cycle_config import LifeCycleConfig
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.checks import MAX_COUNT, MAX_NUMBER, integer, number, path_component
from leanrx_core.errors import UserError
from leanrx_core.messages import MAX_LENGTH
from leanrx_core.records import MAX_DEPTH, Record, read_yaml


def unbounded_integers(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[str]:
    """Paths of the integers in a JSON schema that have neither an upper limit nor a list of values."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name not in path.split("/"):
            yield from unbounded_integers(definitions[name], definitions, f"{path}/{name}")
    if schema.get("type") == "integer" and not {"maximum", "exclusiveMaximum", "enum", "const"} & schema.keys():
        yield path
    for key in ("anyOf", "prefixItems"):
        for inner in schema.get(key, []):
            yield from unbounded_integers(inner, definitions, path)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from unbounded_integers(schema[key], definitions, path)
    for key, inner in schema.get("properties", {}).items():
        yield from unbounded_integers(inner, definitions, f"{path}/{key}")


@pytest.mark.parametrize("record", [SweepConfig, Dataset])
def test_every_count_of_a_configuration_has_an_upper_limit(record: type[Record]) -> None:
    schema = record.model_json_schema()
    unbounded = set(unbounded_integers(schema, schema.get("$defs", {}), record.__name__))
    assert {path for path in unbounded if "pilot_patterns" not in path} == set()  # symbols have a check of their own


@pytest.mark.parametrize("value", [10**30, -(10**30), 1e300, 10**5000, [[1, {"a": 10**16}]]], ids=range(5))
@pytest.mark.parametrize("key", ["samples", "name", "model", "unknown"])
def test_numbers_beyond_all_limits_are_refused_before_anything_computes_with_them(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"x\.yaml: {key}.* beyond all limits; write at most 1e\+"):
        LifeCycleConfig.parse({key: value}, "x.yaml")


def nested(depth: int) -> Any:
    data: Any = 1
    for _ in range(depth):
        data = [data]
    return data


def test_deep_and_repeated_data_are_refused() -> None:
    with pytest.raises(UserError, match=f"x: a: nested deeper than {MAX_DEPTH} levels"):
        LifeCycleConfig.parse({"a": nested(MAX_DEPTH + 1)}, "x")
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(UserError, match="nested deeper"):
        LifeCycleConfig.parse({"a": cycle}, "x")
    bomb: Any = 1
    for _ in range(8):
        bomb = [bomb] * 9
    with pytest.raises(UserError, match="more than 100,000 values"):
        LifeCycleConfig.parse({"a": bomb}, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a, b]: 1", "not valid YAML at line 1 (a key is not text); correct the file"),
        ("{a: 1}: 1", "not valid YAML at line 1 (a key is not text); correct the file"),
        ("? [a]\n: 1", "not valid YAML at line 1 (a key is not text); correct the file"),
        ("[" * 1500, "nested deeper than 20 levels; write it flatter"),
        ("a: " + "9" * 5000, "not valid YAML; correct the file"),
        ("a: !!bool maybe", "not valid YAML; correct the file"),
        ("a: !!timestamp 2026-13-45", "not valid YAML; correct the file"),
        ("a: !!int x", "not valid YAML; correct the file"),
        ("#" * (2**20 + 1), "longer than 1,048,576 bytes; give the path of a YAML file"),
    ],
)
def test_yaml_that_python_cannot_build_is_refused(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}: {message}"


def test_dates_are_text(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 2026-13-45\nb: 2026-01-01")
    assert read_yaml(path) == {"a": "2026-13-45", "b": "2026-01-01"}


def test_an_endless_file_is_no_configuration() -> None:
    with pytest.raises(UserError, match=r"/dev/zero: longer than 1,048,576 bytes"):
        read_yaml("/dev/zero")


@pytest.mark.parametrize("value", ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a\n", "a\0", "ä", "x" * 101, 5])
def test_names_that_leave_a_folder_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^label: .* (is not a name; use letters|has 101 characters; use at most 100)"):
        path_component("label", value)


def test_values_of_any_size_are_echoed_in_one_line() -> None:
    for value in (10**5000, "x" * 5000, "a\nb\x1b[31m\u2028\ud800", [10**5000] * 50, {"k": "v" * 500}):
        with pytest.raises(UserError) as error:
            number("steps", value, 1)
        message = str(error.value)
        assert len(message) <= MAX_LENGTH
        assert message.isprintable()
        assert message.startswith("steps: ")
        assert "; give a number" in message


def test_limits_are_stated() -> None:
    with pytest.raises(UserError, match=r"x: 1e\+300 is not allowed; give a number from 0 to 1e\+30"):
        number("x", 1e300, 0)
    with pytest.raises(UserError, match="give a whole number from 1 to 1000000000000000"):
        integer("x", MAX_COUNT + 1, 1)
    assert number("x", MAX_NUMBER, 0) == MAX_NUMBER
    assert integer("x", MAX_COUNT, 1) == MAX_COUNT
