"""A task as a configuration names it: a name, a `.py` file, or a mapping with `task` and its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from cattune.data.settings import read_settings, typed
from cattune.data.yaml_text import read_yaml
from cattune.errors import ConfigError
from cattune.tasks.base import TASKS, SettingError, Task
from cattune.wording import listed, shown

_ADVICE = "give a YAML file with `task: NAME` and its settings"


def load_task(spec: str | Path | Mapping[str, Any], where: str = "task") -> Task:
    """The task that a name, a `.py` file, a YAML file or a mapping describes.

    Args:
        spec: the name of a task, the path of a `.py` file that ends with `TASK = ...`, the path of a YAML file, or a
            mapping with the key `task` (a name or a `.py` file) and the task's settings.
        where: the place of the mapping in its configuration, for errors.

    Raises:
        ConfigError: there is no such task, or a setting is unknown, missing or of the wrong kind.

    >>> load_task({"task": "stg", "train": 100}).settings()["train"]
    100
    """
    if isinstance(spec, Mapping):
        return _from_mapping(spec, where)
    name = str(spec)
    if not name.endswith((".yaml", ".yml")):
        return _made(name, {}, where)
    return _from_mapping(read_settings(read_yaml(name, "configuration", _ADVICE), name), name)


def _from_mapping(given: Mapping[str, Any], where: str) -> Task:
    if "task" not in given:
        raise ConfigError(f"{where}: the key 'task' is missing; add the name of a task ({listed(TASKS.names())})")
    name = typed(f"{where}: task", given["task"], str)
    return _made(name, {key: value for key, value in given.items() if key != "task"}, where)


def _made(name: str, given: Mapping[str, Any], where: str) -> Task:
    found = TASKS.get(name)
    if isinstance(found, Task):
        if given:
            raise ConfigError(f"{where}: the task {shown(name)} is given whole, and takes no settings")
        return found
    fields: dict[str, dataclasses.Field[Any]] = {}
    if dataclasses.is_dataclass(found):
        fields = {f.name: f for f in dataclasses.fields(found) if f.init}
    for key in given:
        if key not in fields:
            near = get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its settings are {listed(fields, most=20)}"
            raise ConfigError(f"{where}: the task {shown(name)} has no setting {shown(key)}; {hint}")
    hints = get_type_hints(found, include_extras=True)
    settings = {key: typed(f"{where}: {key}", value, hints[key]) for key, value in given.items()}
    for key, field in fields.items():
        if key not in given and field.default is dataclasses.MISSING is field.default_factory:
            raise ConfigError(f"{where}: the setting {key!r} of the task {shown(name)} is missing; add it")
    try:
        return found(**settings)
    except SettingError as error:
        raise ConfigError(f"{where}: {error}") from error
