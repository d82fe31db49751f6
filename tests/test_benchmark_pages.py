"""The tables in the documentation are those of the committed result files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not here")
@pytest.mark.parametrize("name", ["alignment_page", "training_step_page"])
def test_the_page_holds_the_numbers_of_the_result_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    page = importlib.import_module(name)
    text = page.PAGE.read_text(encoding="utf-8")
    parts = page.parts_of(json.loads(page.RESULTS.read_text(encoding="utf-8")))
    assert parts
    for part in parts.values():
        assert part in text
