"""The scripts in examples/ run, offline, and show what they say they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / name), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir()), "an example leaves nothing behind"
    return done.stdout


# Each trains two models in a process of its own: about 8 s, most of them imports.
@pytest.mark.slow
def test_links_help_where_the_correlation_ends(tmp_path: Path) -> None:
    said = run("train_with_links.py", tmp_path)
    losses = {(gamma, test): float(loss) for gamma, test, loss in re.findall(r"gamma (\S+), (\w+): loss (\S+),", said)}
    assert losses["1.0", "ood"] < 0.5 * losses["0.0", "ood"]
    assert losses["0.0", "iid"] < 0.5 * losses["0.0", "ood"]


@pytest.mark.slow
def test_the_trained_model_reads_the_cause(tmp_path: Path) -> None:
    plain, trained = run("what_an_answer_reads.py", tmp_path).split("trained with gamma 1.0")
    rows = [re.findall(r"'(.+?)'\s+([\d.]+)%", part) for part in (plain, trained)]
    assert [token for token, _ in rows[0]] == [token for token, _ in rows[1]]
    assert sum(float(share) for _, share in rows[1]) == pytest.approx(100, abs=1)
    shares = [float(dict(row)[" 4"]) for row in rows]
    assert shares[1] > 80 > shares[0]
