"""Replies as models and servers spoil them, and what must hold whatever comes of one.

A reply names phrases of a text. It is spoilt in one to three ways, of two kinds: *forms* leave the phrases as they are
meant (thoughts, fences, single backslashes, Markdown, other quotation marks), *edits* do not (characters that are lost,
changed, doubled, cut off). Then it is read, and its links are found in the text. What is accepted must stand in the
reply in the same words, must cut no command of the text, must not be of a thought, and under forms alone must be a
phrase that was meant.
"""

from __future__ import annotations

import json
import random
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from cattune.annotation.assistant.judgement import Judgement, judge
from cattune.annotation.assistant.prompt import example_tag
from cattune.annotation.assistant.reply import ReplyError, read_reply
from cattune.data.examples import Example

MOST_SECONDS = 5.0
DECOY = "zebra quagga"
"""In every text, and in every thought; meant by no reply."""

TEXTS = (
    ("Ann has 4 pens and 9 hats. She buys 2 pens. How many pens has she? ", "4 + 2 = 6. The answer is 6."),
    ("A tank has $\\frac{3}{4}$ of $12 \\times 5$ litres, $\\beta = 7$. How many? ", "\\frac{3}{4} \\times 60 = 45"),
    ("Let $x \\neq 0$ and\n$\\nabla f = 3x$.\n\nGive $\\sqrt{81}$, $\\text{m} 12$, 12\\% of \\$30. ", "It is 9 or 36."),
    ("Patient: age 61.5, smoker: yes;\tBMI: 24.00.\nRisk: ", "The risk is high, since smoker: yes."),
    ("The path is C:\\new\\temp\\file_3 and \\d+\\s means digits. Which folder? ", "C:\\new\\temp"),
    ("Karin’s “big” café opens at 7:30 — naïve, isn't it? 5 × 3 = ", "15, at Karin’s café"),
    ("安有4支笔和9顶帽子。她买了2支笔。 She has pens. ", "她有6支笔"),
    ("Use <think> and </think> around it; **bold** is 3 * 4 * 5. What is {\"a\": [1, 2]}? ", "60, or {\"a\"}"),
    ("def add(a, b):\n    return a + b  # \"sum\" of 2\n\nWhat is add(2, 3)? ", "add(2, 3) = 5"),
    ("I paid 1,234.50 dollars, -5 off, on 2024-01-31. Reading, running. Total? ", "1,229.50"),
)  # fmt: skip


@dataclass
class Case:
    """A reply on its way to the reader.

    Args:
        example: whose text it is about.
        links: what it names.
        strings: what is done to each string once it is JSON.
        wraps: what is done to the whole.
        done: the names of all that was done.
    """

    example: Example
    links: list[tuple[str, list[str]]]
    strings: list[Callable[[str], str]] = field(default_factory=list)
    wraps: list[Callable[[str], str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def raw(self) -> str:
        """The reply as it comes."""

        def string(text: str) -> str:
            written = json.dumps(text, ensure_ascii=False)[1:-1]
            for change in self.strings:
                written = change(written)
            return f'"{written}"'

        links = ", ".join(
            f'{{"effect": {string(effect)}, "causes": [{", ".join(map(string, causes))}]}}'
            for effect, causes in self.links
        )
        text = f'{{"example": "{example_tag(self.example)}", "links": [{links}]}}'
        for wrap in self.wraps:
            text = wrap(text)
        return text


def make_case(rng: random.Random) -> Case:
    prompt, completion = rng.choice(TEXTS)
    example = Example("x", f"{DECOY}. {prompt}", completion)
    links = [
        (_phrase(rng, completion), [_phrase(rng, prompt) for _ in range(rng.randint(1, 3))])
        for _ in range(rng.randint(1, 3))
    ]
    return Case(example, links)


def _phrase(rng: random.Random, text: str) -> str:
    """Some words of a text, with what stands between them; a command is a word."""
    words = list(re.finditer(r"\\[A-Za-z]+|\\.|[^\W_]+|[^\w\s]", text))
    first = rng.randrange(len(words))
    last = min(len(words) - 1, first + rng.randint(0, 5))
    return text[words[first].start() : words[last].end()]


# Forms: what is named stays what is meant.

THOUGHTS = (
    ("<think>", "</think>"), ("", "</think>"), ("<Thinking>", "</Thinking>"), ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
)  # fmt: skip
PROSE = ("", "Okay.", "Let me see:\n", 'The "links" are {these}.', "It costs $5, see [1].\n\n", "{", "\ufeff")


def _thought(case: Case, rng: random.Random) -> None:
    thought = _made_up(case, rng)
    case.wraps.append(lambda text: thought + text)


def _rejected(case: Case, rng: random.Random) -> None:
    thought = _made_up(case, rng)
    case.wraps.append(lambda text: f"{thought}There is no cause.")


def _made_up(case: Case, rng: random.Random) -> str:
    opens, closes = rng.choice(THOUGHTS)
    tag = example_tag(case.example)
    draft = f'{{"example": "{tag}", "links": [{{"effect": "{case.example.completion[:1]}", "causes": ["{DECOY}"]}}]}}'
    inside = rng.choice((draft, draft[: rng.randrange(len(draft))], f"{draft}\nno, {draft}", "Hm."))
    return f"{opens}{inside}{closes}"


def _prose(case: Case, rng: random.Random) -> None:
    before, after = rng.choice(PROSE), rng.choice(("", "\n", "\n\nI hope this helps!", " {done}"))
    case.wraps.append(lambda text: f"{before}{text}{after}")


def _fence(case: Case, rng: random.Random) -> None:
    name = rng.choice(("json", "", "JSON", "jsonc"))
    case.wraps.append(lambda text: f"```{name}\n{text}\n```")


def _call(case: Case, rng: random.Random) -> None:
    as_string = rng.random() < 0.5
    case.wraps.append(lambda text: f'{{"name": "links", "arguments": {json.dumps(text) if as_string else text}}}')


def _twice(case: Case, rng: random.Random) -> None:
    case.wraps.append(lambda text: f"{text}\n\n{text}")


def _single_backslashes(case: Case, rng: random.Random) -> None:
    case.strings.append(lambda text: text.replace("\\\\", "\\"))


def _double_backslashes(case: Case, rng: random.Random) -> None:
    case.strings.append(lambda text: text.replace("\\\\", "\\\\\\\\"))


def _ascii(case: Case, rng: random.Random) -> None:
    case.strings.append(lambda text: "".join(json.dumps(c)[1:-1] if ord(c) > 127 else c for c in text))


def _marks(case: Case, rng: random.Random) -> None:
    mark = rng.choice(("**", "*", "_", "__", "`", "~~"))
    _named(case, rng, lambda text: re.sub(r"(?<![\w\\])\w+(?!\w)", rf"{mark}\g<0>{mark}", text, count=1))


def _spaces(case: Case, rng: random.Random) -> None:
    space = rng.choice(("  ", "\u00a0", " \n", "\u200b "))
    _named(case, rng, lambda text: text.replace(" ", space))


def _quotes(case: Case, rng: random.Random) -> None:
    pairs = rng.choice((("’", "'"), ("'", "’"), ("—", "-"), ("“", "„")))
    _named(case, rng, lambda text: text.replace(*pairs))


def _case(case: Case, rng: random.Random) -> None:
    change = rng.choice((str.upper, str.lower, str.title))
    _named(case, rng, lambda text: text if "\\" in text else change(text))


def _composed(case: Case, rng: random.Random) -> None:
    form = rng.choice(("NFC", "NFD"))
    _named(case, rng, lambda text: unicodedata.normalize(form, text))


def _named(case: Case, rng: random.Random, change: Callable[[str], str]) -> None:
    """Change what some phrases are, before they are JSON."""
    case.links = [
        (effect, [change(cause) if rng.random() < 0.7 else cause for cause in causes]) for effect, causes in case.links
    ]


FORMS = {
    "thought": _thought, "rejected": _rejected, "prose": _prose, "fence": _fence, "tool call": _call, "twice": _twice,
    "single backslashes": _single_backslashes, "double backslashes": _double_backslashes, "escapes": _ascii,
    "markdown": _marks, "white space": _spaces, "quotation marks": _quotes, "case": _case, "composition": _composed,
}  # fmt: skip

# Edits: who knows what is meant?


def _without(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + text[at + 1 :]


def _other(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + rng.choice('{}[]",:\\ 0a<\n\ud800é/') + text[at + 1 :]


def _more(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + rng.choice('{}[]",:\\ 0a<\n\0é/') + text[at:]


def _cut(text: str, at: int, rng: random.Random) -> str:
    return text[:at]


def _beheaded(text: str, at: int, rng: random.Random) -> str:
    return text[at:]


def _doubled(text: str, at: int, rng: random.Random) -> str:
    return text[: at + rng.randint(1, 30)] + text[at:]


def _gap(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + text[at + rng.randint(2, 30) :]


def _swapped(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]


def _other_quotes(text: str, at: int, rng: random.Random) -> str:
    return text.replace('"', rng.choice(("'", "“", '\\"')))


def _flood(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + rng.choice(("[", "{", '"a", ', "<think>", "\\", " ", '{"a":')) * 5_000 + text[at:]


EDITS = {
    "a character less": _without, "another character": _other, "a character more": _more, "cut off": _cut,
    "beheaded": _beheaded, "a part twice": _doubled, "a gap": _gap, "swapped": _swapped, "other quotes": _other_quotes,
    "flood": _flood,
}  # fmt: skip


def _edit(case: Case, name: str, seed: int) -> None:
    def wrap(text: str) -> str:
        rng = random.Random(seed)
        return EDITS[name](text, rng.randrange(len(text) or 1), rng)

    case.wraps.append(wrap)


# What must hold.


def check_reply(seed: int) -> tuple[Counter[str], float]:
    """Spoil a reply and read it; what came of it, for counting, and the seconds that it took.

    Raises:
        AssertionError: a word changed, a thought was taken for the answer, or it took too long.
    """
    rng = random.Random(seed)
    case = make_case(rng)
    meant = [phrase for effect, causes in case.links for phrase in (effect, *causes)]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.6:
            name = rng.choice(list(FORMS))
            FORMS[name](case, rng)
        else:
            name = rng.choice(list(EDITS))
            _edit(case, name, rng.randrange(2**32))
        case.done.append(name)
    raw = case.raw()
    result: Judgement | None
    began = time.process_time()
    try:
        result = judge(case.example, read_reply(raw, example_tag(case.example)))
    except ReplyError as error:
        result, what = None, f"refused: {error.reason}"
    seconds = time.process_time() - began
    assert seconds < MOST_SECONDS, f"{case.done}: {seconds:.1f} s"
    if result is None:
        return Counter({what: 1}), seconds
    found = [span for link in result.links for span in (link.effect, *link.causes)]
    for span in found:
        text = case.example.text_of(span)
        where = f"{case.done}: {text!r} in {case.example.fields[span.field]!r} for {raw!r}"
        begins, ends = _cut_commands(case.example.fields[span.field], span.start, span.end)
        assert not ends and (not begins or f'"{json.dumps(text)[1:-1]}' in raw), f"cut: {where}"
        assert _is_said(text, raw), f"changed: {where}"
        if set(case.done) <= set(FORMS):
            assert _words(text) in map(_words, meant), f"not meant: {where}"
            assert DECOY not in text, f"thought: {where}"
    what = "read whole" if len(found) == len(meant) else "read in part" if found else "nothing found"
    return Counter({what: 1, "phrases": len(found)}), seconds


def _cut_commands(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether a stretch begins, and ends, between the letters of a command."""
    letters = [match.span(1) for match in re.finditer(r"\\([A-Za-z]+)", text)]
    return any(first < start < last for first, last in letters), any(first < end < last for first, last in letters)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cf") and c not in "'’`*_~")
    kept = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", kept)
    return [word for word in re.findall(r"\d+|[^\W\d_]+", kept) if word not in ("a", "an", "the")]


def _is_said(text: str, raw: str) -> bool:
    """Whether a reply has the words of a text one after the other, as they are or nearly so; numbers as they are."""
    words = _words(text)
    return any(
        all(map(_like, words, said[start : start + len(words)]))
        for said in map(_words, _readings(raw))
        for start in range(len(said) - len(words) + 1)
    )


def _readings(raw: str) -> Iterator[str]:
    """A raw reply with its backslashes as they are, and with line breaks and tabs for those that stand for them."""
    unescaped = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), raw)
    readings = [unescaped]
    for backslashes in (1, 2, 4):
        for end in ("", "(?![A-Za-z])"):
            readings.append(re.sub(rf"(?<!\\)\\{{{backslashes}}}[nt]{end}", " ", unescaped))
    for reading in readings:
        yield reading
        yield re.sub(r"\s+(?=['’])", "", reading)
        yield re.sub(r"[*_~]", " ", reading)


def _like(word: str, other: str) -> bool:
    if word == other:
        return True
    may_vary = len(word) >= 4 and not any(map(str.isdecimal, word + other))
    return may_vary and SequenceMatcher(None, word, other).ratio() > 0.7
