"""Whether the output of an earlier run may be replaced: yes, where the same command left it incomplete.

The store remembers of each output its hash, the command, and what is missing. A file that somebody has edited since, or
that is complete, is not replaced unasked.
"""

from __future__ import annotations

import hashlib
import json
import os

from cattune.annotation.assistant.course import Question
from cattune.annotation.assistant.prior import content_key
from cattune.annotation.assistant.prompt import PROMPT_VERSION
from cattune.annotation.store.store import OutputNote, Store
from cattune.annotation.summary import Summary
from cattune.errors import OutputError

_OTHERWISE = "pass --overwrite to replace it, or choose another file"


def command_key(question: Question, source: str | os.PathLike[str], limit: int | None) -> str:
    """A hash of all that decides what an output holds, but for the assistant's replies.

    Where the assistant is found, and how fast it is asked, is no part of it: a run may go on elsewhere.
    """
    prior = content_key(question.prior)
    asked = [PROMPT_VERSION, prior, question.model, question.parameters, question.repairs]
    said = [os.path.realpath(source), limit, *asked, question.thought_tags]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def check_output(path: str | os.PathLike[str], store: Store, command: str, retry_failed: bool) -> OutputNote | None:
    """What is known of the output that is there, which this command may replace; None where none is there.

    Args:
        path: the output; one that is no file, such as a pipe, is written to.
        store: of the run.
        command: what it is to do.
        retry_failed: whether replies that could not be used are asked for again.

    Raises:
        OutputError: it is not the command's own, is complete, or was changed since it was written.
    """
    if not os.path.isfile(path):
        return None
    note = store.output_note(os.path.realpath(path))
    if note is None:
        raise OutputError(f"{path} already exists; {_OTHERWISE}")
    if note.sha256 != _sha256(path):
        raise OutputError(f"{path} was changed after an earlier run wrote it, as by a review; {_OTHERWISE}")
    if note.command != command:
        raise OutputError(f"{path} is of an earlier run with another input, prior, model or setting; {_OTHERWISE}")
    if note.unanswered or (retry_failed and note.unusable):
        return note
    asked = "--retry-failed asks again for the replies that could not be used; " if note.unusable else ""
    raise OutputError(f"{path} already exists, complete, of an earlier run of this command; {asked}{_OTHERWISE}")


def note_output(path: str | os.PathLike[str], store: Store, command: str, summary: Summary) -> None:
    """Remember what a run has just written."""
    if os.path.isfile(path):
        note = OutputNote(_sha256(path), command, summary.unanswered, summary.unusable)
        store.note_output(os.path.realpath(path), note).result()


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
