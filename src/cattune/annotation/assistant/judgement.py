"""Is what an assistant said of an example usable? Its links are grounded, and held to what was asked of them.

The answer must be an effect. A link is kept when its effect lies in the completion, or when it leads there: its effect
overlaps a cause of a link that is kept. So in `entity -> operand -> answer` the link from the entity to the operand is
kept because the operand is a cause of the answer, and one that ends at a number which nothing uses is refused. Steps
of a worked answer are in the completion, hence all kept: each of them is a text that the model learns to write. Which
of the completion's words is *the* answer is not guessed.

What is refused after it was grounded keeps its link, so that a person can bring it back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cattune.annotation.assistant.reading.escapes import Escapes
from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.grounding import links as grounding
from cattune.grounding.folding import without_emphasis
from cattune.grounding.links import ground_links
from cattune.grounding.search import Phrase
from cattune.wording import shown

LinkInWords: TypeAlias = "tuple[Phrase, tuple[Phrase, ...]]"
"""An effect and its causes as they are named: by an assistant, or by hand in a prior."""

EFFECTS = ("anywhere", "completion")
"""Where effects may lie."""

LEADS_NOWHERE = "effect is not in the completion and leads to nothing there"
EFFECT_OUTSIDE = "effect is not in the completion"
OVER_LIMIT = "more links than were asked for"
NO_ANSWER = "no link has its effect in the completion"

MOST_PROBLEMS = 20
"""The most lines of `Judgement.problems`; the last then says how many there are in all."""

_ADVICE = {
    grounding.EFFECT_MISSING: "copy it from the text character for character",
    grounding.CAUSE_MISSING: "copy it from the text character for character",
    grounding.EFFECT_REPEATED: "give a quote that tells which place is meant",
    grounding.CAUSE_REPEATED: "give a quote that tells which place is meant",
    grounding.CAUSE_LATE: "a cause stands before its effect",
    grounding.CAUSE_IS_EFFECT: "name what it depends on",
    grounding.NO_CAUSES: "name what it depends on, or leave the link out",
    LEADS_NOWHERE: "use it as a cause of the answer, or leave the link out",
    EFFECT_OUTSIDE: "give a quote from the completion if it is there too, or leave the link out",
    OVER_LIMIT: "keep those that matter most to the answer",
}
"""What the assistant should do about a refusal."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked about the links of an example, and what they must satisfy, as a prior sets it.

    Args:
        effects: one of `EFFECTS`. `completion` refuses links between words of the prompt.
        max_links: the most links of an example, 1 to 100.
        max_causes: the most causes of a link that the form of a reply has room for, 1 to 100.
        answer_first: whether the answer's link is asked for before the others; a small model then does not forget it.
        repair: whether a reply that has no link for the answer is asked for once more.
    """

    effects: str = "anywhere"
    max_links: int = 20
    max_causes: int = 8
    answer_first: bool = False
    repair: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of the links that were named.

    Args:
        links: those that can be used.
        refused: the others, and single causes, with the reason.
        problems: the same for the assistant's repair turn, a sentence each; none when all is well.
    """

    links: tuple[CausalLink, ...]
    refused: tuple[RefusedLink, ...]
    problems: tuple[str, ...]


def judge(
    example: Example, links: Sequence[LinkInWords], source: str = "unknown", options: Options | None = None
) -> Judgement:
    """Ground an example's links and refuse those that are not what was asked for.

    Args:
        example: whose text is meant; its own links and refusals are not looked at.
        links: as `read_reply` gives them, or a prior has them.
        source: for `CausalLink.source`.
        options: the prior's; None for the defaults.
    """
    options = options or Options()
    escapes = Escapes("".join(example.fields.values()))
    links = [(escapes.meant(effect), tuple(map(escapes.meant, causes))) for effect, causes in links]
    over = [RefusedLink(effect.text, None, OVER_LIMIT) for effect, _ in links[options.max_links :]]
    meant = [(anchored(example, effect, options), causes) for effect, causes in links[: options.max_links]]
    grounded = ground_links(example.fields, meant, source=source)
    kept, strayed = _sort_out(example, grounded.links, options)
    refused = (*grounded.refused, *strayed, *over)
    said = (refusal for refusal in refused if refusal.reason != grounding.NO_CAUSE_LEFT)  # its causes have said why
    problems = list(dict.fromkeys(map(_problem, said)))
    if not any(link.effect.field == example.completion_field for link in kept):
        problems.append(f"{NO_ANSWER}: say what the answer depends on, with words of the completion as the effect.")
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS - 1 :] = [f"There are {len(problems)} problems in all."]
    return Judgement(tuple(kept), refused, tuple(problems))


def anchored(example: Example, effect: Phrase, options: Options) -> Phrase:
    """The effect, with a quote that ties it to the completion if it is meant to stand there, and the prompt has it too.

    It is meant to stand there when it is the whole completion, such as the letter of an option that the prompt lists,
    or when all effects have to. Otherwise, and where the completion has it twice, the links around it tell its place.
    """
    *before, completion = example.fields.values()
    words = effect.text if effect.text in completion else without_emphasis(effect.text)
    is_meant = options.effects == "completion" or _bare(words) == _bare(completion)
    if effect.quote is not None or not is_meant or not words or completion.count(words) != 1:
        return effect
    prompt = "".join(before)
    _, found, tail = prompt.rpartition(words)
    return Phrase(effect.text, tail + completion.partition(words)[0] + words) if found else effect


def _sort_out(
    example: Example, links: Sequence[CausalLink], options: Options
) -> tuple[list[CausalLink], list[RefusedLink]]:
    """The links that are kept, and those that lead nowhere, each in the order given."""
    keep = [link.effect.field == example.completion_field for link in links]
    reason = EFFECT_OUTSIDE
    if options.effects == "anywhere":
        reason = LEADS_NOWHERE
        follow = [index for index, kept in enumerate(keep) if kept]
        while follow:  # from each kept link back to the links whose effect it reads
            causes = links[follow.pop()].causes
            for index, link in enumerate(links):
                if not keep[index] and any(_overlap(link.effect, cause) for cause in causes):
                    keep[index] = True
                    follow.append(index)
    refused = [
        RefusedLink(example.text_of(link.effect), None, reason, link)
        for link, kept in zip(links, keep, strict=True)
        if not kept
    ]
    return [link for link, kept in zip(links, keep, strict=True) if kept], refused


def _bare(text: str) -> str:
    """The text without blanks and signs at its ends."""
    return re.sub(r"^\W+|\W+$", "", text)


def _overlap(one: Span, other: Span) -> bool:
    return one.field == other.field and one.start < other.end and other.start < one.end


def _problem(refusal: RefusedLink) -> str:
    about = f"The effect {shown(refusal.effect, 200)}"
    if refusal.cause is not None:
        about = f"The cause {shown(refusal.cause, 200)} of {shown(refusal.effect, 200)}"
    advice = _ADVICE.get(refusal.reason)
    return f"{about}: {refusal.reason}{f'; {advice}' if advice else ''}."
