"""Evaluate a model on one split of examples: generate, compare, count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.data.examples import Example
from cattune.data.jsonl import write_jsonl
from cattune.errors import ConfigError
from cattune.evaluation.generation import (
    SPARE_TOKENS,
    Completion,
    Progress,
    check_prompts,
    encode_prompts,
    generate_greedily,
)
from cattune.evaluation.scores import Scores, exact_match, majority_label, numeric_match, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPT_TAIL = 200
"""A sample keeps this many characters from the end of its prompt."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example's outcome.

    Args:
        id: the example's.
        prompt_tail: the last `PROMPT_TAIL` characters before the completion.
        target: the text that was wanted.
        prediction: the text that the model wrote.
        exact: whether they are the same, white space at both ends aside.
        numeric: whether they state the same number; None if the target states none.
        finished: false where the limit of new tokens cut the prediction off.
        group: the value of the metadata that results are grouped by; None without grouping.
    """

    id: str
    prompt_tail: str
    target: str
    prediction: str
    exact: bool
    numeric: bool | None
    finished: bool
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A model's scores on one split, those of the best constant answer, and every sample.

    Args:
        scores: of all examples.
        majority_label: the split's most frequent target.
        majority: the scores of giving that answer to every example.
        unfinished: number of predictions that the limit of new tokens cut off.
        max_new_tokens: that limit.
        samples: one for each example that the chat template renders, in their order.
        left_out: the id of each example that it does not render, and why.
        grouped_by: the metadata key that `groups` are made by, if any.
        groups: scores of the examples that share a value of that key.
    """

    scores: Scores
    majority_label: str
    majority: Scores
    unfinished: int
    max_new_tokens: int
    samples: tuple[Sample, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    grouped_by: str | None = None
    groups: Mapping[str, Scores] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of examples."""
        return self.scores.n

    @property
    def accuracy(self) -> float:
        """Share of exact matches, from 0 to 1."""
        return self.scores.accuracy

    @property
    def stderr(self) -> float:
        """Standard error of `accuracy`."""
        return self.scores.stderr

    @property
    def constant_answer(self) -> str | None:
        """What every prediction is, where they are all the same, of two examples or more."""
        answers = {sample.prediction for sample in self.samples}
        return answers.pop() if len(answers) == 1 and len(self.samples) > 1 else None

    @property
    def beats_majority(self) -> bool:
        """Whether the best constant answer's score lies below the interval of the model's.

        Compared by numeric match where every target states a number, else by exact match.
        """
        if self.scores.numeric_low is not None and self.scores.numeric_n == self.n:
            return self.scores.numeric_low > (self.majority.numeric_accuracy or 0.0)
        return self.scores.low > self.majority.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples, as JSON-ready types; the scores of all examples stand at the top level."""
        majority = {"label": self.majority_label, **self.majority.to_dict()}
        for key in ("recall", "rare_labels"):  # of a constant answer they say nothing that the other scores do not
            del majority[key]
        told = ("unfinished", "max_new_tokens", "constant_answer", "beats_majority")
        record = {**self.scores.to_dict(), **{key: getattr(self, key) for key in told}, "majority": majority}
        if self.left_out:
            record["left_out"] = dict(self.left_out)
        if self.grouped_by is not None:
            record["grouped_by"] = self.grouped_by
            record["groups"] = {name: scores.to_dict() for name, scores in self.groups.items()}
        return record


def evaluate_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    batch_size: int = 256,
    max_new_tokens: int | None = None,
    by: str | None = None,
    progress: Progress | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> SplitResult:
    """Generate a completion for each example and score it.

    Args:
        model: a causal language model; its mode and settings are left as they are.
        tokenizer: its fast tokenizer.
        examples: at least one.
        batch_size: prompts generated from at once.
        max_new_tokens: how many tokens a completion may have; by default `SPARE_TOKENS` more than the longest target.
        by: a metadata key; its values group the examples, and each group is scored by itself.
        progress: told (examples done, examples in all) after each batch.
        chat_template_kwargs: variables for the chat template, as the model was trained with.

    Raises:
        DataError: no example, none that its chat template renders, or one without a prompt or target token.
        AlignmentError: the tokenizer does not fit.
        ConfigError: a setting is out of range, the model cannot generate, or no example has the key `by`.
    """
    groups = _group_names(examples, by)
    prompts = encode_prompts(examples, tokenizer, chat_template_kwargs)
    limit = prompts.longest_target + SPARE_TOKENS if max_new_tokens is None else max_new_tokens
    completions = generate_greedily(
        model, tokenizer, prompts, max_new_tokens=limit, batch_size=batch_size, progress=progress
    )
    kept = [(e, g) for i, (e, g) in enumerate(zip(examples, groups, strict=True)) if i not in prompts.left_out]
    texts = zip(prompts.targets, prompts.openings, completions, strict=True)
    samples = tuple(
        _sample(example, group, target, opening, completion)
        for (example, group), (target, opening, completion) in zip(kept, texts, strict=True)
    )
    return _result(samples, by, limit, {examples[i].id: reason for i, reason in prompts.left_out.items()})


def check_evaluation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Raise now what `evaluate_model` would raise after hours of training, with its default settings."""
    prompts = encode_prompts(examples, tokenizer, chat_template_kwargs)
    check_prompts(model, tokenizer, prompts, prompts.longest_target + SPARE_TOKENS)


def _sample(example: Example, group: str | None, target: str, opening: str, completion: Completion) -> Sample:
    prediction = completion.text.removeprefix(opening.strip()).strip()
    return Sample(
        id=example.id,
        prompt_tail=_prompt(example)[-PROMPT_TAIL:],
        target=target,
        prediction=prediction,
        exact=exact_match(prediction, target),
        numeric=numeric_match(prediction, target),
        finished=completion.finished,
        group=group,
    )


def write_samples(path: str | Path, results: Mapping[str, SplitResult]) -> int:
    """Write one JSON line for each sample of each named split; return their number."""
    return write_jsonl(
        path, ({"split": name, **asdict(sample)} for name, result in results.items() for sample in result.samples)
    )


def _result(
    samples: tuple[Sample, ...], by: str | None, max_new_tokens: int, left_out: Mapping[str, str]
) -> SplitResult:
    targets = [sample.target for sample in samples]
    label, _ = majority_label(targets)
    names = sorted({sample.group for sample in samples if sample.group is not None})
    return SplitResult(
        scores=_score(samples),
        majority_label=label,
        majority=score([label] * len(targets), targets),
        unfinished=sum(not sample.finished for sample in samples),
        max_new_tokens=max_new_tokens,
        samples=samples,
        left_out=left_out,
        grouped_by=by,
        groups={name: _score([sample for sample in samples if sample.group == name]) for name in names},
    )


def _score(samples: Sequence[Sample]) -> Scores:
    return score([sample.prediction for sample in samples], [sample.target for sample in samples])


def _group_names(examples: Sequence[Example], by: str | None) -> list[str | None]:
    if by is None:
        return [None] * len(examples)
    if examples and not any(by in example.metadata for example in examples):
        known = ", ".join(sorted({key for example in examples for key in example.metadata})) or "none"
        raise ConfigError(f"no example has the metadata key {by!r} to group by; the keys that occur: {known}")
    return [_group_name(example.metadata[by]) if by in example.metadata else "(absent)" for example in examples]


def _group_name(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)  # as JSON writes true and false


def _prompt(example: Example) -> str:
    return "\n".join(text for name, text in example.fields.items() if name != example.completion_field)
