"""The formats that there are: those of this folder, and those of packages outside."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from cattune.formats.base import Format
from cattune.registry import Registry

_HERE = "cattune.formats"
"""This folder, and the entry points of packages outside."""


def _is_format(value: object) -> bool:
    return isinstance(value, Format)


@cache
def formats() -> tuple[Format, ...]:
    """Each format, in the order in which they are asked whether a record is theirs: the one with the most keys first.

    Raises:
        ConfigError: one of a package outside cannot be loaded.
    """
    modules = [f"{_HERE}.{module.name}" for module in pkgutil.iter_modules(import_module(_HERE).__path__)]
    built_in = {name: f"{name}:FORMAT" for name in modules if hasattr(import_module(name), "FORMAT")}
    registry: Registry[Format] = Registry("format", _HERE, built_in, _is_format)
    found = map(registry.get, registry.names())
    return tuple(sorted(found, key=lambda one: len(one.keys), reverse=True))  # of equals, the built-in ones stay first
