from __future__ import annotations

import copy
import gc
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_families import FAMILIES, TRIMMING, byte_level, family, inserted, texts

from cattune.data.examples import CausalLink, Example, Message, RefusedLink, Span
from cattune.errors import AlignmentError, ConfigError
from cattune.supervision.rows import IGNORED, AlignmentReport, encode_examples, generation_prefix

PROMPT = "Weight: 10, Smoking: 8. Answer: "


def span_of(text: str, phrase: str, field: str) -> Span:
    return Span(field, text.index(phrase), text.index(phrase) + len(phrase))


def example(*causes: str, prompt: str = PROMPT, completion: str = "High Risk", **more: Any) -> Example:
    """The completion depends on each of the causes."""
    link = CausalLink(
        Span("completion", 0, len(completion)), tuple(span_of(prompt, cause, "prompt") for cause in causes)
    )
    return Example("e1", prompt, completion, links=(link,), **more)


def encode(one: Example, tokenizer: Any, **options: Any) -> tuple[dict[str, Any], AlignmentReport]:
    features, report = encode_examples([one], tokenizer, **options)
    assert len(features) == 1
    return features[0], report


def spelled(feature: dict[str, Any], tokenizer: Any) -> dict[str, list[str]]:
    """Each predicted token's name with those of the causal keys of the row that predicts it."""
    names = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    rows = zip(feature["query_rows"], feature["causal_keys"], strict=True)
    return {names[row + 1]: [names[key] for key in keys] for row, keys in rows}


def first_label(feature: dict[str, Any]) -> int:
    return next(t for t, label in enumerate(feature["labels"]) if label != IGNORED)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Random text with random links, effects in the prompt included; every cause starts before its effect ends."""
    fields = {"prompt": draw(texts()), "completion": draw(texts())}
    places = [(name, at) for name, text in fields.items() for at in range(len(text))]

    def span(latest: int) -> tuple[Span, int]:
        name, start = places[index := draw(st.integers(0, latest))]
        end = draw(st.integers(start + 1, min(len(fields[name]), start + 12)))
        return Span(name, start, end), index + end - 1 - start

    links = []
    for _ in range(draw(st.integers(0, 4)) if places else 0):
        effect, last = span(len(places) - 1)
        causes = tuple(span(last)[0] for _ in range(draw(st.integers(1, 3))))
        links.append(CausalLink(effect, causes, weight=draw(st.sampled_from([1.0, 0.5, 2.0]))))
    return Example("random", **fields, links=tuple(links))


def reference(one: Example, tokenizer: Any, max_length: int | None) -> tuple[dict[str, Any] | None, int]:
    """What supervision is by definition, every token against every link, and how many tokens the effects touch."""
    assert one.prompt is not None and one.completion is not None
    text = one.prompt + one.completion
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, eos = list(encoding["input_ids"]), tokenizer.eos_token_id
    names = tokenizer.convert_ids_to_tokens(ids)
    special = encoding["special_tokens_mask"]
    places = encoding["offset_mapping"]
    inside = [t for t in range(len(ids)) if not special[t]]
    before = tokenizer("high", return_special_tokens_mask=True)["special_tokens_mask"].index(0)
    after = range(max([before, *(t + 1 for t in inside)]), len(ids))
    completion = [t for t in inside if places[t][1] > len(one.prompt)]
    boundary = [*completion, *after, len(ids)][0]
    if after and inside and ids[inside[-1]] == ids[-1] == eos:
        del ids[-1]
    if eos is not None and (len(ids) == before or ids[-1] != eos):
        ids.append(eos)

    @cache
    def touched(span: Span) -> list[int]:
        shift = len(one.prompt or "") if span.field == "completion" else 0
        return [
            t
            for t in inside
            if places[t][0] < span.end + shift and places[t][1] > span.start + shift
            if not inserted(tokenizer, text, names[t], *places[t])
        ]

    asked = {t for link in one.links for t in touched(link.effect)}
    ids = ids[:max_length]
    rows: dict[int, dict[int, float]] = {}
    for t in range(1, len(ids)):
        keys: dict[int, float] = {}
        for link in one.links:
            if ids[t] != eos and t in touched(link.effect):
                for key in (key for cause in link.causes for key in touched(cause) if key < t):
                    keys[key] = max(link.weight, keys.get(key, 0.0))
        if 0 < len(keys) < t:
            rows[t - 1] = keys
    if max(boundary, 1) >= len(ids):
        return None, len(asked)
    labels = [token if t >= max(boundary, 1) else IGNORED for t, token in enumerate(ids)]
    feature = {
        "input_ids": ids,
        "labels": labels,
        "query_rows": sorted(rows),
        "causal_keys": [sorted(rows[row]) for row in sorted(rows)],
        "causal_weights": [[rows[row][key] for key in sorted(rows[row])] for row in sorted(rows)],
    }
    return feature, len(asked)


def lost(report: AlignmentReport, kind: str) -> int:
    return sum(count for reason, count in report.lost.items() if reason.startswith(f"{kind}: "))


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=60)
@given(one=examples(), max_length=st.one_of(st.none(), st.integers(2, 20)))
def test_features_are_those_of_the_definition(name: str, one: Example, max_length: int | None):
    tokenizer = family(name)
    features, report = encode_examples([one], tokenizer, max_length=max_length)
    expected, asked = reference(one, tokenizer, max_length)
    assert features == ([] if expected is None else [expected])
    assert report.left_out == (expected is None)
    assert report.links == len(one.links) == report.aligned_links + lost(report, "link")
    assert report.causes == sum(len(link.causes) for link in one.links) == report.aligned_causes + lost(report, "cause")
    assert report.rows == (len(expected["query_rows"]) if expected else 0) == asked - lost(report, "row")


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=50)
@given(prompt=texts(), completion=texts())
def test_generation_starts_from_the_very_tokens_that_training_sees_before_its_first_label(
    name: str, prompt: str, completion: str
):
    tokenizer = family(name)
    one = Example("e", prompt, completion)
    features, _ = encode_examples([one], tokenizer)
    if not features or features[0]["labels"][1] != IGNORED and first_label(features[0]) == 1:
        # Without a special token in front, the completion may begin at token 0, which nothing predicts.
        try:
            prefix = generation_prefix(one, tokenizer)
        except AlignmentError as error:
            assert "nothing to generate from" in str(error)
            return
        assert not features or prefix == features[0]["input_ids"][: len(prefix)]
        return
    feature = features[0]
    prefix = generation_prefix(one, tokenizer)
    assert prefix == feature["input_ids"][: first_label(feature)]
    assert feature["labels"][len(prefix) :] == feature["input_ids"][len(prefix) :]


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=30)
@given(question=texts(), answer=texts())
def test_conversations_keep_to_the_same_boundary(name: str, question: str, answer: str):
    tokenizer = family(name)
    one = Example("e", messages=(Message("user", question), Message("assistant", answer)))
    (feature,), _ = encode_examples([one], tokenizer)
    prefix = generation_prefix(one, tokenizer)
    assert prefix == feature["input_ids"][: first_label(feature)]
    rendered = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in one.messages], tokenize=False
    )
    assert feature["input_ids"] == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in feature["labels"], "the end of the turn is learnt"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_number_s_own_token_predicts_the_label_in_every_family(name: str):
    tokenizer = family(name)
    feature, report = encode(example("10", "8"), tokenizer)
    assert report.aligned_links == 1 and report.aligned_causes == 2 and not report.problems
    for keys in spelled(feature, tokenizer).values():
        assert "10" in "".join(keys).replace("▁", "").replace("Ġ", "") and "8" in "".join(keys)
        assert "Smo" not in "".join(keys)
    row = feature["query_rows"][0]
    assert feature["labels"][row + 1] == feature["input_ids"][row + 1] != IGNORED


@pytest.mark.parametrize("name", FAMILIES)
def test_one_eos_ends_the_ids_and_is_a_label_but_never_an_effect(name: str):
    tokenizer = family(name)
    eos = tokenizer.eos_token_id
    for one in (example("10"), Example("e", "", ""), Example("e", PROMPT, ""), Example("e", "", "High Risk")):
        features, _ = encode_examples([one], tokenizer)
        for feature in features:
            if eos is not None:
                assert feature["input_ids"].count(eos) == 1
                assert feature["input_ids"][-1] == feature["labels"][-1] == eos
            assert len(feature["input_ids"]) - 2 not in feature["query_rows"]


def test_an_end_of_text_token_that_the_completion_spells_is_not_written_twice_and_is_no_effect():
    for name in ("byte-level", "byte-level-prefix-trim"):
        tokenizer = family(name)
        feature, report = encode(example("10", completion="High Risk</s>"), tokenizer)
        assert feature["input_ids"].count(tokenizer.eos_token_id) == 1
        assert feature["input_ids"][-1] == tokenizer.eos_token_id
        assert report.lost["row: it would predict the end of the text"] == 1
        assert len(feature["input_ids"]) - 2 not in feature["query_rows"]


def test_without_anything_before_it_the_first_token_is_no_label_and_no_row():
    tokenizer = family("byte-level")
    one = Example("e", "", "High Risk", links=(CausalLink(Span("completion", 0, 9), (Span("completion", 0, 4),)),))
    feature, report = encode(one, tokenizer)
    assert feature["labels"][0] == IGNORED and feature["labels"][1] != IGNORED
    assert min(feature["query_rows"], default=0) >= 0
    assert report.lost["label: nothing comes before the first token"] == 1
    assert report.lost["row: nothing comes before the first token"] == 1
    with pytest.raises(AlignmentError, match="nothing to generate from"):
        generation_prefix(one, tokenizer)
    assert encode(one, family("metaspace-bpe"))[0]["labels"][1] != IGNORED, "a BOS token predicts it"


def test_a_token_that_straddles_the_boundary_belongs_to_the_completion():
    tokenizer = family("byte-level")
    feature, report = encode(example("10"), tokenizer)
    assert report.straddled == 1
    assert tokenizer.convert_ids_to_tokens(feature["input_ids"][first_label(feature)]) == "ĠHigh"
    assert tokenizer.decode(generation_prefix(example("10"), tokenizer)) == PROMPT.rstrip()
    _, report = encode(example("10", prompt=PROMPT.rstrip(), completion=" High Risk"), tokenizer)
    assert report.straddled == 0


def test_a_key_named_by_several_links_has_the_largest_of_their_weights():
    tokenizer = family("word-level")
    effect, ten, eight = Span("completion", 0, 4), span_of(PROMPT, "10", "prompt"), span_of(PROMPT, "8", "prompt")
    for links in (
        (CausalLink(effect, (ten,), 0.5), CausalLink(effect, (ten, eight), 0.25)),
        (CausalLink(effect, (ten, eight), 0.25), CausalLink(effect, (ten,), 0.5)),
    ):
        feature, _ = encode(Example("e", PROMPT, "High", links=links), tokenizer)
        assert feature["causal_weights"] == [[0.5, 0.25]]


def test_an_effect_in_the_prompt_is_supervised_too():
    tokenizer = family("word-level")
    link = CausalLink(span_of(PROMPT, "8", "prompt"), (span_of(PROMPT, "10", "prompt"),))
    feature, report = encode(Example("e", PROMPT, "High", links=(link,)), tokenizer)
    assert spelled(feature, tokenizer) == {"8": ["10"]}
    assert feature["query_rows"][0] < first_label(feature) - 1 and report.rows == 1


def test_a_cause_that_runs_into_its_effect_keeps_what_each_row_can_see():
    tokenizer = family("word-level")
    both = Span("completion", 0, 14)
    one = Example("e", "a b", " 1 2 3 4 5 6 7", links=(CausalLink(both, (both,)),))
    feature, report = encode(one, tokenizer)
    assert feature["causal_keys"] == [list(range(2, row + 1)) for row in feature["query_rows"]]
    targets = len(feature["query_rows"]) + 1
    assert report.lost["row: no causal key is visible"] == 1, "the first token of the effect has no cause before it"
    assert report.lost["key: not before its row"] == targets * (targets + 1) // 2
    assert report.aligned_links == report.aligned_causes == 1


def test_a_row_whose_every_visible_token_is_causal_does_not_count():
    tokenizer = family("word-level")
    one = Example("e", "high", " risk", links=(CausalLink(Span("completion", 1, 5), (Span("prompt", 0, 4),)),))
    feature, report = encode(one, tokenizer)
    assert feature["query_rows"] == [] and report.rows == 0
    assert report.lost["row: every visible token is causal"] == 1
    assert ("e", "row: every visible token is causal", "the row that predicts token 1") in report.problems


def test_what_no_token_touches_is_named():
    tokenizer = byte_level(prefix_space=False, trim=True)
    one = Example(
        "e7",
        "a   b: ",
        "High",
        links=(
            CausalLink(Span("completion", 0, 4), (Span("prompt", 1, 2), Span("prompt", 4, 5))),
            CausalLink(Span("prompt", 2, 3), (Span("prompt", 0, 1),)),
        ),
    )
    _, report = encode(one, tokenizer)
    assert ("e7", "cause: no token touches it", "prompt[1:2] ' '") in report.problems
    assert ("e7", "link: no token touches its effect", "prompt[2:3] ' '") in report.problems
    assert report.lost["cause: its effect has no row"] == 1
    assert (report.links, report.aligned_links, report.causes, report.aligned_causes) == (2, 1, 3, 1)


def test_truncation_keeps_what_still_fits_and_counts_the_rest():
    tokenizer = family("word-level")
    one = example("10", "8", completion="High Risk High Risk")
    whole, report = encode(one, tokenizer)
    assert report.truncated == report.truncated_tokens == 0
    size = len(whole["input_ids"])
    cut, report = encode(one, tokenizer, max_length=size - 2)
    assert cut["input_ids"] == whole["input_ids"][:-2]
    assert cut["query_rows"] == whole["query_rows"][:-1] and cut["causal_keys"] == whole["causal_keys"][:-1]
    assert (report.truncated, report.truncated_tokens) == (1, 2)
    assert report.lost == {"row: truncated away": 1}
    assert report.aligned_links == 1
    for length in range(size, size + 3):
        assert encode(one, tokenizer, max_length=length)[0] == whole


def test_an_example_whose_completion_is_truncated_away_is_left_out_and_reported():
    tokenizer = family("word-level")
    features, report = encode_examples([example("10", "8"), Example("e2", "a", "b")], tokenizer, max_length=6)
    assert len(features) == 1 and features[0]["input_ids"][-1] == tokenizer.eos_token_id
    assert (report.examples, report.left_out, report.truncated) == (2, 1, 1)
    assert report.lost["example: its completion is truncated away"] == 1
    assert report.lost["link: its effect has no row, its example is left out"] == 1
    assert ("e1", "example: its completion is truncated away", "9 tokens come before the completion") in report.problems


def test_an_example_that_the_template_cannot_render_is_left_out_with_its_links_also_as_the_first():
    talk = (Message("user", "Weight: 10"), Message("assistant", "High"))
    link = CausalLink(Span("messages[1].content", 0, 4), (Span("messages[0].content", 8, 10),))
    good = Example("good", messages=talk, links=(link,))
    bad = Example("bad", messages=(talk[0], Message("assistant", "High", weight=0)), links=(link,))
    feature, report = encode(good, family("byte-level"))
    for batch in ([bad, good], [good, bad]):
        features, both = encode_examples(batch, family("byte-level"))
        assert features == [feature] and (both.left_out, both.links, both.rows) == (1, 2, report.rows)
        assert both.lost["link: its effect has no row, its example is left out"] == 1


def test_a_conversation_s_links_reach_over_its_turns():
    tokenizer = family("word-level")
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", chat_template=TRIMMING,
    )  # fmt: skip
    messages = (
        Message("system", " high or low "), Message("user", "Weight: 10 "), Message("assistant", "low"),
        Message("user", " Weight: 100 "), Message("assistant", "high"),
    )  # fmt: skip
    link = CausalLink(
        Span("messages[4].content", 0, 4),
        (Span("messages[1].content", 8, 10), Span("messages[3].content", 9, 12), Span("messages[3].content", 12, 13)),
    )
    feature, report = encode(Example("c", messages=messages, links=(link,)), tokenizer, content=True)
    assert spelled(feature, tokenizer) == {"high": ["10", "100"]} or [*spelled(feature, tokenizer).values()] == [
        ["10", "100"]
    ]
    assert report.lost == {"cause: no token touches it": 1}
    assert feature["input_ids"].count(tokenizer.bos_token_id) == 1
    names = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    marked = [name for name, mark in zip(names, feature["content"], strict=True) if mark]
    assert "10" in marked and "100" in marked and "<|im_end|>" not in marked
    assert sum(feature["content"][first_label(feature) :]) == 0


def test_conversations_and_pairs_may_be_mixed_and_keep_their_order():
    tokenizer = family("byte-level")
    chat = Example("c", messages=(Message("user", PROMPT), Message("assistant", "High Risk")))
    batch = [example("10"), chat, Example("e3", "a", "b"), chat]
    features, report = encode_examples(iter(batch), tokenizer)
    assert features == [encode(one, tokenizer)[0] for one in batch]
    assert report.examples == 4 and report.examples_without_links == 3


def test_content_marks_letters_and_digits_of_the_prompt_only():
    tokenizer = family("byte-level")
    feature, _ = encode(example("10"), tokenizer, content=True)
    names = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    marked = [name for name, mark in zip(names, feature["content"], strict=True) if mark]
    assert "".join(marked).replace("Ġ", "") == "Weight10Smoking8Answer"
    assert "content" not in encode(example("10"), tokenizer)[0]


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=30)
@given(prompt=texts(), max_length=st.one_of(st.none(), st.integers(2, 12)))
def test_content_is_what_the_characters_of_each_token_say(name: str, prompt: str, max_length: int | None):
    tokenizer = family(name)
    features, _ = encode_examples([Example("e", prompt, "1 x")], tokenizer, max_length, content=True)
    text = prompt + "1 x"
    encoding = tokenizer(text, return_offsets_mapping=True)
    names = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    for feature in features:
        assert len(feature["content"]) == len(feature["input_ids"])
        for t, (low, high) in enumerate(encoding["offset_mapping"][: len(feature["content"])]):
            letters = any(c.isalnum() for c in text[low:high]) and high <= len(prompt)
            assert feature["content"][t] == (letters and not inserted(tokenizer, text, names[t], low, high))


def test_refused_links_are_counted_and_named():
    refused = (RefusedLink("High", "nowhere", "phrase not found"), RefusedLink("High", None, "no cause given"))
    _, report = encode(Example("e", PROMPT, "High", refused=refused), family("byte-level"))
    assert report.refused == {"phrase not found": 1, "no cause given": 1}
    assert ("e", "refused: phrase not found", "'High' <- 'nowhere'") in report.problems
    assert "1 x phrase not found" in report.summary() and "2 refused before" in report.summary()


def test_reports_add_up_and_go_into_json():
    tokenizer = family("byte-level-trim")
    batch = [
        example("10"),
        Example("e2", "a ", "b", links=(CausalLink(Span("prompt", 1, 2), (Span("prompt", 0, 1),)),)),
    ]
    _, together = encode_examples(batch, tokenizer)
    apart = encode(batch[0], tokenizer)[1] + encode(batch[1], tokenizer)[1]
    assert together == apart
    assert json.loads(json.dumps(together.to_dict()))["lost"] == dict(together.lost)
    for words in ("examples  2", "1 of 2 aligned", "rows"):
        assert words in together.summary()


def test_max_length_must_leave_a_token_to_predict():
    with pytest.raises(ConfigError, match="max_length is 1; expected 2 or more"):
        encode_examples([example("10")], family("byte-level"), max_length=1)


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(AlignmentError, match="gives no character offsets"):
        encode_examples([example("10")], object())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool):
    tokenizer = family("byte-level")
    mute = Example("mute", messages=(Message("user", "hello"), Message("assistant", "hello")))
    without_template = copy.deepcopy(tokenizer)
    without_template.chat_template = None
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        encode_examples([example("10")], tokenizer)
        assert gc.isenabled() == enabled
        with pytest.raises(AlignmentError):
            encode_examples([mute], without_template)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_no_example_is_no_feature():
    assert encode_examples([], family("byte-level")) == ([], AlignmentReport())


@pytest.mark.parametrize("name", ["byte-level", "unigram"])
@pytest.mark.parametrize("file", ["mawps_val.jsonl", "svamp_val.jsonl", "gsm8k_val.jsonl", "stg_h_iid_test.jsonl"])
def test_published_links_align_with_the_characters_that_they_name(published_data: Path, file: str, name: str):
    from cattune.formats.loading import load_examples

    tokenizer = family(name)
    batch = load_examples(published_data / file)[:30]
    features, report = encode_examples(batch, tokenizer)
    assert len(features) == len(batch) and report.aligned_links == report.links - lost(report, "link") > 0
    assert features == [reference(one, tokenizer, None)[0] for one in batch]
