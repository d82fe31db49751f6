"""Settings as people write them, in a YAML file or on a command line, made what their types ask for.

What a bare word means depends on the setting: `no` is a strategy to `save_strategy` and False to `strict`, `007` is a
name to `run_name` and a number to `seed`. So the reader leaves bare words as they are (`Word`), and `typed` decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from cattune.data.yaml_text import load_yaml
from cattune.errors import ConfigError
from cattune.wording import shown


class Word(str):
    """A text without quotes, whose meaning is the setting's to decide."""

    __slots__ = ()


def read_settings(text: str, where: str) -> dict[str, Any]:
    """The keys and values of a YAML file; a bare scalar is a `Word`.

    Args:
        text: the file's.
        where: names the file in errors.

    Raises:
        ConfigError: it is not YAML, gives a key twice, or is no mapping of names to values.
    """
    settings = load_yaml(text, where, _WordLoader)
    if not isinstance(settings, dict):
        raise ConfigError(f"the configuration {where} must be a YAML mapping of keys to values")
    return {str(name): value for name, value in settings.items()}


def typed(name: str, value: Any, hint: Any) -> Any:
    """The value as the type hint asks for it; a single value stands for a list of one.

    Args:
        name: the setting's, for errors.
        value: of `read_settings`, of a command line (`Word`s), or of Python.
        hint: the type. Where it has an enumeration, only the enumeration's values are taken. A boolean is no number.

    Raises:
        ConfigError: the value is of another kind.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(_narrow(hint), config={"arbitrary_types_allowed": True})
    meant = opened = written = _as_texts(value)
    reason = ""
    try:
        opened = _as_texts(_opened(value))
        meant = _resolved(_opened(value))
    except ConfigError as error:
        reason = f" ({error})"
    for candidate in (meant, opened, written, [meant], [opened]):
        try:
            return adapter.validate_python(candidate)
        except ValidationError:
            continue
    raise ConfigError(f"{name} is {shown(meant)}; it must be {_in_words(hint)}{reason}")


def _narrow(hint: Any) -> Any:
    """The type as it is meant: no text beside an enumeration, and booleans are no numbers."""
    if get_origin(hint) is Annotated:
        inner, *bounds = get_args(hint)
        return Annotated[_narrow(inner), *bounds]
    if hint in (int, float):
        return Annotated[hint, BeforeValidator(_no_boolean)]
    if get_origin(hint) is list:
        return list[_narrow(get_args(hint)[0])]  # type: ignore[misc]
    members = _members(hint)
    return hint if members == [hint] else reduce(or_, map(_narrow, members))


def _members(hint: Any) -> list[Any]:
    """The types of a union, without the text that transformers allows beside an enumeration; else the type itself."""
    if get_origin(hint) not in (Union, UnionType):
        return [hint]
    members = get_args(hint)
    return [member for member in members if member is not str or not any(map(_is_enum, members))]


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")
    return value


def _in_words(hint: Any) -> str:
    """What a value of this type is."""
    if get_origin(hint) is Annotated:
        inner, *bounds = get_args(hint)
        return " ".join([_in_words(inner), *(_bound_in_words(bound) for bound in bounds)]).rstrip()
    members = [member for member in _members(hint) if member is not NoneType]
    if members != [hint]:
        return " or ".join(dict.fromkeys(map(_in_words, members)))
    if get_origin(hint) is Literal:
        return " or ".join(str(value).lower() for value in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return f"a list, each entry {_in_words(get_args(hint)[0])}"
    if _is_enum(hint):
        return f"one of {', '.join(str(member.value) for member in hint)}"
    kind = get_origin(hint) or hint
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(kind) or ("a mapping" if issubclass(kind, Mapping) else f"a {kind.__name__}")


def _bound_in_words(bound: Any) -> str:
    """A bound that a type is annotated with, as `Field(ge=1)` has it."""
    words = {"ge": "of at least", "gt": "greater than", "le": "of at most", "lt": "less than"}
    entries = getattr(bound, "metadata", None) or [bound]
    found = [(text, getattr(entry, name)) for entry in entries for name, text in words.items() if hasattr(entry, name)]
    return " and ".join(f"{text} {value}" for text, value in found)


# Scalars of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#1032-tag-resolution), where `no` and `on` are words.
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_MOST_DIGITS = 4000  # beyond, Python refuses to make a number of them
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


def _opened(value: Any) -> Any:
    """The value with every word that is a list, a mapping or a quoted text of its own as that."""
    if isinstance(value, list):
        return [_opened(item) for item in value]
    is_yaml = isinstance(value, Word) and value.startswith(("[", "{", '"', "'"))
    return load_yaml(value, shown(value), _WordLoader) if is_yaml else value


def _resolved(value: Any) -> Any:
    """The value with every word as YAML 1.2 reads it."""
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if isinstance(value, dict):
        return {_text(key): _resolved(item) for key, item in value.items()}
    return _scalar(str(value)) if isinstance(value, Word) else value


def _scalar(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if match := _BOOLEAN.fullmatch(text):
        return match[1] is not None
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < _MOST_DIGITS else text
    if match := _SPECIAL.fullmatch(text):
        return float(match[1] + match[2])
    return float(text) if _FLOAT.fullmatch(text) else text


def _as_texts(value: Any) -> Any:
    """The value with every word as the text that stands there."""
    if isinstance(value, list):
        return [_as_texts(item) for item in value]
    if isinstance(value, dict):
        return {_text(key): _as_texts(item) for key, item in value.items()}
    return _text(value)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Word) else value


class _WordLoader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """The safe loader without its guesses at what a bare scalar means."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("<<"))]}


def _construct_word(loader: _WordLoader, node: yaml.ScalarNode) -> str:
    return Word(node.value) if node.style is None else str(node.value)


_WordLoader.add_constructor("tag:yaml.org,2002:str", _construct_word)
