"""How fast, and in how much memory, cattune asks an assistant model, beside bare clients that send the same bodies.

    python benchmarks/annotation.py                                         throughput and memory, in full
    python benchmarks/annotation.py --requests 2000 --rounds 1 --sizes      throughput alone, quickly
    python benchmarks/annotation.py --slots-only                            servers with few slots alone

A server of this file, in a process of its own, answers each request after 50 ms with the reply that the example's own
links make. Three clients ask it, 64 at a time, in rounds, each in a fresh process and in random order within a round:

- `sdk`: `AsyncOpenAI.chat.completions.create`, nothing else;
- `http`: the asynchronous HTTP client that the SDK is built on, `post` and `json`, nothing else (and `aiohttp`, where
  it is installed);
- `cattune`: `cattune annotate` from the input file to the output file: both read-throughs of the input, prompts, keys,
  the store with an fsync before a reply counts, grounding, and writing.

Times leave out the start of the interpreter and imports. Bodies are made before the bare clients' time starts. Memory
is the largest resident set of the `cattune` process (VmHWM, Linux) for inputs of several sizes.

Servers with few slots work on so many requests at once, and the others wait. Each request takes 0.25 s there, and may
be silent for 2 s: 16 in the queue of one slot would be silent for 4. What is counted is how long a run takes beside
the least that the slots need for it, and how many requests were cancelled and sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cattune import Example, save_examples
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.prompt import build_messages, example_tag, reply_text
from cattune.annotation.assistant.reply_form import response_format
from cattune.data.jsonl import write_json
from cattune.grounding.search import Phrase
from cattune.provenance import provenance
from cattune.tasks.stg import load_game, make_split

GAME, PRIOR, MODEL = "cancer_risk", "tabular_risk", "assistant"
PARAMETERS = {"temperature": 0}
CHUNK = 1000
"""Generated examples of one seed."""
CLIENTS = ("sdk", "http", "cattune")
Ask = Callable[[dict[str, Any]], Awaitable[str]]
TARGETS = {"sdk": 0.9, "http": 0.6}


def make_examples(count: int) -> Iterator[Example]:
    game = load_game(GAME)
    for seed in range(-(-count // CHUNK)):
        for example in make_split(game, "train", min(CHUNK, count - seed * CHUNK), seed):
            # Of so many some are equal, and would be asked once.
            yield replace(example, prompt=example.prompt, id=f"{seed}-{example.id}")


def good_reply(example: Example) -> str:
    link = example.links[0]
    causes = tuple(Phrase(example.text_of(cause)) for cause in link.causes)
    return reply_text(example, [(Phrase(example.text_of(link.effect)), causes)])


def write_data(folder: Path, count: int) -> None:
    """The input, and the reply to each example by its tag, of so many different texts."""
    seen: set[str] = set()

    def different() -> Iterator[Example]:
        for example in make_examples(2 * count):
            tag = example_tag(example)
            if tag not in seen and len(seen) < count:
                seen.add(tag)
                replies.write(json.dumps([tag, good_reply(example)]) + "\n")
                yield replace(example, links=())

    with (folder / "replies.jsonl").open("w", encoding="utf-8") as replies:
        written = save_examples(folder / "in.jsonl", different())
    assert written == count, f"only {written} different texts"


class Answers(asyncio.Protocol):
    """Answers each request after a while. A protocol, as reading streams would take a core's time from the clients."""

    latency: float
    free_at: list[float]
    """When each slot is free."""
    replies: dict[bytes, bytes]

    def connection_made(self, transport: Any) -> None:  # noqa: D102
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = int(re.search(rb"(?i)content-length: *(\d+)", self._received[:end])[1])  # type: ignore[index]
            if len(self._received) < end + 4 + length:
                return
            body, self._received = self._received[end + 4 : end + 4 + length], self._received[end + 4 + length :]
            start = body.rfind(b"Annotate this example:")
            tag = re.search(rb"[0-9a-f]{8}", body[start:])
            assert tag is not None
            loop = asyncio.get_running_loop()
            done = max(loop.time(), heapq.heappop(self.free_at)) + self.latency
            heapq.heappush(self.free_at, done)
            loop.call_at(done, self._transport.write, self.replies[tag[0]])


def response(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1500, "completion_tokens": 40, "total_tokens": 1540}
    payload = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }
    body = json.dumps(payload).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def serve(folder: Path, latency: float, slots: int) -> None:
    Answers.latency, Answers.free_at = latency, [0.0] * slots
    with (folder / "replies.jsonl").open(encoding="utf-8") as file:
        Answers.replies = {tag.encode(): response(text) for tag, text in map(json.loads, file)}
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(folder: Path, latency: float, slots: int = 1000) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(folder), str(latency), str(slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def bodies(folder: Path) -> list[dict[str, Any]]:
    from cattune.annotation.assistant.inputs import iter_examples

    prior = load_prior(PRIOR)
    fixed = {"model": MODEL, **PARAMETERS, "response_format": response_format(prior)}
    return [{**fixed, "messages": build_messages(prior, example)} for example in iter_examples(folder / "in.jsonl")]


async def ask_all(
    ask: Callable[[dict[str, Any]], Awaitable[str]], asked: list[dict[str, Any]], concurrency: int
) -> float:
    waiting = iter(asked)

    async def work() -> None:
        for body in waiting:
            assert await ask(body)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return time.perf_counter() - started


async def run_bare(client: str, folder: Path, url: str, concurrency: int) -> float:
    asked = bodies(folder)
    where = f"{url}/chat/completions"
    if client == "sdk":
        from openai import AsyncOpenAI

        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as sdk:

            async def ask_sdk(body: dict[str, Any]) -> str:
                return str((await sdk.chat.completions.create(**body)).choices[0].message.content)

            return await ask_all(ask_sdk, asked, concurrency)
    if client == "aiohttp":
        import aiohttp

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

            async def ask_aiohttp(body: dict[str, Any]) -> str:
                async with session.post(where, json=body) as answer:
                    return str((await answer.json())["choices"][0]["message"]["content"])

            return await ask_all(ask_aiohttp, asked, concurrency)
    http = http_library()
    limits = http.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with http.AsyncClient(limits=limits, timeout=60) as plain:

        async def ask_http(body: dict[str, Any]) -> str:
            return str((await plain.post(where, json=body)).json()["choices"][0]["message"]["content"])

        return await ask_all(ask_http, asked, concurrency)


def http_library() -> Any:
    """The one that the installed SDK uses."""
    from importlib import import_module

    from openai import DefaultAsyncHttpxClient

    return import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


def run_cattune(folder: Path, url: str, concurrency: int, *options: str) -> tuple[float, dict[str, int]]:
    """The seconds that it took, and how many requests were sent again, by reason."""
    import openai.resources.chat  # noqa: F401

    # What is imported when it is first needed, as for the others, is no part of the time.
    import cattune.cli.annotate_run  # noqa: F401
    from cattune.cli import main

    if "annotate" not in main.COMMANDS:
        main.COMMANDS = (*main.COMMANDS, "annotate")
    out = folder / "out.jsonl"
    settings = ["--prior", PRIOR, "--model", MODEL, "--parameters", json.dumps(PARAMETERS), "--base-url", url]
    command = ["annotate", str(folder / "in.jsonl"), "--out", str(out), "--concurrency", str(concurrency), "--json"]
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()) as printed:
        status = main.main([*command, *settings, *options])
    taken = time.perf_counter() - started
    assert status == 0
    for path in (out, Path(f"{out}.store")):
        path.unlink()
    return taken, json.loads(printed.getvalue())["sent_again"]


def run_cell(client: str, folder: Path, url: str, concurrency: int) -> dict[str, float]:
    if client == "cattune":
        taken, _ = run_cattune(folder, url, concurrency)
    else:
        taken = asyncio.run(run_bare(client, folder, url, concurrency))
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s*(\d+) kB", status)
    return {
        "seconds": taken,
        "peak_memory_mb": int(peak[1]) / 1000 if peak else float("nan"),
    }


def cell(client: str, folder: Path, url: str, concurrency: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--cell", client, str(folder), url, str(concurrency)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_throughput(requests: int, rounds: int, latency: float, concurrency: int) -> dict[str, Any]:
    clients = [*CLIENTS, *(["aiohttp"] if find_spec("aiohttp") else [])]
    rates: dict[str, list[float]] = {client: [] for client in clients}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, requests)
        with running(folder, latency) as url:
            for number in range(rounds):
                for client in random.Random(number).sample(clients, len(clients)):
                    rates[client].append(requests / cell(client, folder, url, concurrency)["seconds"])
                    log(f"round {number + 1}, {client}: {rates[client][-1]:.0f} requests a second")
    medians = {client: statistics.median(values) for client, values in rates.items()}
    ratios = {
        client: statistics.median(ours / theirs for ours, theirs in zip(rates["cattune"], rates[client], strict=True))
        for client in clients
        if client != "cattune"
    }
    for client, ratio in ratios.items():
        log(f"cattune reaches {ratio:.0%} of {client}; asked for: {TARGETS.get(client, 0):.0%}")
    return {
        "requests": requests,
        "concurrency": concurrency,
        "latency_s": latency,
        "http_client": http_library().__name__,
        "requests_per_second": rates,
        "median_requests_per_second": medians,
        "cattune_over": ratios,
        "targets": TARGETS,
    }


def measure_memory(sizes: list[int], latency: float, concurrency: int) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data(folder, size)
            with running(folder, latency) as url:
                row = {"examples": size, **cell("cattune", folder, url, concurrency)}
        log(f"{size} examples: {row['peak_memory_mb']:.0f} MB, {size / row['seconds']:.0f} a second")
        rows.append(row)
    return rows


def measure_slots(latency: float = 0.25, timeout: float = 2.0) -> list[dict[str, Any]]:
    rows = []
    for slots, concurrency, requests in ((1, 16, 160), (4, 16, 480), (16, 16, 1600), (1000, 64, 3200)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data(folder, requests)
            with running(folder, latency, slots) as url:
                taken, again = run_cattune(folder, url, concurrency, "--timeout", str(timeout))
        row = {"slots": slots, "concurrency": concurrency, "requests": requests, "latency_s": latency}
        row |= {"seconds": taken, "least_seconds": requests * latency / min(slots, concurrency), "sent_again": again}
        log(f"{slots} slots, {requests} requests: {taken:.1f} s, {row['least_seconds']:.1f} at least; again: {again}")
        rows.append(row)
    return rows


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="of each client and round (default: 5000)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--latency", type=float, default=0.05, help="of the server, in seconds (default: 0.05)")
    parser.add_argument("--concurrency", type=int, default=64, help="default: 64")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000], help="of the inputs for memory"
    )
    parser.add_argument("--slots-only", action="store_true", help="measure servers with few slots alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "annotation.json")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(Path(args.serve[0]), float(args.serve[1]), int(args.serve[2])))
    if args.cell:
        client, folder, url, concurrency = args.cell
        print(json.dumps(run_cell(client, Path(folder), url, int(concurrency))))
        return 0
    if args.slots_only:
        out = args.out.with_name("annotation_slots.json")
        write_json(out, {"slots": measure_slots(), "provenance": provenance()})
        log(f"wrote {out}")
        return 0
    settings = {"requests": args.requests, "rounds": args.rounds, "sizes": args.sizes}
    record = {
        "throughput": measure_throughput(args.requests, args.rounds, args.latency, args.concurrency),
        "memory": measure_memory(args.sizes, args.latency, args.concurrency),
        "openai": version("openai"),
        "provenance": provenance(**settings),
    }
    write_json(args.out, record)
    log(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
