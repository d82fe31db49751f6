"""Chat templates that loop for ever, or want all memory, are stopped; sound ones are left alone."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chat_templates import Templated, conversation
from tokenizer_families import CHATML

from cattune.errors import AlignmentError
from cattune.supervision.rendering import Renderer, Rendering, TemplateError
from cattune.supervision.rendering.bounds import LONGEST, MEMORY, Bounds, Exceeded

ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "lists": "{% set n = namespace(x=[]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
}
HUGE = {
    "a product": "{{ 'a' * 10**10 }}",
    "a folded filter": "{{ 'a' | center(10**9) }}",
    "a method": "{{ messages[0].content.center(10**11) }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "one text many times": "{% set s = 'a' * 10**6 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
    "a list": "{{ [1] * 10**10 }}",
}
WRITES = "{{ 'a' * 2000000 }}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cattune.supervision.rendering.bounds.TICK", 0.02)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """A template that nothing stops fails its test, and does not hang the run."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the template went on for a minute"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def said(template: str, content: str = "4 and 5?") -> str:
    with pytest.raises(TemplateError) as error:
        Renderer(Templated(template + CHATML))(conversation(content, "9"))
    return str(error.value)


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_is_stopped(template: str) -> None:
    assert "the chat template takes too much: it takes more than 0.04 s of processor time" in said(template)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not keep to a limit of memory")
@pytest.mark.parametrize("template", HUGE.values(), ids=HUGE)
def test_what_wants_all_memory_is_stopped(template: str) -> None:
    assert "the chat template takes too much: it takes more than 256 MB of memory" in said(template)


def test_what_writes_too_much_is_stopped() -> None:
    assert "it writes 2,000,0" in said(WRITES)


def test_a_long_example_is_not_what_writes_too_much() -> None:
    long = conversation("4 and 5? " * (LONGEST // 4), "9")
    assert len(Renderer(Templated(CHATML))(long).text) > 2 * LONGEST
    tools = [{"name": "a" * 2 * LONGEST}]
    given = Renderer(Templated("{{ tools | tojson }}" + CHATML), {"tools": tools})
    assert len(given(conversation("4 and 5?", "9")).text) > 2 * LONGEST


def test_one_example_is_left_out_and_the_others_are_not() -> None:
    template = "{% if 'loop' in messages[0].content %}" + ENDLESS["nested loops"] + "{% endif %}" + CHATML
    examples = [conversation(content, "9") for content in ("4?", "5?", "loop", "6?", "loop", "7?")]
    results = Renderer(Templated(template)).each(examples)
    assert [isinstance(result, Rendering) for result in results] == [True, True, False, True, False, True]


def test_a_template_that_never_ends_stops_the_file_at_its_second_example() -> None:
    tokenizer = Templated(ENDLESS["nested loops"] + CHATML)
    with pytest.raises(AlignmentError, match="and 1 before it: the chat template takes too much") as error:
        Renderer(tokenizer).each([conversation(f"{i}?", "9") for i in range(1000)])
    assert not isinstance(error.value, TemplateError)
    assert tokenizer.calls == 2


def test_one_that_ends_only_with_the_marks_of_a_search_is_stopped_too() -> None:
    other = "{% if messages[0].content != '4?' %}" + ENDLESS["nested loops"] + "{% endif %}"
    assert "takes too much" in said(other, "4?")


def test_many_quick_renderings_of_one_example_are_no_slow_one() -> None:
    with Bounds() as bounds:
        bounds.next_example(9)
        for _ in range(400):
            assert bounds.run(lambda: str(sum(range(20_000))), lambda: 9)


def test_everything_is_given_back() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert "takes too much" in said(ENDLESS["nested loops"])
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not keep to a limit of memory")
def test_what_earlier_renderings_wrote_is_not_counted() -> None:
    kept: list[str] = []

    def write() -> str:
        kept.append("a" * LONGEST)
        return kept[-1]

    with Bounds() as bounds:
        for _ in range(2 * MEMORY // LONGEST):
            bounds.run(write, lambda: 9)
    assert len(kept) == 2 * MEMORY // LONGEST


def test_a_timer_of_the_programs_own_stays() -> None:
    def own(number: int, frame: Any) -> None:
        del number, frame

    before = signal.signal(signal.SIGVTALRM, own)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
        Renderer(Templated(CHATML))(conversation("4?", "9"))
        assert signal.getsignal(signal.SIGVTALRM) is own
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_in_another_thread_only_what_is_written_is_bounded() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    during: list[Any] = []

    def render() -> None:
        during.append(said(WRITES))
        with Bounds() as bounds:
            bounds.run(lambda: str(during.append(resource.getrlimit(resource.RLIMIT_DATA))), lambda: 9)

    in_thread(render)
    assert "it writes 2,000,0" in during[0]
    assert during[1] == before


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_was_stopped_holds_no_memory() -> None:
    with Bounds() as bounds, pytest.raises(Exceeded) as error:
        bounds.run(lambda: "a" * 2 * LONGEST, lambda: 9)
    assert error.value.__context__ is None
