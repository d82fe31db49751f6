"""Frozen dataclasses from the plain types that JSON gives, with the place of whatever does not fit."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cattune.errors import DataError

T = TypeVar("T")


def build(cls: type[T], value: Any, where: str) -> T:
    """Make a dataclass of a mapping, its fields by their type hints, at any depth.

    Args:
        cls: a dataclass of str, int, float, bool, Any, None, unions, tuples, string-keyed mappings and dataclasses.
        value: what JSON gave: lists stand for tuples.
        where: names the place in messages.

    Raises:
        DataError: a key is missing or unknown, or a value has another type.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object, got {type(value).__name__}")
    hints = get_type_hints(cls)
    known = fields(cls)  # type: ignore[arg-type]
    names = [f.name for f in known]
    if unknown := [key for key in value if key not in names]:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(names)}")
    required = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in value]:
        raise DataError(f"{where}: the key {missing[0]!r} is missing")
    return cls(**{name: _convert(hints[name], value[name], f"{where}.{name}") for name in names if name in value})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(next(p for p in parts if p is not type(None)), value, where)
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _tuple(parts, value, where)
    if origin is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise DataError(f"{where}: expected an object with texts as keys, got {type(value).__name__}")
        return {key: _convert(parts[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    allowed = (int, float) if hint is float else (hint,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
        raise DataError(f"{where}: expected {hint.__name__}, got {type(value).__name__} ({str(value)[:40]})")
    return value


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: expected a list, got {type(value).__name__}")
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        raise DataError(f"{where}: expected {len(parts)} values, got {len(value)}")
    return tuple(_convert(part, item, f"{where}[{i}]") for i, (part, item) in enumerate(zip(parts, value, strict=True)))
