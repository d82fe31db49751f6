"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cattune.review.document import Document

# Run by nohup or in the background of a script, these signals are ignored, and so they would be in every command that
# the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The folder with the published training data; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data" / "published"
    folder = Path(os.environ.get("CATTUNE_PUBLISHED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the published data are not at {folder}; set CATTUNE_PUBLISHED_DATA")
    return folder


@pytest.fixture
def document(file: Path) -> Iterator[Document]:
    """The module's own `file`, open in the review page's way, and closed where the test did not close it."""
    from cattune.review.document import open_document

    document = open_document(file)
    yield document
    if not document.journal._file.closed:
        document.close()
