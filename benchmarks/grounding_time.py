"""How long grounding takes: 30 links of an effect and three causes, in generated text of 10,000 characters and more.

    python benchmarks/grounding_time.py          writes results/grounding_time.json

Phrases are stretches of four words of the text as they are (`exact`), in capitals and spaced out (`loose`), with a
letter left out (`fuzzy`) or with words that are not there (`missing`); `common` ones are single words that stand in the
text hundreds of times, so that each is a choice among all of these places. A time is the least of some repeats, in
milliseconds, for all 30 links together, from the plain fields to the spans.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cattune.data.jsonl import write_json
from cattune.grounding.links import ground_links
from cattune.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "grounding_time.json"
LENGTHS = (10_000, 20_000, 40_000, 80_000)
LINKS, CAUSES, WORDS = 30, 3, 4
REPEATS = 7
SEED = 0
COMMON = ("the", "of", "and", "to")
ALPHABETS = {
    "latin": "abcdefghijklmnoprstuvw",
    "accents": "aàbcçdeéèêfghiîlmnoôprstuû",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "han": "一二人大小天山水火木日月中上下白黑新年花",
}


def make_text(alphabet: str, length: int, rng: random.Random) -> str:
    vocabulary = ["".join(rng.choices(alphabet, k=rng.randint(3, 9))) for _ in range(1500)]
    sentences: list[str] = []
    size = 0
    while size < length:
        words = [rng.choice(vocabulary) if rng.random() < 0.9 else str(rng.randint(1, 500)) for _ in range(12)]
        sentences.append(" ".join(words).capitalize() + ". ")
        size += len(sentences[-1])
    return "".join(sentences)[:length]


def with_common_words(text: str, rng: random.Random) -> str:
    return "".join(f"{rng.choice(COMMON)} {word} " for word in text.split())[: len(text)]


def without_a_letter(phrase: str) -> str:
    longest = max((word for word in phrase.split() if not any(map(str.isdecimal, word))), key=len, default="")
    return phrase.replace(longest, longest[:3] + longest[4:], 1)


CHANGES: dict[str, Callable[[str], str]] = {
    "exact": str,
    "loose": lambda phrase: phrase.upper().replace(" ", "  "),
    "fuzzy": without_a_letter,
    "missing": lambda phrase: f"{phrase} qqqq zzzz",
}


def make_links(text: str, kind: str, rng: random.Random) -> list[tuple[str, list[str]]]:
    words = text.split()

    def phrase() -> str:
        if kind == "common":
            return rng.choice(COMMON)
        at = rng.randrange(len(words) - WORDS)
        return CHANGES[kind](" ".join(words[at : at + WORDS]))

    return [(phrase(), [phrase() for _ in range(CAUSES)]) for _ in range(LINKS)]


def measure(text: str, links: list[tuple[str, list[str]]]) -> dict[str, object]:
    fields = {"prompt": text[: -len(text) // 10], "completion": text[-len(text) // 10 :]}
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        found = ground_links(fields, links)
        times.append((time.perf_counter() - start) * 1000)
    return {"ms": round(min(times), 2), "grounded": dict(Counter(link.method for link in found.links))}


def time_long_text() -> list[dict[str, object]]:
    """One row for each length, alphabet and kind of phrase."""
    rows: list[dict[str, object]] = []
    for length in LENGTHS:
        for name, alphabet in ALPHABETS.items():
            rng = random.Random(SEED)
            text = make_text(alphabet, length, rng)
            for kind in (*CHANGES, "common"):
                spaced = with_common_words(text, rng) if kind == "common" else text
                row = {"characters": length, "alphabet": name, "phrases": kind}
                rows.append(row | measure(spaced, make_links(spaced, kind, rng)))
                print(*rows[-1].values())
    return rows


def main() -> None:
    write_json(
        RESULTS,
        {
            "rows": time_long_text(),
            "provenance": provenance(links=LINKS, causes=CAUSES, words=WORDS, repeats=REPEATS, seed=SEED),
        },
    )


if __name__ == "__main__":
    main()
