"""`cattune review` as a process that is killed in the middle of its work, twenty times: no confirmed edit is lost."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cattune.data.examples import CausalLink, Example, Span
from cattune.formats.loading import load_examples, save_examples

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

KILLS = 20
COUNT = 40
LINK = CausalLink(Span("completion", 0, 1), (Span("prompt", 0, 3),))


class Review:
    """The process, and what the page asks of it."""

    def __init__(self, file: Path) -> None:
        code = "import sys; from cattune.cli.main import main; sys.exit(main(sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "review", str(file), "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        found = re.match(r"http://127\.0\.0\.1:(\d+)(/\S+)", self.process.stdout.readline())
        assert found, self.process.communicate()[1]
        self.port = int(found[1])
        self.headers = {"origin": f"http://127.0.0.1:{self.port}", "content-type": "application/json"}
        answer = self._ask("GET", found[2])
        self.headers["cookie"] = answer[2].partition(";")[0]

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("set-cookie") or ""
        finally:
            connection.close()

    def example(self, index: int) -> Any:
        return json.loads(self._ask("GET", f"/api/examples/{index}")[1])["example"]

    def document(self) -> Any:
        return json.loads(self._ask("GET", "/api/document")[1])

    def set_done(self, index: int, version: int, done: bool) -> bool:
        body = {"version": version, "edit": {"kind": "done", "done": done}}
        return self._ask("POST", f"/api/examples/{index}", body)[0] == 200

    def save(self) -> bool:
        return self._ask("POST", "/api/save", {})[0] == 200

    def stop(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        return self.process.communicate(timeout=30)[1]


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    """Edits and saves as fast as they are answered, a kill at any moment, and now and then another program's change."""
    rng = random.Random(0)
    file = tmp_path / "f.jsonl"
    save_examples(file, [Example(f"{number}", "1 2 = " + "x" * 2000, "3", links=(LINK,)) for number in range(COUNT)])
    wanted: list[set[bool]] = [{False} for _ in range(COUNT)]  # two where the answer did not come
    theirs: set[int] = set()  # changed by another program
    for round_number in range(KILLS):
        review = Review(file)
        told = review.document()["carried_over"]
        asides = {example.id: example for path in tmp_path.glob("*.set-aside-*") for example in load_examples(path)}
        for index in range(COUNT):
            shown = review.example(index)["done"]
            if shown not in wanted[index]:
                assert index in theirs, f"round {round_number}: {index} was lost"
                kept = asides[str(index)]
                assert (kept.metadata.get("reviewed") is True) in wanted[index] and told["set_aside"]
            wanted[index] = {shown}
        theirs.clear()
        _work_until_killed(review, wanted, rng)
        if round_number % 3 == 2:
            index = rng.randrange(COUNT)
            examples = load_examples(file)
            metadata = {**examples[index].metadata, "theirs": round_number}
            examples[index] = Example(str(index), examples[index].prompt, "3", links=(LINK,), metadata=metadata)
            save_examples(file, examples)
            theirs.add(index)
    review = Review(file)
    assert review.save()
    final = [review.example(index)["done"] for index in range(COUNT)]
    assert "everything is saved" in review.stop(signal.SIGINT) or list(tmp_path.glob("*.set-aside-*"))
    assert [example.metadata.get("reviewed") is True for example in load_examples(file)] == final
    left = {path.name for path in tmp_path.iterdir() if "set-aside" not in path.name}
    assert left == {"f.jsonl"}, "a journal, a lock or a temporary file is left"


def _work_until_killed(review: Review, wanted: list[set[bool]], rng: random.Random) -> None:
    after = threading.Timer(rng.uniform(0.02, 0.5), review.process.kill)
    after.start()
    started = time.monotonic()
    try:
        while time.monotonic() - started < 10:
            if rng.random() < 0.2:
                review.save()
                continue
            index = rng.randrange(COUNT)
            shown = review.example(index)
            done = not shown["done"]
            wanted[index] = {shown["done"], done}
            if review.set_done(index, shown["version"], done):
                wanted[index] = {done}
    except (OSError, http.client.HTTPException, ValueError):
        pass
    after.join()
    review.process.communicate(timeout=30)
