"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import cattune

PACKAGE = Path(cattune.__file__).parent
EXTRAS = {"aiohttp", "llguidance", "openai", "peft", "starlette", "uvicorn"}
"""What only the extras install: examples that need one are skipped where it is missing."""

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
SHOWN = [path.relative_to(PACKAGE.parent).with_suffix("") for path in SOURCES]


@pytest.mark.parametrize("source", SHOWN, ids=str)
def test_examples_in_docstrings(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = ".".join(source.parts).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"{name} needs {error.name}")
    failed, attempted = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert attempted and not failed
