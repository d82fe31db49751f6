"""No message is long, whatever the input: what is the user's is cut where it is quoted, and the advice is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from cattune.annotation.assistant.prior import load_prior, parse_prior
from cattune.annotation.rules.file import parse_rules
from cattune.cli.main import main
from cattune.data.examples import CausalLink, Example, Message, Span
from cattune.data.records import example_from_dict, example_to_dict
from cattune.errors import LONGEST, CattuneError, bounded
from cattune.formats.published import published_example
from cattune.tasks.stg.parse import BUILT_IN, parse_game
from cattune.wording import listed, shown

LONG = "x" * 20_000
DEEP: Any = "x"
for _ in range(5000):
    DEEP = [DEEP]
HUGE: dict[str, Any] = {
    "text": LONG,
    "words": "word and " * 5000,
    "number": 10**3000,
    "list": list(range(50_000)),
    "keys": {f"{i}-{LONG[:50]}": i for i in range(2000)},
    "long key": {LONG: LONG},
    "deep": DEEP,
}
SPAN = {"field": "prompt", "start": 0, "end": 3, "text": "4 a"}
NATIVE = {
    "schema": "cattune/1",
    "id": "a",
    "prompt": "4 and 5",
    "completion": "9",
    "links": [{"effect": {"field": "completion", "start": 0, "end": 1}, "causes": [SPAN], "weight": 1.0}],
    "refused": [{"effect": "9", "cause": None, "reason": "not in the text", "link": None}],
    "metadata": {"a": 1},
}
CHAT = {"messages": [{"role": "user", "content": "4 and 5"}, {"role": "assistant", "content": "9"}], "id": "a"}
PUBLISHED = {"id": 1, "input": "4 and 5", "target": "9", "important": [{"9": ["4", "5"]}]}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a record where something may stand instead."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, item in items for place in places(item, (*at, key))]


def put(record: Any, at: tuple[Any, ...], value: Any, as_key: bool = False) -> Any:
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    if as_key and isinstance(inner, dict):
        inner[str(value)[:30_000]] = inner.pop(at[-1])
    else:
        inner[at[-1]] = value
    return copy


def check(act: Callable[[], Any]) -> str | None:
    try:
        act()
    except CattuneError as error:
        message = str(error)
        assert len(message) <= LONGEST and "characters ...]" not in message, message
        message.encode()
        return message
    return None


@pytest.mark.parametrize("record", [NATIVE, CHAT, PUBLISHED], ids=["native", "chat", "published"])
@pytest.mark.parametrize("kind", HUGE)
def test_a_record_with_something_huge_in_it(record: dict[str, Any], kind: str) -> None:
    read = published_example if record is PUBLISHED else example_from_dict
    messages = []
    for at in places(record):
        messages.append(check(lambda at=at: example_to_dict(read(put(record, at, HUGE[kind]), "f.jsonl, line 1"))))
        if kind in ("text", "words"):
            messages.append(check(lambda at=at: read(put(record, at, HUGE[kind], as_key=True), "f.jsonl, line 1")))
    assert any(messages)
    check(lambda: read({**record, **{f"key {i}": LONG for i in range(1000)}}, "f.jsonl, line 1"))


@pytest.mark.parametrize("text", [LONG, "word and " * 5000], ids=["one word", "words"])
def test_an_example_of_huge_texts(text: str) -> None:
    def link(effect: Span, *causes: Span) -> CausalLink:
        return CausalLink(effect, causes)

    whole = Span("prompt", 0, len(text))
    bad = link(whole, whole)
    for act in (
        lambda: Example(text, text, text, links=(link(Span("prompt", 0, 9), Span("completion", 0, len(text))),)),
        lambda: Example("a", text, text, links=(link(Span(text, 0, 9), whole),)),
        lambda: Example("a", text, text, links=(link(whole, Span("prompt", 0, 10**6)),)),
        lambda: Example("a", text, text, links=(link(whole, Span("prompt", 0, 1), Span("completion", 5, 6)),)),
        lambda: Example(text, messages=(Message("user", text), Message(text, text))),
        lambda: Example("a", messages=(*[Message("user", "a")] * 3000, Message("assistant", "b")), links=(bad,)),
        lambda: Example(text, text + "\ud800", text),
        lambda: Span(text, 5, 2),
        lambda: CausalLink(whole, (whole,), method=text),
    ):  # fmt: skip
        assert check(act)


PRIOR = """\
name: pens
task: t
graph: [a -> b]
examples:
- {prompt: 4 pens, completion: '4', links: [{effect: '4', causes: [4 pens]}]}
"""
RULES = "patterns: {a: {regex: x, in: prompt}, b: {attribute: y, matches: one}}\nedges: {a: [b]}\n"
SOURCES: list[tuple[str, Callable[[str], Any]]] = [
    (PRIOR, lambda text: parse_prior(text, "p.yaml")),
    (RULES, lambda text: parse_rules(text, "r.yaml")),
]


@pytest.mark.parametrize(("source", "parse"), SOURCES, ids=["prior", "rules"])
def test_yaml_with_something_huge_in_it(source: str, parse: Callable[[str], Any]) -> None:

    assert check(lambda: parse(source)) is None
    words = list(re.finditer(r"[\w>-]+(?: [\w>-]+)*", source))
    messages = []
    for word in words:
        for put_in in (LONG, f"[{'x, ' * 500}]", f"{{{', '.join(f'{LONG[:50]}{i}: x' for i in range(100))}}}"):
            messages.append(check(lambda: parse(source[: word.start()] + put_in + source[word.end() :])))  # noqa: B023
    assert sum(message is not None for message in messages) > len(words)


def test_a_prior_with_hundreds_of_problems_names_the_first_and_counts_the_others(tmp_path: Path) -> None:
    links = "".join(f"\n  - {{effect: 'none {i} {LONG[:200]}', causes: [nowhere]}}" for i in range(300))
    text = f"name: pens\ntask: t\ngraph: [a -> b]\nexamples:\n- prompt: 4 pens\n  completion: '4'\n  links:{links}\n"
    (tmp_path / "p.yaml").write_text(text.replace("300", "90"))
    message = check(lambda: load_prior(tmp_path / "p.yaml"))
    assert message and "more" in message and "cattune prior check" in message


def test_a_game_with_something_huge_in_it() -> None:

    game = yaml.safe_load(resources.files("cattune.tasks.stg").joinpath("games", f"{BUILT_IN[0]}.yaml").read_text())
    messages = [
        check(lambda at=at, value=value: parse_game(put(game, at, value), "g.yaml"))
        for at in places(game)
        for value in (LONG, HUGE["number"], HUGE["list"], HUGE["keys"])
    ]
    assert sum(map(bool, messages)) > 50


@pytest.mark.parametrize(
    "words",
    [
        ["align", LONG, "--tokenizer", "tiny"],
        ["align", "x.jsonl", "--tokenizer", LONG],
        ["align", "x.jsonl", "--tokenizer", "tiny", "--occurrences", LONG],
        ["align", "x.jsonl", "--tokenizer", "tiny", "--max-length", LONG],
        ["align", "x.jsonl", "--tokenizer", "tiny", "--out", LONG],
        [LONG],
        ["annotations", "join", "a.jsonl", "b.jsonl", "--out", "c", "--weight", LONG],
        ["annotations", "rules", "x.jsonl", "--rules", LONG, "--out", "c"],
        ["prior", "check", LONG],
        ["stg", "--game", LONG, "--out", "c"],
        ["train", LONG],
        ["train", "--model", LONG],
        ["train", "--model", "tiny", "--train_file", LONG, "--output_dir", "x"],
        ["train", f"--{LONG}", "1"],
        ["train", "--gamma", "[" + LONG],
        ["train", "--model", "tiny", "--train_file", "x", "--output_dir", "x", "--gamma", LONG],
        ["train", "--model", "tiny", "--train_file", "x", "--output_dir", "x", "--objective", LONG],
        ["train", "--model", "tiny", "--train_file", "x", "--output_dir", "x", "--eval_files", LONG],
        ["evaluate", "--model", LONG, "--data", "a=x.jsonl", "--out", "c"],
        ["evaluate", "--model", "m", "--data", LONG, "--out", "c"],
    ],
    ids=lambda words: " ".join(word[:12] for word in words),
)
def test_a_call_with_something_huge_in_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text(json.dumps(CHAT) + "\n")
    try:
        status = main(words)
    except SystemExit as error:
        status = error.code
    message = capsys.readouterr().err.rpartition("error: ")[2]
    assert status == 2 and len(message) <= LONGEST + 10 and "Traceback" not in message


def test_the_middle_of_a_long_message_is_left_out() -> None:
    assert bounded("x" * LONGEST) == "x" * LONGEST
    message = str(CattuneError("what is wrong " + "x" * 5000 + " and what to do"))
    assert message.startswith("what is wrong x") and message.endswith("x and what to do") and len(message) <= LONGEST


def test_values_in_a_list() -> None:
    assert listed(["a", "b c", 5]) == 'a, "b c", 5'
    assert listed([]) == "none"
    assert listed(map(str, range(100)), most=2) == "0, 1 and 98 more"
    assert len(listed([LONG] * 100)) < 600
    assert shown(10**5000) == "a int"
