"""Trains a small model twice, without causal links and with them, and compares the two.

Each prompt says how many blue and red balls there are, and asks for the red ones. In training there are always as many
blue balls as red ones, so a model may read either number. In the OOD test it must have read the right one.

Runs offline on a CPU, in a few seconds: python examples/train_with_links.py
"""

from __future__ import annotations

import argparse
import random
from tempfile import TemporaryDirectory

from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from cattune import CATConfig, CATTrainer, CausalLink, Example, Span
from cattune.models import tiny


def make_examples(count: int, seed: int, correlated: bool) -> list[Example]:
    """Prompts and answers, each with a link from the answer to the number that it depends on."""
    rng = random.Random(seed)
    examples = []
    for index in range(count):
        red = rng.randint(1, 9)
        blue = red if correlated else rng.randint(1, 9)
        prompt = f"Blue: {blue}. Red: {red}. How many red balls? "
        start = prompt.index("Red: ") + len("Red: ")
        # Spans count characters of the prompt and of the completion, whatever the tokenizer makes of them.
        link = CausalLink(effect=Span("completion", 0, 1), causes=(Span("prompt", start, start + 1),))
        examples.append(Example(f"{seed}-{index}", prompt=prompt, completion=str(red), links=(link,)))
    return examples


def train(gamma: float, steps: int, folder: str) -> CATTrainer:
    """A trained model, in its trainer. `gamma` weighs the links; 0 is plain fine-tuning."""
    examples = make_examples(200, seed=0, correlated=True)
    tests = {"iid": make_examples(100, 1, correlated=True), "ood": make_examples(100, 2, correlated=False)}
    model, tokenizer = tiny.build(tiny.texts_of(examples), seed=0)  # or any causal model of transformers
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    args = CATConfig(output_dir=folder, gamma=gamma, **{**tiny.RECIPE, "max_steps": steps, "use_cpu": True, **quiet})
    set_seed(0)
    trainer = CATTrainer(model=model, args=args, train_dataset=examples, eval_dataset=tests, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)  # `main` prints what matters here
    trainer.train()
    return trainer


def main() -> None:
    """Prints the loss on both tests, and how much attention the answer's row pays to its cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="of the optimizer, default 60")
    steps = parser.parse_args().steps
    for gamma in (0.0, 1.0):
        with TemporaryDirectory() as folder:
            found = train(gamma, steps, folder).evaluate()
        for test in ("iid", "ood"):
            loss, mass = found[f"eval_{test}_cross_entropy"], found[f"eval_{test}_causal_mass"]
            print(f"gamma {gamma}, {test}: loss {loss:.3f}, attention to the cause {mass:.0%}")


if __name__ == "__main__":
    main()
