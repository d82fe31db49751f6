"""Finds the record of a game in a prompt of any wording, takes a wording from a file, keeps a record's causes only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.errors import ConfigError, DataError
from cattune.formats.loading import load_examples
from cattune.tasks.stg.parse import JOINER
from cattune.tasks.stg.spec import Attribute, Game, Wording
from cattune.wording import listed, shown


@dataclass(frozen=True, slots=True)
class Found:
    """An attribute of the game as it stands in a prompt: characters [start, end), the value from `value_start` on."""

    attribute: Attribute
    start: int
    value_start: int
    end: int
    joiner: str

    def value(self, prompt: str) -> Decimal:
        """The number that stands there."""
        return Decimal(prompt[self.value_start : self.end].removesuffix(self.attribute.suffix))


def find_record(prompt: str, game: Game, where: str) -> list[Found]:
    """Every attribute of the game in the prompt, in reading order.

    Args:
        prompt: in any wording that writes each attribute as its name, a few signs such as ": ", and its value.
        game: whose attributes to look for, by their names.
        where: names the prompt in errors.

    Raises:
        DataError: an attribute is missing from the prompt or stands in it more than once.
    """
    found = []
    for attribute in game.attributes:
        name, suffix = re.escape(attribute.name), re.escape(attribute.suffix)
        pattern = rf"(?<!\w){name}({JOINER})(-?\d+(?:\.\d+)?{suffix})(?!\w|\.\d)"
        matches = list(re.finditer(pattern, prompt))
        if len(matches) != 1:
            raise DataError(
                f"{where}: expected the attribute {shown(attribute.name)} of game {shown(game.name)} with a value like "
                f"'{attribute.name}: 5{attribute.suffix}' once, found it {len(matches)} times in {_short(prompt)}"
            )
        match = matches[0]
        found.append(Found(attribute, match.start(), match.start(2), match.end(), match[1]))
    return sorted(found, key=lambda entry: entry.start)


def wording_from(path: str | Path, game: Game) -> Wording:
    """The wording of the first example of a JSONL file: the texts before, between and after its attributes.

    The labels get what that example's target has after the game's label, as in "High Risk" after "High".

    Raises:
        DataError: the file cannot be read, or its first example does not hold the game's attributes.
        ConfigError: the game cannot be written in that wording.
    """
    example = load_examples(path)[0]
    where = f"{path}, first example"
    prompt = _prompt_of(example, where)
    found = find_record(prompt, game, where)
    if len({entry.joiner for entry in found}) > 1:
        raise ConfigError(f"{where}: the attributes are joined to their values in several ways; expected one")
    gaps = tuple(prompt[before.end : after.start] for before, after in pairwise(found))
    in_order = [entry.attribute for entry in found] == list(game.attributes)
    if len(set(gaps)) > 1 and not (game.order == "fixed" and in_order):
        raise ConfigError(
            f"{where}: found several separators ({listed(sorted(set(gaps)))}); a game whose "
            "attributes are shuffled, or listed in another order than the file's, needs one"
        )
    return Wording(
        opening=prompt[: found[0].start],
        attribute=f"{{name}}{found[0].joiner}{{value}}",
        separators=gaps if len(set(gaps)) > 1 else gaps[:1],
        closing=prompt[found[-1].end :],
        labels=_labels_like(example.target, game, where),
    )


def causal_only(example: Example, game: Game) -> Example:
    """The same example with the causal attributes only; its links follow them.

    A link, or a cause, that lies in an attribute that is left out is moved to `refused`.

    Raises:
        DataError: the prompt does not hold the game's attributes, each once.
    """
    prompt = _prompt_of(example, f"example {shown(example.id)}")
    found = find_record(prompt, game, f"example {shown(example.id)}")
    kept = [(0, found[0].start)]
    for index, entry in enumerate(found):
        if entry.attribute.role == "cause":
            # The separator before an attribute is kept with it, except before the first one that is kept.
            start = found[index - 1].end if len(kept) > 1 else entry.start
            kept.append((start, entry.end))
    kept.append((found[-1].end, len(prompt)))
    links, refused = _move_links(example, kept)
    names = {entry.attribute.name for entry in found if entry.attribute.role == "cause"}
    metadata = dict(example.metadata)
    if isinstance(values := metadata.get("attributes"), dict):
        metadata["attributes"] = {name: value for name, value in values.items() if name in names}
    shorter = "".join(prompt[start:end] for start, end in kept)
    return replace(example, prompt=shorter, links=links, refused=(*example.refused, *refused), metadata=metadata)


def _move_links(example: Example, kept: Sequence[tuple[int, int]]) -> tuple[tuple[CausalLink, ...], list[RefusedLink]]:
    links, refused = [], []
    for link in example.links:
        effect_text = example.text_of(link.effect)
        moved = [(cause, _moved(cause, kept)) for cause in link.causes]
        for cause, new in moved:
            if new is None:
                refused.append(RefusedLink(effect_text, example.text_of(cause), "not in the causal attributes"))
        causes = tuple(new for _, new in moved if new is not None)
        effect = _moved(link.effect, kept)
        if effect is None:
            refused.append(RefusedLink(effect_text, None, "not in the causal attributes"))
        elif causes:
            links.append(replace(link, effect=effect, causes=causes))
    return tuple(links), refused


def _moved(span: Span, kept: Sequence[tuple[int, int]]) -> Span | None:
    if span.field != "prompt":
        return span
    offset = 0
    for start, end in kept:
        if start <= span.start and span.end <= end:
            return Span(span.field, span.start - start + offset, span.end - start + offset)
        offset += end - start
    return None


def _labels_like(target: str, game: Game, where: str) -> dict[str, str]:
    if game.outcome.answer is not None:
        if not re.fullmatch(r"-?\d+", target):
            raise ConfigError(
                f"{where}: expected a whole number as target, as game {shown(game.name)} has, got {shown(target)}"
            )
        return {}
    labels = {choice.label for rule in game.outcome.rules.values() for choice in rule.classes}
    for label in sorted(labels, key=len, reverse=True):
        if target.startswith(label):
            return {other: other + target[len(label) :] for other in sorted(labels)}
    raise ConfigError(
        f"{where}: expected a target that begins with a label of game {shown(game.name)} "
        f"({listed(sorted(labels))}), got {shown(target)}"
    )


def _prompt_of(example: Example, where: str) -> str:
    if example.prompt is None:
        raise DataError(
            f"{where}: expected a prompt and a completion, got a conversation; the record must be in a prompt"
        )
    return example.prompt


def _short(text: str) -> str:
    return repr(text if len(text) <= 160 else text[:157] + "...")
