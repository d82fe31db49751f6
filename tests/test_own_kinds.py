"""A file of ours in the place of another is called by its name, wherever it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune import Example, save_examples
from cattune.annotation import Store
from cattune.annotation.store.store import StoredReply
from cattune.cli import main as cli
from cattune.data.own_kinds import EXAMPLES, GAME, PRIOR, RULES, own_kind, top_keys

PACKAGE = Path(cli.__file__).parents[1]
EXAMPLE = {"prompt": "p", "completion": "c"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind, named by it."""
    folder = tmp_path_factory.mktemp("kinds")

    def copy(name: str, path: str) -> None:
        (folder / name).write_bytes((PACKAGE / path).read_bytes())

    def write(name: str, *records: dict[str, object], indent: int | None = None) -> None:
        (folder / name).write_text("".join(json.dumps(record, indent=indent) + "\n" for record in records))

    copy("prior.yaml", "annotation/assistant/priors/arithmetic.yaml")
    copy("rules.yaml", "annotation/rules/packaged/cancer_risk.yaml")
    copy("game.yaml", "tasks/stg/games/cancer_risk.yaml")
    (folder / "train.yaml").write_text("model: tiny\ntrain_file: examples.jsonl\noutput_dir: run\n")
    save_examples(folder / "examples.jsonl", [Example("a", "p", "c"), Example("b", "q", "d")])
    save_examples(folder / "one.jsonl", [Example("a", "p", "c")])
    write("requests.jsonl", {"custom_id": "0" * 64, "method": "POST", "url": "/v1", "body": {}})
    write("batch_results.jsonl", {"id": "b", "custom_id": "0" * 64, "response": {}, "error": None})
    write("samples.jsonl", {"split": "s", "id": "a", "prompt_tail": "p", "target": "c", "prediction": "c"})
    write("journal", {"kind": "set", "base": 1, "example": EXAMPLE})
    write("manifest.json", {"generator": "g", "game": {"attributes": [], "outcome": {}}, "omitted": {}}, indent=2)
    write("results.json", {"splits": {"iid": {"n": 1}}, "provenance": {}}, indent=2)
    write("alignment.json", {"examples": 1, "aligned_links": 1, "aligned_causes": 1}, indent=2)
    with Store(folder / "store") as store:
        store.save(b"k" * 32, "m", StoredReply("a", "stop", 1, 1)).result()
    return folder


NAMES = {
    "prior.yaml": "a prior",
    "rules.yaml": "a rule set",
    "game.yaml": "a game",
    "train.yaml": "a configuration of `cattune train`",
    "examples.jsonl": "a file of examples",
    "one.jsonl": "a file of examples",
    "requests.jsonl": "a file of requests for a batch queue",
    "batch_results.jsonl": "a file of results of a batch queue",
    "samples.jsonl": "the samples of `cattune evaluate`",
    "journal": "a journal of `cattune review`",
    "manifest.json": "a manifest of `cattune stg`",
    "results.json": "the results of `cattune train`",
    "alignment.json": "a report of `cattune align`",
    "store": "a store of replies",
}
ANNOTATE = ["annotate", "examples.jsonl", "--model", "m", "--out", "out", "--prior"]
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "prior": (["prior", "check", "FILE"], {"prior.yaml"}),
    "annotate": ([*ANNOTATE, "FILE", "--dry-run"], {"prior.yaml"}),
    "rules": (["annotations", "rules", "examples.jsonl", "--rules", "FILE", "--out", "out"], {"rules.yaml"}),
    "game": (["stg", "--game", "FILE", "--out", "out"], {"game.yaml"}),
    "train": (["train", "FILE"], {"train.yaml"}),
    "align": (["align", "FILE", "--tokenizer", "tiny"], {"examples.jsonl", "one.jsonl"}),
    "report": (["annotations", "report", "FILE"], {"examples.jsonl", "one.jsonl"}),
    "batch": ([*ANNOTATE, "arithmetic", "--batch", "read", "FILE"], {"batch_results.jsonl", "requests.jsonl"}),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_is_called_by_its_name(
    files: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    words, right = COMMANDS[command]
    for file in NAMES.keys() - right:
        assert cli.main([file if word == "FILE" else word for word in words]) == 2, file
        said = capsys.readouterr().err
        assert NAMES[file] in said and file in said, (file, said)
    assert not Path("out").exists()


def test_a_kind_is_told_by_most_of_its_keys_and_the_expected_one_has_the_benefit_of_the_doubt() -> None:
    assert own_kind({"task", "graph", "patterns"}) == PRIOR
    assert own_kind({"task", "patterns", "edges"}) == RULES
    assert own_kind({"task", "patterns", "edges"}, expected=PRIOR) is None
    assert own_kind({"name", "version"}) is None
    assert own_kind({"prompt", "completion", "outcome"}) == EXAMPLES
    assert own_kind({"attributes"}, expected=RULES) == GAME


def test_keys_at_the_top() -> None:
    assert set(top_keys('{"a": {"b": 1}}\n{"c": 1}')) == {"a"}
    assert set(top_keys('{\n    "a": {\n        "b": 1\n    },\n    "c": [')) == {"a", "c"}
    assert set(top_keys("# x: y\na:\n  b: 1\nc: d:e\n")) == {"a", "c"}
    assert not top_keys("[1]") and not top_keys('{"a": ') and not top_keys("")


@given(st.text())
def test_any_text_has_keys_or_none(text: str) -> None:
    assert all(isinstance(key, str) for key in top_keys(text))
