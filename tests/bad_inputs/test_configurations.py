"""Every value of a configuration in YAML, replaced by values that do not fit: a sweep, a dataset, a life cycle."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import contents, refusal
from complete_runs import CONFIG

DATASET: dict[str, Any] = {
    "label": "points",
    "scenario": CONFIG["scenario"],
    "split": "test",
    "seed": 3,
    "block_slots": 4,
    "num_blocks": 2,
    "sinr_db": [0.0, 10.0],
    "interference_fractions": [0.0, 0.5],
}
LIFE_CYCLE: dict[str, Any] = {
    "model": {"kind": "flops", "forward_flops": 1e6},
    "samples": 100,
    "values_per_sample": 10,
    "bits_per_value": 32,
    "epochs": 2,
    "split": {"kind": "hold-out", "train_fraction": 0.8},
    "preprocessing": "none",
    "inferences": 1000,
    "samples_per_inference": 1,
    "hops": [],
    "device": {"flops_per_s": 1e9, "power_w": 10.0},
    "virtualisation": 0.1,
    "goodput": {"data_bits_per_inference": 100.0, "ber": 0.1},
}
COMMANDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sweep": (CONFIG, ["--runs", "{folder}/runs"]),
    "data": (DATASET, ["--data", "{folder}/data"]),
    "ecal": (LIFE_CYCLE, []),
}
LARGE_TEXT = "x" * 5000
FOREIGN_VALUES: dict[type, list[str]] = {
    float: ["text", "{a: 1}", ".nan", "-.inf", "1e400", "1" + "0" * 30, "9" * 5000, "[[1]]"],
    int: ["text", "{a: 1}", ".nan", "-1" + "0" * 30, "1" + "0" * 30, "9" * 5000, "[[1]]"],
    bool: ["text", "{a: 1}", "7", ".nan"],
    str: ["{a: 1}", '"a\\nb"', LARGE_TEXT, "[[a]]", '"\\e[31m"', '"../.."', '""'],
    dict: ["text", "7", "[a]", "{zzz: 1}", f"{{{LARGE_TEXT}: 1}}", "{? [a] : 1}"],
    list: ["{a: 1}", "[{a: {b: 1}}]", ".nan"],
}
"""YAML that does not fit, by the type of the value that it replaces."""


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], type]]:
    """Path and type of every value."""
    if path:
        yield path, type(data)
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*path, key))


def replaced(data: dict[str, Any], path: tuple[Any, ...], text: str) -> str:
    """The YAML of data with a value replaced by other YAML."""
    changed = copy.deepcopy(data)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = "PLACEHOLDER"
    return yaml.safe_dump(changed, default_flow_style=True, width=10**6).replace("PLACEHOLDER", text)


def cases(command: str, values_per_place: int = 2) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Places and YAML that does not fit there. Neighbouring places take different values, so that all values occur."""
    for index, (place, kind) in enumerate(places(COMMANDS[command][0])):
        if command == "data" and len(place) > 1 and place[0] == "scenario":
            continue  # the same record as in a sweep
        texts = FOREIGN_VALUES[kind]
        for number in range(values_per_place):
            yield place, texts[(values_per_place * index + number) % len(texts)]


def test_there_are_many_cases_with_every_value() -> None:
    texts = [text for command in COMMANDS for _, text in cases(command)]
    assert len(texts) > 200
    assert set(texts) == {text for values in FOREIGN_VALUES.values() for text in values}


@pytest.mark.parametrize("command", COMMANDS)
def test_values_that_do_not_fit_are_refused(command: str, tmp_path: Path) -> None:
    """All in one test for each command, because each takes milliseconds."""
    arguments = [a.replace("{folder}", str(tmp_path)) for a in COMMANDS[command][1]]
    path = tmp_path / "c.yaml"
    faults = []
    for place, text in cases(command):
        path.write_text(replaced(COMMANDS[command][0], place, text))
        try:
            message = refusal(command, path, *arguments)
            assert contents(tmp_path).keys() == {"c.yaml"}, "something was written"
            assert message.startswith(str(path)[:40]) or str(place[0]) in message, message
        except Exception as fault:
            faults.append(f"{place}: {text[:40]}: {type(fault).__name__}: {str(fault)[:200]}")
    assert not faults, "\n".join(faults)
