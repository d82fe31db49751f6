"""YAML files and chat templates that went wrong on their way: mutated by a seeded generator, apart from cattune."""

from __future__ import annotations

import json
from collections.abc import Callable

from mutated_inputs import Mutant, Rng, mutated_bytes, other_value, text


def file_of_yaml(rng: Rng, source: str) -> Mutant:
    """A YAML file, with some things done to its lines and bytes."""
    lines = source.split("\n")
    steps = []
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        step = rng.choice([*_YAML])
        lines[at] = _YAML[step](rng, lines[at])
        steps.append(f"yaml: {step}")
    if rng.random() < 0.1:
        steps.append("yaml: a bomb")
        lines += ["a: &a [x,x,x,x,x,x,x,x,x]"] + [
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ]
    if rng.random() < 0.05:
        steps.append("yaml: itself")
        lines += ["me: &me", "  again: *me"]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        data, step, _ = mutated_bytes(rng, data)
        steps.append(f"bytes: {step}")
    return Mutant(data, tuple(steps), False)


def _valued(rng: Rng, line: str, value: str) -> str:
    key, colon, _ = line.partition(":")
    return f"{key}: {value}" if colon else f"{line} {value}"


_YAML: dict[str, Callable[[Rng, str], str]] = {
    "value": lambda rng, line: _valued(rng, line, json.dumps(other_value(rng))),
    "bare": lambda rng, line: _valued(
        rng,
        line,
        rng.choice(
            ("~", "yes", ".nan", "-.inf", "0x1F", "0o17", "1_000", "12:30:45", "2024-02-30", "=", "<<", "!", "*a", "&a")
        ),
    ),
    "tag": lambda rng, line: _valued(
        rng,
        line,
        rng.choice(
            (
                "!!int ''",
                "!!float x",
                "!!binary =",
                "!!timestamp x",
                "!!set {a}",
                "!!omap [a]",
                "!!python/object/apply:os.system [ls]",
                "!x y",
                "!!bool 7",
                "!!null x",
                "!!merge a",
                "!!int 0b",
                "!!int '9:9:9'",
            )
        ),
    ),
    "deep": lambda rng, line: _valued(rng, line, "[" * rng.choice((50, 99, 150, 3000))),
    "deep and closed": lambda rng, line: _valued(rng, line, "[" * (n := rng.choice((50, 99, 150, 3000))) + "]" * n),
    "deep mapping": lambda rng, line: _valued(rng, line, "{a: " * 400 + "}" * 400),
    "deep lines": lambda rng, line: "\n".join([line, *(" " * (i + 2) + "a:" for i in range(300))]),
    "dashes": lambda rng, line: "- " * rng.choice((5, 200, 3000)) + line,
    "drop": lambda rng, line: "",
    "again": lambda rng, line: f"{line}\n{line}",
    "indent": lambda rng, line: rng.choice(("  ", "\t", " ")) + line,
    "outdent": lambda rng, line: line.lstrip(),
    "text": lambda rng, line: _valued(rng, line, text(rng)),
    "sign": lambda rng, line: (
        line + rng.choice((":", "#", "|", ">", "'", '"', "{", "]", "%", "@", "`", "---", "...", "? ", "!!"))
    ),
    "merge": lambda rng, line: (
        line[: len(line) - len(line.lstrip())] + "<<: " + rng.choice(("*a", "{a: 1}", "[a]", "7", "[{a: 1}, 2]"))
    ),
    "document": lambda rng, line: f"{line}\n---\n{line}",
    "directive": lambda rng, line: f"%YAML 9.9\n--- {line}",
    "regex": lambda rng, line: _valued(
        rng,
        line,
        "{in: prompt, regex: '"
        + rng.choice(("(a+)+$", "(", "(?<=a*)b", "a{99999}", "(?P<x>.)(?P<x>.)", "", "(.*)*x", "[[", "\\\\"))
        + "'}",
    ),
    "long": lambda rng, line: _valued(rng, line, "x" * rng.choice((5000, 200_000))),
    "number": lambda rng, line: _valued(
        rng, line, rng.choice(("9" * 5000, "1e999", "-0", "1e-400", "0.1234567890123"))
    ),
}

CONFIGURATION = """model: no-such-model
train_file: train.jsonl
output_dir: out
eval_files:
  iid: train.jsonl
learning_rate: 1e-3
num_train_epochs: 2
per_device_train_batch_size: 4
objective: uniform
gamma: 0.5
gamma_schedule: linear
save_strategy: no
seed: 7
peft: {r: 8, lora_alpha: 16, target_modules: [q_proj, v_proj]}
report_to: none
max_length: 128
"""


# --- chat templates

BOMBS = {
    "range": "{% for i in range(10**9) %}x{% endfor %}",
    "product": "{{ 'a' * 10**10 }}",
    "product of one": "{{ 'a' * 10**8 }}",
    "list": "{{ [1] * 10**9 }}",
    "centre": "{{ 'a' | center(10**9) }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "method": "{{ 'a'.ljust(10**11) }}",
    "folded": "{% set x = 'a' * 10**9 %}",
    "power": "{{ 10**5000 }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "many times": "{% set s = 'a' * 10**6 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
    "much": "{% for i in range(99999) %}{{ 'a' * 40 }}{% endfor %}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "words": "{{ lipsum(n=200) }}",
}
"""What wants too much at once; the next ones take their time, and are tried less often."""

ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "great power": "{{ 9 ** (9 ** 9) }}",
    "slow": "{% for i in range(9999) %}{% for j in range(99) %}{% endfor %}{% endfor %}",
    "sometimes": "{% if '4' in messages[0].content %}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}",
}

_ODD = (
    "{{ x.y.z }}",
    "{{ messages[99].content }}",
    "{{ raise_exception('no ' * 900) }}",
    "{% if %}",
    "{% for %}",
    "{{",
    "{% endfor %}",
    "{{ messages }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages[0].content.__class__ }}",
    "{{ 1 / 0 }}",
    "{{ messages.append(1) }}",
    "{% set messages = [] %}",
    "{{ strftime_now('%') }}",
    "{{ messages | tojson(indent=4) }}",
    "{{ '\\ud800' }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{{ messages | map(attribute='content') | join(messages[0].content) }}",
    "{# ",
    "{{ 7 | nothing }}",
    "{% raw %}",
    "{% generation %}{% endgeneration %}",
    "{{ namespace(__class__=1) }}",
    "{{ messages[-1].content | upper }}",
    "\x00",
    "\u2028",
    "\ue000",
    "\U000f0000",
)


def template(rng: Rng, source: str, endless: float = 0.05) -> tuple[str, tuple[str, ...]]:
    """A chat template, with some things done to it: bombs, odd expressions, parts that are lost or changed."""
    steps = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(source) + 1)
        step = rng.choice(("bomb", "odd", "odd", "remove", "repeat", "text", "filter", "swap"))
        if step == "bomb":
            step = rng.choice([*ENDLESS] if rng.random() < endless else [*BOMBS])
            source = (ENDLESS | BOMBS)[step] + source
        elif step == "odd":
            odd = rng.choice(_ODD)
            source = rng.choice((odd + source, source + odd, source[:at] + odd + source[at:]))
        elif step == "filter":
            source = source.replace(
                "content",
                "content | "
                + rng.choice(("upper", "trim", "replace('4', '5')", "tojson", "e", "reverse", "title", "wordwrap(3)")),
                1,
            )
        elif step == "swap":
            source = source.replace(
                *rng.choice(
                    (
                        ("role", "content"),
                        ("content", "role"),
                        ("m.", "x."),
                        ("messages", "messages[1:]"),
                        ("user", "assistant"),
                    )
                )
            )
        elif step == "text":
            source = source[:at] + text(rng) + source[at:]
        else:
            end = at + rng.randrange(1, 30)
            source = source[:at] + source[at:end] * (0 if step == "remove" else 2) + source[end:]
        steps.append(f"template: {step}")
    return source, tuple(steps)
