"""The one loader of models and tokenizers: code that stays off, adapters and their bases, and what is not there."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from training import EXAMPLES, make_model, make_tokenizer
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cattune.annotation.assistant.local import LocalModel
from cattune.cli.main import main
from cattune.errors import ConfigError
from cattune.evaluation.models import load_model as load_pair
from cattune.experiments.training import load_or_build
from cattune.formats.loading import save_examples
from cattune.models.adapters import with_base
from cattune.models.embeddings import check_token_id
from cattune.models.load import load_model, load_tokenizer

TEXT = "red: 3, blue: 4, so: "
CODE = """\
import pathlib
(pathlib.Path({ran!r}) / "ran").touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass

def generate(model, *args, **kwargs):
    raise RuntimeError("the folder's own generate")
"""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_examples(tmp_path / "data.jsonl", EXAMPLES[:2])
    return tmp_path / "data.jsonl"


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def last_logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)).logits[0, -1]


def save_adapter(base: Path, folder: Path, tokenizer: Any, tokens: list[str] | None = None, **lora: Any) -> Any:
    """Saves a LoRA with random weights upon the base, with new tokens, and returns its model."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if tokens:
        tokenizer.add_tokens(tokens)
        model.resize_token_embeddings(len(tokenizer))
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, **lora))
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return adapted


def with_code(base: Path, folder: Path, where: str) -> Path:
    """A copy of the base that brings code; returns the folder to load, which an adapter may be."""
    shutil.copytree(base, folder)
    (folder / "own.py").write_text(CODE.format(ran=str(folder)))
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    if where == "tokenizer":
        change(
            folder / "tokenizer_config.json",
            tokenizer_class="Own",
            auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
        )
    elif where == "elsewhere":
        change(
            folder / "config.json", model_type="own", auto_map={key: f"an/other--{v}" for key, v in auto_map.items()}
        )
    else:
        change(folder / "config.json", model_type="own", auto_map=auto_map)
    return folder


CALLS = {
    "evaluate": lambda model, data: ["evaluate", "--model", model, "--data", f"a={data}", "--out", "out.json"],
    "train": lambda model, data: ["train", "--model", model, "--train_file", str(data), "--output_dir", "run"],
    "align": lambda model, data: ["align", str(data), "--tokenizer", model],
    "annotate": lambda model, data: (
        ["annotate", str(data), "--prior", "arithmetic", "--local", "--model", model, "--out", "out.jsonl"]
    ),
}  # fmt: skip


class TestCode:
    @pytest.mark.parametrize("command", CALLS)
    @pytest.mark.parametrize("where", ["model", "tokenizer", "elsewhere"])
    def test_never_runs_whatever_standard_input_says(
        self, command: str, where: str, base: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
    ) -> None:
        folder = with_code(base, tmp_path / "own", where)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
        status = main(CALLS[command](str(folder), data))
        printed = capsys.readouterr()
        assert not (folder / "ran").exists() and "[y/N]" not in printed.out + printed.err
        if command == "align" and where != "tokenizer":
            assert status == 0  # the model's code has nothing to do with its tokenizer
        else:
            assert status == 2
            assert f"{str(folder)!r} brings code of its own" in printed.err and "--trust-remote-code" in printed.err

    def test_of_an_adapters_base_never_runs(self, base: Path, tokenizer: Any, tmp_path: Path) -> None:
        save_adapter(base, tmp_path / "adapter", make_tokenizer())
        own = with_code(base, tmp_path / "own", "model")
        change(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(own))
        with pytest.raises(ConfigError, match=f"base model '{own}' brings code of its own"):
            load_pair(tmp_path / "adapter", "cpu")
        assert not (own / "ran").exists()

    def test_of_a_known_kind_of_model_is_left_aside(self, base: Path, tmp_path: Path) -> None:
        """The library has the model's class itself, and neither the folder's code nor its `generate` is taken."""
        folder = with_code(base, tmp_path / "own", "model")
        change(folder / "config.json", model_type="llama")
        (folder / "custom_generate").mkdir()
        shutil.copy(folder / "own.py", folder / "custom_generate" / "generate.py")
        model, tokenizer = load_pair(folder, "cpu")
        model.generate(**tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False), max_new_tokens=1)
        assert type(model) is LlamaForCausalLM and not (folder / "ran").exists()

    @pytest.mark.parametrize("command", ["evaluate", "train", "align", "annotate"])
    def test_runs_where_the_user_says_so(
        self, command: str, base: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
    ) -> None:
        monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
        folder = with_code(base, tmp_path / "own", "tokenizer" if command == "align" else "model")
        monkeypatch.chdir(tmp_path)
        main([*CALLS[command](str(folder), data), "--trust-remote-code"])
        assert (folder / "ran").exists(), capsys.readouterr().err

    def test_flag_needs_a_model_that_runs_here(self, data: Path, capsys: Any) -> None:
        call = ["annotate", str(data), "--prior", "arithmetic", "--model", "m", "--dry-run", "--trust-remote-code"]
        assert main(call) == 2
        assert "without --local no model runs here" in capsys.readouterr().err

    def test_of_the_local_assistant_never_runs(self, base: Path, tmp_path: Path) -> None:
        folder = with_code(base, tmp_path / "own", "model")
        with pytest.raises(ConfigError, match="brings code of its own"):
            LocalModel(folder, device="cpu")
        assert not (folder / "ran").exists()


class TestAdapters:
    @pytest.mark.parametrize(
        "tokens, lora",
        [
            ([], {"target_modules": "all-linear"}),
            (["<cause>", "</cause>"], {"target_modules": "all-linear"}),
            (["<cause>"], {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
            (["<cause>"], {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
            (["<cause>"], {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]}),
        ],
        ids=["plain", "resized", "saved", "adapted embeddings", "trained tokens"],
    )
    @pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
    def test_load_as_they_were_saved(
        self, tokens: list[str], lora: dict[str, Any], tied: bool, base: Path, tmp_path: Path
    ) -> None:
        if tied:
            base = tmp_path / "tied"
            tokenizer = make_tokenizer()
            torch.manual_seed(1)
            config = LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                num_attention_heads=2, tie_word_embeddings=True,
            )  # fmt: skip
            LlamaForCausalLM(config).save_pretrained(base)
        saved = save_adapter(base, tmp_path / "adapter", make_tokenizer(), tokens, **lora)
        model, tokenizer = load_pair(tmp_path / "adapter", "cpu")
        want = last_logits(saved, tokenizer)
        assert want.shape[0] == len(tokenizer) == len(make_tokenizer()) + len(tokens)
        torch.testing.assert_close(last_logits(model, tokenizer), want, rtol=0, atol=1e-5)

    def test_a_base_with_more_embeddings_than_tokens_keeps_them(self, tokenizer: Any, tmp_path: Path) -> None:
        """Vocabularies are padded to a round number; the tokenizer's own length says nothing then."""
        model = make_model(tokenizer)
        model.resize_token_embeddings(len(tokenizer) + 7)
        model.save_pretrained(tmp_path / "base")
        saved = save_adapter(tmp_path / "base", tmp_path / "adapter", make_tokenizer())
        loaded, _ = load_pair(tmp_path / "adapter", "cpu")
        assert loaded.get_input_embeddings().weight.shape[0] == len(tokenizer) + 7
        torch.testing.assert_close(last_logits(loaded, tokenizer), last_logits(saved, tokenizer))

    def test_stop_where_their_own_settings_say(self, base: Path, tmp_path: Path) -> None:
        save_adapter(base, tmp_path / "adapter", make_tokenizer())
        GenerationConfig(eos_token_id=[1, 7]).save_pretrained(tmp_path / "adapter")
        assert load_model(tmp_path / "adapter").generation_config.eos_token_id == [1, 7]

    def test_take_the_tokenizer_of_their_base(self, base: Path, tokenizer: Any, tmp_path: Path) -> None:
        save_adapter(base, tmp_path / "adapter", make_tokenizer())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / "adapter" / name).unlink()
        assert load_tokenizer(tmp_path / "adapter").get_vocab() == tokenizer.get_vocab()

    def test_find_a_base_beside_them(self, base: Path, tokenizer: Any, tmp_path: Path) -> None:
        """A base whose path is written as seen from the adapter's folder moves along with it."""
        saved = save_adapter(base, tmp_path / "adapter", make_tokenizer())
        shutil.copytree(base, tmp_path / "adapter" / "base")
        change(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="base")
        moved = (tmp_path / "adapter").rename(tmp_path / "moved")
        torch.testing.assert_close(last_logits(load_model(moved), tokenizer), last_logits(saved, tokenizer))

    @pytest.mark.parametrize(
        "name, message",
        [
            ("gone/far/away", "base model 'gone/far/away' of the adapter '{adapter}' is not there"),
            ("some-owner/some-model", "base model 'some-owner/some-model' of the adapter '{adapter}' is not there"),
            ("", "does not say which base model it is for"),
            (None, "does not say which base model it is for"),
            ("{adapter}", "which is itself an adapter"),
        ],
    )
    def test_without_their_base_say_so(
        self, name: str | None, message: str, base: Path, data: Path, tmp_path: Path, capsys: Any
    ) -> None:
        adapter = tmp_path / "adapter"
        save_adapter(base, adapter, make_tokenizer())
        named = name.format(adapter=adapter) if name else name
        change(adapter / "adapter_config.json", base_model_name_or_path=named)
        call = ["evaluate", "--model", str(adapter), "--data", f"a={data}", "--out", str(tmp_path / "out.json")]
        capsys.readouterr()
        assert main(call) == 2
        err = capsys.readouterr().err
        assert message.format(adapter=adapter) in err and err.count("\n") == 1

    def test_upon_a_base_that_is_stored_nowhere_are_merged_to_be_saved(self, tokenizer: Any, base: Path) -> None:
        model = get_peft_model(make_model(tokenizer), LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
        expected = last_logits(model, tokenizer)
        whole = with_base(model)
        assert type(whole) is LlamaForCausalLM
        torch.testing.assert_close(last_logits(whole, tokenizer), expected, rtol=0, atol=1e-5)
        for left_alone in (
            whole,
            get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=2)),
        ):
            assert with_base(left_alone) is left_alone

    @pytest.mark.parametrize("damage", ["config", "weights", "no weights", "task"])
    def test_damaged_are_refused(self, damage: str, base: Path, tmp_path: Path) -> None:
        save_adapter(base, tmp_path / "adapter", make_tokenizer())
        weights, config = (tmp_path / "adapter" / name for name in ("adapter_model.safetensors", "adapter_config.json"))
        if damage == "config":
            config.write_text("{")
        elif damage == "task":
            change(config, task_type="SEQ_CLS")
        elif damage == "weights":
            weights.write_bytes(weights.read_bytes()[:100])
        else:
            weights.unlink()
        with pytest.raises(ConfigError, match="adapter"):
            load_model(tmp_path / "adapter")

    def test_go_on_being_trained_and_get_none_upon_them(self, base: Path, tmp_path: Path) -> None:
        save_adapter(base, tmp_path / "adapter", make_tokenizer())
        model, _ = load_or_build(str(tmp_path / "adapter"), EXAMPLES, 0)
        assert {name for name, p in model.named_parameters() if p.requires_grad} == {
            name for name, _ in model.named_parameters() if "lora" in name
        }
        with pytest.raises(ConfigError, match="is an adapter, and `peft` would put another one upon it"):
            load_or_build(str(tmp_path / "adapter"), EXAMPLES, 0, new_adapter=True)


@pytest.mark.parametrize(
    "name, message",
    [
        ("./missing", "the folder './missing' does not exist"),
        ("a/b/c", "the folder 'a/b/c' does not exist"),
        ("~/no-such-folder", "the folder '~/no-such-folder' does not exist"),
        ("data.jsonl", "'data.jsonl' is a file"),
        ("owner/model", "there is no folder 'owner/model', and no causal language model of this name"),
        ("no model", "there is no folder 'no model', and no model of this name"),
        ("n" * 300, "and no model of this name"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    name: str, message: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("evaluate", "train"):
        assert main(CALLS[command](name, data)) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


def test_a_relative_folder_becomes_the_adapters_absolute_base(base: Path, monkeypatch: Any) -> None:
    """An adapter trained upon it is then found from any folder that `evaluate` is called in."""
    monkeypatch.chdir(base.parent)
    assert load_model("base").name_or_path == str(base)


def test_models_one_level_deeper_are_named(tmp_path: Path) -> None:
    for file in ("checkpoint-3/adapter_config.json", "checkpoint-6/config.json", "other/my_config.json"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("{}")
    with pytest.raises(ConfigError, match="in the folder itself; name one of those in it: checkpoint-3, checkpoint-6$"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="expected what save_pretrained writes$"):
        load_model(tmp_path)


def test_files_that_may_not_be_read_are_named(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(base, tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors").unlink()  # what transformers sees of a file that it may not read
    (tmp_path / "mine" / "model.safetensors").symlink_to("nowhere")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).exists())  # root may read everything
    with pytest.raises(ConfigError, match="you may not read model.safetensors: change the permissions"):
        load_model(tmp_path / "mine")


class TestWeights:
    @pytest.fixture
    def changed(self, base: Path, tmp_path: Path) -> Callable[..., Path]:
        """A copy of the model with other weights, other settings, or both."""

        def change(weights: Callable[[dict[str, Any]], object] = len, **settings: Any) -> Path:
            folder = tmp_path / "changed"
            shutil.copytree(base, folder)
            tensors = load_file(folder / "model.safetensors")
            weights(tensors)
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | settings))
            return folder

        return change

    def test_a_missing_one_is_no_random_one(self, changed: Callable[..., Path]) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        with pytest.raises(ConfigError, match=f"lacks 1 weight of LlamaForCausalLM: .*{re.escape(name)}.*random"):
            load_model(changed(lambda tensors: tensors.pop(name)))

    def test_another_size_is_named(self, changed: Callable[..., Path]) -> None:
        with pytest.raises(
            ConfigError, match=r"has \d+ weights of other sizes than its config.json says, for instance"
        ):
            load_model(changed(intermediate_size=8))

    def test_one_without_a_place_is_told(self, changed: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
        load_model(changed(lambda tensors: tensors.update(extra=torch.zeros(1))))
        assert "1 weight in its files has no place in LlamaForCausalLM: extra" in caplog.text


WRAPPED = [
    {},
    {"target_modules": ["embed_tokens"]},
    {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]},
]


@pytest.mark.parametrize("adapter", WRAPPED, ids=lambda adapter: next(reversed(adapter), "none"))
def test_a_token_without_an_embedding_is_told_whatever_wraps_the_table(
    adapter: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = make_model(tokenizer)
    known = model.get_input_embeddings().num_embeddings
    if adapter:
        model = get_peft_model(model, LoraConfig(**adapter))
    check_token_id(known - 1, "a set", model, tokenizer)
    with pytest.raises(ConfigError, match=rf"a set has token id {known} .* knows ids below {known}"):
        check_token_id(known, "a set", model, tokenizer)
