"""What can be named in a configuration: built in, from an installed package's entry points, or in a `.py` file."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from cattune.errors import ConfigError
from cattune.wording import listed

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: what they are, in one word ("task", "method", "penalty"). A `.py` file gives its own under this name in
            capitals: `TASK = ...`.
        group: entry points of packages outside, such as `cattune.tasks`.
        built_in: name -> "module:attribute" of those of this package.
        accepts: whether an object is of this kind.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str], accepts: Callable[[Any], bool]) -> None:
        self.kind = kind
        self._group = group
        self._built_in = built_in
        self._accepts = accepts

    def names(self) -> list[str]:
        """The names that there are: the built-in ones, then those of packages outside."""
        return [*self._built_in, *(point.name for point in self._points() if point.name not in self._built_in)]

    def get(self, name: str) -> T:
        """The thing of that name, or the one in a `.py` file.

        Built-in names cannot be taken by a package outside.

        Raises:
            ConfigError: there is none of that name (the message names those there are), or what is found there cannot
                be loaded or is of another kind.
        """
        if name.endswith(".py"):
            return self._checked(self._in_file(Path(name).expanduser()), name)
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            return self._checked(getattr(import_module(module), attribute), name)
        found = {point.name: point for point in self._points()}
        if name not in found:
            close = get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {close[0]!r}? There are" if close else "there are"
            raise ConfigError(
                f"unknown {self.kind} {name!r}; {hint} {listed(self.names(), most=30)}, or give the path of a .py file"
            )
        try:
            loaded = found[name].load()
        except Exception as error:  # what a package outside does when it is imported is not known here
            raise ConfigError(
                f"the {self.kind} {name!r} of {found[name].value} cannot be loaded ({type(error).__name__}: {error})"
            ) from error
        return self._checked(loaded, name)

    def _points(self) -> list[EntryPoint]:
        return sorted(entry_points(group=self._group), key=lambda point: point.name)

    def _in_file(self, path: Path) -> Any:
        module = _module_of(path, self.kind)
        constant = self.kind.upper()
        if not hasattr(module, constant):
            raise ConfigError(
                f"{path} has no {constant}; end it with {constant} = ..., the {self.kind} that it defines"
            )
        return getattr(module, constant)

    def _checked(self, value: Any, name: str) -> T:
        if not self._accepts(value):
            raise ConfigError(f"the {self.kind} {name!r} is a {type(value).__name__}, which is no {self.kind}")
        checked: T = value
        return checked


def _module_of(path: Path, kind: str) -> ModuleType:
    """A file as a module, loaded once for as long as its contents stay the same."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ConfigError(f"the {kind} {str(path)!r} cannot be read: {error.strerror}") from error
    name = f"cattune_{kind}_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be run ({type(error).__name__}: {error})") from error
    return module
