"""What made a result: versions, git revision, machine type, time and configuration.

A result file is meant to be published, so no user name, host name or absolute path is written into it.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cattune import __version__

DISTRIBUTION = "causal-attention-tuning"
"""The name under which cattune is distributed."""

_RECORDED = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "peft", "numpy")
_PACKAGE = Path(__file__).resolve().parent

# An absolute path of two segments or more, POSIX, Windows or UNC, or one below a home folder, where a path can begin:
# at the start of a string, after white space, a quote, a bracket, one of = : , ; or file://. Not in https://host/name.
_ABSOLUTE = re.compile(
    r"""(?:(?<=^)|(?<=[\s"'(\[{=:,;|])|(?<=file://))   # where a path can begin
        (?:~[^\s/\\]*|[A-Za-z]:|\\)?[/\\](?!/)         # its root
        (?:[^/\\"'=:,;|]*[/\\])+                       # the folders
        (?P<name>[^/\\"'=:,;|]*)                       # what it leads to
    """,
    re.VERBOSE,
)


def provenance(**config: Any) -> dict[str, Any]:
    """Describe what makes a result, for the result file.

    Args:
        config: the settings in force; absolute paths in them are cut to ".../name".

    Returns:
        Versions of cattune, Python and the libraries (None for one that is not installed), `git_revision` and
        `git_dirty` of cattune's own checkout (None where it does not run from one), `platform`, `cpu_count`,
        `created` (ISO 8601, UTC) and `config`.
    """
    revision, dirty = _git_state()
    return {
        "cattune": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _RECORDED},
        "git_revision": revision,
        "git_dirty": dirty,
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu_count": os.cpu_count(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": _publishable(config),
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _git_state() -> tuple[str | None, bool | None]:
    """The revision of cattune's own checkout and whether tracked files differ from it."""
    answer = _git("rev-parse", "--show-toplevel", "HEAD")
    if answer is None:
        return None, None
    toplevel, _, revision = answer.strip().rpartition("\n")
    if not _is_our_project(Path(toplevel) / "pyproject.toml"):
        return None, None  # installed into another project's tree, whose revision would mislead
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return revision, None if changes is None else bool(changes.strip())


def _git(*arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments],
            capture_output=True, text=True, check=True, timeout=10, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def _is_our_project(pyproject: Path) -> bool:
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return False
    return isinstance(project, dict) and project.get("name") == DISTRIBUTION


def _publishable(value: Any) -> Any:
    """The value as JSON holds it, without absolute paths; other objects by their text or, if it is none, their type."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_without_paths(str(key)): _publishable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_publishable(item) for item in items]
    return _without_paths(str(value) if isinstance(value, str | os.PathLike) else type(value).__name__)


def _without_paths(text: str) -> str:
    return _ABSOLUTE.sub(_name_only, text)


def _name_only(path: re.Match[str]) -> str:
    names_a_user = Path(path[0].replace("\\", "/")).parent.name in ("home", "Users")
    return "..." if names_a_user or not path["name"] else f".../{path['name']}"
