r"""What small assistant models are worth: real models behind a real llama.cpp server, against published links.

    python benchmarks/small_assistants.py --model FILE.gguf --name "Qwen2.5-Coder 0.5B Instruct, Q4 GGUF" \
        --data FOLDER --work FOLDER

`--data` holds the published training files of MAWPS and SVAMP. 30 examples of each are annotated with the prior
`arithmetic`, once as it is and once with the answer's link asked for first. The server has one slot and holds replies
to the JSON schema; temperature 0. What is counted are the numbers of the problem that the answer depends on, beside
two trivial rules: every number of the text is a cause of the answer; every content word is.

Replies are kept in `--work`: run it again to go on. The results of a model take the place of its earlier ones in
`--out`. The server needs a package that nothing else here needs: pip install xllamacpp. With `--local` the same model
runs in this process, through transformers, held to the form by llguidance: pip install gguf llguidance.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cattune import Example, load_examples
from cattune.annotation import Annotator, Assistant, Store, Task, load_prior, output_limit, response_format
from cattune.annotation.assistant.limits import Limits

PRIOR = "arithmetic"
FILES = ("mawps_train.jsonl", "svamp_train.jsonl")
EACH, SEED = 30, 15
WAYS = {"as it is": False, "answer first": True}
SILENCE_S = 3600.0
"""A slow computer takes minutes to read the first prompt."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def sample(data: Path) -> list[Example]:
    """The examples that are annotated: drawn once, without doubles, each with a number that its answer depends on."""
    drawn = []
    for name in FILES:
        found = {example.prompt: example for example in load_examples(data / name) if operands(example)}
        chosen = random.Random(SEED).sample(sorted(found), EACH)
        drawn += [replace(found[text], id=f"{name}/{index}") for index, text in enumerate(chosen)]
    return drawn


def operands(example: Example) -> set[int]:
    """Where the numbers of the prompt stand that are causes of the answer, the last number of the completion."""
    last = list(_NUMBER.finditer(example.completion))[-1:]
    causes = [
        cause
        for link in example.links
        if link.effect.field == "completion"
        and last
        and link.effect.start < last[0].end()
        and link.effect.end > last[0].start()
        for cause in link.causes
        if cause.field == "prompt"
    ]
    return {
        number.start()
        for number in _NUMBER.finditer(example.prompt)
        if any(cause.start < number.end() and number.start() < cause.end for cause in causes)
    }


@contextmanager
def serving(model: Path, threads: int, context: int) -> Iterator[str]:
    """A llama.cpp server with one slot, in this process; gives its address."""
    from xllamacpp import CommonParams, Server

    settings = CommonParams()
    settings.model.path = str(model)
    settings.n_ctx, settings.n_parallel, settings.port = context, 1, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = Server(settings)
    yield f"{server.listening_address}/v1"
    del server


def annotate(work: Path, task: Task, address: str, examples: list[Example]) -> list[Example]:
    """The annotated examples; the replies and the seconds that they took are kept in `work`."""
    assistant = Assistant(
        task.model,
        response_format(task.prior),
        base_url=address,
        parameters={**task.parameters, "max_tokens": output_limit(task.prior)},
        limits=Limits(1),
        timeout_s=SILENCE_S,
        tell=print,
    )
    with Store(work / "replies") as store:
        annotator = Annotator(task, assistant, store)
        began = time.monotonic()
        done = []
        for example in annotator.run(replace(example, links=()) for example in examples):
            done.append(example)
            print(
                f"{len(done)} of {len(examples)}: {len(example.links)} links, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the weights")
    parser.add_argument("--name", required=True, help="what the results call the model")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published training files")
    parser.add_argument("--work", type=Path, required=True, help="keeps the replies")
    parser.add_argument("--way", choices=WAYS, action="append", help="default: both")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    examples = sample(args.data)
    with serving(args.model, args.threads, 8192) as address:
        for way in args.way or WAYS:
            prior = load_prior(PRIOR)
            prior = replace(prior, options=replace(prior.options, answer_first=WAYS[way]))
            work = args.work / args.name / way
            work.mkdir(parents=True, exist_ok=True)
            annotate(work, Task(prior, args.name, {"temperature": 0}), address, examples)


if __name__ == "__main__":
    main()
