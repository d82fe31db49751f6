from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset, disable_progress_bars, enable_progress_bars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_supervision import examples as random_examples
from tokenizer_families import byte_level, family
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from cattune.data.examples import CausalLink, Example, Message, RefusedLink, Span
from cattune.data.records import example_to_dict
from cattune.errors import AlignmentError, ConfigError, DataError
from cattune.formats.loading import load_examples
from cattune.formats.rows import examples_of
from cattune.supervision import dataset as encoding
from cattune.supervision.dataset import MAX_NAMED, encode, encode_dataset
from cattune.supervision.report import AlignmentReport
from cattune.supervision.rows import encode_examples
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer

TOKENIZER = family("byte-level")


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterator[None]:
    disable_progress_bars()
    yield
    enable_progress_bars()


def make_examples(count: int) -> list[Example]:
    """Examples of uneven length; some links lose a cause, some examples have none, some are refused links."""
    made = []
    for index in range(count):
        prompt = "Weight: 10, " * (1 + index % 5) + f"Smoking: {index}. Answer:"
        causes = (Span("prompt", 8, 10), Span("prompt", prompt.index("Smoking") + 9, prompt.index(". ")))
        link = CausalLink(Span("completion", 1, 5), causes[: 1 + index % 2], weight=0.5 + index % 3)
        early = CausalLink(Span("prompt", 0, 1), (Span("prompt", 0, 1),))  # nothing predicts the first token
        refused = (RefusedLink("High", None, "not found"),) if index % 7 == 0 else ()
        links = () if index % 4 == 3 else (link, early) if index % 3 == 0 else (link,)
        made.append(Example(f"e{index}", prompt, " High Risk", links=links, refused=refused, metadata={"n": index}))
    return made


EXAMPLES = make_examples(60)


def on_disk(folder: Path, made: list[Example] = EXAMPLES) -> Dataset:
    return stored(folder, [example_to_dict(one) for one in made])


def stored(folder: Path, records: list[dict[str, Any]]) -> Dataset:
    keys = dict.fromkeys(key for record in records for key in record)
    Dataset.from_list([{key: record.get(key) for key in keys} for record in records]).save_to_disk(folder)
    return Dataset.load_from_disk(folder)


def as_lists(features: Any) -> list[dict[str, Any]]:
    return [dict(feature) for feature in features]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda size: monkeypatch.setattr(encoding, "_BATCH", size)


@pytest.mark.parametrize("options", [{}, {"content": True}, {"max_length": 30}, {"max_length": 30, "content": True}])
def test_a_data_set_gives_the_features_and_the_report_of_the_list(
    tmp_path: Path, options: dict[str, Any], small_batches: Callable[[int], None]
) -> None:
    small_batches(7)
    expected, report = encode(EXAMPLES, TOKENIZER, **options)
    assert report.lost and report.refused and report.examples_without_links
    encoded, merged = encode_dataset(on_disk(tmp_path), TOKENIZER, **options)
    assert as_lists(encoded) == expected
    assert merged == report and merged.to_dict() == report.to_dict()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(random_examples(), min_size=1, max_size=6), size=st.integers(1, 4), length=st.integers(2, 30))
def test_random_examples_in_batches_of_any_size(
    small_batches: Callable[[int], None], batch: list[Example], size: int, length: int
) -> None:
    small_batches(size)
    named = [replace(one, id=f"r{index}") for index, one in enumerate(batch)]
    rows = Dataset.from_list([example_to_dict(one) for one in named])
    encoded, merged = encode_dataset(rows, TOKENIZER, max_length=length)
    expected, report = encode_examples(named, TOKENIZER, length, max_named=MAX_NAMED)
    assert as_lists(encoded) == expected and merged == report


def test_two_processes_give_what_one_does(tmp_path: Path, small_batches: Callable[[int], None]) -> None:
    small_batches(7)
    one, report = encode_dataset(on_disk(tmp_path / "one"), TOKENIZER, num_proc=1)
    two, merged = encode_dataset(on_disk(tmp_path / "two"), TOKENIZER, num_proc=2)
    assert len(one.cache_files) == 1 and len(two.cache_files) == 2
    assert as_lists(one) == as_lists(two) and report == merged


def test_what_was_encoded_before_is_read_from_the_cache_with_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = on_disk(tmp_path)
    first, report = encode_dataset(rows, TOKENIZER)
    other_length, _ = encode_dataset(rows, TOKENIZER, max_length=20)
    other_tokenizer, _ = encode_dataset(rows, family("unigram"))
    fewer_rows, _ = encode_dataset(rows.select(range(30)), TOKENIZER)
    monkeypatch.setattr(encoding, "encode_examples", None)
    again, same = encode_dataset(rows, TOKENIZER)
    assert again.cache_files == first.cache_files and as_lists(again) == as_lists(first) and same == report
    files = [x.cache_files for x in (first, other_length, other_tokenizer, fewer_rows)]
    assert all(one != other for i, one in enumerate(files) for other in files[:i])
    from_two_processes, same = encode_dataset(rows, TOKENIZER, num_proc=2)
    assert from_two_processes.cache_files == first.cache_files and same == report


def test_another_process_finds_what_this_one_encoded(tmp_path: Path) -> None:
    rows = on_disk(tmp_path / "rows")
    TOKENIZER.save_pretrained(tmp_path / "tokenizer")
    encoded, _ = encode_dataset(rows, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"))
    code = (
        "from datasets import Dataset; from transformers import AutoTokenizer\n"
        "from cattune.supervision.dataset import encode_dataset\n"
        f"rows = Dataset.load_from_disk({str(tmp_path / 'rows')!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / 'tokenizer')!r})\n"
        "print(encode_dataset(rows, tokenizer)[0].cache_files[0]['filename'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == encoded.cache_files[0]["filename"]
    assert len(list((tmp_path / "rows").glob("cache-*"))) == 1


def test_features_lie_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    encoded, _ = encode_dataset(on_disk(tmp_path), TOKENIZER)
    assert isinstance(encoded, Dataset) and [Path(f["filename"]).parent for f in encoded.cache_files]
    assert all(tmp_path in Path(f["filename"]).parents for f in encoded.cache_files)
    assert encoded.column_names == ["input_ids", "labels", "query_rows", "causal_keys", "causal_weights"]
    assert "metadata" not in encoded.column_names and "alignment_report" not in encoded.column_names


def test_a_batch_that_leaves_nothing_still_brings_its_report(
    tmp_path: Path, small_batches: Callable[[int], None]
) -> None:
    small_batches(2)
    long = [Example(f"long{i}", "Weight: 10, " * 20, " High") for i in range(8)]
    short = make_examples(3)
    batch = [*long[:3], short[0], *long[3:5], *short[1:], *long[5:]]
    expected, report = encode(batch, TOKENIZER, max_length=40)
    encoded, merged = encode_dataset(on_disk(tmp_path, batch), TOKENIZER, max_length=40)
    assert len(expected) == 3 and report.left_out == 8
    assert as_lists(encoded) == expected and merged == report
    none, merged = encode_dataset(on_disk(tmp_path / "none", long), TOKENIZER, max_length=40)
    assert len(none) == 0 and merged.left_out == 8


def test_the_report_names_a_bounded_number_and_counts_all(tmp_path: Path, small_batches: Callable[[int], None]) -> None:
    small_batches(3 * MAX_NAMED)
    batch = [replace(EXAMPLES[0], id=f"same{i}") for i in range(5 * MAX_NAMED)]
    _, merged = encode_dataset(on_disk(tmp_path, batch), TOKENIZER)
    reason = "row: nothing comes before the first token"
    assert merged.lost[reason] == 5 * MAX_NAMED
    assert [name for name, why, _ in merged.problems if why == reason] == [f"same{i}" for i in range(MAX_NAMED)]
    _, everything = encode_examples(batch, TOKENIZER)
    assert len([1 for _, why, _ in everything.problems if why == reason]) == 5 * MAX_NAMED
    assert AlignmentReport.from_dict(merged.to_dict()) == merged


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_bad_row_in_the_middle_is_named(tmp_path: Path, num_proc: int | None) -> None:
    records = [example_to_dict(one) for one in EXAMPLES]
    records[40]["links"][0]["causes"][0]["end"] = 9999
    rows = stored(tmp_path, records)
    with pytest.raises(DataError, match=r"row 40: example \"e40\": the span \[8, 9999\) runs past the end of prompt"):
        encode_dataset(rows, TOKENIZER, num_proc=num_proc)
    assert not list(tmp_path.rglob("tmp*")) and (num_proc or not list(tmp_path.rglob("cache-*")))


def test_a_conversation_that_the_template_cannot_render_is_left_out_and_named(tmp_path: Path) -> None:
    talks = [Example(f"c{i}", messages=(Message("user", "hello"), Message("assistant", "hi"))) for i in range(9)]
    talks[5] = Example("c5", messages=(Message("assistant", "hi"),))
    features, report = encode_dataset(on_disk(tmp_path, talks), TOKENIZER)
    assert (len(features), report.left_out) == (8, 1)
    assert ("c5", "example: nothing comes before the assistant's message") in [p[:2] for p in report.problems]


def test_two_rows_of_one_id_are_refused_as_in_a_list(tmp_path: Path) -> None:
    records = [example_to_dict(one) for one in EXAMPLES]
    for row, name in ((31, "e9"), (50, "e30"), (12, None), (14, "row-12")):
        records[row]["id"] = name
    rows = Dataset.from_list(records)
    with pytest.raises(DataError) as in_a_data_set:
        encode_dataset(rows, TOKENIZER)
    with pytest.raises(DataError) as in_a_list:
        encode(records, TOKENIZER)
    assert str(in_a_data_set.value) == str(in_a_list.value)
    assert "rows 12 and 14: both have the id" in str(in_a_list.value)


def test_rows_in_a_list_give_lists() -> None:
    rows = [example_to_dict(one) for one in EXAMPLES]
    assert encode(rows, TOKENIZER) == encode(tuple(rows), TOKENIZER) == encode(EXAMPLES, TOKENIZER)


PUBLISHED = [
    {"idx": 604, "input": "Mia has 3 plums and 4 pens. How many plums? ", "target": 3, "important": {"3": ["3 plums"]}},
    {"idx": 605, "input": "Mia has 5 plums. How many? ", "target": 5, "important": {"5": ["5 plums", "7 hats"]}},
    {"idx": 604, "input": "Mia has 6 plums and 7 pens. ", "target": 7, "important": {"6": ["6 plums"], "7": ["pens"]}},
    {"idx": None, "input": "Mia has 8 plums. ", "target": 8, "important": None},
]
SHAPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mapping": lambda links: links,
    "list": lambda links: links and [{effect: causes} for effect, causes in links.items()],
    "json": lambda links: links and json.dumps(links),
}
"""How `important` may be written; arrow fills up the first two with the keys of all rows."""


@pytest.mark.parametrize("shape", SHAPES)
def test_published_columns_work_as_in_a_file(shape: str, tmp_path: Path, small_batches: Callable[[int], None]) -> None:
    small_batches(2)
    records = [row | {"important": SHAPES[shape](row["important"])} for row in PUBLISHED]
    (tmp_path / "published.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    expected, report = encode(load_examples(tmp_path / "published.jsonl"), TOKENIZER)
    assert report.rows and report.refused
    for data in (records, Dataset.from_list(records), stored(tmp_path / "rows", records)):
        features, found = encode(data, TOKENIZER)
        assert as_lists(features) == expected
        same = [(name.replace("line 3", "row 2"), *rest) for name, *rest in report.problems]
        assert found.problems == same and found.refused == report.refused


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": "b"}, "rename_columns({'question': 'prompt', 'answer': 'completion'})"),
        ({"id": "a", "Question": "a", "Answer": "b"}, "rename_columns({'Question': 'prompt', 'Answer': 'completion'})"),
        ({"Prompt": "a", "completion": "b"}, "rename_columns({'Prompt': 'prompt'})"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "rename_columns({'chosen': 'completion'})"),
        ({"instruction": "a", "input": "b", "output": "c"}, "join 'instruction' and 'input' to 'prompt'"),
        ({"instruction": "a", "output": "c"}, "rename_columns({'instruction': 'prompt', 'output': 'completion'})"),
        ({"input": "a", "output": "c"}, "rename_columns({'input': 'prompt', 'output': 'completion'})"),
        ({"text": "a"}, "divide 'text' into what the model is given"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "as 'messages', a list of {'role': 'user'"),
        ({"prompt": "a"}, "the field 'completion' is missing"),
        ({"input": "a"}, "the field 'target' is missing"),
        ({"x": 1, "y": 2}, "this is no format that cattune reads"),
        ({"task": "a", "query": "a", "response": "b"}, "rename_columns({'query': 'prompt', 'response': 'completion'})"),
    ],
)  # fmt: skip
def test_other_columns_are_named_with_those_that_are_expected(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    for read in (
        lambda: encode(Dataset.from_list([row]), TOKENIZER),
        lambda: encode([row], TOKENIZER),
        lambda: load_examples(tmp_path / "rows.jsonl"),
    ):
        with pytest.raises(DataError) as error:
            read()
        said = str(error.value)
        assert message in said and all(name in said.partition("keys found")[2] for name in row)
        assert "'messages', or 'prompt' and 'completion', or the published format's 'input' and 'target'" in said


ROW_KEYS = ["prompt", "completion", "messages", "input", "target", "important", "x"]
ROW_VALUES = st.none() | st.text(max_size=3) | st.integers() | st.lists(st.text(max_size=2), max_size=2)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ROW_KEYS), ROW_VALUES, max_size=4))
def test_any_row_is_read_as_in_a_file_or_refused_in_our_words(row: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.jsonl").write_text(json.dumps(row) + "\n")
        try:
            expected: Any = load_examples(Path(folder) / "x.jsonl")
        except DataError as error:
            expected = error
    try:
        (found,) = examples_of([row])
    except DataError:
        assert isinstance(expected, DataError)
    else:
        assert replace(found, id="line-1") == expected[0]


def stream() -> IterableDataset:
    return Dataset.from_list([{"prompt": "a b", "completion": "c"}]).to_iterable_dataset()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stream(), r"got IterableDataset; .*datasets.Dataset.from_generator\(lambda: iter\(stream\)\)"),
        ("train.jsonl", "got str; read a file with load_examples"),
        (Path("train.jsonl"), "got PosixPath; read a file with load_examples"),
        ((one for one in EXAMPLES), r"got generator; it can be read only once; make a list of it"),
        ({"train": EXAMPLES}, 'got dict; choose one of "train"'),
        (DatasetDict({"train": Dataset.from_list([{"prompt": "a"}])}), 'got DatasetDict; choose one of "train"'),
        (torch.utils.data.Subset(EXAMPLES, [0]), "got Subset; make a list of it"),
        (pd.DataFrame({"prompt": ["a"], "completion": ["b"]}), "got DataFrame; .*from_pandas"),
        (5, "got int; load_examples reads a file"),
        ([EXAMPLES[0], {"prompt": "a", "completion": "b"}], "row 0 is an Example, and others are not"),
        ([{"prompt": "a", "completion": "b"}, EXAMPLES[0]], "row 1: expected a mapping, as the first row is"),
        (EXAMPLES[:2] + EXAMPLES[:1], 'rows 0 and 2: both have the id "e0"'),
        (["a"], "row 0: expected a list of examples"),
    ],
)
def test_other_data_get_one_sentence(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        encode(data, TOKENIZER)
    assert "\n" not in str(error.value)


def test_a_stream_can_be_stored_as_the_error_says(tmp_path: Path) -> None:
    rows = stream()
    kept = Dataset.from_generator(lambda: iter(rows), cache_dir=str(tmp_path))
    assert as_lists(encode(kept, TOKENIZER)[0]) == as_lists(encode(list(rows), TOKENIZER)[0])


def test_plain_records_with_columns_of_their_own() -> None:
    rows = Dataset.from_list([{"prompt": "a b", "completion": " c", "score": i} for i in range(3)])
    encoded, report = encode_dataset(rows, TOKENIZER)
    assert len(encoded) == report.examples == 3
    with pytest.raises(DataError, match="row 0.*has no key score"):
        encode_dataset(rows.add_column("schema", ["cattune/1"] * 3), TOKENIZER)


def test_no_rows() -> None:
    with pytest.raises(DataError, match="the data set has no rows"):
        encode_dataset(Dataset.from_list([{"prompt": "a", "completion": "b"}]).select([]), TOKENIZER)


def test_a_format_and_a_selection_of_the_data_set_are_respected(tmp_path: Path) -> None:
    rows = on_disk(tmp_path).select(range(59, -1, -2)).with_format("numpy")
    encoded, report = encode_dataset(rows, TOKENIZER)
    assert as_lists(encoded) == encode(EXAMPLES[::-2], TOKENIZER)[0] and report.examples == 30


def test_weights_are_rounded_to_32_bits() -> None:
    link = CausalLink(Span("completion", 1, 5), (Span("prompt", 4, 6),), weight=0.1)
    rows = Dataset.from_list([example_to_dict(Example("e", "a b 10 c", " High", links=(link,)))])
    (feature,) = encode_dataset(rows, TOKENIZER)[0]
    assert {w for weights in feature["causal_weights"] for w in weights} == {float(np.float32(0.1))}


def test_a_tokenizer_that_was_used_before_makes_no_difference(tmp_path: Path) -> None:
    rows, tokenizer = on_disk(tmp_path), byte_level(prefix_space=False, trim=False)
    first, _ = encode_dataset(rows, tokenizer)
    tokenizer(["a b c", "d"], truncation=True, max_length=2, padding=True)
    assert encode_dataset(rows, tokenizer)[0].cache_files == first.cache_files


@pytest.mark.parametrize("wrong", [0, -2, True, 1.5])
def test_a_number_of_processes_that_is_none_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"dataset_num_proc is {wrong!r}; it must be a whole number of processes"):
        CATConfig(output_dir=str(tmp_path), dataset_num_proc=wrong)


class TestTrainer:
    """What `CATTrainer` makes of a `datasets.Dataset`."""

    def trainer(self, data: Any, output: Path, **changes: Any) -> CATTrainer:
        torch.manual_seed(0)
        sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENIZER), **sizes))
        args = CATConfig(output_dir=str(output), report_to="none", use_cpu=True, max_steps=1, **changes)
        return CATTrainer(model, args, train_dataset=data, processing_class=TOKENIZER)

    def test_features_stay_on_disk_and_train(self, tmp_path: Path) -> None:
        trainer = self.trainer(on_disk(tmp_path / "rows"), tmp_path, dataset_num_proc=2, objective="contrast")
        assert isinstance(trainer.train_dataset, Dataset) and len(trainer.train_dataset.cache_files) == 2
        assert "content" in trainer.train_dataset.column_names
        assert trainer.alignment == encode(EXAMPLES, TOKENIZER)[1]
        assert trainer.train().global_step == 1

    def test_a_set_without_a_usable_link_is_refused(self, tmp_path: Path) -> None:
        rows = on_disk(tmp_path / "rows", [replace(one, links=()) for one in EXAMPLES])
        with pytest.raises(ConfigError, match="no causal link of the training set could be aligned"):
            self.trainer(rows, tmp_path)

    def test_a_set_without_a_completion_that_fits_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="the training set has no example to train on"):
            self.trainer(on_disk(tmp_path / "rows"), tmp_path, max_length=4)

    def test_strict(self, tmp_path: Path) -> None:
        with pytest.raises(AlignmentError, match="strict: not every causal link of the training set can be used"):
            self.trainer(on_disk(tmp_path / "rows"), tmp_path, strict=True)
