"""What a file is that should have held JSON Lines and does not: told by its first bytes, with the way on.

Magic numbers: the formats' own specifications, as collected in the `magic` database of file(1).
"""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from cattune.data.own_kinds import EXAMPLES, STORE, is_store, own_kind, top_keys

HEAD = 4096
"""How many of a file's first bytes are looked at."""

GZIP = b"\x1f\x8b"

_UNPACK = "unpack it ({}), and name the JSONL file in it"
_CONVERT = "convert it, for instance with datasets.Dataset.{}(FILE).to_json('new.jsonl')"
_EXPORT = "export its rows as JSON Lines, one object per line"
_AS_UTF8 = "save it as UTF-8 (iconv -f {} -t UTF-8 FILE > new.jsonl)"


class FileKind(NamedTuple):
    """A kind of file that is no JSON Lines: what it is, with its article, and what to do."""

    name: str
    advice: str


_SQLITE = FileKind("an SQLite database", _EXPORT)

_MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (GZIP, FileKind("a gzip file", _UNPACK.format("gunzip"))),
    (b"BZh", FileKind("a bzip2 file", _UNPACK.format("bunzip2"))),
    (b"\xfd7zXZ\x00", FileKind("an xz file", _UNPACK.format("unxz"))),
    (b"\x28\xb5\x2f\xfd", FileKind("a zstd file", _UNPACK.format("unzstd"))),
    (b"\x04\x22\x4d\x18", FileKind("an lz4 file", _UNPACK.format("unlz4"))),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", _UNPACK.format("7z x"))),
    (b"Rar!\x1a\x07", FileKind("a RAR archive", _UNPACK.format("unrar x"))),
    (b"PK\x03\x04", FileKind("a zip archive", _UNPACK.format("unzip"))),
    (b"PK\x05\x06", FileKind("an empty zip archive", "name a JSONL file")),
    (b"PAR1", FileKind("a Parquet file", _CONVERT.format("from_parquet"))),
    (b"ARROW1", FileKind("an Arrow file", _CONVERT.format("from_file"))),
    (b"\xff\xff\xff\xff", FileKind("an Arrow stream", _CONVERT.format("from_file"))),
    (b"FEA1", FileKind("a Feather file", "convert it, for instance with pandas.read_feather(FILE).to_json")),
    (b"ORC", FileKind("an ORC file", "convert it, for instance with pandas.read_orc(FILE).to_json")),
    (b"Obj\x01", FileKind("an Avro file", _EXPORT)),
    (b"SQLite format 3\x00", _SQLITE),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file", _EXPORT)),
    (b"\x93NUMPY", FileKind("a NumPy file", _EXPORT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("an old Office document, such as an Excel workbook", _EXPORT)),
    (b"%PDF-", FileKind("a PDF document", _EXPORT)),
    (b"GGUF", FileKind("a GGUF model", "name a JSONL file of examples")),
    (b"\xff\xfe\x00\x00", FileKind("UTF-32 text", _AS_UTF8.format("UTF-32"))),
    (b"\x00\x00\xfe\xff", FileKind("UTF-32 text", _AS_UTF8.format("UTF-32"))),
    (b"\xff\xfe", FileKind("UTF-16 text", _AS_UTF8.format("UTF-16"))),
    (b"\xfe\xff", FileKind("UTF-16 text", _AS_UTF8.format("UTF-16"))),
)
_OFFICE = FileKind("an Office document, such as an Excel workbook (.xlsx)", _EXPORT)
_TORCH = FileKind("a file that torch.save wrote", _EXPORT)
_PICKLE = FileKind("a Python pickle, which cattune never loads", _EXPORT)
_TAR = FileKind("a tar archive", _UNPACK.format("tar xf"))
_WEB = FileKind("a web page or XML", "download the data itself, which hubs have behind 'raw' or 'download'")
_LFS = FileKind("a Git LFS pointer to the data, and not the data", "run `git lfs pull` in its repository")
_ARRAY = FileKind(
    "a JSON array, and not JSON Lines, one object per line",
    "write each entry on a line of its own (jq -c '.[]' FILE > new.jsonl)",
)
_PRETTY = FileKind(
    "JSON over several lines, and not JSON Lines, one object per line",
    "write each object on one line (jq -c . FILE > new.jsonl)",
)
_PYTHON = FileKind("Python, and not JSON: its texts are in single quotes", "write each record with json.dumps")
_TABLE = FileKind("a table, such as CSV, by its first line", _CONVERT.format("from_csv"))

_TAR_AT = 257
_COLUMN = re.compile(r"[\w .#-]{1,40}")


def file_kind(head: bytes) -> FileKind | None:
    """What a file is that begins with these bytes, where it is plainly no JSON Lines.

    Args:
        head: the first `HEAD` bytes, or fewer.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            if kind is _SQLITE and is_store(head):
                return FileKind(*STORE)
            return _inside_zip(head, kind) if magic == b"PK\x03\x04" else kind
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return _TAR
    if re.match(rb"\x80[\x02-\x05][\x95c}\](]", head):
        return _PICKLE
    if re.match(rb"[^\0]\0[^\0]\0", head):  # ASCII characters of two bytes each
        return FileKind("UTF-16 text", _AS_UTF8.format("UTF-16LE"))
    if re.match(rb"\0[^\0]\0[^\0]", head):
        return FileKind("UTF-16 text", _AS_UTF8.format("UTF-16BE"))
    return _text_kind(head.removeprefix(b"\xef\xbb\xbf").lstrip())


def _inside_zip(head: bytes, kind: FileKind) -> FileKind:
    if b"[Content_Types].xml" in head or b"_rels/.rels" in head:
        return _OFFICE
    return _TORCH if b"data.pkl" in head else kind


def _text_kind(text: bytes) -> FileKind | None:
    kind = _plain_kind(text)
    if kind in (None, _PRETTY) and not text.startswith(b'{"'):
        own = own_kind(top_keys(text.decode(errors="replace")))
        return kind if own in (None, EXAMPLES) else FileKind(*own)
    return kind


def _plain_kind(text: bytes) -> FileKind | None:
    first, _, second = (line.strip() for line in text.partition(b"\n"))
    if text.startswith(b"["):
        return _ARRAY
    if text.startswith(b"<"):
        return _WEB
    if text.startswith(b"version https://git-lfs"):
        return _LFS
    if re.match(rb"\{\s*'", text):
        return _PYTHON
    if text.startswith(b"{"):
        opens = first[-1:] == b"[" or (first[-1:] in b"{,:" and not second.startswith(b'{"'))  # or the line is cut off
        return _PRETTY if opens and second.startswith((b'"', b"{", b"[", b"}", b"]")) else None
    return _TABLE if _is_header(first.decode(errors="replace")) else None


def _is_header(line: str) -> bool:
    """Whether a line reads like the names of a table's columns."""
    for delimiter in ",\t;":
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        if len(set(cells)) == len(cells) > 1 and all(_COLUMN.fullmatch(cell) for cell in cells):
            return True
    return False
