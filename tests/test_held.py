"""A model in this process that is held to the form of a reply."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizer_families import family

from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply
from cattune.annotation.assistant.held import NotHeld, Schema
from cattune.annotation.assistant.local import LocalModel
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.reply_form import response_format, schema
from cattune.models import tiny

pytest.importorskip("llguidance")

FORM = schema(load_prior("tabular_risk"))
SPARE = 5
"""Models often have more rows of output than the tokenizer has tokens."""


def written(form: dict[str, Any], rows: int, seed: int) -> list[str]:
    """What a model writes that likes quotes and brackets, and everything else at random."""
    tokenizer = family("byte-level")
    size, end = len(tokenizer) + SPARE, tokenizer.eos_token_id
    processor = Schema(form, tokenizer, size, [end]).processor(rows)
    likes = torch.zeros(size)
    likes[[i for i in range(len(tokenizer)) if set('"]}') & set(tokenizer.decode([i]))]] = 2.0
    likes[end] = 9.0
    random = torch.Generator().manual_seed(seed)
    ids = torch.zeros((rows, 1), dtype=torch.long)
    while not (ids == end).any(dim=1).all() and ids.shape[1] < 3000:
        scores = torch.rand((rows, size), generator=random) * 4 + likes
        before = scores.clone()
        chosen = processor(ids, scores).argmax(dim=1)
        assert torch.equal(scores, before)
        ended = (ids == end).any(dim=1)
        ids = torch.cat([ids, torch.where(ended, end, chosen)[:, None]], dim=1)
    return [tokenizer.decode(row[1:].tolist(), skip_special_tokens=True) for row in ids]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_model_likes_its_reply_is_of_the_form(seed: int) -> None:
    for text in written(FORM, 3, seed):
        reply = json.loads(text)
        assert list(reply) == ["example", "links"]
        assert len(reply["links"]) <= 3
        for link in reply["links"]:
            assert list(link) == ["effect", "causes"]
            assert len(link["causes"]) <= 8
        assert text == json.dumps(reply, ensure_ascii=False) or "\\" in text, "white space is that of the prompt"


def test_a_local_model_is_held_to_the_form(tmp_path: Path) -> None:
    tokenizer = family("byte-level")
    tiny.build_model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    told: list[str] = []
    prior = load_prior("tabular_risk")

    async def ask() -> list[ChatReply]:
        model = LocalModel(tmp_path, response_format(prior), max_new_tokens=8, device="cpu", tell=told.append)
        questions = ([{"role": "system", "content": "x"}, {"role": "user", "content": text}] for text in ("a", "b c"))
        answers = await asyncio.gather(*map(model.ask, questions))
        await model.close()
        return answers

    for answer in asyncio.run(ask()):
        assert '{"example": "'.startswith(answer.text) and len(answer.text) >= 8
        assert (answer.finish_reason, answer.completion_tokens) == ("length", 8)
    assert told == []


@pytest.mark.parametrize("name", ["byte-level-prefix", "metaspace-bpe", "unigram", "word-level"])
def test_a_tokenizer_that_is_not_understood_is_told(name: str) -> None:
    tokenizer = family(name)
    with pytest.raises(NotHeld, match="this tokenizer"):
        Schema(FORM, tokenizer, len(tokenizer), [tokenizer.eos_token_id])


def test_a_schema_that_cannot_be_used_is_told() -> None:
    with pytest.raises(NotHeld, match="schema"):
        Schema({"type": "nothing"}, family("byte-level"), len(family("byte-level")), [2])


def test_without_the_extra_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(NotHeld, match=r"pip install 'causal-attention-tuning\[local\]'"):
        Schema(FORM, family("byte-level"), 10, [2])
