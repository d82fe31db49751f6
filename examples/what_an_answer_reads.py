"""Prints the tokens of a prompt, each with the attention that the answer's row pays to it.

It looks at the model of train_with_links.py, before and after it is trained. For a model of your own, load it and its
tokenizer with transformers, and call `attention_by_token`.

Runs offline on a CPU, in a few seconds: python examples/what_an_answer_reads.py
"""

from __future__ import annotations

import argparse
from tempfile import TemporaryDirectory

import torch
from train_with_links import make_examples, train
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cattune.attention import inspect_rows


def attention_by_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> list[tuple[str, float]]:
    """The tokens of a prompt with their shares of the attention, from 0 to 1."""
    input_ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
    # The row of the last token predicts the first token of the answer.
    last_row = torch.tensor([[input_ids.shape[1] - 1]], device=model.device)
    paid = inspect_rows(model, input_ids, last_row)  # (layers, 1, heads, 1, tokens)
    shares = paid.mean((0, 2)).flatten().tolist()
    return list(zip(tokenizer.convert_ids_to_tokens(input_ids[0]), shares, strict=True))


def main() -> None:
    """Prints a bar for each token."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="of the optimizer, default 60")
    steps = parser.parse_args().steps
    (example,) = make_examples(1, seed=3, correlated=False)
    assert example.prompt is not None
    prompt = example.prompt.rstrip(" ")  # the space belongs to the answer's token
    for gamma in (0.0, 1.0):
        with TemporaryDirectory() as folder:
            trainer = train(gamma, steps, folder)
        print(f"trained with gamma {gamma}")
        for token, share in attention_by_token(trainer.model.eval(), trainer.processing_class, prompt):
            print(f"{token!r:>10} {share:6.1%} {'#' * round(40 * share)}")


if __name__ == "__main__":
    main()
