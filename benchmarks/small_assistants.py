r"""What small assistant models are worth: real models behind a real llama.cpp server, against published links.

    python benchmarks/small_assistants.py --model FILE.gguf --name "Qwen2.5-Coder 0.5B Instruct, Q4 GGUF" \
        --data FOLDER --work FOLDER

`--data` holds the published training files of MAWPS and SVAMP. 30 examples of each are annotated with the prior
`arithmetic`, with the answer's link asked for first and as the prior is. The server has one slot and holds replies to
the JSON schema; temperature 0. What is counted are the numbers of the problem that the answer depends on (operands),
beside the rule that every number is one; and, as `cattune annotations report` does, all words.

Replies are kept in `--work`: run it again to go on. A model's results take the place of its earlier ones in `--out`.
The server needs a package that nothing else here needs: pip install xllamacpp. With `--local` the model runs in this
process instead, through transformers, held to the form (pip install gguf 'causal-attention-tuning[local]'): a few
examples of that take long enough (`--first 5`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cattune import Example, load_examples
from cattune.annotation import (
    Annotator,
    Assistant,
    LocalModel,
    Question,
    Store,
    annotation_report,
    load_prior,
    output_limit,
    response_format,
)
from cattune.annotation.assistant.annotator import Asker
from cattune.annotation.assistant.batch import advance
from cattune.annotation.assistant.course import ExampleResult
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.consensus.agreement import figure, resampled
from cattune.annotation.consensus.ballots import has_failed
from cattune.data.jsonl import write_json
from cattune.provenance import provenance

PRIOR = "arithmetic"
FILES = ("mawps_train.jsonl", "svamp_train.jsonl")
EACH, SEED = 30, 15
WAYS = {"answer first": True, "as the prior is": False}
PARAMETERS = {"temperature": 0}
CONTEXT = 8192
SILENCE_S = 3600.0
"""A slow computer takes minutes to read the first prompt."""

LOCAL_TOKENS = 400
OUT = Path(__file__).parent / "results" / "small_assistants.json"

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def sample(data: Path) -> list[Example]:
    """The examples that are annotated: drawn once, without doubles, each with a number that its answer depends on."""
    drawn = []
    for name in FILES:
        found = {example.prompt: example for example in load_examples(data / name) if operands(example)}
        chosen = random.Random(SEED).sample(sorted(found), EACH)
        drawn += [replace(found[text], id=f"{name}/{index}") for index, text in enumerate(chosen)]
    return drawn


def numbers(example: Example) -> frozenset[int]:
    """Where the numbers of the prompt stand."""
    return frozenset(number.start() for number in _NUMBER.finditer(example.prompt or ""))


def operands(example: Example) -> frozenset[int]:
    """Where those stand that are causes of the answer, which is the last number of the completion."""
    answer = list(_NUMBER.finditer(example.completion or ""))[-1:]
    causes = [
        cause
        for link in example.links
        if link.effect.field == "completion"
        and any(link.effect.start < number.end() and number.start() < link.effect.end for number in answer)
        for cause in link.causes
        if cause.field == "prompt"
    ]
    return frozenset(
        number.start()
        for number in _NUMBER.finditer(example.prompt or "")
        if any(cause.start < number.end() and number.start() < cause.end for cause in causes)
    )


@contextmanager
def serving(model: Path, threads: int) -> Iterator[str]:
    """A llama.cpp server with one slot, in this process; gives its address."""
    from xllamacpp import CommonParams, Server

    settings = CommonParams()
    settings.model.path = str(model)
    settings.n_ctx, settings.n_parallel, settings.port = CONTEXT, 1, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = Server(settings)
    yield f"{server.listening_address}/v1"
    del server


def ask_server(question: Question, address: str) -> Asker:
    """The server as an assistant, with as much patience as a busy computer needs."""
    return Assistant(
        question.model,
        response_format(question.prior),
        base_url=address,
        parameters={**question.parameters, "max_tokens": output_limit(question.prior)},
        limits=Limits(1),
        timeout_s=SILENCE_S,
        tell=print,
    )


def saved(model: Path, work: Path) -> Path:
    """The weights as a folder that transformers loads."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = work / "local" / model.stem
    if not (folder / "config.json").exists():
        loaded = AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype="float32")
        del loaded.config.quantization_config  # it would refuse to be saved
        loaded.hf_quantizer = None
        loaded.save_pretrained(folder)
        AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name).save_pretrained(folder)
    return folder


def annotate(work: Path, question: Question, asker: Asker, examples: Sequence[Example]) -> None:
    """Ask about every example; the replies are kept in `work`."""
    with Store(work / "replies") as store:
        annotator = Annotator(question, asker, store)
        for index, example in enumerate(annotator.run(replace(example, links=()) for example in examples), start=1):
            print(f"{index} of {len(examples)}: {len(example.links)} links", flush=True)


def measured(work: Path, question: Question, examples: Sequence[Example]) -> dict[str, Any]:
    """How far the replies that are there agree with the published links."""
    annotated, reference = [], []
    with Store(work / "replies") as store:
        for example in examples:
            step = advance(question, replace(example, links=()), lambda key: store.get(key) or store.failure(key))
            if isinstance(step, ExampleResult):
                annotated.append(step.example)
                reference.append(example)
        spent = store.spent(question.model)
    report = annotation_report(annotated, reference).to_dict()
    return {
        "examples": len(annotated),
        "readable": sum(not has_failed(example) for example in annotated),
        "with_a_link": sum(bool(example.links) for example in annotated),
        "operands": {
            "model": operand_figures(annotated, reference, operands),
            "every number": operand_figures(annotated, reference, numbers),
        },
        "report": report["reference"]["trivial"] if annotated else None,
        "refused": report["refused"],
        "requests": spent.requests,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "median_seconds_a_reply": seconds_a_reply(work / "replies"),
    }


def operand_figures(
    annotated: Sequence[Example], reference: Sequence[Example], named_by: Callable[[Example], frozenset[int]]
) -> dict[str, Any]:
    """Recall, precision and the share of the examples with just the right operands, with 95% intervals."""
    rows: Counter[tuple[float, ...]] = Counter()
    for example, right in zip(annotated, reference, strict=True):
        named, meant = named_by(example), operands(right)
        rows[len(named & meant), len(named), len(meant), named == meant, 1] += 1
    total, draws = resampled(rows, 5)
    parts = {"recall": (0, 2), "precision": (0, 1), "exactly_right": (3, 4)}
    with np.errstate(invalid="ignore"):
        figures = {
            name: asdict(figure(np.asarray(total[over] / total[of]), draws[:, over] / draws[:, of]))
            for name, (over, of) in parts.items()
        }
    return {**figures, "exactly_right_n": int(total[3])}


def seconds_a_reply(store: Path) -> float | None:
    """The median time from one reply to the next: a run may have been broken off and gone on with."""
    with sqlite3.connect(store) as database:
        times = [time for (time,) in database.execute("SELECT created FROM replies ORDER BY created")]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return round(median(gaps), 1) if gaps else None


def sha256(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed(name: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write(out: Path, entry: dict[str, Any]) -> None:
    """Put a model's results into the file, in place of earlier ones."""
    record = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"runs": []}
    same = ("name", "way", "where")
    others = [run for run in record["runs"] if any(run[key] != entry[key] for key in same)]
    runs = sorted([*others, entry], key=lambda run: [run[key] for key in same])
    drawn = {"files": FILES, "of_each": EACH, "seed": SEED, "prior": PRIOR, "parameters": PARAMETERS}
    write_json(out, {"sample": drawn, "runs": runs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the weights, a GGUF file")
    parser.add_argument("--name", required=True, help="what the results call the model")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published training files")
    parser.add_argument("--work", type=Path, required=True, help="keeps the replies")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--way", choices=WAYS, action="append", help="default: both, one after the other")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=int, default=2 * EACH, help="only so many examples, every second of SVAMP")
    parser.add_argument("--local", action="store_true", help="in this process, without a server")
    parser.add_argument("--free", action="store_true", help="--local: not held to the form")
    parser.add_argument("--measure", action="store_true", help="ask nothing; see what the replies so far are worth")
    args = parser.parse_args()
    drawn = sample(args.data)
    examples = [example for pair in zip(drawn[:EACH], drawn[EACH:], strict=True) for example in pair][: args.first]
    for way in args.way or WAYS:
        prior = load_prior(PRIOR)
        question = Question(
            replace(prior, options=replace(prior.options, answer_first=WAYS[way])), args.name, PARAMETERS
        )
        where = "llama.cpp server, one slot"
        if args.local:
            where = f"in this process, {'not ' if args.free else ''}held to the form"
        work = args.work / args.name / way / where.replace(",", "")
        work.mkdir(parents=True, exist_ok=True)
        if args.measure:
            pass
        elif args.local:
            form, folder = response_format(question.prior), saved(args.model, args.work)
            annotate(
                work,
                question,
                LocalModel(folder, form, batch_size=1, max_new_tokens=LOCAL_TOKENS, tell=print),
                examples,
            )
        else:
            with serving(args.model, args.threads) as address:
                annotate(work, question, ask_server(question, address), examples)
        entry = {"name": args.name, "sha256": sha256(args.model), "way": way, "where": where}
        packages = {name: installed(name) for name in ("xllamacpp", "llguidance")}
        result = measured(work, question, examples)
        write(args.out, {**entry, "packages": packages, **result, "provenance": provenance(threads=args.threads)})
        print(json.dumps({**entry, **result}, indent=1))


if __name__ == "__main__":
    main()
