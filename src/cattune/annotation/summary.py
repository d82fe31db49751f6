"""What an annotation run has done, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cattune.annotation.assistant.course import ExampleResult

SHOWN_FAILURES = 20


class Stopped(Exception):
    """The run was stopped before its end: by the user, the budget, or for want of answers. All answers are stored."""


@dataclass
class Summary:
    """What a run has done so far.

    Args:
        done: examples that are through.
        in_order: of these, the first so many of the input, without a gap.
        annotated: those with a link.
        without_links: those with a reply that could be used and no link in the end.
        failed: why others have no annotation, counted.
        unanswered: examples of which a request got no reply, most of them failed; the same command asks it again.
        unusable: examples that failed with a reply that could not be used; a second request may have got none.
        links: how many there are.
        methods: how their phrases were found, counted.
        refused: links and causes that could not be used, by reason.
        repaired: examples for which the second reply was used.
        from_store: examples for which nothing had to be asked.
        reused: replies that were in the store.
        asked: replies that were got.
        prompt_tokens, completion_tokens: of those that were got, as the server counts, or else as estimated.
        sent_again: requests that were sent again, by what became of them before.
        unmetered: replies whose tokens the server did not tell.
        failures: (example id, reason, detail) of the first few.
        stopped: why it was stopped, if it was, in a word; `why` in a sentence, where there is more to say.
    """

    done: int = 0
    in_order: int = 0
    annotated: int = 0
    without_links: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    unusable: int = 0
    links: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    from_store: int = 0
    reused: int = 0
    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent_again: Counter[str] = field(default_factory=Counter)
    unmetered: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    stopped: str | None = None
    why: str = ""

    def add(self, outcome: ExampleResult) -> None:
        """Count an example."""
        self.done += 1
        example = outcome.example
        self.unanswered += outcome.unanswered
        self.unusable += bool(outcome.failures)
        if outcome.failed is not None:
            self.failed[outcome.failed] += 1
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append((example.id, outcome.failed, outcome.detail))
            return
        self.annotated += bool(example.links)
        self.without_links += not example.links
        self.links += len(example.links)
        self.methods.update(link.method for link in example.links)
        self.refused.update(refusal.reason for refusal in example.refused)
        self.repaired += outcome.repaired

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON; counters with the most frequent first."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "failures"}
        record |= {name: dict(value.most_common()) for name, value in record.items() if isinstance(value, Counter)}
        keys = ("id", "reason", "detail")
        return {**record, "first_failures": [dict(zip(keys, failure, strict=True)) for failure in self.failures]}
