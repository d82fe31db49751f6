"""Messages and template variables as chat data sets have them: read, kept, written; or refused with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_templates import QWEN3, conversation
from datasets import Dataset, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_families import family

from cattune import CATConfig, load_examples, save_examples
from cattune.cli.main import main
from cattune.data.examples import Example, Message
from cattune.data.records import example_from_dict, example_to_dict
from cattune.errors import CattuneError, ConfigError, DataError
from cattune.supervision.dataset import encode

TURNS = [{"role": "user", "content": "4 + 2?"}, {"role": "assistant", "content": "6"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def read(*messages: dict[str, Any], **more: Any) -> Any:
    return example_from_dict({"id": "e", "messages": list(messages), **more})


def test_what_a_message_may_have_is_read_and_written():
    rich = {"name": "Ann", "weight": 1, "reasoning_content": "Add."}
    example = read({**TURNS[0], "name": "Bo"}, {**TURNS[1], **rich}, chat_template_kwargs={"enable_thinking": False})
    assert example.messages == (Message("user", "4 + 2?", "Bo"), Message("assistant", "6", "Ann", 1, "Add."))
    record = json.loads(json.dumps(example_to_dict(example)))
    assert record["messages"][1] == {**TURNS[1], **rich} and example_from_dict(record) == example
    assert set(example_to_dict(read(*TURNS))) == {"schema", "id", "messages", "links"}


def test_none_is_absent_as_data_sets_fill_it_in():
    filled = [{**turn, "name": None, "tool_calls": None, "weight": 1.0} for turn in TURNS]
    example = read(*filled, tools=None, chat_template_kwargs={"enable_thinking": None, "style": "x"})
    assert example.messages[0] == Message("user", "4 + 2?", weight=1)
    assert example.chat_template_kwargs == {"style": "x"}


def test_tools_stand_beside_the_messages_or_in_json():
    assert read(*TURNS, tools=TOOLS).chat_template_kwargs == {"tools": TOOLS}
    assert read(*TURNS, tools=json.dumps(TOOLS)).chat_template_kwargs == {"tools": TOOLS}
    split = example_from_dict({"id": "e", "prompt": TURNS[:1], "completion": TURNS[1:], "tools": TOOLS})
    assert split.chat_template_kwargs == {"tools": TOOLS} and example_from_dict(example_to_dict(split)) == split
    # Beside a prompt that is text, these are the user's own.
    plain = example_from_dict({"id": "e", "prompt": "a", "completion": "b", "tools": "saw"})
    assert plain.metadata == {"tools": "saw"} and not plain.chat_template_kwargs


def test_a_sequence_of_mappings_is_read_as_datasets_holds_it():
    span = {"field": Value("string"), "start": Value("int32"), "end": Value("int32")}
    link = {"effect": span, "causes": Sequence(span), "weight": Value("float32")}
    turn = {"role": Value("string"), "content": Value("string")}
    effect, cause = (
        {"field": "messages[1].content", "start": 0, "end": 1},
        {"field": "messages[0].content", "start": 0, "end": 1},
    )
    row = {"messages": TURNS, "links": [{"effect": effect, "causes": [cause], "weight": 1.0}]}
    features = Features({"messages": Sequence(turn), "links": Sequence(link)})
    columns = {
        "messages": {key: [t[key] for t in TURNS] for key in turn},
        "links": {"effect": [effect], "causes": [{key: [cause[key]] for key in span}], "weight": [1.0]},
    }
    held = Dataset.from_list([columns], features=features)
    assert isinstance(held[0]["messages"], dict) and isinstance(held[0]["links"]["causes"][0], dict)
    assert example_from_dict({"id": "e", **held[0]}) == example_from_dict({"id": "e", **row})
    assert list(encode(held, family("byte-level"))[0]) == encode([row], family("byte-level"))[0]
    with pytest.raises(DataError, match="expected text, or a list of messages"):
        example_from_dict({"id": "e", "messages": {"role": ["user"], "content": []}})


def test_text_in_parts_is_joined():
    parts = [{"type": "text", "text": "4 + "}, {"type": "text", "text": "2?"}]
    assert read({"role": "user", "content": parts}, TURNS[1]).messages[0].content == "4 + 2?"


CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("messages", "more", "reason"),
    [
        ([TURNS[0], CALL, TURNS[1]], {}, r"message 1: 'tool_calls' is not supported: a call is no text"),
        ([TURNS[0], {**TURNS[1], "function_call": {"name": "a"}}], {}, "'function_call' is not supported"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, TURNS[1]], {}, "only text is trained on"),
        ([TURNS[0], {**TURNS[1], "weight": 0.5}], {}, "'weight' is 0.5; expected 1, or 0"),
        ([TURNS[0], {**TURNS[1], "weight": True}], {}, "'weight' is true"),
        ([TURNS[0], {**TURNS[1], "name": 5}], {}, "'name' must be a string"),
        ([TURNS[0], {**TURNS[1], "tone": "kind"}], {}, 'unknown key "tone"; the keys are role, content, name'),
        (TURNS, {"tools": "no JSON"}, "'tools' is a string, but not JSON"),
        (TURNS, {"tools": [5]}, "'tools' must be a list of JSON schemas"),
        (TURNS, {"chat_template_kwargs": [1]}, "'chat_template_kwargs' must be a mapping"),
        (TURNS, {"chat_template_kwargs": {"tokenize": True}}, "has tokenize, which rendering sets by itself"),
        (TURNS, {"tools": TOOLS, "chat_template_kwargs": {"tools": TOOLS}}, "keep one"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(messages: list[Any], more: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=reason):
        read(*messages, **more)


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(
            ["role", "content", "name", "weight", "reasoning_content", "tool_calls", "tool_call_id", "function_call"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("assistant"),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
            max_leaves=4,
        ),
    ),
    st.sampled_from(["tools", "chat_template_kwargs"]),
    st.none()
    | st.integers()
    | st.text()
    | st.dictionaries(st.text(max_size=3), st.integers())
    | st.lists(st.integers()),
)
def test_any_message_is_read_as_it_is_or_refused(message: dict[str, Any], key: str, value: Any):
    try:
        example = read(TURNS[0], message, TURNS[1], **{key: value})
    except CattuneError:
        return
    assert example_from_dict(json.loads(json.dumps(example_to_dict(example)))) == example
    if isinstance(message["content"], str):
        assert example.messages[1].content == message["content"]


def test_a_dataset_brings_its_template_variables_along(tmp_path: Path):
    tokenizer = family("byte-level")
    examples = [
        replace(conversation("4 + 2?", "6", chat_template_kwargs={"enable_thinking": thinking}), id=f"e{thinking}")
        for thinking in (True, False)
    ]
    records = [example_to_dict(example) for example in examples]
    before = tokenizer.chat_template
    tokenizer.chat_template = QWEN3
    try:
        wanted, _ = encode(examples, tokenizer)
        features, report = encode(Dataset.from_list(records), tokenizer)
        again, _ = encode(
            Dataset.from_list([{"messages": TURNS}]), tokenizer, chat_template_kwargs={"enable_thinking": False}
        )
        assert [f["labels"] for f in features] == [f["labels"] for f in wanted]
        assert wanted[0]["labels"] != wanted[1]["labels"] == again[0]["labels"]
        assert report.ends == {"<|im_end|>": 2}
        path = tmp_path / "a.jsonl"
        save_examples(path, [example_from_dict(record) for record in records])
        assert [e.chat_template_kwargs for e in load_examples(path)] == [e.chat_template_kwargs for e in examples]
    finally:
        tokenizer.chat_template = before


def test_the_settings_take_variables_for_the_template(tmp_path: Path):
    args = {"output_dir": str(tmp_path), "report_to": "none", "use_cpu": True}
    assert CATConfig(**args, chat_template_kwargs={"enable_thinking": False}).chat_template_kwargs
    for wrong, reason in (([1], "must be a mapping"), ({"padding": True}, "has padding")):
        with pytest.raises(ConfigError, match=reason):
            CATConfig(**args, chat_template_kwargs=wrong)


def test_align_shows_what_the_template_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import copy

    tokenizer = copy.deepcopy(family("byte-level"))
    tokenizer.chat_template = QWEN3
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    good, bad = conversation("4 + 2?", "6"), conversation("4 + 2?", "<think>a</think>6")
    records = [{**example_to_dict(e), "id": name} for e, name in ((good, "good"), (bad, "bad"))]
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    call = ["align", str(file), "--tokenizer", str(tmp_path / "tokenizer"), "--json"]
    assert main([*call, "--chat-template-kwargs", "{enable_thinking: true}"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert (report["examples"], report["left_out"]) == (2, 1)
    assert '"enable_thinking": true' in json.dumps(report["provenance"])
    assert "does not write its answer unchanged" in shown.err
    assert main([*call, "--strict"]) == 2
    with pytest.raises(SystemExit):
        main([*call, "--chat-template-kwargs", "[1]"])
    assert "must be a mapping" in capsys.readouterr().err


def test_half_of_a_surrogate_pair_is_no_role() -> None:
    with pytest.raises(DataError, match=r"messages\[0\].role holds half of a surrogate pair at position 1"):
        Example("a", messages=(Message("u\ud800", "4?"), Message("assistant", "9")))


ALIASES = "{a: &a [x, x, x, x, x, x, x, x, x], " + ", ".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]" for x, y in zip("abcdefgh", "bcdefghi", strict=True)) + "}"  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    "given", ["{a: !!int ''}", "{a: &a [*a]}", "{a: " + "[" * 3000, ALIASES, "[a]", "{a: 1, a: 2}"]
)
def test_variables_on_the_command_line_are_yaml_that_is_safe_to_walk(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["align", str(tmp_path / "f.jsonl"), "--tokenizer", "tiny", "--chat-template-kwargs", given])
    assert end.value.code == 2
    said = capsys.readouterr().err.rpartition("error: ")[2]
    assert "chat-template-kwargs" in said and len(said) < 1000 and "RecursionError" not in said
