"""Causal links for a data set: an assistant model, rules or people name phrases, which become spans of the text.

A `prior` says what causes what and shows handwritten examples, `prompt` asks an assistant model in its words, for a
reply of a `reply_form`, `reply` makes links of what came back (`reading` tells it from thoughts and prose), and
`judgement` grounds them and says what is wrong with them. `course` is that for one example, with a second chance;
`annotator` takes a data set through it, with an endpoint to ask and a `store` that keeps what it said. `rules` need
no model; `consensus` makes one annotation out of several, and `report` says what a file holds.

What users call is imported from here, when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cattune.lazy import lazily

if TYPE_CHECKING:
    from cattune.annotation.assistant.annotator import Annotator
    from cattune.annotation.assistant.course import Question
    from cattune.annotation.assistant.endpoint.client import Assistant
    from cattune.annotation.assistant.inputs import iter_examples
    from cattune.annotation.assistant.local import LocalModel
    from cattune.annotation.assistant.prior import load_prior
    from cattune.annotation.assistant.reply_form import output_limit, response_format
    from cattune.annotation.consensus.join import join
    from cattune.annotation.report import annotation_report
    from cattune.annotation.rules.apply import annotate_by_rules
    from cattune.annotation.rules.file import load_rules
    from cattune.annotation.store.store import Store

__all__ = [
    "Annotator",
    "Assistant",
    "LocalModel",
    "Store",
    "Question",
    "annotate_by_rules",
    "annotation_report",
    "iter_examples",
    "join",
    "load_prior",
    "load_rules",
    "output_limit",
    "response_format",
]

_MODULES = {
    "Annotator": "cattune.annotation.assistant.annotator",
    "Assistant": "cattune.annotation.assistant.endpoint.client",
    "LocalModel": "cattune.annotation.assistant.local",
    "Store": "cattune.annotation.store.store",
    "Question": "cattune.annotation.assistant.course",
    "annotate_by_rules": "cattune.annotation.rules.apply",
    "annotation_report": "cattune.annotation.report",
    "iter_examples": "cattune.annotation.assistant.inputs",
    "join": "cattune.annotation.consensus.join",
    "load_prior": "cattune.annotation.assistant.prior",
    "load_rules": "cattune.annotation.rules.file",
    "output_limit": "cattune.annotation.assistant.reply_form",
    "response_format": "cattune.annotation.assistant.reply_form",
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
