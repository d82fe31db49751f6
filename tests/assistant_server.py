"""An OpenAI-compatible chat server that replays replies, with faults; a program of its own, so that it outlives kills.

    python tests/assistant_server.py --replies REPLIES.jsonl --log LOG.jsonl [--faults 0.2 --seed 0] [--latency 0.05]

It prints the port that it listens on. REPLIES has one {"tag": .., "text": ..} a line. The example that a request is
about is found by its tag: the last 8 hex digits in the request's user turns for which there is a reply.

Which requests meet a fault, and which, is decided by (seed, tag, how many requests there were for this tag), so it does
not depend on the order in which requests come. Faults of the wire leave the work undone or its result lost; faults of
content are replies that cannot be used, and only the first reply to an example has one. No two requests in a row for
an example meet a fault of the wire more than `WIRE_IN_A_ROW` times.

LOG gets a line when a request comes, and one when it has been answered: {"event": "request" | "answer", "n": number,
"tag": .., "body": hash of the request, "fault": .., "key": the authorization header, "at": time}. "answer" is written
when a whole response is handed to the system.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cattune.annotation.assistant.prompt import example_tag, reply_text
from cattune.data.examples import Example
from cattune.grounding.search import Phrase

WIRE = ("429", "429_silent", "500", "503", "408", "drop_before", "drop_after", "drop_half", "stall", "no_json")
CONTENT = ("truncated", "malformed", "prose", "swapped", "duplicate", "empty", "refusal")
FOR_GOOD = ("length",)
"""Faults of content that are not asked again: only where they are named."""
WIRE_IN_A_ROW = 3

_TAG = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?![0-9a-f])")
_STATUS = {"429": 429, "429_silent": 429, "500": 500, "503": 503, "408": 408}


class Server:
    """The replies, the schedule of faults, and the log."""

    def __init__(self, args: argparse.Namespace, replies: dict[str, str], log: TextIO | None) -> None:
        self.args = args
        self.replies = replies
        self.tags = list(replies)
        self.log = log
        self.count = self.answered = 0
        self.attempts: dict[str, int] = {}
        self.wire_in_a_row: dict[str, int] = {}
        self.content_done: set[str] = set()
        self.slots = asyncio.Semaphore(args.slots)  # in the order in which requests come

    def note(self, **event: Any) -> None:
        if self.log is not None:
            self.log.write(json.dumps({**event, "at": time.time()}) + "\n")
            self.log.flush()

    def fault(self, tag: str) -> str | None:
        attempt = self.attempts[tag] = self.attempts.get(tag, 0) + 1
        rng = random.Random(f"{self.args.seed}/{tag}/{attempt}")
        if rng.random() >= self.args.faults:
            self.wire_in_a_row[tag] = 0
            return None
        kind = rng.choice(self.args.only or (*WIRE, *CONTENT))
        if kind in (*CONTENT, *FOR_GOOD):
            self.wire_in_a_row[tag] = 0
            if tag in self.content_done:
                return None
            self.content_done.add(tag)
            return kind
        self.wire_in_a_row[tag] = self.wire_in_a_row.get(tag, 0) + 1
        return kind if self.wire_in_a_row[tag] <= WIRE_IN_A_ROW else None

    def content(self, tag: str, fault: str | None) -> tuple[str, str]:
        """The text of a reply and its finish reason."""
        text = self.replies[tag]
        if fault == "truncated":
            return text[: len(text) * 2 // 3], "stop"
        if fault == "length":
            return text[: len(text) // 2], "length"
        if fault == "malformed":
            return text.replace(":", "", 2).replace('"links"', '"links" "links"'), "stop"
        if fault == "prose":
            return f"Of course, here it is:\n\n```json\n{text}\n```\n\nI hope that this helps!", "stop"
        if fault == "swapped":
            other = self.tags[(self.tags.index(tag) + 1) % len(self.tags)]
            return self.replies[other], "stop"
        if fault == "duplicate":
            return f"{text}\n{text}", "stop"
        if fault == "empty":
            return "", "stop"
        if fault == "refusal":
            return "I'm sorry, but I can't help with that.", "stop"
        return text, "stop"

    async def respond(self, headers: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False where the connection is to be closed."""
        request = json.loads(body)
        tag = self.tag_of(request["messages"])
        number = self.count = self.count + 1
        key = re.search(rb"(?i)^authorization: *(.*?)\r?$", headers, re.MULTILINE)
        note = {"n": number, "tag": tag, "body": hashlib.sha256(body).hexdigest()[:16]}
        refused = self.refused(request, key[1].decode() if key else "")
        fault = None if refused or tag is None else self.fault(tag)
        self.note(event="request", **note, fault=fault)
        if refused:
            await self.send(writer, refused[0], refused[1])
            return True
        if tag is None:
            await self.send(writer, 400, {"error": {"message": "no example is known here", "code": None}})
            return True
        if fault == "drop_before" or tag == self.args.drops:
            return False
        async with self.slots:
            await asyncio.sleep(self.args.latency)
        if fault == "stall":
            await asyncio.sleep(3600)
        if fault == "drop_after":
            return False
        if fault in _STATUS:
            wait = {"retry-after": str(self.args.retry_after)} if fault == "429" else {}
            await self.send(writer, _STATUS[fault], {"error": {"message": "try again"}}, wait)
            return True
        text, reason = self.content(tag, fault)
        payload = completion(request["model"], text, reason, len(body) // 4, len(text) // 4 + 1)
        if fault == "no_json":
            writer.write(response(200, json.dumps(payload).encode()[:-40]))
            return True
        if fault == "drop_half":
            whole = response(200, json.dumps(payload).encode())
            writer.write(whole[: len(whole) - 60])
            await writer.drain()
            return False
        self.note(event="answer", **note, fault=fault)  # before: who has the answer may end this process at once
        await self.send(writer, 200, payload)
        self.answered += 1
        if self.answered == self.args.dies_after:
            os._exit(0)
        return True

    def refused(self, request: dict[str, Any], key: str) -> tuple[int, dict[str, Any]] | None:
        """What a server refuses by the way in which it was started."""
        args = self.args
        if args.key and key != f"Bearer {args.key}":
            return 401, {"error": {"message": f"Incorrect API key provided: {key}", "code": "invalid_api_key"}}
        if args.model and request["model"] != args.model:
            return 404, {"error": {"message": f"The model `{request['model']}` does not exist"}}
        form = (request.get("response_format") or {}).get("type", "none")
        if args.formats and form not in args.formats:
            return 400, {"error": {"message": f"response_format of type {form} is not supported", "code": None}}
        if args.refuse:
            return args.refuse, {"error": {"message": "no", "code": args.refuse_code}}
        return None

    def tag_of(self, messages: list[dict[str, str]]) -> str | None:
        for turn in reversed(messages):
            if turn["role"] == "user":
                found = [tag for tag in _TAG.findall(turn["content"]) if tag in self.replies]
                if found:
                    return found[-1]
        return None

    async def send(
        self, writer: asyncio.StreamWriter, status: int, payload: Any, headers: dict[str, str] | None = None
    ) -> None:
        writer.write(response(status, json.dumps(payload).encode(), headers))
        await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                headers = await reader.readuntil(b"\r\n\r\n")
                if headers.startswith(b"GET"):
                    await self.send(writer, 200, {"data": []})
                    continue
                length = int(re.search(rb"(?i)content-length: *(\d+)", headers)[1])  # type: ignore[index]
                if not await self.respond(headers, await reader.readexactly(length), writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


def completion(model: str, text: str, reason: str, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def response(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} -", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replies", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--dies-after", type=int, help="end after so many answers")
    parser.add_argument("--drops", metavar="TAG", help="break the connection of each request about this example")
    parser.add_argument("--slots", type=int, default=1_000_000, help="requests that are worked on at once")
    parser.add_argument("--retry-after", type=float, default=0.2)
    parser.add_argument("--key")
    parser.add_argument("--model")
    parser.add_argument("--formats", nargs="*", default=[])
    parser.add_argument("--refuse", type=int)
    parser.add_argument("--refuse-code")
    args = parser.parse_args()
    with args.replies.open(encoding="utf-8") as file:
        replies = {record["tag"]: record["text"] for record in map(json.loads, file)}
    log = args.log.open("a", encoding="utf-8") if args.log else None
    server = await asyncio.start_server(
        Server(args, replies, log).serve, "127.0.0.1", args.port, limit=1 << 24, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def write_replies(path: Path, examples: Iterable[Example]) -> Path:
    """For each example the reply of an assistant that names its links."""
    lines = []
    for example in examples:
        links = [
            (Phrase(example.text_of(link.effect)), tuple(Phrase(example.text_of(cause)) for cause in link.causes))
            for link in example.links
        ]
        lines.append(json.dumps({"tag": example_tag(example), "text": reply_text(example, links)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def running(replies: Path, *options: object, log: Path | None = None) -> Iterator[str]:
    """The base URL of a server of this kind, which ends with the block."""
    arguments = ["--replies", replies, *(["--log", log] if log else []), *options]
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log; the last line may be half written."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if "\n" in line]


if __name__ == "__main__":
    asyncio.run(main())
