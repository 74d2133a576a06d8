"""Frozen dataclass nouns <-> plain JSON values, by their type hints.

Field names are the JSON keys; tuples and frozensets become arrays; enums their values; dates ISO 8601.
Reading is strict: an unknown or missing key or a wrong type raises `Rejected` and names the path.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from typing import Any, TypeVar

from polyclinic.core.errors import Rejected

T = TypeVar("T")


def to_plain(value: object) -> Any:  # noqa: PLR0911 - one return per kind of value
    """Nested dicts, lists and scalars that `json` can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(v) for v in value)
    return value


def from_plain(cls: type[T], data: object, path: str = "$") -> T:
    """Build dataclass `cls` from what `to_plain` made.

    Raises
    ------
    Rejected
        ``plain.mismatch`` with the JSON path of the first thing that does not fit.
    """
    return typing.cast(T, _build(cls, data, path))


def _mismatch(path: str, want: object) -> Rejected:
    return Rejected("plain.mismatch", f"Value at {path} is not a valid {want}; write it with to_plain")


def _build(hint: Any, data: Any, path: str) -> Any:  # noqa: PLR0911 - one return per kind of hint
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _build_union(args, data, path)
    if origin in (tuple, list, frozenset):
        return _build_sequence(origin, args, data, path)
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise _mismatch(path, "object")
        return {k: _build(args[1], v, f"{path}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build_dataclass(hint, data, path)
    if hint is Any or hint is object:
        return data
    if hint is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        return float(data)
    if isinstance(hint, type) and issubclass(hint, (Enum, datetime, date)):
        try:
            return hint(data) if issubclass(hint, Enum) else hint.fromisoformat(data)
        except (ValueError, TypeError) as error:
            raise _mismatch(path, hint.__name__) from error
    if hint in (str, int, bool) and type(data) is hint:
        return data
    raise _mismatch(path, getattr(hint, "__name__", hint))


def _build_union(args: tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None and type(None) in args:
        return None
    rest = [a for a in args if a is not type(None)]
    for option in rest[:-1]:
        try:
            return _build(option, data, path)
        except Rejected:
            continue
    return _build(rest[-1], data, path)


def _build_sequence(origin: Any, args: tuple[Any, ...], data: Any, path: str) -> Any:
    if not isinstance(data, list):
        raise _mismatch(path, "array")
    if origin is tuple and args[-1] is not Ellipsis:
        if len(args) != len(data):
            raise _mismatch(path, f"array of {len(args)}")
        return tuple(_build(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, data, strict=True)))
    return origin(_build(args[0], v, f"{path}[{i}]") for i, v in enumerate(data))


def _build_dataclass(hint: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise _mismatch(path, hint.__name__)
    hints = typing.get_type_hints(hint)
    fields = {f.name: f for f in dataclasses.fields(hint)}
    if unknown := data.keys() - fields.keys():
        raise _mismatch(f"{path}.{min(unknown)}", f"field of {hint.__name__}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise _mismatch(f"{path}.{name}", "value: it is missing")
    return hint(**{name: _build(hints[name], value, f"{path}.{name}") for name, value in data.items()})
