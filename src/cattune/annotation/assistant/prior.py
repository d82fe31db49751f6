"""The prior: what causes what in a kind of text, said in words, with a few examples annotated by hand.

One YAML file, read by `load_prior`; `docs/priors.md` shows its form. Its examples go into every prompt, so they are
held to the same rules as the replies: a phrase that is not in its text, or a link that leads nowhere, is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from cattune.annotation.assistant.judgement import EFFECTS, Judgement, LinkInWords, Options, anchored, judge
from cattune.data.examples import Example, Message
from cattune.data.yaml_node import Node, parse_yaml
from cattune.data.yaml_text import read_yaml
from cattune.errors import ConfigError, DataError
from cattune.grounding.search import Phrase
from cattune.wording import shown

PACKAGED = ("arithmetic", "multiple_choice", "tabular_risk")
"""The priors that come with the package, by name."""

ROLES = ("system", "user", "assistant")
MOST_LINKS = 100
"""The most that `max_links` and `max_causes` may be."""
_NAMED = 3
"""Problems of examples that an error names; the others are counted."""


@dataclass(frozen=True, slots=True)
class PriorExample:
    """A text and its causal links, as a person wrote them.

    Args:
        example: the text, without links; its id is `NAME/1`, `NAME/2`, ...
        links: effects and causes in words.
        note: for people: what this example is there for.
    """

    example: Example = field(hash=False)  # its metadata have no hash
    links: tuple[LinkInWords, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Prior:
    """What an assistant is told before it annotates.

    Args:
        name: letters, digits, '_', '-' and '.'.
        task: what the texts are and what is to be found in them.
        graph: the causal graph in words, `cause -> effect`, one edge or chain an entry.
        examples: at least one.
        rules: further instructions.
        options: what links must satisfy.
    """

    name: str
    task: str
    graph: tuple[str, ...]
    examples: tuple[PriorExample, ...]
    rules: tuple[str, ...] = ()
    options: Options = Options()


def load_prior(name_or_path: str | Path) -> Prior:
    """The packaged prior of that name, or the prior in that YAML file, whose examples all ground.

    Raises:
        ConfigError: There is no such prior, something in the file is not as it should be, or a phrase of an example
            cannot be used.
    """
    prior = read_prior(name_or_path)
    problems = [
        f"example {index} ({shown(_opening(entry.example))}): {problem}"
        for index, (entry, judgement) in enumerate(zip(prior.examples, check_prior(prior), strict=True), start=1)
        for problem in judgement.problems
    ]
    if problems:
        more = [f"... and {len(problems) - _NAMED} more"] if len(problems) > _NAMED else []
        raise ConfigError(
            f"the examples of the prior {shown(str(name_or_path), 150)} do not fit their texts; `cattune prior check` "
            "shows each in its place:\n  " + "\n  ".join([*(problem[:200] for problem in problems[:_NAMED]), *more])
        )
    return prior


def read_prior(name_or_path: str | Path) -> Prior:
    """As `load_prior`, but the examples' phrases are not looked for in their texts."""
    text, source = read_source(name_or_path)
    return parse_prior(text, source)


def check_prior(prior: Prior) -> list[Judgement]:
    """What becomes of each example's links, held to the rules that replies are held to."""
    source = f"prior:{prior.name}"
    return [judge(entry.example, entry.links, source, prior.options) for entry in prior.examples]


def ambiguous_phrases(entry: PriorExample, options: Options) -> list[str]:
    """The phrases that stand in an example's text more than once as whole words, where nothing says which is meant."""
    found: dict[str, None] = {}  # a dict: in order, without repeats
    for effect, causes in entry.links:
        for phrase in (anchored(entry.example, effect, options), *causes):
            whole = re.compile(rf"(?<!\w){re.escape(phrase.text)}(?!\w)")
            count = sum(len(whole.findall(text)) for text in entry.example.fields.values())
            if phrase.quote is None and count > 1:
                found[phrase.text] = None
    return list(found)


def content_key(prior: Prior) -> str:
    """A hash (64 hex digits) of all that decides how examples are annotated: everything but the name and the notes.

    An option that came later counts where it is not its default: the keys of older priors stay.
    """
    examples = [[e.example.fields, [turn.role for turn in e.example.messages], _plain(e.links)] for e in prior.examples]
    default = Options()
    options = {
        name: value
        for name, value in asdict(prior.options).items()
        if name in ("effects", "max_links") or value != getattr(default, name)
    }
    content = [prior.task, prior.graph, prior.rules, options, examples]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_source(name_or_path: str | Path) -> tuple[str, str]:
    """The YAML of a packaged prior or of a file, and what to call it in errors.

    Raises:
        ConfigError: There is no such prior, or the file cannot be read.
    """
    name = str(name_or_path)
    if name in PACKAGED:
        file = resources.files("cattune.annotation.assistant").joinpath("priors", f"{name}.yaml")
        return file.read_text(encoding="utf-8"), f"{name}.yaml"
    return read_yaml(name, "prior", f"give the path of a YAML file or a packaged prior: {', '.join(PACKAGED)}"), name


def parse_prior(text: str, source: str) -> Prior:
    """The prior that a YAML text describes; `source` names it in errors.

    Raises:
        ConfigError: A key is missing, unknown or given twice, or a value is not as it should be.
    """
    top = parse_yaml(text, source).keys(("name", "task", "graph", "examples"), ("rules", "options"))
    name = top["name"].text()
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        top["name"].fail("a name of letters (A to Z), digits, '_', '-' and '.'")
    return Prior(
        name=name,
        task=top["task"].text().strip(),
        graph=tuple(_edge(entry) for entry in top["graph"].items()),
        examples=tuple(_example(e, f"{name}/{n}") for n, e in enumerate(top["examples"].items(), start=1)),
        rules=tuple(entry.text().strip() for entry in top["rules"].items()) if "rules" in top else (),
        options=_options(top["options"]) if "options" in top else Options(),
    )


def _edge(node: Node) -> str:
    edge = node.text().strip()
    if not re.search(r"\S\s*(->|→)\s*\S", edge):
        node.fail("an edge of the causal graph, 'cause -> effect'")
    return edge


def _options(node: Node) -> Options:
    chosen: dict[str, Any] = {}
    for name, value in node.keys((), [option.name for option in fields(Options)]).items():
        if name == "effects":
            chosen[name] = value.choice(EFFECTS)
        elif name in ("max_links", "max_causes"):
            chosen[name] = value.integer(1, MOST_LINKS)
        else:
            chosen[name] = value.choice(("true", "false")) == "true"
    return Options(**chosen)


def _example(node: Node, name: str) -> PriorExample:
    given = node.keys(("links",), ("prompt", "completion", "messages", "note"))
    if ("messages" in given) == ("prompt" in given) or ("prompt" in given) != ("completion" in given):
        node.fail("either 'prompt' and 'completion', or 'messages'")
    try:
        if "messages" in given:
            example = Example(name, messages=tuple(_message(turn) for turn in given["messages"].items()))
        else:
            example = Example(name, given["prompt"].text(), given["completion"].text())
    except DataError as error:
        raise ConfigError(f"{node.where}: {error}") from None
    links = tuple(_link(entry) for entry in given["links"].items())
    return PriorExample(example, links, given["note"].text().strip() if "note" in given else "")


def _message(node: Node) -> Message:
    turn = node.keys(("role", "content"))
    return Message(turn["role"].choice(ROLES), turn["content"].text())


def _link(node: Node) -> LinkInWords:
    link = node.keys(("effect", "causes"))
    return _phrase(link["effect"]), tuple(_phrase(cause) for cause in link["causes"].items())


def _phrase(node: Node) -> Phrase:
    if not node.is_mapping():
        return Phrase(node.text())
    given = node.keys(("text", "quote"))
    text, quote = given["text"].text(), given["quote"].text()
    if text not in quote:
        given["quote"].fail(f"a longer stretch of the text with {shown(text)} in it")
    return Phrase(text, quote)


def _plain(links: Sequence[LinkInWords]) -> list[list[list[str | None]]]:
    return [[[phrase.text, phrase.quote] for phrase in (effect, *causes)] for effect, causes in links]


def _opening(example: Example) -> str:
    return " ".join(next(iter(example.fields.values())).split())[:40]
