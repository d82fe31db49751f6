"""Chat templates that behave as those of well-known families do, written for the tests, and conversations for them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tokenizer_families import CHATML, TRIMMING, family

from cattune.data.examples import Example, Message

QWEN3 = """
{%- if tools %}{{ '<|im_start|>system\\n# Tools\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}
{%- set last = namespace(user=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set content = m.content %}{% set thought = '' %}
{%- if m.reasoning_content is string %}{% set thought = m.reasoning_content %}
{%- elif '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{%- if loop.index0 > last.user and (loop.last or thought) %}
{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}{{ '<|im_start|>assistant\\n' + content }}{% endif %}{{ '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
"""Thoughts: out of earlier turns, in one form in the last; none where `enable_thinking` is false."""

R1 = """{{ bos_token }}
{%- for m in messages %}{% if m.role == 'assistant' %}
{%- set content = m.content %}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- '<|Assistant|>' + content + '<|im_end|>' }}{% else %}{{ '<|User|>' + m.content }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"""
"""Everything before the end of a thought is cut, in every turn."""

THINKING_PROMPT = QWEN3.split("{%- if enable_thinking is defined")[0] + "{{- '<think>\\n' }}{%- endif %}"
"""The generation prompt itself opens the thought."""

LLAMA3 = """{{ bos_token }}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{{- '<|im_start|>system\\n\\nToday Date: ' + (date_string or strftime_now('%d %b %Y')) }}
{{- '\\n\\n' + system + '<|im_end|>' }}
{%- for m in rest %}{{ '<|im_start|>' + m.role + '\\n\\n' + m.content | trim + '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n\\n' }}{% endif %}"""

GEMMA = """{{ bos_token }}{%- if messages[0].role == 'system' %}
{%- set first = messages[0].content + '\\n\\n' %}{% set rest = messages[1:] %}
{%- else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}{% endif %}
{{- '<|im_start|>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (first if loop.first else '') }}
{{- m.content | trim + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\\n' }}{% endif %}"""

MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}
{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"""

MASKED = """{% for m in messages %}{{ '[' + m.role + '] ' }}
{%- if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"""

SPEAKERS = """{% for m in messages %}{{ '<|im_start|>' + m.role }}
{%- if m.name %}{{ ' name=' + m.name }}{% endif %}{{ '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

ESCAPED = """{% for m in messages %}{{ m.role + ': ' }}
{%- if m.role == 'assistant' %}{{ m.content + '<|im_end|>' }}{% else %}{{ m.content | tojson }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""

LOWERED = """{% for m in messages %}{{ '<' + m.role + '>' }}
{%- if m.role == 'assistant' %}{{ m.content }}{% else %}{{ m.content | lower | replace('  ', ' ') }}{% endif %}
{{- '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"""

NEXT_ROLE_ENDS = """{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""
"""Nothing ends a turn but the next one."""

TEXT_ENDS = """{% for m in messages %}{{ '### ' + m.role + '\\n' + m.content + '\\n### End\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '### assistant\\n' }}{% endif %}"""
"""Plain text ends a turn."""

TEMPLATES = {
    "chatml": CHATML,
    "trimming": TRIMMING,
    "qwen3": QWEN3,
    "r1": R1,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "masked": MASKED,
    "speakers": SPEAKERS,
    "escaped": ESCAPED,
    "lowered": LOWERED,
    "next-role-ends": NEXT_ROLE_ENDS,
    "text-ends": TEXT_ENDS,
    "thinking-prompt": THINKING_PROMPT,
}


class Templated:
    """What rendering needs of a tokenizer, with a template of our choice."""

    def __init__(self, template: str | None) -> None:
        self._tokenizer = family("byte-level")
        self.chat_template = template
        self.calls = 0

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        self.calls += 1
        return self._tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)


def conversation(*contents: str, system: str | None = None, **more: Any) -> Example:
    """User and assistant in turn, the assistant last."""
    roles = ["user", "assistant"] * len(contents)
    messages = [Message(role, content) for role, content in zip(roles, contents, strict=False)]
    before = [Message("system", system)] if system is not None else []
    return Example("chat", messages=(*before, *messages), **more)


def contents() -> st.SearchStrategy[str]:
    """Repeated words, role names, markup of templates, white space at the ends, nothing, any character."""
    markup = ["<think>", "</think>", "\n</think>\n\n", "<think>\n", "<|im_end|>", "### End", "{{ x }}", '"', "\\", "&"]
    words = ["user", "assistant", "system", "6", "4 pens", "A", "Straße", "İ", "\ue000", "👩‍👩‍👧", *markup]
    part = st.one_of(st.sampled_from([*words, " ", "\n", "  "]), st.text(st.characters(codec="utf-8"), max_size=3))
    return st.lists(part, max_size=7).map("".join)
