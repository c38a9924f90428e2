"""Typed, frozen records that are read from YAML, with errors of one line.

Every configuration of leanrx is a :class:`Record`. Unknown keys are an error. Numbers carry their unit in the name of
the field, and values outside the physically sensible range are an error. The error names the field, the value and what
is allowed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from leanrx_core.checks import MAX_COUNT, MAX_NAME, MAX_NUMBER, NAME_PATTERN
from leanrx_core.errors import UserError
from leanrx_core.messages import echo

MAX_YAML_BYTES = 2**20
MAX_VALUES = 100_000
MAX_DEPTH = 20
"""Limits of a YAML file: bytes, values (with repetitions by aliases), and levels of nesting."""


class Record(BaseModel):
    """A frozen pydantic model that accepts no unknown keys. Equal records have equal hashes.

    Attributes:
        renamed_keys: maps keys of earlier versions to their present names. An old key is an error that says
            "renamed to 'new'".

    Example:
        >>> class Amplifier(Record):
        ...     renamed_keys = {"backoff": "input_backoff_db"}
        ...     input_backoff_db: float = 3.0
        >>> Amplifier.parse({"input_backoff_db": 6}, "amplifier.yaml")
        Amplifier(input_backoff_db=6.0)
        >>> Amplifier.parse({"backoff": 6}, "amplifier.yaml")
        Traceback (most recent call last):
        leanrx_core.errors.UserError: amplifier.yaml: backoff: renamed to 'input_backoff_db'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @classmethod
    def parse(cls, data: Any, source: str) -> Self:
        """Validate plain data.

        Args:
            data: keys and values, as a YAML file gives them.
            source: where the data come from; the error message begins with it.

        Raises:
            UserError: if a key is unknown or a value is not allowed.
        """
        _check_values(data, source)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(f"{source}: {_describe(cls, error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record from a YAML file.

        Raises:
            UserError: if the file is missing, is not YAML, or does not describe this record.
        """
        return cls.parse(read_yaml(path), str(path))

    def to_yaml(self) -> str:
        """Return the record as YAML, with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100, default_flow_style=None)


def _check_values(data: Any, source: str) -> None:
    """Refuse plain data with numbers, nesting or sizes beyond all limits, before anything computes with them."""
    queue: list[tuple[Any, tuple[str, ...]]] = [(data, ())]
    for _ in range(MAX_VALUES):
        if not queue:
            return
        value, path = queue.pop()
        field = f"{source}: {'.'.join(path)}: " if path else f"{source}: "
        if len(path) > MAX_DEPTH:
            raise UserError(f"{source}: {path[0]}: nested deeper than {MAX_DEPTH} levels; write it flatter")
        if isinstance(value, dict):
            queue += [(inner, (*path, _shortened(str(key)))) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            queue += [(inner, (*path, str(index))) for index, inner in enumerate(value)]
        elif isinstance(value, int) and abs(value) > MAX_COUNT:
            raise UserError(f"{field}{echo(value)} is beyond all limits; write at most {MAX_COUNT:.0e}")
        elif isinstance(value, float) and MAX_NUMBER < abs(value) < float("inf"):
            raise UserError(f"{field}{value!r} is beyond all limits; write at most {MAX_NUMBER:.0e}")
    raise UserError(f"{source}: more than {MAX_VALUES:,} values; write fewer, or fewer aliases")


class _Loader(yaml.SafeLoader):
    """A safe loader that reads ``15e3`` as a number, dates as text, and refuses repeated keys and keys of no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not text", key.start_mark)
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' appears twice", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file as plain data: dictionaries, lists, text and numbers.

    Raises:
        UserError: if the file is missing, is too large or is not YAML.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a YAML file") from None
    if len(data) > MAX_YAML_BYTES:
        raise UserError(f"{path}: longer than {MAX_YAML_BYTES:,} bytes; give the path of a YAML file")
    try:
        return yaml.load(data.decode("utf-8-sig"), Loader=_Loader)  # a SafeLoader
    except RecursionError:
        raise UserError(f"{path}: nested deeper than {MAX_DEPTH} levels; write it flatter") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # explicit tags, such as !!bool or !!timestamp, end in any of these errors if their text does not fit
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = f" ({error.problem})" if isinstance(error, yaml.MarkedYAMLError) and error.problem else ""
        raise UserError(f"{path}: not valid YAML{line}{problem}; correct the file") from None


_REMEDIES = {
    "model_type": "write keys and values, such as 'label: quickstart'",
    "model_attributes_type": "write keys and values, such as 'label: quickstart'",
    "tuple_type": "write a list, in square brackets",
    "dict_type": "write a list of names, or names with weights, such as {TDL-A: 2, TDL-B: 1}",
    "string_type": "write text, and put numbers in quotes",
    "string_pattern_mismatch": "use letters, digits, '.', '_' and '-', and begin with a letter or a digit",
    "too_short": "too few entries; write more",
    "finite_number": "write a finite number",
    "int_parsing_size": "write a smaller whole number",
}
"""What to write instead, by pydantic's type of error."""


def _describe(model: type[BaseModel], error: ValidationError) -> str:
    """Describe the first mistake in one line. Unknown keys come first, because they often cause the other mistakes."""
    mistakes = _own_mistakes(error)
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    field = ".".join(_shortened(str(part)) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        text = f"{field}: {_unknown_key(_record_at(model, first['loc'][:-1]), str(first['loc'][-1]))}"
    elif first["type"] == "missing":
        text = f"{field}: missing; add it"
    elif first["type"] in _REMEDIES:
        text = f"{field}: {_REMEDIES[first['type']]} (given: {echo(first['input'])})"
    else:
        text = f"{field}: {first['msg'].removeprefix('Value error, ')}"
        given, value = first["input"], echo(first["input"])
        if not isinstance(given, dict | BaseModel) and not (isinstance(given, str) and value in text):
            text += f" (given: {value})"
    return text + (f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else "")


def _own_mistakes(error: ValidationError) -> list[ErrorDetails]:
    """All mistakes but those that follow from others: a collection is called too short where an entry has a mistake."""
    mistakes = error.errors()
    begins = {m["loc"][:length] for m in mistakes for length in range(len(m["loc"]))}
    return [m for m in mistakes if m["type"] != "too_short" or m["loc"] not in begins]


def _shortened(part: str, length: int = 40) -> str:
    return part if len(part) <= length else part[: length - 3] + "..."


def _unknown_key(record: type[BaseModel], key: str) -> str:
    renamed = record.renamed_keys if issubclass(record, Record) else {}
    if key in renamed:
        return f"renamed to '{renamed[key]}'"
    keys = list(record.model_fields)
    matches = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"unknown key; did you mean '{matches[0]}'?" if matches else f"unknown key; known keys: {', '.join(keys)}"


def _record_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the record at the end of a path of keys and indices."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            types = _types_in(field.annotation)
            model = next((t for t in types if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return model


def _types_in(annotation: Any) -> list[Any]:
    """A type and all types in it: members of unions, of collections, and of ``Annotated``."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _types_in(part))]


def _check_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("the range is empty: write the lower end first")
    return interval


PathComponent = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)]
"""Text that becomes the name of a file or a folder, or a part of one."""

Range = Annotated[tuple[float, float], AfterValidator(_check_order)]
"""A closed interval ``[low, high]`` from which values are drawn uniformly."""
