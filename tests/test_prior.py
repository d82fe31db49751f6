"""Priors: the packaged ones, what is refused in a user's own, and `cattune prior`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.annotation.assistant.judgement import LEADS_NOWHERE, Options
from cattune.annotation.assistant.prior import (
    PACKAGED,
    Prior,
    ambiguous_phrases,
    check_prior,
    content_key,
    load_prior,
    parse_prior,
    read_prior,
    read_source,
)
from cattune.cli import main as cli
from cattune.cli import prior as command
from cattune.errors import CattuneError, ConfigError
from cattune.grounding.search import Phrase

SMALL = """\
name: pens
task: Counting pens.
graph:
  - number -> sum
examples:
  - prompt: "Ann has 4 pens and buys 2. How many? "
    completion: "6"
    links:
      - effect: 6
        causes: [4 pens, buys 2]
"""


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1, old
    return SMALL.replace(old, new)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_prior(text, "my.yaml")
    return str(caught.value)


@pytest.fixture
def cattune(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `prior` a command, whether or not the command line lists it yet."""
    monkeypatch.setattr(cli, "COMMANDS", ("prior",))


# The packaged priors


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_priors_ground_exactly_and_say_which_place_they_mean(name: str) -> None:
    prior = load_prior(name)
    assert prior.name == name
    assert 3 <= len(prior.examples) <= 5
    for entry, judgement in zip(prior.examples, check_prior(prior), strict=True):
        assert judgement.problems == ()
        assert judgement.refused == ()
        assert len(judgement.links) == len(entry.links)
        assert {link.method for link in judgement.links} == {"exact"}
        assert {link.score for link in judgement.links} == {1.0}
        assert ambiguous_phrases(entry, prior.options) == []
        assert entry.note


@pytest.mark.parametrize("name", PACKAGED)
def test_phrases_of_packaged_priors_are_found_where_their_quotes_are(name: str) -> None:
    prior = load_prior(name)
    quoted = 0
    for entry, judgement in zip(prior.examples, check_prior(prior), strict=True):
        for (effect, causes), link in zip(entry.links, judgement.links, strict=True):
            for phrase, span in zip((effect, *causes), (link.effect, *link.causes), strict=True):
                assert entry.example.text_of(span) == phrase.text
                if phrase.quote is not None:
                    quoted += 1
                    text = entry.example.fields[span.field]
                    assert text.count(phrase.quote) == 1, "a quote tells which place is meant only if it is unique"
                    start = text.index(phrase.quote)
                    assert start <= span.start and span.end <= start + len(phrase.quote)
    assert quoted, "the examples show what a quote is for"


def test_distractors_of_the_packaged_examples_are_no_causes() -> None:
    causes = {
        entry.example.id: [judged.text for _, causes in entry.links for judged in causes]
        for name in PACKAGED
        for entry in load_prior(name).examples
    }
    for name, distractor in (
        ("arithmetic/1", "7"),
        ("arithmetic/3", "plums"),
        ("arithmetic/4", "30"),
        ("arithmetic/5", "2019"),
        ("multiple_choice/2", "B12"),
        ("tabular_risk/1", "Visitors"),
        ("tabular_risk/4", "tables"),
    ):
        assert not any(distractor in cause for cause in causes[name]), name


def test_the_command_line_names_the_priors_that_there_are() -> None:
    assert command.PACKAGED == PACKAGED


# Reading


def test_what_is_read() -> None:
    prior = parse_prior(SMALL, "my.yaml")
    assert prior == Prior("pens", "Counting pens.", ("number -> sum",), prior.examples)
    (entry,) = prior.examples
    assert entry.example.id == "pens/1"
    assert entry.example.fields == {"prompt": "Ann has 4 pens and buys 2. How many? ", "completion": "6"}
    assert entry.links == ((Phrase("6"), (Phrase("4 pens"), Phrase("buys 2"))),)


@pytest.mark.parametrize(
    "phrase", ["5.0", "007", "no", "yes", "null", "~", "1e3", "2024-05-01", "0x1F", "12:30", "-.5"]
)
def test_phrases_stay_as_they_were_written(phrase: str) -> None:
    prior = parse_prior(changed("causes: [4 pens, buys 2]", f"causes: [{phrase}]"), "my.yaml")
    assert prior.examples[0].links[0][1] == (Phrase(phrase),)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_any_text_can_be_a_phrase_in_quotes(phrase: str) -> None:
    prior = parse_prior(changed("effect: 6", f"effect: {json.dumps(phrase)}"), "my.yaml")
    assert prior.examples[0].links[0][0].text == phrase


def test_options_rules_and_messages() -> None:
    text = SMALL + (
        "  - note: a conversation\n    messages:\n      - {role: user, content: 'How much is 1 + 1?'}\n"
        "      - {role: assistant, content: '2'}\n    links: [{effect: 2, causes: [1 + 1]}]\n"
        "rules: [Be brief.]\noptions: {effects: completion, max_links: 3}\n"
    )
    prior = parse_prior(text, "my.yaml")
    assert prior.rules == ("Be brief.",)
    assert prior.options == Options("completion", 3, max_causes=8, answer_first=False, repair=True)
    more = text.replace("max_links: 3", "max_links: 3, max_causes: 5, answer_first: true, repair: false")
    assert parse_prior(more, "my.yaml").options == Options("completion", 3, 5, answer_first=True, repair=False)
    assert prior.examples[1].note == "a conversation"
    assert prior.examples[1].example.fields == {"messages[0].content": "How much is 1 + 1?", "messages[1].content": "2"}


def test_the_content_key_is_of_what_the_assistant_sees() -> None:
    key = content_key(parse_prior(SMALL, "my.yaml"))
    assert len(key) == 64
    assert content_key(parse_prior(changed("name: pens", "name: others"), "else.yaml")) == key
    assert content_key(parse_prior(SMALL.replace("    links", "    note: new\n    links"), "my.yaml")) == key
    turns = SMALL.replace('prompt: "Ann has 4 pens and buys 2. How many? "\n    completion: "6"', "messages: [%s]")
    roles = [content_key(parse_prior(turns.replace("%s", f"{{role: {role}, content: 4 pens and buys 2}}, "
             "{role: assistant, content: 6}"), "my.yaml")) for role in ("user", "system")]  # fmt: skip
    assert roles[0] != roles[1]
    for text in (
        changed("Counting", "Adding"),
        changed("number -> sum", "sum -> number"),
        changed("buys 2. ", "buys 2, "),
        changed("causes: [4 pens, buys 2]", "causes: [4 pens]"),
        changed("effect: 6", "effect: {text: 6, quote: '6'}"),
        SMALL + "rules: [Be brief.]\n",
        SMALL + "options: {max_links: 3}\n",
        SMALL + "options: {effects: completion}\n",
        SMALL + "options: {max_causes: 9}\n",
        SMALL + "options: {answer_first: true}\n",
    ):
        assert content_key(parse_prior(text, "my.yaml")) != key, text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("arithmetic", "3f2d425f2c3bfd14cf541ff75d32821f545c87c10b60332ed6381eb86337507c"),
        ("multiple_choice", "39013e7c54a224204497add1de4619c736a285f2d2cc7e160b6ce3d135cbbdbd"),
        ("tabular_risk", "f2a36f91bb1d09867d8e90ebe795236256f4798edc98688aaafe001b36963fc1"),
    ],
)
def test_a_new_option_leaves_the_keys_of_older_priors(name: str, key: str) -> None:
    assert content_key(load_prior(name)) == key, "runs of an earlier release are no longer gone on with"


# What is refused


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "my.yaml is empty"),
        ("# only a comment\n", "my.yaml is empty"),
        ("- a list\n", "my.yaml, line 1: expected a mapping with name, task, graph, examples, got a list of 1"),
        (changed("task: Counting pens.", "tasks: Counting pens."), "line 2: unknown key \"tasks\"; did you mean 'task"),
        (changed("task: Counting pens.\n", ""), "line 1: the key 'task' is missing; add it"),
        (changed("task: Counting pens.", "task:"), "line 2, task: expected a text that is not empty, got nothing"),
        (SMALL + "name: again\n", 'line 11: the key "name" is given twice'),
        (changed("name: pens", "name: my pens"), "line 1, name: expected a name of letters"),
        (changed("number -> sum", "number, sum"), "line 4, graph[0]: expected an edge of the causal graph"),
        (changed("  - number -> sum", "  - number -> sum: added"), "line 4, graph[0]: expected a text (one with ':"),
        (changed("graph:\n  - number -> sum", "graph: []"), "line 3, graph: expected a list of at least one entry"),
        (changed("effect: 6", "effct: 6"), "line 9, examples[0].links[0]: unknown key \"effct\"; did you mean 'e"),
        (changed("[4 pens, buys 2]", "4 pens"), "line 10, examples[0].links[0].causes: expected a list"),
        (changed("[4 pens, buys 2]", "[4 pens, [buys 2]]"), "links[0].causes[1]: expected a text that is not empty"),
        (changed("[4 pens, buys 2]", "['']"), "links[0].causes[0]: expected a text that is not empty, got nothing"),
        (changed("[4 pens, buys 2]", "[{text: pens}]"), "causes[0]: the key 'quote' is missing"),
        (changed("[4 pens, buys 2]", "[{text: 4, quote: buys 2}]"), 'a longer stretch of the text with "4" in it'),
        (changed("[4 pens, buys 2]", "[room #4, buys 2]"), "a flow sequence that begins in line 10"),
        (changed("effect: 6", "effect: room #4"), '''to YAML, the "#4" after "room" begins a comment'''),
        (changed("[4 pens, buys 2]", "[6,359 yen]"), 'so "6,359 yen" is two of them'),
        (changed('    completion: "6"\n', ""), "line 6, examples[0]: expected either 'prompt' and"),
        (changed('completion: "6"', 'completion: "\\ud800"'), "line 7, examples[0].completion: expected a text"),
        (SMALL + "options: {max_links: 0}\n", "options.max_links: expected a whole number from 1 to 100, got \"0\""),
        (SMALL + "options: {max_links: many}\n", "expected a whole number from 1 to 100"),
        (SMALL + "options: {effects: all}\n", 'expected one of anywhere, completion, got "all"'),
        (SMALL + "options: {max_causes: 0}\n", "options.max_causes: expected a whole number from 1 to 100, got \"0\""),
        (SMALL + "options: {answer_first: yes}\n", 'options.answer_first: expected one of true, false, got "yes"'),
        (SMALL + "options: {repair: 0}\n", 'options.repair: expected one of true, false, got "0"'),
        (SMALL + "options: {maxlinks: 3}\n", "did you mean 'max_links'?"),
        (changed("  - number -> sum", "\t- number -> sum"), "indent with blanks, not with tabs"),
        (changed("name: pens", "name: pens\x00"), "my.yaml: not valid YAML"),
        ("name: [", "my.yaml, line 1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "my.yaml, line 2: not valid YAML"),
        ("[" * 100_000, "my.yaml, line 1: not valid YAML: nested too deeply"),
        ("? [a]\n: b\n", "expected a text as key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text: str, complaint: str) -> None:
    assert complaint in refusal(text)


def test_the_last_message_is_the_assistants() -> None:
    text = changed('    completion: "6"\n', "").replace(
        'prompt: "Ann has 4 pens and buys 2. How many? "', "messages: [{role: user, content: 6}]"
    )
    assert 'line 6, examples[0]: example "pens/1": the last message' in refusal(text)
    assert "messages[0].role: expected one of system, user, assistant" in refusal(text.replace("user", "human"))


def test_comments_with_a_blank_are_comments() -> None:
    for effect in ("6 # the sum", '"6" #sum', "'6' #sum", "6 #", "6  # 4"):
        assert parse_prior(changed("effect: 6", f"effect: {effect}"), "my.yaml") == parse_prior(SMALL, "my.yaml")


def test_a_prior_may_loop_back_on_itself() -> None:
    assert "my.yaml" in refusal("&a\nname: *a\ntask: *a\ngraph: *a\nexamples: *a\n")


@given(st.text() | st.lists(st.sampled_from([*SMALL.split("\n"), "  - &x", "*x", "{", "<<: *x", "? "])).map("\n".join))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    try:
        prior = parse_prior(text, "my.yaml")
    except CattuneError as error:
        assert "my.yaml" in str(error)
    else:
        assert prior.examples


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("task: Äpfel".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load_prior(latin)
    with pytest.raises(ConfigError, match="No such file.*a packaged prior: arithmetic, multiple_choice, tabular_risk"):
        load_prior("arithmetics")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_prior(tmp_path)
    with pytest.raises(ConfigError, match="cannot read the prior"):
        load_prior("a\0b")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_text(SMALL, encoding="utf-8-sig")
    assert load_prior(path).name == "pens"


def test_examples_that_do_not_ground_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        changed("buys 2]", "sells 2]")
        + '  - prompt: "Bo has 3 hats. How many? "\n    completion: "3"\n'
        + "    links: [{effect: 3 hats, causes: [Bo]}]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_prior(path)
    message = str(caught.value)
    assert (
        'example 1 ("Ann has 4 pens and buys 2. How many?"): The cause "sells 2" of "6": cause is not in the text'
        in message
    )
    assert f'example 2 ("Bo has 3 hats. How many?"): The effect "3 hats": {LEADS_NOWHERE}' in message
    assert read_prior(path).name == "pens"


def test_phrases_that_stand_there_twice_are_noticed() -> None:
    text = changed("has 4 pens and buys 2", "has 4 pens and buys 4 at 16 cents")
    (entry,) = parse_prior(text.replace("[4 pens, buys 2]", "[4, 16 cents, 6]"), "my.yaml").examples
    assert ambiguous_phrases(entry, Options()) == ["4"]
    (entry,) = parse_prior(text.replace("[4 pens, buys 2]", "[{text: 4, quote: buys 4}]"), "my.yaml").examples
    assert ambiguous_phrases(entry, Options()) == []


# The command


@pytest.mark.usefixtures("cattune")
@pytest.mark.parametrize("name", PACKAGED)
def test_a_new_prior_can_be_used_at_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my prior.yaml"
    assert cli.main(["prior", "new", "--from", name, "--out", str(out)]) == 0
    assert "cattune prior check" in capsys.readouterr().err
    assert load_prior(out).name == "my_prior"
    assert content_key(load_prior(out)) == content_key(load_prior(name))
    assert out.read_text(encoding="utf-8").startswith("# "), "the comments come along"

    before = out.read_bytes()
    assert cli.main(["prior", "new", "--out", str(out)]) == 2
    assert "already exists; pass --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert cli.main(["prior", "new", "--out", str(out), "--overwrite"]) == 0
    assert content_key(load_prior(out)) == content_key(load_prior("arithmetic"))


@pytest.mark.usefixtures("cattune")
def test_check_shows_each_phrase_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prior", "check", "arithmetic"]) == 0
    out = capsys.readouterr().out
    assert '"12 jars" prompt[14:21] <- "A crate holds" prompt[0:13]' in out
    assert "arithmetic/2  a worked answer" in out
    assert "prior arithmetic: 5 examples, 13 links" in out


@pytest.mark.usefixtures("cattune")
def test_check_shows_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(changed("[4 pens, buys 2]", "[4 pens, sells 2]"), "utf-8")
    assert cli.main(["prior", "check", str(path)]) == 2
    captured = capsys.readouterr()
    assert '"6" completion[0:1] <- "4 pens" prompt[8:14]' in captured.out
    assert 'The cause "sells 2" of "6": cause is not in the text' in captured.out
    assert "of 1 example, 1 with phrases that do not fit the text (number 1)" in captured.err


@pytest.mark.usefixtures("cattune")
def test_check_prints_texts_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.yaml"
    prompt = json.dumps("[bold]4[/] :smile: \x1b[31m pens. ")
    path.write_text(changed('"Ann has 4 pens and buys 2. How many? "', prompt).replace("4 pens, buys 2", "4"), "utf-8")
    assert cli.main(["prior", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "[bold]4[/] :smile: \ufffd[31m pens." in out
    assert "\x1b" not in out


@pytest.mark.usefixtures("cattune")
def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prior", "check", "tabular_risk", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["content_key"] == content_key(load_prior("tabular_risk"))
    links = record["examples"][0]["example"]["links"]
    assert [cause["text"] for cause in links[0]["causes"]][0] == "Days since rain: 19"
    assert record["examples"][0]["problems"] == []
    assert record["prompt_characters"] > 1000


@pytest.mark.usefixtures("cattune")
def test_what_is_no_prior_is_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "wrong.yaml"
    source.write_text("task: none\n", encoding="utf-8")
    assert cli.main(["prior", "new", "--from", str(source), "--out", str(tmp_path / "new.yaml")]) == 2
    assert "the key 'name' is missing" in capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()


def test_the_source_of_a_packaged_prior_is_its_file() -> None:
    text, source = read_source("arithmetic")
    assert source == "arithmetic.yaml"
    assert "\nname: arithmetic\n" in text


def test_the_file_in_the_documentation_is_a_prior(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "priors.md").read_text(encoding="utf-8")
    path = tmp_path / "pens.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    prior = load_prior(path)
    assert prior.options == Options(), "the page says that these are the defaults"
    assert ambiguous_phrases(prior.examples[0], prior.options) == []
