"""A data set of examples to a data set of features, on disk, in as many processes as are asked for.

However large the data set is, one batch of it at a time is in memory, and the report names a bounded number of losses.
Neither features nor report depend on the number of processes, and a data set that was encoded before, with the same
tokenizer and settings, is taken from the cache of `datasets` together with its report.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from importlib import import_module
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import tokenizers
import transformers
from datasets import Dataset, Features
from datasets.fingerprint import Hasher

from cattune.data.examples import Example
from cattune.data.records import record_id
from cattune.errors import DataError
from cattune.formats.base import Format
from cattune.formats.columns import format_of
from cattune.formats.reader import ROWS, Maker
from cattune.formats.rows import example_of_row, examples_of, without_nulls
from cattune.supervision.report import AlignmentReport
from cattune.supervision.rows import encode_examples
from cattune.supervision.tokens import fast_backend

__all__ = ["MAX_NAMED", "encode", "encode_dataset"]

MAX_NAMED = 20
"""Losses of each reason that a report on training data names; all are counted."""

_BATCH = 1000

_INTS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    {
        "input_ids": _INTS,
        "labels": _INTS,
        "query_rows": _INTS,
        "causal_keys": pa.list_(_INTS),
        "causal_weights": pa.list_(pa.list_(pa.float32())),
    }
)
_REPORT = "alignment_report"
"""The column in which the first row of each batch brings the batch's report along, as JSON."""

_CODE = (
    *(f"data.{name}" for name in ("examples", "fields", "messages", "records")),
    *(f"formats.{name}" for name in ("reader", "rows")),
    *(f"supervision.{name}" for name in ("dataset", "report", "rows", "tokens")),
    *(f"supervision.rendering.{name}" for name in ("places", "renderer", "tokenized")),
)
"""The modules on which the features depend."""

FeatureData: TypeAlias = list[dict[str, Any]] | Dataset
"""Features as `encode_examples` describes them; in a `Dataset`, weights are rounded to 32 bits."""


def encode(
    data: Sequence[Example] | Iterable[Mapping[str, Any]],
    tokenizer: Any,
    max_length: int | None = None,
    content: bool = False,
    num_proc: int | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[FeatureData, AlignmentReport]:
    """Encode training data: a `datasets.Dataset` to another one, a list of examples, or of rows, to a list.

    Args:
        data: examples, or rows in any format that a file may have.
        tokenizer, max_length, content, chat_template_kwargs: see `encode_examples`.
        num_proc: for a `datasets.Dataset`, the number of processes.

    Raises:
        DataError: this is no such data, a row is no example, or two have the same id.
        AlignmentError, ConfigError: as `encode_examples`.
    """
    if isinstance(data, Dataset):
        return encode_dataset(data, tokenizer, max_length, content, num_proc, chat_template_kwargs)
    return encode_examples(examples_of(data), tokenizer, max_length, content, MAX_NAMED, chat_template_kwargs)


def encode_dataset(
    dataset: Dataset,
    tokenizer: Any,
    max_length: int | None = None,
    content: bool = False,
    num_proc: int | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Dataset, AlignmentReport]:
    """Encode a data set in the JSONL schema, in TRL's or in the published format, batch by batch.

    Args:
        dataset: the rows; one on disk gives features on disk, in its cache folder, one in memory features in memory.
        tokenizer, max_length, content, chat_template_kwargs: see `encode_examples`.
        num_proc: the number of processes; None and 1 are this one.

    Returns:
        The features of `encode_examples`, as int32 and float32, and the report, which names `MAX_NAMED` losses of each
        reason.

    Raises:
        DataError: the data set has no rows, none of the columns that are read, a row that is no example, or two with
            the same id.
        AlignmentError, ConfigError: as `encode_examples`.
    """
    if not len(dataset):
        raise DataError("the data set has no rows")
    dataset = dataset.with_format(None)
    first_row = without_nulls(dataset[0])
    form = format_of({**dict.fromkeys(dataset.column_names, True), **first_row}, "the columns")
    repeats = _repeated_ids(dataset, form.ids)
    if repeats and not form.renames:
        second, first = repeats[0]
        raise ROWS.same_id(first, second, _id(dataset[second], form.ids, second))
    dataset = _with_what_is_read(dataset, form)
    schema = _SCHEMA.append(pa.field("content", pa.list_(pa.int8()))) if content else _SCHEMA
    schema = schema.append(pa.field(_REPORT, pa.string()))
    kwargs = dict(chat_template_kwargs or {})
    settings = {"max_length": max_length, "content": content, "chat_template_kwargs": kwargs}
    encoded = dataset.map(
        _encode_rows,
        batched=True,
        batch_size=_BATCH,
        with_indices=True,
        remove_columns=dataset.column_names,
        features=Features.from_arrow_schema(schema),
        num_proc=num_proc if num_proc != 1 else None,
        fn_kwargs={
            "tokenizer": tokenizer,
            "schema": schema,
            "form": form,
            "later": frozenset(second for second, _ in repeats),
            **settings,
        },
        new_fingerprint=_fingerprint(dataset, tokenizer, form, settings),
        desc="Aligning",
    )
    reports = list(_reports(encoded))
    return _without_empty_batches(encoded, reports).remove_columns(_REPORT), sum(reports, AlignmentReport())


def _encode_rows(
    batch: Mapping[str, list[Any]],
    indices: list[int],
    tokenizer: Any,
    schema: pa.Schema,
    form: Format,
    later: frozenset[int],
    **settings: Any,
) -> pa.Table:
    make = Maker(ROWS, format=form)
    given = []
    for index, values in zip(indices, zip(*batch.values(), strict=True), strict=True):
        example = example_of_row(dict(zip(batch, values, strict=True)), index, make)
        given.append(ROWS.renamed(example, index) if index in later else example)
    features, report = encode_examples(given, tokenizer, **settings, max_named=MAX_NAMED)
    if not features:  # a batch without a row could not bring its report
        features = [{name: [] for name in schema.names}]
    columns: dict[str, list[Any]] = {name: [feature[name] for feature in features] for name in schema.names[:-1]}
    columns[_REPORT] = [json.dumps(report.to_dict()), *[None] * (len(features) - 1)]
    return pa.table(columns, schema)


def _reports(encoded: Dataset) -> Iterator[AlignmentReport]:
    for chunk in encoded.data.column(_REPORT).chunks:
        yield from (AlignmentReport.from_dict(json.loads(text)) for text in chunk.drop_null().to_pylist())


def _without_empty_batches(encoded: Dataset, reports: list[AlignmentReport]) -> Dataset:
    """Without the rows that only bring the report of a batch whose examples are all left out."""
    sizes = [report.examples - report.left_out for report in reports]
    if all(sizes):
        return encoded
    starts = np.cumsum([0, *(size or 1 for size in sizes)])
    return encoded.select(chain.from_iterable(range(s, s + size) for s, size in zip(starts, sizes, strict=False)))


def _with_what_is_read(dataset: Dataset, form: Format) -> Dataset:
    """Without metadata, which training never reads and which would have to be decoded for each row."""
    # Where there is a schema, a column that it does not know is an error, which reading the rows finds.
    others = () if "schema" in dataset.column_names else set(dataset.column_names) - set(form.columns)
    return dataset.remove_columns([name for name in dataset.column_names if name == "metadata" or name in others])


def _repeated_ids(dataset: Dataset, keys: Sequence[str]) -> list[tuple[int, int]]:
    """(row, an earlier row of the same id), in order; it takes a few dozen bytes a row, for as long as it lasts."""
    keys = [key for key in keys if key in dataset.column_names]
    if not keys:
        return []
    column = dataset.select_columns(keys)
    digests = np.fromiter((_digest(_id(row, keys, index)) for index, row in enumerate(column)), np.uint64, len(column))
    order = np.argsort(digests, kind="stable")
    repeats = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    pairs = sorted((int(order[at + 1]), int(order[at])) for at in repeats)
    return [(row, before) for row, before in pairs if _id(column[row], keys, row) == _id(column[before], keys, before)]


def _id(row: Mapping[str, Any], keys: Sequence[str], index: int) -> str:
    return record_id(row, keys, f"row {index}", f"row-{index}")


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _fingerprint(dataset: Dataset, tokenizer: Any, form: Format, settings: Mapping[str, Any]) -> str:
    """Names the result in the cache of `datasets`: the same data, tokenizer, settings and code give the same name."""
    fast_backend(tokenizer)  # sets truncation and padding as they will be: older versions of `datasets` hash them too
    modules = [*(import_module(f"cattune.{name}") for name in _CODE), inspect.getmodule(type(form))]
    code = [inspect.getsource(module) for module in modules if module is not None]
    libraries = [tokenizers.__version__, transformers.__version__]
    return str(Hasher.hash([dataset._fingerprint, tokenizer, settings, code, libraries]))
