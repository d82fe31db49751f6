"""The worked examples of CONTRIBUTING.md work as they stand there."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
from training import EXAMPLES, make_tokenizer, settings, train

from cattune import CATTrainer, save_examples
from cattune.cli import main as cli
from cattune.methods.base import METHODS, Method
from cattune.models import tiny
from cattune.tasks.base import TASKS, Task
from cattune.training.penalties import objectives

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {
    name: body for name, body in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
(ENTRIES,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The task and the method as files of somebody else's."""
    for name in ("parity.py", "few_links.py"):
        (tmp_path / name).write_text(FILES[name])
    return tmp_path


def test_every_kind_has_its_example() -> None:
    assert set(FILES) == {"objectives.py", "parity.py", "few_links.py", "count.py"}


def test_an_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "OBJECTIVES", dict(objectives.OBJECTIVES))
    exec(compile(FILES["objectives.py"], "objectives.py", "exec"), dict(vars(objectives)))
    figures = [
        train(make_tokenizer(), tmp_path, objective="log_ratio", max_steps=steps, gamma=1.0).evaluate(EXAMPLES)
        for steps in (1, 30)
    ]
    assert figures[1]["eval_causal_mass"] > figures[0]["eval_causal_mass"]


def test_a_task_and_a_method_in_files(folder: Path) -> None:
    task = TASKS.get(str(folder / "parity.py"))(train=20, test=4)
    method = METHODS.get(str(folder / "few_links.py"))
    trains_in_two_steps(task, method, folder)


def test_a_task_and_a_method_in_a_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("parity.py", "few_links.py"):
        (folder / name).rename(package / name)
    installed = folder / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    groups = tomllib.loads(ENTRIES)["project"]["entry-points"]
    lines = [line for group in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in groups[group].items()))]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    assert entry_points(group="cattune.tasks").names >= {"parity"}
    try:
        assert "parity" in TASKS.names() and "few-links" in METHODS.names()
        trains_in_two_steps(TASKS.get("parity")(train=20, test=4), METHODS.get("few-links"), folder)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
            del sys.modules[name]


def trains_in_two_steps(task: Task, method: Method, folder: Path) -> None:
    assert method.needs <= task.parts
    prepared = {name: method.prepare(name, examples, task) for name, examples in task.splits(data_seed=0).items()}
    assert [len(examples) for examples in prepared.values()] == [20, 4]
    assert sum(bool(example.links) for example in prepared["train"]) == 2
    for example in prepared["iid"]:
        (link,) = example.links
        assert example.completion == task.answers[int(example.text_of(link.causes[0])) % 2]
    model, tokenizer = tiny.build(tiny.texts_of(prepared["train"]), seed=0)
    args = settings(folder / "run", max_steps=2, **method.settings)
    CATTrainer(model, args, train_dataset=list(prepared["train"]), processing_class=tokenizer).train()


def test_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("cattune.cli.count")
    exec(compile(FILES["count.py"], "count.py", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, "count"))
    save_examples(tmp_path / "data.jsonl", EXAMPLES)
    assert cli.main(["count", str(tmp_path / "data.jsonl")]) == 0
    linked = sum(bool(example.links) for example in EXAMPLES)
    assert capsys.readouterr().out == f"{len(EXAMPLES)} examples, {linked} with causal links\n"
    assert cli.main(["count", str(tmp_path / "none.jsonl")]) == 2


def test_the_quick_check_names_tests_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(r"^QUICK := (.+)$", makefile, re.MULTILINE)
    assert found
    assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in found[1].split())
