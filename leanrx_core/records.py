"""Typed, frozen records read from YAML, and errors that say how to mend what was written.

Every configuration of leanrx is a :class:`Record`. Unknown keys are refused, numbers carry their unit in the
field's name and are refused outside what is physically sensible, and each mistake becomes one line that names the
field, what was given and what is allowed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from leanrx_core.errors import UserError


class Record(BaseModel):
    """A frozen record without unknown keys.

    Attributes:
        renamed_keys: keys of earlier versions and their names today; an old key is refused with its new name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @classmethod
    def parse(cls, data: Any, source: str) -> Self:
        """Validate ``data``; ``source`` is named in the error.

        Raises:
            UserError: if a key is unknown or a value is not allowed.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(f"{source}: {_first_mistake(cls, error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the record from a YAML file.

        Raises:
            UserError: if the file is missing, is not YAML, or does not describe this record.
        """
        return cls.parse(read_yaml(path), str(path))

    def to_yaml(self) -> str:
        """The record as YAML, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """YAML with scientific notation read as people write it (``15e3`` is a number), and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file into plain data.

    Raises:
        UserError: if the file is missing or is not YAML.
    """
    try:
        return yaml.load(Path(path).read_text(), Loader=_Loader)  # a SafeLoader
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        what = f" ({error.problem})" if isinstance(error, yaml.MarkedYAMLError) and error.problem else ""
        raise UserError(f"{path}: not valid YAML{line}{what}") from None


_WORDS = {
    "model_type": "write keys and values, such as 'label: quickstart'",
    "model_attributes_type": "write keys and values, such as 'label: quickstart'",
    "tuple_type": "write a list, in square brackets",
    "dict_type": "write a list of names, or names with weights, such as {TDL-A: 2, TDL-B: 1}",
    "string_type": "write a word; quote numbers",
    "string_pattern_mismatch": "use letters, digits, '.', '_' and '-', and begin with a letter or digit",
    "finite_number": "write a finite number",
}


def _first_mistake(model: type[BaseModel], error: ValidationError) -> str:
    mistakes = error.errors()
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    field = ".".join(str(part) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        text = f"{field}: {_unknown_key(_record_at(model, first['loc'][:-1]), str(first['loc'][-1]))}"
    elif first["type"] == "missing":
        text = f"{field}: missing; add it"
    elif first["type"] in _WORDS:
        text = f"{field}: {_WORDS[first['type']]} (given: {first['input']!r})"
    else:
        given = "" if isinstance(first["input"], dict | BaseModel) else f" (given: {first['input']!r})"
        text = f"{field}: {first['msg'].removeprefix('Value error, ')}{given}"
    return text + (f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else "")


def _unknown_key(record: type[BaseModel], key: str) -> str:
    renamed = record.renamed_keys if issubclass(record, Record) else {}
    if key in renamed:
        return f"renamed to '{renamed[key]}'"
    known = list(record.model_fields)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known keys: {', '.join(known)}"


def _record_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """The record that a path of keys and indices leads to."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            types = [field.annotation, *get_args(field.annotation)]
            types += [inner for annotated in types[1:] for inner in get_args(annotated)]  # of Annotated in a union
            model = next((t for t in types if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return model


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the range is empty: write the lower end first")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_in_order)]
"""A closed interval ``[low, high]``; values are drawn uniformly from it."""
