"""Every example of the help, the README and the documentation: calls are parsed and run, code and settings are used.

Each runs in a folder of its own, in which the files that it names have been made, made small.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from assistant_server import completion, running, write_replies

from cattune import Example, Message, load_examples, save_examples
from cattune.annotation import Question, Store, load_prior, response_format
from cattune.annotation.assistant.batch import write_requests
from cattune.annotation.store.store import Failure
from cattune.cli import main as cli
from cattune.data.own_kinds import CONFIGURATION, GAME, PRIOR, RULES, own_kind
from cattune.tasks.stg import load_game, make_split

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

HUB_MODEL = "Qwen/Qwen2.5-0.5B"
SERVER = "http://localhost:8000/v1"
SMALLER = {
    "demo": ["--steps", "2", "--train-size", "30", "--test-size", "10", "--arms", "sft", "--jobs", "1"],
    "stg": ["--train-size", "40", "--validation-size", "10", "--test-size", "10"],
    "train": ["--max_steps", "2"],
}
"""Added to the calls that would take minutes."""

OUTPUTS = ("--out", "--html", "--samples", "--output_dir")


def parsers(parser: argparse.ArgumentParser, name: str = "cattune") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}")


def calls_in(text: str) -> list[str]:
    """The calls of a text, each on a line that begins with it, without what is said about it."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (line.strip() for line in joined.splitlines())
    return [re.split(r"\s{2,}|\s#", line)[0] for line in lines if line.startswith("cattune ")]


def documented_calls() -> Iterator[tuple[str, str]]:
    for name, parser in parsers(cli.build_parser()):
        yield from ((f"{name} --help", call) for call in calls_in(parser.epilog or "") if "COMMAND" not in call)
    for page in PAGES:
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        yield from (
            (page.name, call) for language, body in blocks if language in ("", "bash") for call in calls_in(body)
        )


def documented_blocks(language: str) -> list[Any]:
    return [
        pytest.param(body, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (kind, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


CALLS = [pytest.param(call, id=f"{where}: {call}"[:90]) for where, call in dict.fromkeys(documented_calls())]


def test_examples_are_found() -> None:
    assert len(CALLS) > 30
    assert {call.values[0].split()[1] for call in CALLS} == set(cli.COMMANDS)


@pytest.mark.parametrize("call", CALLS)
def test_every_example_is_a_call(call: str) -> None:
    assert cli.build_parser().parse_args(shlex.split(call)[1:]).command == call.split()[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_calls_in_running_text_name_what_there_is(page: Path) -> None:
    known = dict(parsers(cli.build_parser()))
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for call in re.findall(r"`(cattune [^`]+)`", text):
        words = re.sub(r"\\\||\[.*?\]|\.\.\.", " ", call).split()
        command, action = (" ".join(words[:count]) for count in (2, 3))
        name = action if action in known else command
        assert name in known or name == "cattune --help", call
        if "\\|" in call:  # actions to choose from
            assert {f"{command} {word}" for word in words[2:]} <= set(known), call
        elif name != "cattune train":  # whose options are keys
            assert set(re.findall(r"--[\w-]+", call)) <= {*known.get(name, known["cattune"])._option_string_actions}, (
                call
            )


def record_of(number: int) -> Example:
    """A conversation that the rules of the documentation are for."""
    asked = f"Age: {40 + number}. Weight: 8{number % 10} kg. She was seen {number + 1} times."
    return Example(f"r{number}", messages=(Message("user", asked), Message("assistant", "High risk")))


def published(example: Example) -> dict[str, Any]:
    link = example.links[0]
    important = {example.text_of(link.effect): [example.text_of(cause) for cause in link.causes]}
    return {"input": example.prompt, "target": example.completion, "important": [important]}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the examples read."""
    from cattune.models import tiny

    folder = tmp_path_factory.mktemp("documented")
    examples = make_split(load_game("cancer_risk"), "train", 12, seed=0)
    bare = [Example(example.id, example.prompt, example.completion) for example in examples]
    for name in ("train", "by_hand", "annotated", "links", "model_a", "model_b", "rules", "iid"):
        save_examples(folder / f"{name}.jsonl", examples)
    for name in ("train", "iid", "ood"):
        save_examples(folder / f"data/{name}.jsonl", examples)
        save_examples(folder / f"data/stg_l/{name}.jsonl", examples)
    for name in ("in", "sums"):
        save_examples(folder / f"{name}.jsonl", bare)
    save_examples(folder / "records.jsonl", [record_of(number) for number in range(5)])
    shutil.copy(folder / "iid.jsonl", folder / "ood.jsonl")
    for name in ("published.jsonl", "published/stg_l_train.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(published(example)) + "\n" for example in examples))
    for name in ("prior", "sums", "loans"):
        cli.main(["prior", "new", "--from", "tabular_risk", "--out", str(folder / f"{name}.yaml")])
    for name, block in settings():
        (folder / name).write_text(block)
    model, tokenizer = tiny.build([text for example in examples for text in example.fields.values()], seed=0)
    for name in ("model", "runs/cat", "runs/model", "models/llama"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_replies(folder / "replies", examples)
    write_results(folder)
    with Store(folder / "train.jsonl.store") as store:
        store.fail([Failure(bytes(32), "no_json", "The reply holds no JSON object.", "No.", "0")]).result()
    return folder


def settings() -> Iterator[tuple[str, str]]:
    """The settings that the documentation shows, under the names that its calls give them."""
    kinds = {PRIOR: "pens.yaml", RULES: "risk.yaml", GAME: "my_game.yaml", CONFIGURATION: "config.yaml"}
    for block in documented_blocks("yaml"):
        value = yaml.safe_load(block.values[0])
        kind = own_kind(value) if isinstance(value, dict) else None
        if kind in kinds and not (kind == CONFIGURATION and "model" not in value):
            yield kinds[kind], block.values[0].replace(HUB_MODEL, "model")


def write_results(folder: Path) -> None:
    """What a provider makes of the requests for in.jsonl."""
    replies = [json.loads(line) for line in (folder / "replies").read_text().splitlines()]
    question = Question(load_prior(folder / "prior.yaml"), "gpt-4.1-mini", {"temperature": 0})
    with Store(folder / "requests.store") as store:
        form = response_format(question.prior)
        write_requests(folder / "sent.jsonl", question, load_examples(folder / "in.jsonl"), store, form)
    with (folder / "results.jsonl").open("w") as results:
        for line in (folder / "sent.jsonl").read_text().splitlines():
            request = json.loads(line)
            asked = request["body"]["messages"][-1]["content"]
            body = completion("m", next(reply["text"] for reply in replies if reply["tag"] in asked), "stop", 10, 10)
            result = {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}
            results.write(json.dumps(result) + "\n")


@pytest.fixture(scope="session")
def server(files: Path) -> Iterator[str]:
    with running(files / "replies") as url:
        yield url


@pytest.fixture
def folder(files: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that is read, in which the commands run; nothing is served, and no process started."""
    from cattune.experiments import cell, grid
    from cattune.review import server as review

    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(review, "serve", lambda *served, **how: None)
    monkeypatch.setattr(grid, "run_grid", lambda cells, *rest: [cell.run_cell(smaller(each)) for each in cells])
    return tmp_path


def smaller(cell: Any) -> Any:
    """A cell of the demo whose validation split is small, too."""
    return replace(cell, task=replace(cell.task, validation=10))


def remove_outputs(words: list[str]) -> None:
    """What a call is to write, and what an earlier one left, is not there when it runs."""
    for option, path in zip(words, words[1:], strict=False):
        if option in OUTPUTS and Path(path).is_dir():
            shutil.rmtree(path)
        elif option in OUTPUTS:
            Path(path).unlink(missing_ok=True)


@pytest.mark.parametrize("call", CALLS)
def test_every_example_runs(call: str, folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.replace(SERVER, server) for word in shlex.split(call)[1:]]
    remove_outputs(words)
    status = cli.main([*words, *SMALLER.get(words[0], [])])
    assert status == 0, capsys.readouterr().err
    for option, path in zip(words, words[1:], strict=False):
        assert option not in OUTPUTS or Path(path).exists() or words[0] == "review" or "write" in words, path


CODE = {
    "CATConfig(..., dataset_num_proc=8)": 'CATConfig(output_dir="aligned", max_steps=1, dataset_num_proc=1)',
    HUB_MODEL: "model",
}
"""What stands in the code and is not to be used as it stands: a size, a name on the hub, a gap."""


@pytest.mark.parametrize("code", documented_blocks("python"))
def test_code_runs(code: str, folder: Path, server: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cattune import CATConfig, CATTrainer

    for shown, used in {**CODE, SERVER: server}.items():
        code = code.replace(shown, used)
    given = {"CATConfig": CATConfig, "CATTrainer": CATTrainer, "tokenizer": AutoTokenizer.from_pretrained("model")}
    given["model"] = AutoModelForCausalLM.from_pretrained("model")
    exec(compile(code, "<documentation>", "exec"), given)


@pytest.mark.parametrize("block", documented_blocks("json"))
def test_records_are_read(block: str, tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").write_text(" ".join(block.split("\n")))
    (example,) = load_examples(tmp_path / "record.jsonl")
    assert example.links and not example.refused


@pytest.mark.parametrize("block", documented_blocks("yaml"))
def test_settings_are_taken(block: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = yaml.safe_load(block)
    kind = own_kind(value) if isinstance(value, dict) else None
    (folder / "shown.yaml").write_text(block.replace(HUB_MODEL, "model").replace("_steps: 100", "_steps: 1"))
    train = ["--model", "model", "--train_file", "train.jsonl", "--output_dir", "run", "--max_steps", "2"]
    calls = {
        PRIOR: ["prior", "check", "shown.yaml"],
        RULES: ["annotations", "rules", "records.jsonl", "--rules", "shown.yaml", "--out", "made.jsonl"],
        GAME: ["stg", "--game", "shown.yaml", "--out", "made", *SMALLER["stg"]],
        CONFIGURATION: ["train", "shown.yaml", *train],
    }
    if isinstance(value, list):  # a part of a file, such as one link of a prior
        assert all(isinstance(entry, dict) for entry in value)
    else:
        assert kind is not None, value
        assert cli.main(calls[kind]) == 0, capsys.readouterr().err
