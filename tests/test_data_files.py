"""Which kind a file is of, gzipped lines, and YAML that could not be walked or printed."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, orc, parquet

import cattune.data.lines
from cattune.cli.main import main
from cattune.cli.train import read_words
from cattune.data.file_kinds import file_kind
from cattune.data.jsonl import read_jsonl, write_jsonl
from cattune.data.yaml_text import compose_yaml, load_yaml, read_yaml
from cattune.errors import ConfigError, DataError
from cattune.formats.loading import load_examples, save_examples
from cattune.review.source import Source

RECORDS = [{"prompt": f"{i} and 2 é", "completion": f" {i + 2}"} for i in range(3)]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
TABLE = pa.Table.from_pylist(RECORDS)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, LINES)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("data.jsonl")
        entry.size = len(LINES)
        archive.addfile(entry, io.BytesIO(LINES))
    return buffer.getvalue()


def arrow(write: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def stream(new: Callable[..., ipc.RecordBatchStreamWriter]) -> bytes:
    buffer = io.BytesIO()
    with new(buffer, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return buffer.getvalue()


def comma_separated(delimiter: str, quoting: int) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["prompt", "completion"], delimiter=delimiter, quoting=quoting)
    writer.writeheader()
    writer.writerows(RECORDS)
    return text.getvalue().encode()


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "x.db")
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    return (folder / "x.db").read_bytes()


KINDS: list[tuple[bytes, str]] = [
    (zipped("data.jsonl"), "is a zip archive; unpack it"),
    (zipped(), "is an empty zip archive"),
    (zipped("[Content_Types].xml", "xl/workbook.xml"), r"\(\.xlsx\); export"),
    (zipped("archive/data.pkl"), "torch.save"),
    (tarred(), "is a tar archive"),
    (gzip.compress(tarred()), "is a tar archive"),
    (gzip.compress(gzip.compress(LINES)), "is a gzip file; unpack it"),
    (bz2.compress(LINES), "is a bzip2 file; unpack it"),
    (lzma.compress(LINES), "is an xz file; unpack it"),
    (b"\x28\xb5\x2f\xfd\x04\x00" + LINES, "is a zstd file; unpack it"),
    (arrow(lambda out: parquet.write_table(TABLE, out)), "is a Parquet file; convert it.*from_parquet"),
    (stream(ipc.new_file), "is an Arrow file; convert it"),
    (stream(ipc.new_stream), "is an Arrow stream; convert it"),
    (b"FEA1" + bytes(60), "is a Feather file"),
    (arrow(lambda out: orc.write_table(TABLE, out)), "is an ORC file"),
    (pickle.dumps(RECORDS), "is a Python pickle"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old Office document"),
    (LINES.decode().encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff" + LINES.decode().encode("utf-16-be"), "is UTF-16 text"),
    (LINES.decode().encode("utf-16-le"), "is UTF-16 text.*UTF-16LE"),
    (LINES.decode().encode("utf-16-be"), "is UTF-16 text.*UTF-16BE"),
    (LINES.decode().encode("utf-32"), "is UTF-32 text"),
    (json.dumps(RECORDS).encode(), "is a JSON array"),
    (b"\xef\xbb\xbf\n" + json.dumps(RECORDS, indent=2).encode(), "is a JSON array"),
    (json.dumps(RECORDS[0], indent=2).encode(), "is JSON over several lines"),
    (b'{"data": [\n{"prompt": "a"}]}', "is JSON over several lines"),
    (b'{"prompt": "a",\n "completion": "b"}', "is JSON over several lines"),
    (str(RECORDS[0]).encode(), "is Python, and not JSON"),
    (comma_separated(",", csv.QUOTE_MINIMAL), "is a table.*from_csv"),
    (comma_separated(",", csv.QUOTE_ALL), "is a table"),
    (comma_separated("\t", csv.QUOTE_MINIMAL), "is a table"),
    (b"<!DOCTYPE html>\n<html>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer.*git lfs pull"),
]


@pytest.mark.parametrize(("data", "message"), KINDS, ids=[message[:24] for _, message in KINDS])
def test_another_kind_of_file_is_called_what_it_is_and_the_way_on_is_said(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_examples(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < len(str(path)) + 300
    with pytest.raises(DataError, match=message if not data.startswith(b"\x1f\x8b") else "is a gzip file"):
        Source(path)


def test_a_database_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(database(tmp_path))
    with pytest.raises(DataError, match="is an SQLite database"):
        load_examples(tmp_path / "x.jsonl")


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_no_json_lines_are_taken_for_another_kind(records: list[dict[str, object]]) -> None:
    for separators in ((", ", ": "), (",", ":"), (" , ", " : ")):
        for is_ascii in (True, False):
            lines = [json.dumps(r, ensure_ascii=is_ascii, separators=separators) for r in records]
            data = "\n".join(lines).encode(errors="replace")
            assert file_kind(data) is None
            for cut in range(1, min(len(data), 200)):  # only the head of a file is looked at
                assert file_kind(data[:cut]) is None, data[:cut]


def test_a_line_that_is_longer_than_the_head_is_no_json_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for shift in range(12):
        metadata = {"a" * shift: [{str(i): i} for i in range(1000)]}
        path.write_text(json.dumps({"prompt": "4", "completion": "9", "metadata": metadata}) + "\n")
        assert len(load_examples(path)) == 1


def test_a_first_line_that_is_cut_off_is_a_line_and_not_a_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for cut in range(1, len(LINES.splitlines()[0])):
        path.write_bytes(LINES[:cut] + b"\n" + LINES)
        with pytest.raises(DataError, match=r"x\.jsonl, line 1: not (JSON|UTF-8)"):
            load_examples(path)


# --- gzip


def test_a_gzipped_file_is_read_and_written_everywhere_alike(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plain, packed = tmp_path / "x.jsonl", tmp_path / "x.jsonl.gz"
    plain.write_bytes(LINES)
    packed.write_bytes(gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]))  # in two members, as `cat` makes them
    assert load_examples(packed) == load_examples(plain)
    misnamed = tmp_path / "y.jsonl"
    misnamed.write_bytes(packed.read_bytes())
    assert load_examples(misnamed) == load_examples(plain)
    assert main(["align", str(packed), "--tokenizer", "tiny"]) == 0

    assert save_examples(packed, load_examples(plain)) == save_examples(plain, load_examples(packed)) == 3
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    before = packed.read_bytes()
    write_jsonl(packed, (record for _, record in read_jsonl(plain)))
    assert packed.read_bytes() == before  # no time and no name in it
    capsys.readouterr()
    assert main(["review", str(packed), "--no-browser"]) == 2
    assert "x.jsonl.gz is a gzip file; unpack it" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "flipped", "crc", "garbage", "tail"])
def test_a_damaged_gzip_file_is_called_so(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress(LINES * 50))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
    elif damage == "crc":
        data[-6] ^= 255
    elif damage == "garbage":
        data[10:] = b"\xff" * 100
    else:
        data += b"garbage behind the end"
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.jsonl\.gz(, line \d+: | is a damaged gzip file)"):
        list(read_jsonl(path))


def test_a_gzip_file_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="record 2"):
        write_jsonl(tmp_path / "x.gz", [{"a": 1}, {"a": object()}])
    assert list(tmp_path.iterdir()) == []


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cattune.data.lines, "LONGEST_LINE", 1000)
    for compress in (bytes, gzip.compress):
        (tmp_path / "x").write_bytes(compress(b'{"a": 1}\n{"a": "' + b"x" * 100_000))
        with pytest.raises(DataError, match="line 2: longer than"):
            list(read_jsonl(tmp_path / "x"))


# --- YAML


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
HARMFUL = [
    (nested(100), ""),
    (nested(101), "nested too deeply"),
    (nested(1000), "nested too deeply"),
    (nested(100_000), "nested too deeply"),
    (nested(1000, "{a: ", "}"), "nested too deeply"),
    ("\n".join("  " * i + "a:" for i in range(300)), "nested too deeply"),
    ("- " * 1000 + "a", "nested too deeply"),
    ("? " * 1000 + "a", "nested too deeply"),
    (LAUGHS, "stands for more than 100,000 values|nested"),
    ("a: &a [*a]", "an alias stands for a value that holds it"),
    ("&a {b: {c: *a}}", "an alias stands for a value that holds it"),
    ("a: *b", "undefined alias"),
    ("[a", "expected ',' or ']'"),
    ("a: 1\n--- \nb: 2", "but found another document"),
    ("\tb: 1", "cannot start any token"),
    ("a: \x07", "special characters are not allowed"),
]


@pytest.mark.parametrize(("text", "message"), HARMFUL, ids=range(len(HARMFUL)))
def test_yaml_that_cannot_be_walked_is_refused(text: str, message: str) -> None:
    for read in (load_yaml, compose_yaml):
        started = time.process_time()
        if message:
            with pytest.raises(ConfigError, match=rf"^x\.yaml(, line \d+)?: not valid YAML: .*({message})"):
                read(text, "x.yaml")
        else:
            read(text, "x.yaml")
        assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["[" + "a, " * 200 + "]", "a: b\n" * 200, "[" + "[[]], " * 99 + "]", "- a\n" * 200])
def test_of_yaml_with_too_many_values_not_all_is_composed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cattune.data.yaml_text.MOST_VALUES", 100)
    for read in (load_yaml, compose_yaml):
        with pytest.raises(ConfigError, match=r"^x\.yaml, line \d+: not valid YAML: it holds more than 100 values"):
            read(text + "\n[", "x.yaml")  # what comes later, and is wrong, is not reached


@pytest.mark.parametrize(
    "tagged", ["!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!!int '0b_'", "!!binary é", "!!python/none ''"]
)
def test_a_value_that_is_not_what_its_tag_says_is_refused(tagged: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml.*not valid YAML"):
        load_yaml(f"a: {tagged}", "x.yaml")


def test_aliases_and_merges_that_harm_nobody_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]"
    assert load_yaml(text, "x") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    assert load_yaml("", "x") is None and load_yaml("# nothing", "x") is None


def test_many_keys_are_compared_in_no_time() -> None:
    text = "".join(f"k{i}: 1\n" for i in range(20_000)) + "k19999: 2\n"
    with pytest.raises(ConfigError, match='line 20001: the key "k19999" is given twice'):
        load_yaml(text, "x")


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3)))
@settings(max_examples=60, deadline=None)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    assert load_yaml(yaml.safe_dump(value), "x") == value


def test_a_yaml_file_that_cannot_be_read(tmp_path: Path) -> None:
    big, latin = tmp_path / "big.yaml", tmp_path / "latin.yaml"
    big.write_bytes(b"a: 1\n" * 300_000)
    latin.write_bytes("a: é".encode("latin-1"))
    for path, message in [
        (big, "larger than 1 MB"),
        (latin, "not UTF-8 at byte 3; save the game as UTF-8"),
        (tmp_path, "Is a directory; name one"),
        ("a\0b", "null"),
        ("n" * 5000, "too long"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            read_yaml(path, "game", "name one")
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("words", "make_file"),
    [
        (["train", "FILE"], True),
        (["train", "--gamma", "["], False),
        (["prior", "check", "FILE"], True),
        (["annotations", "rules", "DATA", "--rules", "FILE", "--out", "OUT"], True),
        (["stg", "--game", "FILE", "--out", "OUT"], True),
        (["annotate", "DATA", "--prior", "FILE", "--model", "m", "--dry-run"], True),
    ],
    ids=["train", "word", "prior", "rules", "stg", "annotate"],
)
def test_every_reader_of_yaml_survives_a_thousand_levels(
    words: list[str], make_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text(nested(1000))
    (tmp_path / "DATA").write_bytes(LINES)
    words = [str(tmp_path / word) if word in ("FILE", "DATA", "OUT") else word for word in words]
    if not make_file:
        words[-1] = nested(1000)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "nested too deeply" in error and "Traceback" not in error


def test_a_key_given_twice_in_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("gamma: 1\ngamma: 2\n")
    with pytest.raises(ConfigError, match='line 2: the key "gamma" is given twice'):
        read_words([str(tmp_path / "x.yaml")])
