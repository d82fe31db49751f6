"""A transformers model in this process as the assistant: greedy, in batches, through its chat template.

Replies are held to their form by `held`, where the extra for that is installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.annotation.assistant.endpoint.chat_protocol import LENGTH, STOPPED, ChatReply
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.endpoint.refusals import Meaning
from cattune.annotation.assistant.endpoint.unanswered import Unanswered
from cattune.annotation.assistant.prompt import ChatMessage
from cattune.errors import ConfigError

if TYPE_CHECKING:
    from cattune.annotation.assistant.held import Schema
    from cattune.evaluation.generation import Completion

MAX_NEW_TOKENS = 1024
GATHER_S = 0.01
"""How long to wait for further requests of a batch."""

_Waiting = tuple[list[int], "asyncio.Future[ChatReply]"]


class LocalModel:
    """An assistant model in this process.

    Args:
        name: a model's folder, or its name on the hub.
        response_format: the form that replies are held to, where the extra `local` is installed; None for no form.
        batch_size: conversations answered at once.
        max_new_tokens: the most tokens of a reply.
        device: `auto` for the accelerator if there is one, else a torch device.
        trust_remote_code: whether code that comes with the model may run.
        tell: is told where replies are not held to the form, and why.

    Raises:
        ConfigError: the model or the device is not there, or not what is expected.
    """

    def __init__(
        self,
        name: str | Path,
        response_format: Mapping[str, Any] | None = None,
        *,
        batch_size: int = 8,
        max_new_tokens: int = MAX_NEW_TOKENS,
        device: str = "auto",
        trust_remote_code: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        from cattune.evaluation.models import load_model
        from cattune.supervision.rendering.tokenized import end_of_turn

        self.limits = Limits(batch_size)
        self._max_new_tokens = max_new_tokens
        self._model, self._tokenizer = load_model(name, device, trust_remote_code)
        self._end = end_of_turn(self._tokenizer)
        self._schema = None if response_format is None else self._held_to(response_format, tell)
        self._room: int | None = getattr(self._model.config, "max_position_embeddings", None)
        self._waiting: list[_Waiting] = []
        self._serving: asyncio.Task[None] | None = None

    async def ask(self, messages: Sequence[ChatMessage], tokens: float = 0.0) -> ChatReply:
        """The model's most probable answer.

        Raises:
            Unanswered: the conversation and a reply do not fit into the model's positions.
            Halted: nothing is to be asked any more.
        """
        await self.limits.wait(tokens)
        ids = self._encode(messages)
        if self._room is not None and len(ids) + self._max_new_tokens > self._room:
            raise Unanswered(
                Meaning.TOO_LONG.value,
                f"{len(ids)} tokens and a reply of up to {self._max_new_tokens} do not fit into the model's "
                f"{self._room} positions",
            )
        answer: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting.append((ids, answer))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await answer

    async def is_there(self) -> bool:
        """Always."""
        return True

    async def close(self) -> None:
        """Ask no more; a batch that is being answered is waited for."""
        if self._serving is not None:
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving

    def _held_to(self, response_format: Mapping[str, Any], tell: Callable[[str], None]) -> Schema | None:
        from cattune.annotation.assistant.held import NotHeld, Schema
        from cattune.supervision.rendering.stopping import as_ids, end_ids

        ends = {*self._end.ids, *end_ids(self._model), *as_ids(self._tokenizer.eos_token_id)}
        tokens = self._model.get_output_embeddings().weight.shape[0]
        try:
            return Schema(response_format["json_schema"]["schema"], self._tokenizer, tokens, ends)
        except NotHeld as why:
            tell(f"the model's replies are not held to a form, and may be unreadable: {why}")
        return None

    def _encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        if self._tokenizer.chat_template:
            ids: list[int] = self._tokenizer(self._rendered(messages), add_special_tokens=False)["input_ids"]
        else:
            turns = (f"{turn['role']}: {turn['content']}\n\n" for turn in messages)
            ids = self._tokenizer("".join(turns) + "assistant: ")["input_ids"]
        return ids

    def _rendered(self, messages: Sequence[ChatMessage]) -> str:
        """The conversation through the chat template; to one that refuses a system turn, as a part of the first user's.

        Raises:
            ConfigError: the template refuses that, too.
        """
        from cattune.supervision.rendering.bounds import Bounds

        system, question, *later = messages
        merged = {"role": "user", "content": f"{system['content']}\n\n{question['content']}"}
        render = partial(self._tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
        size = sum(len(turn["content"]) for turn in messages)
        said = ""
        with Bounds() as bounds:
            for turns in ([system, question, *later], [merged, *later]):
                bounds.next_example(size)
                try:
                    return bounds.run(partial(render, turns), lambda: size)
                except Exception as error:  # a template is a program of its author's: it may raise anything
                    said = " ".join(str(error).split())[:300]
        raise ConfigError(f"the chat template of the assistant model refuses a conversation: {said}")

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            size = self.limits.concurrency
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                completions = await asyncio.to_thread(self._generate, [ids for ids, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (ids, answer), completion in zip(batch, completions, strict=True):
                if not answer.done():
                    answer.set_result(self._answer(ids, completion))

    def _generate(self, batch: list[list[int]]) -> list[Completion]:
        from cattune.evaluation.generation import Prompts, generate_greedily

        return generate_greedily(
            self._model,
            self._tokenizer,
            Prompts(tuple(batch), 0, frozenset(self._end.ids), frozenset({self._end.text} - {""})),
            max_new_tokens=self._max_new_tokens,
            batch_size=len(batch),
            processor=None if self._schema is None else self._schema.processor,
        )

    def _answer(self, ids: list[int], completion: Completion) -> ChatReply:
        written = len(self._tokenizer(completion.text, add_special_tokens=False)["input_ids"])
        return ChatReply(completion.text, STOPPED if completion.finished else LENGTH, len(ids), written)
