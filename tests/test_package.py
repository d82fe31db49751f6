"""What `import cattune` gives, what it must not load, and that the project's own files agree with each other."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement

import cattune
import cattune.annotation

ROOT = Path(__file__).parents[1]
PACKAGE = Path(cattune.__file__).parent
HEAVY = {
    "accelerate",
    "datasets",
    "jinja2",
    "numpy",
    "peft",
    "rich",
    "tokenizers",
    "torch",
    "transformers",
}


def floors() -> list[list[str]]:
    """The rooms of each floor, lowest first, as ARCHITECTURE.md has them."""
    rows = re.findall(r"^\| ((?:`[\w/]+` ?)+) \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [re.findall(r"`(\w+)/?`", row) for row in reversed(rows)]


def heavy_modules_after(code: str) -> set[str]:
    """The heavy libraries that are loaded after some code has run in a fresh interpreter."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('loaded:', *sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return HEAVY & set(done.stdout.rpartition("loaded:")[2].split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import cattune") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["align", "--help"], ["evaluate", "--nonsense"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_modules_after(f"from cattune.cli.main import main; main({arguments})") == set()


def test_heavy_modules_are_noticed() -> None:
    assert "numpy" in heavy_modules_after("import numpy")


def test_data_model_and_game_do_not_need_torch() -> None:
    modules = ("data.records", "data.jsonl", "formats.loading", "grounding", "supervision", "tasks.stg")
    code = "; ".join(f"import cattune.{name}" for name in modules)
    assert not heavy_modules_after(code) & {"torch", "transformers", "datasets"}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in (cattune, cattune.annotation) for name in package.__all__]
)
def test_every_public_name_is_there(package: ModuleType, name: str) -> None:
    value = getattr(package, name)
    if hasattr(value, "__module__"):
        assert value is getattr(importlib.import_module(value.__module__), name)
    assert name in dir(package)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'cattune' has no attribute 'CATTrainr'"):
        cattune.CATTrainr  # noqa: B018


@pytest.mark.parametrize("package", [cattune, cattune.annotation])
def test_type_checkers_see_what_is_imported_at_run_time(package: ModuleType) -> None:
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == package._MODULES
    assert set(package.__all__) - {"__version__"} == set(seen)


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def modules() -> Iterator[tuple[str, Path]]:
    """The parts of the package, such as `io` and `cli`, with their source files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            yield part, path


def imports(path: Path) -> set[str]:
    """The parts of cattune that a file imports anywhere in it, other than for type checkers alone."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                home = cattune._MODULES.get(alias.name) if node.module == "cattune" else node.module
                yield f"{home or 'cattune'}.{alias.name}"
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    names = (name.split(".") for name in visit(ast.parse(path.read_text(encoding="utf-8"))))
    return {name[1] for name in names if name[0] == "cattune" and len(name) > 1} - {"__version__"}


def test_rooms_import_only_from_their_floor_and_below() -> None:
    floor_of = {room: level for level, rooms in enumerate(floors()) for room in rooms}
    assert sorted(floor_of) == sorted({part for part, _ in modules()}), "ARCHITECTURE.md names each room once"
    assert len(floor_of) == sum(map(len, floors()))
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for part, path in modules()
        for other in imports(path)
        if floor_of[other] > floor_of[part]
    ]
    assert wrong == []


def project() -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)["project"]
    groups: dict[str, list[str]] = {"": table["dependencies"], **table["optional-dependencies"]}
    return groups


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {key.lower().replace("_", "-"): version for key, version in pinned.items()}


def requirements(*groups: str) -> list[Requirement]:
    wanted = [Requirement(text) for group in groups for text in project()[group]]
    return [requirement for requirement in wanted if requirement.name != "causal-attention-tuning"]


def test_constraints_pin_every_requirement_within_its_bounds() -> None:
    pinned = pins("constraints.txt")
    for requirement in requirements(*project()):
        assert pinned[requirement.name.lower()] in requirement.specifier, requirement


def test_lowest_versions_that_are_claimed_are_those_that_are_tested() -> None:
    pinned = pins("constraints-min.txt")
    for requirement in requirements("", "peft", "annotate", "local", "review"):
        claimed = re.fullmatch(r">=([\w.]+)", str(requirement.specifier))
        assert claimed, f"{requirement} should claim a lowest version and no highest"
        assert re.match(rf"{re.escape(claimed[1])}(\.|$)", pinned[requirement.name.lower()]), requirement


def test_project_files_name_the_same_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {cattune.__version__}\n" in citation
    newest = re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert newest and newest[1] == cattune.__version__


def test_commit_hooks_use_the_pinned_linter() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (revision,) = [repo["rev"] for repo in hooks["repos"] if "ruff" in repo["repo"]]
    assert revision == f"v{pins('constraints.txt')['ruff']}"


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda path: path.name)
def test_forms_and_workflows_are_whole(form: Path) -> None:
    read = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.parent.name == "workflows":
        assert all(job["steps"] for job in read["jobs"].values())
        assert read["permissions"] == {"contents": "read"}, "a job that needs more says so itself"
    elif form.name != "config.yml":
        assert read["name"] and read["description"]
        names = [field["id"] for field in read["body"]]
        assert len(set(names)) == len(names)
