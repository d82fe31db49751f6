"""What labels end with is what stops generation, in every family of chat templates, here and in plain transformers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import CHATML, GEMMA, LLAMA3, MISTRAL, NEXT_ROLE_ENDS, QWEN3, TEXT_ENDS, conversation
from tokenizer_families import family
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from cattune import CATConfig, CATTrainer, Example
from cattune.errors import AlignmentError, DataError
from cattune.evaluation.evaluate import evaluate_model
from cattune.evaluation.generation import Completion, encode_prompts, generate_greedily
from cattune.supervision.rendering.tokenized import End, end_of_turn
from cattune.supervision.rows import encode_examples

PHI = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}"
)
BARE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
BARS = "<\uff5cend\u2581of\uff5c>"


def tokenizer_with(template: str, name: str = "byte-level", *added: AddedToken, **changes: Any) -> Any:
    tokenizer = copy.deepcopy(family(name))
    tokenizer.add_tokens(list(added))
    tokenizer.chat_template = template
    for key, value in changes.items():
        setattr(tokenizer, key, value)
    return tokenizer


def tiny_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Scripted:
    """Stands for a model that writes what it is told to: the labels of one example, over and over."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        self._model, self._ids = model, ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, input_ids: torch.Tensor, generation_config: Any, **_: Any) -> torch.Tensor:
        written: list[int] = []
        stops = generation_config.eos_token_id or []
        while len(written) < generation_config.max_new_tokens and not (written and written[-1] in stops):
            written.append(self._ids[len(written) % len(self._ids)])
        return torch.cat([input_ids, torch.tensor([written]).expand(len(input_ids), -1)], 1)


SPECIAL, PLAIN = AddedToken("<|end|>", special=True), AddedToken("<|end|>", special=False)


@pytest.mark.parametrize(
    ("template", "added", "stops"),
    [
        (CHATML, (), {"<|im_end|>"}),
        (QWEN3, (), {"<|im_end|>"}),
        (LLAMA3, (), {"<|im_end|>"}),
        (GEMMA, (), {"<|im_end|>"}),
        (MISTRAL, (), {"</s>"}),
        (PHI, (SPECIAL,), {"<|end|>", "</s>"}),
        (PHI, (PLAIN,), {"<|end|>", "</s>"}),
        (CHATML.replace("<|im_end|>", BARS), (AddedToken(BARS),), {BARS}),
        (CHATML.replace("<|im_end|>", "<|end|>"), (AddedToken("<|end|>", rstrip=True, lstrip=True),), {"<|end|>"}),
        (TEXT_ENDS, (), {"</s>"}),
        (CHATML.replace("<|im_end|>", "<|eot|>"), (), {"</s>"}),
        (NEXT_ROLE_ENDS, (), {"</s>"}),
        (BARE, (), {"</s>"}),
        (BARE, (AddedToken("\n"),), {"</s>"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["byte-level", "metaspace-bpe"])
def test_a_model_that_writes_the_labels_is_stopped_by_them(
    name: str, template: str, added: tuple[AddedToken, ...], stops: set[str]
):
    tokenizer = tokenizer_with(template, name, *added)
    example = conversation("High risk?", "low risk")
    (feature,), report = encode_examples([example], tokenizer)
    labels = [label for label in feature["labels"] if label != -100]
    assert set(report.ends) == stops
    prompts = encode_prompts([example], tokenizer)
    assert set(tokenizer.convert_ids_to_tokens(list(prompts.stop_ids))) == stops
    (said,) = generate_greedily(
        Scripted(tiny_model(tokenizer), labels), tokenizer, prompts, max_new_tokens=60, batch_size=1
    )
    assert said.finished
    if "</s>" not in stops or template in (MISTRAL, PHI) or name == "byte-level":  # the other knows no text such as #
        assert said.text.removeprefix("<think>\n\n</think>\n\n").removeprefix("think\n\nthink\n\n") == "low risk"


def test_plain_text_that_ends_a_turn_stops_a_model_that_never_writes_eos():
    tokenizer = tokenizer_with(TEXT_ENDS)
    example = conversation("High risk?", "low risk")
    prompts = encode_prompts([example], tokenizer)
    assert prompts.stop_texts == {"\n### End"}
    ids = tokenizer("low risk\n### End\n### user\nhigh", add_special_tokens=False)["input_ids"]
    (said,) = generate_greedily(
        Scripted(tiny_model(tokenizer), ids), tokenizer, prompts, max_new_tokens=40, batch_size=1
    )
    assert said == Completion("low risk", True)
    # A text that answers hold ends none of them.
    assert encode_prompts([example, conversation("?", "a\n### End of b")], tokenizer).stop_texts == frozenset()


def test_a_template_without_an_end_of_turn_is_told_and_refused_where_strict(tmp_path: Path):
    tokenizer = tokenizer_with(BARE)
    example = conversation("High risk?", "low risk")
    (feature,), report = encode_examples([example], tokenizer)
    assert feature["labels"][-1] == feature["input_ids"][-1] == tokenizer.eos_token_id
    assert report.lost == {"label: the chat template writes no end of turn, EOS was put there": 1}
    args = {"report_to": "none", "use_cpu": True, "gamma": 0, "output_dir": str(tmp_path)}
    with pytest.raises(AlignmentError, match="writes no end of turn"):
        CATTrainer(
            tiny_model(tokenizer), CATConfig(**args, strict=True), train_dataset=[example], processing_class=tokenizer
        )
    for other in (CHATML, TEXT_ENDS):
        assert not encode_examples([example], tokenizer_with(other))[1].problems


def test_without_eos_it_is_told_that_nothing_ends_a_completion():
    tokenizer = tokenizer_with(BARE, eos_token=None)
    for example in (conversation("High risk?", "low risk"), Example("e", "High risk? ", "low risk")):
        _, report = encode_examples([example], tokenizer)
        assert report.lost == {"label: no token ends the completion, so the model does not learn to stop": 1}
        assert not report.ends and not encode_prompts([example], tokenizer).stop_ids


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_with_eos_takes_no_end_from_the_labels(side: str):
    from cattune.supervision.collator import CausalCollator

    tokenizer = tokenizer_with(CHATML)
    features, report = encode_examples(
        [Example("a", "risk ", "low"), Example("b", "High risk or ", "middle risk")], tokenizer
    )
    batch = CausalCollator(tokenizer.eos_token_id, side)(features)
    assert (batch["labels"] == tokenizer.eos_token_id).sum(1).tolist() == [1, 1]
    assert report.ends == {"</s>": 2}


def train(tmp_path: Path, model: Any, tokenizer: Any, **more: Any) -> CATTrainer:
    examples = [replace(conversation("High risk?", "low risk"), id=str(number)) for number in range(4)]
    args = CATConfig(
        output_dir=str(tmp_path),
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        gamma=0,
        per_device_train_batch_size=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_steps=more.pop("max_steps", 2),
        save_strategy="steps",
        save_steps=2,
        seed=0,
    )
    trainer = CATTrainer(model, args, train_dataset=examples, processing_class=tokenizer, **more)
    trainer.train()
    trainer.save_model(str(tmp_path))
    return trainer


def test_a_saved_model_stops_in_plain_transformers_and_keeps_its_own_settings(tmp_path: Path):
    tokenizer = tokenizer_with(CHATML)
    model = tiny_model(tokenizer)
    pad = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.5, eos_token_id=[7], pad_token_id=pad)
    train(tmp_path, model, tokenizer, max_steps=60)
    wanted = {7, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        saved = GenerationConfig.from_pretrained(folder)
        assert set(saved.eos_token_id) == wanted
        assert (saved.do_sample, saved.temperature, saved.pad_token_id) == (True, 0.5, pad)
    loaded, its_tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    inputs = its_tokenizer.apply_chat_template(
        [{"role": "user", "content": "High risk?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = loaded.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert its_tokenizer.decode(written) == "low risk<|im_end|>"
    result = evaluate_model(loaded, its_tokenizer, [conversation("High risk?", "low risk")])
    assert (result.accuracy, result.unfinished) == (1.0, 0)


def test_an_adapter_has_its_stop_tokens_beside_it_and_takes_them_into_a_merged_model(tmp_path: Path):
    peft = pytest.importorskip("peft")
    tokenizer = tokenizer_with(CHATML)
    adapter = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    trainer = train(tmp_path, tiny_model(tokenizer), tokenizer, peft_config=adapter)
    wanted = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        assert set(GenerationConfig.from_pretrained(folder).eos_token_id) == wanted
    trainer.model.merge_and_unload().save_pretrained(tmp_path / "merged")
    assert set(GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id) == wanted


def test_what_the_template_writes_by_itself_is_no_part_of_the_answer():
    tokenizer = tokenizer_with(QWEN3)
    examples = [conversation("High risk?", "low risk"), conversation("High risk?", "<think>4</think>low")]
    (feature,), _ = encode_examples(examples, tokenizer)
    labels = [label for label in feature["labels"] if label != -100]
    result = evaluate_model(Scripted(tiny_model(tokenizer), labels), tokenizer, examples)
    (sample,) = result.samples
    assert (sample.target, sample.prediction, sample.exact, sample.finished) == ("low risk", "low risk", True, True)
    assert (result.n, list(result.left_out), list(result.to_dict()["left_out"])) == (1, ["chat"], ["chat"])
    with pytest.raises(DataError, match="1 example, and the chat template renders none"):
        encode_prompts(examples[1:], tokenizer)


@pytest.mark.parametrize("thinking", [True, False])
def test_generation_starts_from_the_tokens_that_training_sees(thinking: bool):
    tokenizer = tokenizer_with(QWEN3)
    example = conversation("High risk?", "low risk")
    kwargs = {"enable_thinking": thinking}
    (feature,), _ = encode_examples([example], tokenizer, chat_template_kwargs=kwargs)
    prompts = encode_prompts([example], tokenizer, kwargs)
    given = tokenizer.apply_chat_template(
        [example.messages[0].to_dict()], add_generation_prompt=True, tokenize=False, **kwargs
    )
    (ids,) = prompts.ids
    assert ids == feature["input_ids"][: len(ids)] and feature["labels"][: len(ids) + 1].count(-100) == len(ids)
    assert tokenizer.decode(ids) == given and given.endswith("assistant\n") == thinking
    # An example's own come first.
    own = conversation("High risk?", "low risk", chat_template_kwargs={"enable_thinking": not thinking})
    assert encode_prompts([own], tokenizer, kwargs).ids[0] != ids


def test_the_end_of_turn_is_known_without_an_example():
    tokenizer = tokenizer_with(CHATML)
    assert end_of_turn(tokenizer) == End((tokenizer.convert_tokens_to_ids("<|im_end|>"),))
    assert end_of_turn(tokenizer_with(TEXT_ENDS)).text == "\n### End"
    for template in (None, "{{ raise_exception('no') }}"):
        assert end_of_turn(tokenizer_with(template)) == End(())
