"""Mutated inputs through cattune's readers and commands, and what must be true of each.

A reader gives examples or raises a `CattuneError`, whose message is short and printable; a command ends with 0, 1 or 2,
and never with an exception that nobody foresaw. Nothing takes long. Where records are read, their words are those that
Python's own `json` finds in the file: it is asked apart, line by line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import mutated_inputs as inputs
import mutated_texts as texts
from chat_templates import TEMPLATES, Templated
from tokenizer_families import family

from cattune.annotation.assistant.inputs import check_input
from cattune.annotation.assistant.prior import check_prior, load_prior, read_prior
from cattune.annotation.rules.apply import apply_rules
from cattune.annotation.rules.file import load_rules
from cattune.cli.main import main
from cattune.data.examples import Example
from cattune.data.file_kinds import GZIP
from cattune.data.records import example_from_dict
from cattune.data.settings import read_settings
from cattune.data.yaml_text import read_yaml
from cattune.errors import LONGEST, CattuneError
from cattune.experiments.job import TrainJob
from cattune.formats.loading import load_examples, save_examples
from cattune.formats.rows import examples_of
from cattune.review.document import open_document
from cattune.supervision.dataset import encode
from cattune.supervision.rendering import Renderer, Rendering
from cattune.supervision.rows import encode_examples
from cattune.tasks.stg import load_game, make_split

SECONDS = 5.0
MEMORY = 1 << 30
"""What one trial may take of the processor, and of memory beyond what there was."""

_NO_END = 120
"""Seconds on the wall after which a trial is broken off; another program may have the processor for a while."""


class Trial(NamedTuple):
    """What became of one input.

    Attributes:
        kind: what was read, and by what.
        steps: what had been done to it.
        outcome: "read", "refused", "left out", "0", "1" or "2" for a command, or "skipped".
        problem: what must not be; empty if all is well.
        seconds: of the processor.
        wall: seconds on the wall.
        grown: bytes by which the process's memory was larger than ever before.
    """

    kind: str
    steps: tuple[str, ...]
    outcome: str
    problem: str
    seconds: float
    wall: float
    grown: int


class Wrong(Exception):
    """Something is true that must not be."""


class NoEnd(BaseException):
    """A trial does not end."""


def trial(seed: int, folder: Path, endless: float = 0.05) -> Trial:
    """The trial of a seed; `folder` is empty, and may be left full."""
    rng = random.Random(seed)
    kind = rng.choices([*KINDS], [weight for weight, _ in KINDS.values()])[0]
    steps: list[str] = []
    before, began, clock = _most_memory(), time.process_time(), time.monotonic()
    outcome, problem = "", ""
    try:
        with _ending(), contextlib.chdir(folder):
            outcome = KINDS[kind][1](rng, folder, steps, endless)
    except CattuneError as error:
        outcome, problem = "refused", _message(str(error))
    except Wrong as error:
        problem = str(error)
    except NoEnd:
        problem = "does not end"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
    seconds, wall, grown = time.process_time() - began, time.monotonic() - clock, _most_memory() - before
    if not problem and seconds > SECONDS:
        problem = f"took {seconds:.1f} s of the processor"
    if not problem and grown > MEMORY:
        problem = f"took {grown >> 20} MB"
    return Trial(kind, tuple(steps), outcome, problem, seconds, wall, max(grown, 0))


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # kilobytes, on Linux


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise NoEnd

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_NO_END)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _message(text: str) -> str:
    """What is wrong with a message; nothing, if it is short and can be printed."""
    if len(text) > LONGEST:
        return f"a message of {len(text)} characters: {text[:200]}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"a message that cannot be printed: {text[:200]!r}"
    return "" if text.strip() else "no message"


# --- records


def _records_file(rng: inputs.Rng, folder: Path, steps: list[str]) -> tuple[Path, inputs.Mutant]:
    kind, mutant = inputs.file_of_records(rng)
    steps += [f"format: {kind}", *mutant.steps]
    path = folder / rng.choice(("f.jsonl", "f.jsonl.gz"))
    path.write_bytes(mutant.data)
    return path, mutant


def read_records(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    path, mutant = _records_file(rng, folder, steps)
    occurrences = rng.choice(("context", "nearest", "all", "first"))
    try:
        examples = load_examples(path, occurrences)
    except CattuneError as error:
        if mutant.harmless:
            raise Wrong(f"refused, and nothing is wrong: {error}") from None
        raise
    _check_words(mutant.data, examples)
    save_examples(folder / "again.jsonl", examples)
    if load_examples(folder / "again.jsonl") != examples:
        raise Wrong("written and read again, it is another")
    tokenizer = family(rng.choice(("byte-level", "metaspace-bpe", "word-level")))
    features, report = encode_examples(examples, tokenizer)
    _same("the examples that are counted", len(examples), report.examples)
    _same("the examples with features", len(examples) - report.left_out, len(features))
    return "read"


def _check_words(data: bytes, examples: list[Example]) -> None:
    """Compare examples with what `json` alone finds in the lines of their file."""
    rows = list(_plain_rows(data))
    if len(rows) != len(examples):
        raise Wrong(f"{len(rows)} lines gave {len(examples)} examples")
    published = not _has(rows[0], "schema") and not _has(rows[0], "messages") and not _has(rows[0], "completion")
    for row, example in zip(rows, examples, strict=True):
        _same("the id", _plain_id(row, example.id, ("id", "idx") if published else ("id",)), example.id)
        texts = [row["input"], row["target"]] if published else _plain_texts(row)
        _same("the texts", texts, list(example.fields.values()))
        if published:
            _check_phrases(row.get("important"), example)
        else:
            links = [[link["effect"], *(link.get("causes") or ())] for link in row.get("links") or ()]
            spans = [[link.effect, *link.causes] for link in example.links]
            _same("the links", *([_plain_span(s) for link in both for s in link] for both in (links, spans)))
            for given, span in zip((s for link in links for s in link), (s for x in spans for s in x), strict=True):
                _same("a span", given["text"] if _has(given, "text") else example.text_of(span), example.text_of(span))


def _has(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None


def _plain_span(span: Any) -> tuple[str, str, str]:
    given = span if isinstance(span, Mapping) else {"field": span.field, "start": span.start, "end": span.end}
    return given["field"], str(given["start"]), str(given["end"])


def _same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise Wrong(f"{what}: {str(expected)[:150]!r} became {str(found)[:150]!r}")


class _Number(str):
    """A number of a JSON file, as it is written."""


def _plain_rows(data: bytes) -> Iterator[dict[str, Any]]:
    import gzip

    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.strip():
            row = json.loads(
                line.decode(),
                parse_float=_Number,
                parse_int=_Number,
                parse_constant=_no_constant,
                object_pairs_hook=_once,
            )
            yield row


def _no_constant(name: str) -> None:
    raise Wrong(f"{name} was read")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Wrong("a key that stands twice was read")
    return dict(pairs)


def _plain_id(row: Mapping[str, Any], given: str, keys: tuple[str, ...]) -> str:
    named = next((row[key] for key in keys if _has(row, key)), None)
    if named is None or given.startswith(f"{named} (line "):  # the later of two published ones
        return given
    return str(named)


def _plain_texts(row: Mapping[str, Any]) -> list[str]:
    if row.get("messages") is not None:
        return [_plain_content(message["content"]) for message in row["messages"]]
    pair = [row["prompt"], row["completion"]]
    if isinstance(pair[0], list):
        return [_plain_content(message["content"]) for turns in pair for message in turns]
    return pair


def _plain_content(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _check_phrases(important: Any, example: Example) -> None:
    """Every link's words are those of a phrase, where it was found exactly."""
    if isinstance(important, str):
        important = json.loads(important, parse_float=_Number, parse_int=_Number)
    phrases: set[str] = set()
    for item in [important] if isinstance(important, Mapping) else important or ():
        for effect, causes in item.items() if isinstance(item, Mapping) else ():
            listed = causes if isinstance(causes, list) else [causes]
            phrases |= {phrase.strip() for phrase in (effect, *listed) if isinstance(phrase, str)}
    for link in example.links:
        for span in (link.effect, *link.causes) if link.method == "exact" else ():
            words = example.text_of(span).strip()
            # An effect that begins in the input is cut to its part in the target.
            cut = span == link.effect and any(phrase.endswith(words) for phrase in phrases)
            if words not in phrases and not cut:
                raise Wrong(f"a link has the words {words!r}, which no phrase has")


def read_otherwise(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    """The review page and an annotation run have readers of their own, which must give the same examples."""
    path, _mutant = _records_file(rng, folder, steps)
    found: Any = None
    try:
        found = load_examples(path)
    except CattuneError as error:
        refused = error
    try:
        counted = check_input(path).examples
        document = open_document(path, folder / "out.jsonl")
        examples = [document.example(index) for index in range(len(document))]
        document.close()
    except CattuneError:
        if found is not None and not path.read_bytes().startswith(GZIP):  # to the page, a gzip file is no file of lines
            raise
        return "refused"
    if found is None:  # links are not all that an annotation run may pass over, but the page has to see them
        raise Wrong(f"read, and refused elsewhere: {refused}")
    _same("the examples", found, examples)
    _same("how many there are", len(found), counted)
    return "read"


def read_rows(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    """Rows in memory, with values that no JSON has."""
    kind, rows = inputs.records(rng)
    steps += [
        f"format: {kind}",
        *(f"value: {inputs.mutated_value(rng, rng.choice(rows))}" for _ in range(rng.randrange(3))),
    ]
    if rng.random() < 0.2:
        steps.append("value: of Python")
        row = rng.choice(rows)
        row[rng.choice([*row])] = rng.choice((b"x", {1, 2}, object(), 1j, (1, 2), {1: 2}, range(3), type, lambda: 0))
    if rng.random() < 0.1:
        steps.append("value: another row")
        rows.insert(rng.randrange(2), rng.choice((None, 7, "x", [], Example("e", "a", "b"))))
    examples = examples_of(rows)
    if not steps[1:]:
        for row, example in zip(rows, examples, strict=True):
            given = [str(row["input"]), str(row["target"])] if kind == "published" else _plain_texts(row)
            _same("the texts", given, list(example.fields.values()))
    encode_examples(examples, family("byte-level"))
    return "read"


def read_dataset(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    """The columns of a `datasets.Dataset`, as Arrow can hold them."""
    from datasets import Dataset

    kind, rows = inputs.records(rng)
    steps += [
        f"format: {kind}",
        *(f"value: {inputs.mutated_value(rng, rng.choice(rows))}" for _ in range(rng.randrange(2))),
    ]
    try:
        data = Dataset.from_list(rows)
    except Exception:  # Arrow holds one type a column
        return "skipped"
    columns, _report = encode(data, family("byte-level"))
    if len(columns) > len(rows):
        raise Wrong("more features than rows")
    return "read"


def record_alone(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    kind, rows = inputs.records(rng)
    steps += [f"format: {kind}", f"value: {inputs.mutated_value(rng, rows[0])}"]
    example_from_dict(rows[0], "record", "x")
    return "read"


# --- chat templates


def render(rng: inputs.Rng, folder: Path, steps: list[str], endless: float) -> str:
    source, done = texts.template(rng, TEMPLATES[rng.choice([*TEMPLATES])], endless)
    steps += done
    rows = [inputs.chat_record(rng, f"n{i}") for i in range(rng.randrange(1, 4))]
    examples = [example_from_dict(row) for row in rows]
    results = Renderer(Templated(source)).each(examples)
    for row, example, result in zip(rows, examples, results, strict=True):
        if isinstance(result, Rendering):
            _check_rendering(row, example, result)
            family("byte-level")(result.text)
        elif problem := _message(str(result)):
            raise Wrong(problem)
    return "read" if isinstance(results[0], Rendering) else "left out"


def _check_rendering(row: Mapping[str, Any], example: Example, rendering: Rendering) -> None:
    """Every piece has the record's own words, and the answer is there as a whole."""
    contents = [message["content"] for message in row["messages"]]
    for content, piece in zip(contents, rendering.pieces, strict=True):
        written = rendering.text[piece.text_start :][: piece.end - piece.start]
        _same("a piece", content[piece.start : piece.end], written)
        if piece.start < piece.end:
            _same("what is left out of a piece", content.strip(), written.strip())
    first, last = rendering.answer
    if not contents[-1].strip().endswith(rendering.text[first:last].strip()):
        raise Wrong("the answer is another")
    for link in example.links:
        for span in (link.effect, *link.causes):
            first, last = rendering.locate(span)
            if rendering.text[first:last].strip() not in example.text_of(span):
                raise Wrong("a span has other words")


# --- YAML


def _yaml(rng: inputs.Rng, folder: Path, steps: list[str], source: str) -> Path:
    mutant = texts.file_of_yaml(rng, source)
    steps += mutant.steps
    path = folder / "f.yaml"
    path.write_bytes(mutant.data)
    return path


def _packaged(rng: inputs.Rng, package: str, folder: str) -> str:
    files = [entry for entry in resources.files(package).joinpath(folder).iterdir() if entry.name.endswith(".yaml")]
    return rng.choice(sorted(files, key=lambda entry: entry.name)).read_text(encoding="utf-8")


def prior(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    path = _yaml(rng, folder, steps, _packaged(rng, "cattune.annotation.assistant", "priors"))
    check_prior(read_prior(path))
    load_prior(path)
    return "read"


def rules(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    path = _yaml(rng, folder, steps, _packaged(rng, "cattune.annotation.rules", "packaged"))
    apply_rules(load_rules(path), Example("a", "Smoking: 8, Weight: 10, " + "a" * 40, "High Risk"))
    return "read"


def game(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    path = _yaml(rng, folder, steps, _packaged(rng, "cattune.tasks.stg", "games"))
    make_split(load_game(path), "train", 20, 0)
    return "read"


def settings(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    path = _yaml(rng, folder, steps, texts.CONFIGURATION)
    TrainJob.from_dict(read_settings(read_yaml(path, "configuration", "name a file"), str(path)))
    return "read"


# --- commands


def command(rng: inputs.Rng, folder: Path, steps: list[str], _: float) -> str:
    name = rng.choice([*_COMMANDS])
    steps.append(f"command: {name}")
    return _call(_COMMANDS[name](rng, folder, steps))


def _call(words: list[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
    said = err.getvalue()
    if status not in (0, 1, 2):
        raise Wrong(f"exit status {status}")
    if "Traceback" in said or "cattune: failed:" in said:
        raise Wrong(said[-300:])
    if status and (problem := _message(said.rpartition("error: ")[2])):
        raise Wrong(problem)
    return str(status)


def _file(rng: inputs.Rng, folder: Path, steps: list[str]) -> str:
    return str(_records_file(rng, folder, steps)[0])


_COMMANDS: dict[str, Callable[[inputs.Rng, Path, list[str]], list[str]]] = {
    "align": lambda rng, folder, steps: ["align", _file(rng, folder, steps), "--tokenizer", "tiny", "--out", "a.json"],
    "report": lambda rng, folder, steps: ["annotations", "report", _file(rng, folder, steps), "--html", "a.html"],
    "join": lambda rng, folder, steps: ["annotations", "join", *[_file(rng, folder, steps)] * 2, "--out", "a.jsonl"],
    "rules": lambda rng, folder, steps: [
        "annotations", "rules", _file(rng, folder, steps), "--rules", "cancer_risk", "--out", "a.jsonl",
    ],
    "own rules": lambda rng, folder, steps: [
        "annotations", "rules", _file(rng, folder, steps), "--out", "a.jsonl", "--rules",
        str(_yaml(rng, folder, steps, _packaged(rng, "cattune.annotation.rules", "packaged"))),
    ],
    "prior": lambda rng, folder, steps: [
        "prior", "check", str(_yaml(rng, folder, steps, _packaged(rng, "cattune.annotation.assistant", "priors")))
    ],
    "stg": lambda rng, folder, steps: [
        "stg", "--train-size", "9", "--validation-size", "3", "--test-size", "3", "--out", "d", "--game",
        str(_yaml(rng, folder, steps, _packaged(rng, "cattune.tasks.stg", "games"))),
    ],
    "train": lambda rng, folder, steps: [
        "train", str(_yaml(rng, folder, steps, texts.CONFIGURATION)), "--train_file", _file(rng, folder, steps),
        "--model", "no-such-model",
    ],
    "evaluate": lambda rng, folder, steps: [
        "evaluate", "--model", "no-such-model", "--out", "a.json", "--data", f"a={_file(rng, folder, steps)}",
    ],
}  # fmt: skip

KINDS: dict[str, tuple[float, Callable[[inputs.Rng, Path, list[str], float], str]]] = {
    "records in a file": (45, read_records),
    "records for review": (5, read_otherwise),
    "rows in memory": (8, read_rows),
    "one record": (6, record_alone),
    "a Dataset": (2, read_dataset),
    "chat template": (12, render),
    "prior": (4, prior),
    "rules": (4, rules),
    "game": (4, game),
    "training settings": (6, settings),
    "command": (5, command),
}
"""How often each is tried, and how."""


def loaded() -> None:
    """Import and build what trials need, so that none of them is counted as slow for it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    load_rules("cancer_risk")
    TrainJob.from_dict({"model": "a", "train_file": "b", "output_dir": "c"})
    for name in ("byte-level", "metaspace-bpe", "word-level"):
        family(name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import datasets

        import cattune.experiments.training
        import cattune.models.load  # noqa: F401

        datasets.disable_progress_bars()
