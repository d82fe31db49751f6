"""Batch files: what is written, what is read back, in which order and in how many rounds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from assistant_server import completion

from cattune import Example, load_examples, save_examples
from cattune.annotation.assistant.batch import URL, collect, read_results, write_requests
from cattune.annotation.assistant.course import Question, course
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.prompt import example_tag, reply_text
from cattune.annotation.assistant.reply_form import output_limit, response_format
from cattune.annotation.store.store import Store
from cattune.annotation.summary import Stopped, Summary
from cattune.cli import main as cli
from cattune.errors import DataError
from cattune.grounding.search import Phrase
from cattune.tasks.stg import load_game, make_split

QUESTION = Question(load_prior("tabular_risk"), "m", {"temperature": 0})
RESPONSE_FORMAT = response_format(QUESTION.prior)
EXAMPLES = make_split(load_game("cancer_risk"), "train", 12, seed=0)

Answer = Callable[[dict[str, Any]], Any]


def good_reply(request: dict[str, Any]) -> str:
    texts = " ".join(turn["content"] for turn in request["body"]["messages"] if turn["role"] == "user")
    example = next(example for example in EXAMPLES if example_tag(example) in texts)
    link = example.links[0]
    causes = tuple(Phrase(example.text_of(cause)) for cause in link.causes)
    return reply_text(example, [(Phrase(example.text_of(link.effect)), causes)])


def result_of(request: dict[str, Any], text: str) -> dict[str, Any]:
    body = completion("m", text, "stop", 100, 10)
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def serve(
    requests: Path, results: Path, answer: Answer = lambda request: result_of(request, good_reply(request))
) -> Path:
    """What a provider makes of a file of requests: results in an order of its own."""
    made = [answer(request) for request in lines(requests)]
    random.Random(0).shuffle(made)
    results.write_text("".join(json.dumps(record) + "\n" for record in made), encoding="utf-8")
    return results


def spans(examples: Iterable[Example]) -> list[Any]:
    return [(example.id, [(link.effect, link.causes) for link in example.links]) for example in examples]


def test_requests_are_those_of_the_batch_service(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        repeated = [*EXAMPLES, replace(EXAMPLES[0], id="the same")]
        assert write_requests(tmp_path / "requests", QUESTION, repeated, store, RESPONSE_FORMAT) == 12
    for request in lines(tmp_path / "requests"):
        assert set(request) == {"custom_id", "method", "url", "body"}
        assert (request["method"], request["url"]) == ("POST", URL)
        body = request["body"]
        assert (body["model"], body["temperature"], body["response_format"]) == ("m", 0, RESPONSE_FORMAT)
        assert body["max_completion_tokens"] == output_limit(QUESTION.prior)
        assert len(request["custom_id"]) == 64


@pytest.mark.parametrize("parameters", [{"max_tokens": 50}, {"max_completion_tokens": 50}])
def test_a_batch_has_one_limit_on_output(tmp_path: Path, parameters: dict[str, int]) -> None:
    with Store(tmp_path / "store") as store:
        question = replace(QUESTION, parameters=parameters)
        write_requests(tmp_path / "requests", question, EXAMPLES, store, RESPONSE_FORMAT, most_tokens=60)
        assert {key: lines(tmp_path / "requests")[0]["body"].get(key) for key in parameters} == parameters
        assert "max_tokens" in parameters or "max_tokens" not in lines(tmp_path / "requests")[0]["body"]
        write_requests(tmp_path / "again", QUESTION, EXAMPLES, store, RESPONSE_FORMAT, most_tokens=60)
    assert lines(tmp_path / "again")[0]["body"]["max_completion_tokens"] == 60
    keys = [line["custom_id"] for line in lines(tmp_path / "again")]
    assert keys == [next(course(QUESTION, example)).key.hex() for example in EXAMPLES], (
        "the limit is no part of the key"
    )


def test_results_in_any_order_give_the_links_in_the_order_of_the_input(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        write_requests(tmp_path / "requests", QUESTION, EXAMPLES, store, RESPONSE_FORMAT)
        results = serve(tmp_path / "requests", tmp_path / "results")
        assert read_results(results, QUESTION, store) == {"new": 12}
        assert read_results(results, QUESTION, store) == {"known": 12}
        assert store.spent("m").requests == 12  # a file that is read twice is not paid twice
        summary = Summary()
        assert spans(collect(QUESTION, EXAMPLES, store, summary)) == spans(EXAMPLES)
        assert summary.annotated == 12
        with pytest.raises(DataError, match="nothing to ask"):
            write_requests(tmp_path / "more", QUESTION, EXAMPLES, store, RESPONSE_FORMAT)


def test_replies_with_problems_go_into_a_second_round(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        write_requests(tmp_path / "requests", QUESTION, EXAMPLES, store, RESPONSE_FORMAT)
        bad = lines(tmp_path / "requests")[4]["custom_id"]

        def answer(request: dict[str, Any]) -> Any:
            return result_of(request, "No." if request["custom_id"] == bad else good_reply(request))

        read_results(serve(tmp_path / "requests", tmp_path / "results", answer), QUESTION, store)
        with pytest.raises(Stopped, match="1 example waits"):
            list(collect(QUESTION, EXAMPLES, store, Summary()))
        assert write_requests(tmp_path / "again", QUESTION, EXAMPLES, store, RESPONSE_FORMAT) == 1
        assert lines(tmp_path / "again")[0]["body"]["messages"][-2]["content"] == "No."
        read_results(serve(tmp_path / "again", tmp_path / "results"), QUESTION, store)
        assert spans(collect(QUESTION, EXAMPLES, store, Summary())) == spans(EXAMPLES)


ERRORS = {
    "batch: batch_expired": lambda request: {
        "custom_id": request["custom_id"],
        "response": None,
        "error": {"code": "batch_expired", "message": "out of time"},
    },
    "batch: status 400": lambda request: {
        "custom_id": request["custom_id"],
        "response": {"status_code": 400, "body": {"error": {"message": "too long"}}},
        "error": None,
    },
    "batch: status 500": lambda request: {
        "custom_id": request["custom_id"],
        "response": {"status_code": 200, "body": {"error": "it broke"}},
    },
    "malformed response": lambda request: {
        "custom_id": request["custom_id"],
        "response": {"status_code": 200, "body": {}},
    },
}


@pytest.mark.parametrize("reason", ERRORS)
def test_errors_are_no_replies_and_are_asked_again(tmp_path: Path, reason: str) -> None:
    examples = EXAMPLES[:3]
    with Store(tmp_path / "store") as store:
        write_requests(tmp_path / "requests", QUESTION, examples, store, RESPONSE_FORMAT)
        first = lines(tmp_path / "requests")[0]["custom_id"]

        def answer(request: dict[str, Any]) -> Any:
            is_first = request["custom_id"] == first
            return result_of(request, good_reply(request)) if is_first else ERRORS[reason](request)

        results = serve(tmp_path / "requests", tmp_path / "results", answer)
        assert read_results(results, QUESTION, store) == {"new": 1, "failed": 2}
        summary = Summary()
        assert [len(example.links) for example in collect(QUESTION, examples, store, summary)] == [1, 0, 0]
        assert (summary.failed, summary.unanswered, summary.unusable) == ({reason: 2}, 2, 0)
        raw = [json.loads(failure.raw) for failure, _, _ in store.failures()]
        assert raw == [line for line in lines(results) if line["custom_id"] != first]
        assert write_requests(tmp_path / "again", QUESTION, examples, store, RESPONSE_FORMAT) == 2
        with pytest.raises(Stopped, match="2 examples wait"):  # they are in the queue again
            list(collect(QUESTION, examples, store, Summary()))
        read_results(serve(tmp_path / "again", tmp_path / "results"), QUESTION, store)
        assert spans(collect(QUESTION, examples, store, Summary())) == spans(examples)


def test_errors_alone_are_no_output(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        write_requests(tmp_path / "requests", QUESTION, EXAMPLES[:2], store, RESPONSE_FORMAT)
        read_results(
            serve(tmp_path / "requests", tmp_path / "results", ERRORS["batch: batch_expired"]), QUESTION, store
        )
        with pytest.raises(Stopped, match="none of the requests was answered"):
            list(collect(QUESTION, EXAMPLES[:2], store, Summary()))


def test_replies_that_could_not_be_used_are_asked_for_again_on_request(tmp_path: Path) -> None:
    question = replace(QUESTION, repair=False)
    with Store(tmp_path / "store") as store:
        write_requests(tmp_path / "requests", question, EXAMPLES[:2], store, RESPONSE_FORMAT)
        no = serve(tmp_path / "requests", tmp_path / "results", lambda request: result_of(request, "No."))
        read_results(no, question, store)
        assert [example.links for example in collect(question, EXAMPLES[:2], store, Summary())] == [(), ()]
        with pytest.raises(DataError, match="--retry-failed"):
            write_requests(tmp_path / "again", question, EXAMPLES[:2], store, RESPONSE_FORMAT)
        assert (
            write_requests(tmp_path / "again", question, EXAMPLES[:2], store, RESPONSE_FORMAT, retry_failed=True) == 2
        )
        read_results(serve(tmp_path / "again", tmp_path / "results"), question, store)
        assert spans(collect(question, EXAMPLES[:2], store, Summary())) == spans(EXAMPLES[:2])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"custom_id": "request-1", "response": {}}, "'custom_id' is one that --batch write gave"),
        ({"response": {}}, "custom_id"),
        ({"custom_id": "0" * 64, "method": "POST", "body": {}}, "the file of requests"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    (tmp_path / "results").write_text(json.dumps(record))
    with Store(tmp_path / "store") as store, pytest.raises(DataError, match=message):
        read_results(tmp_path / "results", QUESTION, store)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_examples(tmp_path / "in.jsonl", [replace(example, links=()) for example in EXAMPLES])
    out, requests, results = (str(tmp_path / name) for name in ("out.jsonl", "requests.jsonl", "results.jsonl"))
    command = ["annotate", str(tmp_path / "in.jsonl"), "--prior", "tabular_risk", "--model", "m", "--out", out]
    assert cli.main([*command, "--batch", "write", requests]) == 0
    assert "wrote 12 requests" in capsys.readouterr().err
    assert cli.main([*command, "--batch", "write", requests]) == 2
    assert "already exists" in capsys.readouterr().err
    serve(Path(requests), Path(results))
    half = tmp_path / "half.jsonl"
    half.write_text("".join(line + "\n" for line in Path(results).read_text().splitlines()[:5]))
    assert cli.main([*command, "--batch", "read", str(half)]) == 1
    assert "write what is open with --batch write" in capsys.readouterr().err
    assert not Path(out).exists()
    assert cli.main([*command, "--batch", "read", results, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["annotated"] == 12
    assert spans(load_examples(out)) == spans(EXAMPLES)
