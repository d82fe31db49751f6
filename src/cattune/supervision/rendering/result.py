"""What rendering gives: a text with a map from field positions to its own, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cattune.data.examples import Span
from cattune.errors import AlignmentError
from cattune.wording import listed, shown


class TemplateError(AlignmentError):
    """The chat template cannot render one example, which is left out; the others are not concerned.

    Attributes:
        example_id: the example's.
        reason: why, in words that are the same for all examples of this kind, so that they can be counted.
        detail: what is particular to this example.
    """

    def __init__(self, example_id: str, reason: str, detail: str) -> None:
        super().__init__(f"example {shown(example_id)}: {reason}: {detail}")
        self.example_id = example_id
        self.reason = reason
        self.detail = detail


class Piece(NamedTuple):
    """Where the characters [start, end) of a field stand in the rendered text: from `text_start` on, unchanged."""

    field: str
    start: int
    end: int
    text_start: int


class Rendering(NamedTuple):
    """One example as one text.

    Attributes:
        text: what is tokenized.
        completion_start: the first position of the text that the model learns to write.
        pieces: each field's place in the text, in the fields' order; the last one is the completion. The piece of a
            field that is blank, or that the template does not write as it is, is empty.
        templated: whether a chat template wrote the text, special tokens and end of turn included.
        places: for the spans of links in fields that the template does not write as they are, where each stands, as
            text positions [start, end); (0, 0) where it is not in the text.
        altered: the fields that the template leaves out or writes otherwise, as it does with an earlier turn's thought.
    """

    text: str
    completion_start: int
    pieces: tuple[Piece, ...]
    templated: bool
    places: Mapping[Span, tuple[int, int]] = {}
    altered: tuple[str, ...] = ()

    @property
    def answer(self) -> tuple[int, int]:
        """The text positions [start, end) of what the model learns to write of the completion; empty if it is blank."""
        _, start, end, text_start = self.pieces[-1]
        return max(text_start, self.completion_start), text_start + end - start

    def locate(self, span: Span) -> tuple[int, int]:
        """The text positions [start, end) of a field's span.

        Characters that the template trimmed or left out are in no text; a span of nothing else comes back empty
        (start = end), and so does one that is not in the text as a whole.
        """
        if span in self.places:
            return self.places[span]
        name, low, high = span.field, span.start, span.end
        for field, start, end, text_start in self.pieces:
            if field == name:
                shift = text_start - start
                if start <= low and high <= end:
                    return low + shift, high + shift
                return min(max(low, start), end) + shift, max(min(high, end), start) + shift
        raise AlignmentError(f"a span names the field {shown(name)}; it has {listed([p.field for p in self.pieces])}")
