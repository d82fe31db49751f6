"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The folder with the published training data; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data" / "published"
    folder = Path(os.environ.get("CATTUNE_PUBLISHED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the published data are not at {folder}; set CATTUNE_PUBLISHED_DATA")
    return folder
