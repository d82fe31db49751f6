"""Evaluation: generation against a slow reference, what is counted, and the command with its errors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from cattune.cli.main import main
from cattune.data.examples import Example, Message
from cattune.errors import ConfigError, DataError, OutputError
from cattune.evaluation.evaluate import PROMPT_TAIL, evaluate_model, write_samples
from cattune.evaluation.generation import encode_prompts, generate_greedily
from cattune.evaluation.models import load_model, pick_device
from cattune.formats.loading import save_examples
from cattune.models import tiny
from cattune.supervision.rows import generation_prefix

NAMES = ["Smoking", "Weight", "Exercise", "Hormones", "Room size"]


def make_examples(n: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    examples = []
    for i in range(n):
        attributes = rng.sample(NAMES, rng.randint(1, len(NAMES)))
        prompt = ", ".join(f"{name}: {rng.randint(1, 10)}" for name in attributes) + " Answer: "
        label = "Low Risk" if rng.random() < 0.7 else "High Risk"
        examples.append(Example(f"e{i}", prompt, label, metadata={"first": i % 3 == 0}))
    return examples


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing their work among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return tiny.build(tiny.texts_of(make_examples(50)), seed=1)


def written(model: Any, prefix: Sequence[int], limit: int, stop: set[int]) -> list[int]:
    """What a greedy model writes: one prompt at a time, without padding and without a cache."""
    ids = list(prefix)
    with torch.no_grad():
        while len(ids) < len(prefix) + limit and (len(ids) == len(prefix) or ids[-1] not in stop):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prefix) :]


def reference(model: Any, tokenizer: Any, prefix: Sequence[int], limit: int, stop: set[int]) -> tuple[str, bool]:
    ids = written(model, prefix, limit, stop)
    finished = ids[-1] in stop
    return tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True).strip(), finished


def test_batches_with_padding_write_what_one_prompt_at_a_time_writes(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    examples = make_examples(20)
    prompts = encode_prompts(examples, tokenizer)
    assert prompts.ids == tuple(generation_prefix(example, tokenizer) for example in examples)
    assert len(set(map(len, prompts.ids))) > 3
    # A token that this untrained model writes now and then ends its completions, so that some end early.
    stop = written(model, prompts.ids[0], 4, set())[2]
    wanted = [reference(model, tokenizer, ids, 4, {stop, tokenizer.eos_token_id}) for ids in prompts.ids]
    assert {finished for _, finished in wanted} == {True, False}
    model.generation_config.eos_token_id = [stop]
    try:
        for batch_size in (1, 7, 64):
            seen: list[tuple[int, int]] = []
            got = generate_greedily(
                model,
                tokenizer,
                prompts,
                max_new_tokens=4,
                batch_size=batch_size,
                progress=lambda *at, seen=seen: seen.append(at),  # type: ignore[misc]
            )
            assert [(completion.text, completion.finished) for completion in got] == wanted
            assert seen[-1] == (20, 20) and len(seen) == -(-20 // batch_size)
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id


def test_generation_is_plainly_greedy_and_leaves_the_model_as_it_was(pair: tuple[Any, Any]) -> None:
    model, tokenizer = tiny.build(tiny.texts_of(make_examples(50)), seed=1)
    prompts = encode_prompts(make_examples(12), tokenizer)
    wanted = generate_greedily(model, tokenizer, prompts, max_new_tokens=6, batch_size=4)
    settings = model.generation_config
    settings.update(repetition_penalty=50.0, do_sample=True, temperature=5.0, min_new_tokens=6, max_length=3)
    model.train()
    frozen = model.model.layers[0]
    frozen.eval()
    assert generate_greedily(model, tokenizer, prompts, max_new_tokens=6, batch_size=4) == wanted
    assert model.generation_config is settings and settings.repetition_penalty == 50.0
    assert model.training and model.model.layers[1].training and not frozen.training
    assert not torch.is_inference_mode_enabled()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    model.generate = fail
    with pytest.raises(RuntimeError, match="broken"):
        generate_greedily(model, tokenizer, prompts, max_new_tokens=6, batch_size=4)
    assert model.generation_config is settings and model.training and not frozen.training


def test_scores_count_what_the_model_wrote(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    examples = make_examples(40)
    prompts = encode_prompts(examples, tokenizer)
    said = generate_greedily(model, tokenizer, prompts, max_new_tokens=prompts.longest_target + 2, batch_size=16)
    # The targets of the even examples become what the model says, so that half of the answers, and no more, are right.
    edited = [
        Example(e.id, e.prompt, said[i].text if i % 2 == 0 else "High Risk 7", metadata=e.metadata)
        for i, e in enumerate(examples)
    ]
    assert all(completion.text for completion in said)
    limit = prompts.longest_target + 2
    result = evaluate_model(model, tokenizer, edited, batch_size=16, max_new_tokens=limit, by="first")
    assert (result.n, result.accuracy, result.stderr) == (40, 0.5, pytest.approx(0.5 / 40**0.5))
    assert [sample.exact for sample in result.samples] == [True, False] * 20
    assert [sample.id for sample in result.samples] == [example.id for example in examples]
    assert result.majority_label == "High Risk 7" and result.majority.accuracy == 0.5
    assert result.unfinished == sum(not completion.finished for completion in said)
    thirds = [i for i in range(40) if i % 3 == 0]
    assert result.groups["true"].n == len(thirds) and result.groups["false"].n == 40 - len(thirds)
    assert result.groups["true"].accuracy == sum(i % 2 == 0 for i in thirds) / len(thirds)
    record = result.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert (record["accuracy"], record["n"], record["grouped_by"]) == (0.5, 40, "first")
    assert record["majority"]["label"] == "High Risk 7" and record["majority"]["accuracy"] == 0.5


def test_the_default_limit_leaves_room_for_the_longest_target(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    limits: list[int] = []
    generate = model.generate

    def spy(**arguments: Any) -> Any:
        limits.append(arguments["generation_config"].max_new_tokens)
        return generate(**arguments)

    model.generate = spy
    try:
        # " Smoking", " Weight" and EOS are three labels; two are to spare
        evaluate_model(model, tokenizer, [Example("a", "Weight: 3", " Smoking Weight"), Example("b", "Weight", " 5")])
    finally:
        del model.generate
    assert limits[-1] == 3 + 2  # the calls before try out whether padding shows


def test_a_turn_ends_where_the_chat_template_ends_it(pair: tuple[Any, Any]) -> None:
    model, tokenizer = tiny.build(tiny.texts_of(make_examples(50)), seed=1)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    talk = Example("t", messages=(Message("user", "Weight: 3?"), Message("assistant", "Low Risk")))
    prompts = encode_prompts([talk], tokenizer)
    assert prompts.stop_ids == {tokenizer.convert_tokens_to_ids("<end>")}
    result = evaluate_model(model, tokenizer, [talk], max_new_tokens=2)
    assert result.samples[0].prompt_tail == "Weight: 3?" and result.samples[0].target == "Low Risk"


def test_samples_are_written_one_to_a_line(pair: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = pair
    examples = [Example("long", "Weight: 3, " * 60 + "Answer: ", "8"), Example("short", "Weight: ", "Low Risk")]
    results = {"iid": evaluate_model(model, tokenizer, examples), "ood": evaluate_model(model, tokenizer, examples[1:])}
    assert write_samples(tmp_path / "samples.jsonl", results) == 3
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [(line["split"], line["id"]) for line in lines] == [("iid", "long"), ("iid", "short"), ("ood", "short")]
    assert len(lines[0]["prompt_tail"]) == PROMPT_TAIL and lines[0]["prompt_tail"].endswith("Answer: ")
    assert lines[0]["numeric"] in (True, False) and lines[1]["numeric"] is None
    assert set(lines[0]) >= {"id", "prompt_tail", "target", "prediction", "exact", "numeric", "finished"}


def test_what_cannot_be_evaluated_is_refused(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    examples = make_examples(3)

    def refused(error: type[Exception], message: str, given: Any = model, data: Any = examples, **kw: Any) -> None:
        with pytest.raises(error, match=message):
            evaluate_model(given, tokenizer, data, **kw)

    refused(DataError, "no example to evaluate", data=[])
    refused(ConfigError, "batch_size is 0; expected 1 or more", batch_size=0)
    refused(ConfigError, "max_new_tokens is -1", max_new_tokens=-1)
    refused(ConfigError, "2048 positions", max_new_tokens=2048)
    refused(ConfigError, "metadata key 'order' to group by; the keys that occur: first", by="order")
    small = dict(vocab_size=400, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    refused(ConfigError, "is an encoder-decoder", given=T5ForConditionalGeneration(T5Config(**small)))
    bert = BertConfig(vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    refused(ConfigError, "BertModel cannot generate", given=BertModel(bert))
    other, _ = tiny.build(["one"], seed=0)
    other.resize_token_embeddings(10)
    refused(ConfigError, "do not belong together", given=other)


def test_an_example_without_the_key_is_a_group_of_its_own(pair: tuple[Any, Any]) -> None:
    model, tokenizer = pair
    examples = [*make_examples(2), Example("bare", "Weight: ", "Low Risk")]
    assert set(evaluate_model(model, tokenizer, examples, by="first").groups) == {"true", "false", "(absent)"}


def test_too_little_memory_is_told_with_what_to_do(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = pair

    def exhausted(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "generate", exhausted, raising=False)
    with pytest.raises(ConfigError, match="use a batch size below 3"):
        evaluate_model(model, tokenizer, make_examples(3))


@pytest.fixture(scope="module")
def saved(pair: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, tokenizer = pair
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    save_examples(folder / "ours.jsonl", make_examples(30))
    published = [{"input": e.prompt, "target": e.target} for e in make_examples(20, seed=5)]
    (folder / "published.jsonl").write_text("".join(json.dumps(record) + "\n" for record in published))
    (folder / "empty.jsonl").write_text("")
    (folder / "nothing").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "config.json").write_text('{"model_type": "llama", "hidden_size": "big"}')
    return folder


def evaluate(saved: Path, *more: str, model: str = "model", data: Sequence[str] = ("ours.jsonl",)) -> int:
    pairs = [f"s{i}={saved / name}" for i, name in enumerate(data)]
    return main(["evaluate", "--device", "cpu", "--model", str(saved / model), "--data", *pairs, *more])


def test_the_command_reads_both_formats_and_writes_scores_and_samples(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, samples = tmp_path / "scores.json", tmp_path / "samples.jsonl"
    data = ("ours.jsonl", "published.jsonl")
    assert evaluate(saved, "--out", str(out), "--samples", str(samples), "--batch-size", "8", data=data) == 0
    printed = capsys.readouterr()
    assert printed.out.count("majority: Low Risk") == 2 and "Traceback" not in printed.err
    record = json.loads(out.read_text())
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for name, n in (("s0", 30), ("s1", 20)):
        split = record["splits"][name]
        exact = [line["exact"] for line in lines if line["split"] == name]
        assert split["n"] == n == len(exact)
        assert split["accuracy"] == sum(exact) / n and 0 <= split["stderr"] <= 0.5
    config = record["provenance"]["config"]
    assert config["batch_size"] == 8 and str(saved) not in out.read_text()

    before = out.read_bytes()
    assert evaluate(saved, "--out", str(out)) == 2
    assert "already exists; pass --overwrite" in capsys.readouterr().err and out.read_bytes() == before
    assert evaluate(saved, "--out", str(out), "--overwrite", "--json", "--by", "first") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(out.read_text()) and set(shown["splits"]) == {"s0"}
    assert set(shown["splits"]["s0"]["groups"]) == {"true", "false"}


@pytest.mark.parametrize(
    ("model", "data", "more", "message"),
    [
        ("absent", "s=ours.jsonl", [], "does not exist; name a folder with a model"),
        ("nothing", "s=ours.jsonl", [], "no causal language model can be loaded"),
        ("damaged", "s=ours.jsonl", [], "no causal language model can be loaded"),
        ("model", "s=absent.jsonl", [], "absent.jsonl does not exist"),
        ("model", "s=empty.jsonl", [], "is empty"),
        ("model", "ours.jsonl", [], "expected NAME=FILE"),
        ("model", "=ours.jsonl", [], "expected NAME=FILE"),
        ("model", "s=", [], "expected NAME=FILE"),
        ("model", "s=ours.jsonl s=ours.jsonl", [], "names the split 's' twice"),
        ("model", "s=ours.jsonl", ["--batch-size", "0"], "batch_size is 0"),
        ("model", "s=ours.jsonl", ["--max-new-tokens", "0"], "max_new_tokens is 0"),
        ("model", "s=ours.jsonl", ["--device", "warp"], "device 'warp' cannot be used"),
        ("model", "s=ours.jsonl", ["--by", "absent"], "no example has the metadata key 'absent'"),
        ("model", "s=ours.jsonl", ["--samples", "out.json"], "is named for two outputs"),
        ("model", "s=ours.jsonl", ["--out", "."], "is a folder; name a file"),
    ],
)
def test_a_wrong_call_gives_one_message_and_status_2(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    model: str, data: str, more: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pairs = [pair.replace("=", f"={saved}/") if not pair.endswith("=") else pair for pair in data.split()]
    call = ["evaluate", "--model", str(saved / model), "--out", "out.json", "--data", *pairs, *more]
    assert main(call) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and not printed.out
    assert not (tmp_path / "out.json").exists()


def test_the_device_is_the_accelerator_or_the_cpu() -> None:
    assert pick_device("cpu").type == "cpu"
    assert (pick_device("auto").type == "cpu") == (not torch.accelerator.is_available())
    for name in ("", "cuda:99", "warp", "cpu:x", "meta:"):
        with pytest.raises(ConfigError, match="cannot be used"):
            pick_device(name)


def test_a_model_without_its_tokenizer_is_refused(pair: tuple[Any, Any], tmp_path: Path) -> None:
    pair[0].save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer can be loaded"):
        load_model(tmp_path, "cpu")


def test_tiny_is_a_model_only_once_it_is_trained() -> None:
    with pytest.raises(ConfigError, match="name the folder that training wrote"):
        load_model("tiny")


def test_an_output_folder_is_refused_before_any_work(saved: Path, tmp_path: Path) -> None:
    from cattune.cli.evaluate import run

    args = SimpleNamespace(data=["s=absent"], out=str(tmp_path), samples=None, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        run(args)  # type: ignore[arg-type]
