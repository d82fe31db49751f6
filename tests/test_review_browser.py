"""The review page in headless Chromium, against `cattune review` as a process of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cattune.data.examples import REJECTED, CausalLink, Example, RefusedLink, Span
from cattune.formats.loading import load_examples, save_examples

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

_COMMAND = """\
import argparse, sys
from cattune.cli import review
parser = argparse.ArgumentParser()
review.add_parser(parser.add_subparsers())
args = parser.parse_args(["review", *sys.argv[1:]])
sys.exit(args.run(args))
"""

PROMPT = "Red hats: 3. Blue hats: 5. All hats: "
LINK = CausalLink(Span("completion", 0, 1), (Span("prompt", 0, 11), Span("prompt", 13, 25)), source="model")
EMOJI = "👩‍👩‍👧‍👦 family buys 🎟️🎟️ for 12 €: "
HEBREW = "דנה קנתה 3 תפוחים 🍎 ועוד 4 אגסים. כמה פירות? "
HTML = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> 3 + 4 = "


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Server:
    """`cattune review FILE`, from its start to its Ctrl-C."""

    def __init__(self, *words: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words, "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit status, and what was said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hats.jsonl"
    save_examples(
        path,
        [
            Example("hats", PROMPT, "8", links=(LINK, CausalLink(LINK.effect, LINK.causes[:1], source="rule"))),
            Example("emoji", EMOJI, "48 €"),
            Example("hebrew", HEBREW, "7 פירות"),
            Example("html", HTML, "7"),
            Example("last", PROMPT, "8", links=(LINK,)),
        ],
    )
    return path


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*words: str | Path) -> Server:
        servers.append(Server(*map(str, words)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    contexts = []

    def go(server: Server, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 850}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.problems.append(request.url) if not ours(request.url, server) else None)
        page.goto(server.url)
        page.wait_for_selector("#name:has-text('hats')")
        return page

    yield go
    for context in contexts:
        problems = [problem for page in context.pages for problem in page.problems]
        context.close()
        assert problems == [], "errors of the page, or requests to elsewhere"


def ours(url: str, server: Server) -> bool:
    return url.startswith(server.url.partition("?")[0])


def drag(page: Any, words: str, field: int = 0) -> None:
    """Select words of a field with the mouse, as a person does."""
    box = page.evaluate(
        """([words, field]) => {
            const node = document.querySelectorAll(".body")[field].firstChild, range = document.createRange();
            const place = (start, end) => {
                range.setStart(node, start); range.setEnd(node, end);
                return range.getBoundingClientRect();
            };
            const start = node.data.indexOf(words), points = [...words], step = (point) => point.length;
            const first = place(start, start + step(points[0]));
            const last = place(start + words.length - step(points.at(-1)), start + words.length);
            const left = getComputedStyle(node.parentElement).direction === "rtl";
            const middle = (box) => box.top + box.height / 2;
            return left ? [first.right - 1, middle(first), last.left + 1, middle(last)]
                : [first.left + 1, middle(first), last.right - 1, middle(last)];
        }""",
        [words, field],
    )
    page.mouse.move(box[0], box[1])
    page.mouse.down()
    page.mouse.move(box[2], box[3], steps=4)
    page.mouse.up()


def select(page: Any, words: str, field: int = 0) -> None:
    """Select exactly these words of a field."""
    page.evaluate(
        """([words, field]) => {
            const node = document.querySelectorAll(".body")[field].firstChild, start = node.data.indexOf(words);
            getSelection().setBaseAndExtent(node, start, node, start + words.length);
        }""",
        [words, field],
    )


def settle(page: Any) -> None:
    """Wait for the requests that a key has set off."""
    page.wait_for_load_state("networkidle")


def go_to(page: Any, name: str) -> None:
    page.click(f".item:has-text('{name}')")
    page.wait_for_selector(f"#name:has-text('{name}')")


def test_annotate_save_and_reload_by_keys_alone(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    server = serve(file)
    page = visit(server)
    assert "token" not in page.url
    page.keyboard.press("a")
    page.wait_for_selector(".card.accepted >> nth=0")
    page.wait_for_selector(".card.active:has-text('rule')")  # on to the next that waits for a decision
    page.keyboard.press("x")
    page.wait_for_selector(".card.rejected")
    page.wait_for_selector("#reviewed:visible")
    page.keyboard.press("n")
    page.wait_for_selector("#name:has-text('emoji')")
    page.keyboard.press("d")
    page.wait_for_selector("#done[aria-pressed=true]")
    page.wait_for_selector("#unsaved:has-text('2 unsaved')")
    page.reload()  # nothing is lost, and the page comes back where it was
    page.wait_for_selector("#name:has-text('emoji')")
    page.wait_for_selector("#unsaved:has-text('2 unsaved')")
    assert load_examples(file)[0].links == (LINK, CausalLink(LINK.effect, LINK.causes[:1], source="rule"))
    page.keyboard.press("s")
    page.wait_for_selector("#message:has-text('Saved 2 examples')")
    saved = load_examples(file)
    assert [link.status for link in saved[0].links] == ["accepted"]
    assert [refusal.reason for refusal in saved[0].refused] == [REJECTED]
    assert saved[0].refused[0].link == CausalLink(LINK.effect, LINK.causes[:1], source="rule")
    assert saved[1].metadata == {"reviewed": True}
    for _ in range(3):  # undo goes back over this tab's edits, wherever they were
        page.keyboard.press("u")
    page.wait_for_selector("#name:has-text('hats')")
    page.wait_for_selector(".card.proposed >> nth=1")
    page.keyboard.press("Shift+U")
    page.wait_for_selector(".card.accepted")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    assert [link.status for link in load_examples(file)[0].links] == ["accepted", "proposed"]
    status, said = server.stop()
    assert status == 0 and "everything is saved" in said
    assert [path.name for path in file.parent.iterdir()] == ["hats.jsonl"]


def test_a_link_by_selecting_words_with_the_keyboard(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    page = visit(serve(file))
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("getSelection().toString()") == "3"
    page.keyboard.press("c")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("getSelection().toString()") == "Red hats"
    page.keyboard.press("Alt+Shift+ArrowRight")
    assert page.evaluate("getSelection().toString()") == "Red hats:"
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("getSelection().toString()") == "8"
    page.keyboard.press("e")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card:has-text('person')")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    assert load_examples(file)[0].links[-1] == CausalLink(
        Span("completion", 0, 1), (Span("prompt", 10, 11),), source="person", status="accepted"
    )


def test_emoji_count_as_python_counts_them(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    go_to(page, "emoji")
    drag(page, "48", 1)
    page.click("#chooser [data-role=effect]")
    drag(page, "12 €")
    page.keyboard.press("c")
    select(page, "🎟️🎟️")
    page.keyboard.press("c")
    select(page, "👩‍👩‍👧‍👦 family")
    page.click("#chooser [data-role=cause]")
    page.click("[data-act=commit]")
    page.wait_for_selector(".card:has-text('person')")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    example = load_examples(file)[1]
    assert [example.text_of(cause) for cause in example.links[0].causes] == ["12 €", "🎟️🎟️", "👩‍👩‍👧‍👦 family"]
    assert example.links[0].causes[0] == Span("prompt", EMOJI.index("12 €"), EMOJI.index("12 €") + 4)
    # and back: what is drawn behind the text is where the browser has the words
    marked = page.evaluate("document.querySelectorAll('#marks .active rect.cause').length")
    assert marked == 3


def test_right_to_left_text(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    go_to(page, "hebrew")
    assert page.evaluate("getComputedStyle(document.querySelector('.body')).direction") == "rtl"
    drag(page, "7", 1)
    page.keyboard.press("e")
    drag(page, "אגסים")
    page.keyboard.press("c")
    page.keyboard.press("Escape")
    page.wait_for_selector("#draft", state="hidden")
    drag(page, "פירות", 1)
    page.keyboard.press("e")
    drag(page, "תפוחים 🍎")
    page.keyboard.press("c")
    drag(page, "4 אגסים")
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card:has-text('person')")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    example = load_examples(file)[2]
    (link,) = example.links
    assert [example.text_of(span) for span in (link.effect, *link.causes)] == ["פירות", "תפוחים 🍎", "4 אגסים"]
    drawn = page.evaluate(
        """() => Array.from(document.querySelectorAll("#marks .active .cause"), (rect) => rect.getBoundingClientRect())
            .map((box) => [box.left, box.right])"""
    )
    wanted = page.evaluate(
        """() => { const node = document.querySelector(".body").firstChild, range = document.createRange();
            range.setStart(node, node.data.indexOf("תפוחים")); range.setEnd(node, node.data.indexOf("תפוחים") + 6);
            const box = range.getBoundingClientRect(); return [box.left, box.right]; }"""
    )
    assert any(abs(right - wanted[1]) < 4 and left <= wanted[0] for left, right in drawn)
    page.keyboard.press("ArrowLeft")  # in the direction of reading
    first = page.evaluate("getSelection().toString()")
    page.keyboard.press("ArrowLeft")
    second = page.evaluate("getSelection().toString()")
    assert HEBREW.find(first) <= HEBREW.find(second) or first != second


def test_positions_convert_both_ways(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    generator = random.Random(0)
    texts = ["", "a", "🍎", *("".join(generator.choices("ab é🍎👩\u200d\ufe0fש", k=40)) for _ in range(30))]
    answers = page.evaluate(
        """async (texts) => {
            const { counter } = await import("/static/units.js");
            return texts.map((text) => {
                const { units, points } = counter(text), length = [...text].length;
                return Array.from({ length: length + 1 }, (_, place) => [units(place), points(units(place))]);
            });
        }""",
        texts,
    )
    for text, answer in zip(texts, answers, strict=True):
        for place, (units, points) in enumerate(answer):
            assert units == len(text[:place].encode("utf-16-le")) // 2 and points == place, (text, place)
    halves = page.evaluate(
        """async () => { const { tidy } = await import("/static/units.js");
            return [tidy("a🍎b", 2, 3), tidy("a🍎b", 1, 2), tidy("  ab ", 0, 5), tidy("   ", 0, 3)]; }"""
    )
    assert [(half["start"], half["end"]) for half in halves[:3]] == [(1, 3), (1, 3), (2, 4)]
    assert halves[3]["start"] >= halves[3]["end"]


def test_text_is_never_markup(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    examples = load_examples(file)
    bad = Example(
        HTML[:60],
        HTML,
        "<b>7</b>",
        links=(CausalLink(Span("completion", 0, 8), (Span("prompt", 0, 60),), source=HTML),),
        refused=(RefusedLink(HTML, HTML, HTML),),
        metadata={HTML: HTML},
    )
    save_examples(file, [examples[0], bad])
    page = visit(serve(file))
    page.keyboard.press("j")
    page.wait_for_selector("#name:has-text('script')")
    page.keyboard.press("f")
    settle(page)
    assert page.inner_text(".body >> nth=0") == HTML
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    assert "owned" not in page.title()


def test_two_tabs(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    server = serve(file)
    first, second = visit(server), visit(server)
    first.keyboard.press("Shift+A")
    first.wait_for_selector(".card.accepted >> nth=1")
    second.keyboard.press("x")  # on what is no longer so
    second.wait_for_selector("#message.wrong:has-text('changed elsewhere')")
    second.wait_for_selector(".card.accepted >> nth=1")
    assert second.query_selector(".card.rejected") is None
    second.keyboard.press("x")
    second.wait_for_selector(".card.rejected")


def test_a_file_that_another_program_changes(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    page = visit(serve(file))
    page.keyboard.press("a")
    page.wait_for_selector(".card.accepted")
    theirs = load_examples(file)
    theirs[4] = Example("theirs", "a ", "b")
    save_examples(file, theirs)
    page.keyboard.press("s")
    page.wait_for_selector("#banner:visible")
    assert load_examples(file) == theirs
    page.click("#banner button:has-text('Reload')")
    page.wait_for_selector(".item:has-text('theirs')")
    page.wait_for_selector(".card.accepted")
    page.wait_for_selector("#banner", state="hidden")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    saved = load_examples(file)
    assert saved[4] == theirs[4] and saved[0].links[0].status == "accepted"
    page.keyboard.press("a")
    page.wait_for_selector("#unsaved:has-text('1 unsaved')")
    file.unlink()
    file.write_text("nothing that can be read")
    page.keyboard.press("s")
    page.click("#banner button:has-text('another name')")
    page.fill("#save-as input", "hats.jsonl")
    page.keyboard.press("Enter")
    page.wait_for_selector("#save-as .error:has-text('already exists')")
    page.fill("#save-as input", "mine.jsonl")
    page.keyboard.press("Enter")
    page.wait_for_selector("#file:has-text('mine.jsonl')")
    mine = load_examples(file.with_name("mine.jsonl"))
    assert [link.status for link in mine[0].links] == ["accepted", "accepted"] and mine[4] == theirs[4]
    assert file.read_text() == "nothing that can be read"


def test_a_link_that_is_not_valid_is_refused_in_place(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    page = visit(serve(file))
    drag(page, "Red hats")
    page.keyboard.press("e")
    drag(page, "8", 1)
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    page.wait_for_selector("#draft .error:has-text('comes after its effect')")
    drag(page, "8", 1)
    page.keyboard.press("c")  # once more: it is none
    page.wait_for_selector("#draft .remove", state="detached")
    page.keyboard.press("Enter")
    page.wait_for_selector("#draft .error:has-text('needs a cause')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#draft", state="hidden")
    page.evaluate("""() => { const [a, b] = document.querySelectorAll(".body");
        getSelection().setBaseAndExtent(a.firstChild, 3, b.firstChild, 1); }""")
    page.keyboard.press("e")
    page.wait_for_selector("#message:has-text('within one field')")


def test_undo_leaves_a_link_that_is_half_made_and_not_the_edit_before_it(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    page = visit(serve(file))
    page.keyboard.press("a")
    page.wait_for_selector(".card.accepted")
    drag(page, "Red hats")
    page.keyboard.press("c")
    page.wait_for_selector("#draft:visible")
    for key in ("a", "x", "Shift+A", "d", "r", "Shift+U"):  # nothing else is decided meanwhile
        page.keyboard.press(key)
        page.wait_for_selector("#message.wrong:has-text('Finish the link first')")
    settle(page)
    page.keyboard.press("u")
    page.wait_for_selector("#draft", state="hidden")
    settle(page)
    assert len(page.query_selector_all(".card.accepted")) == 1 and page.query_selector(".card.rejected") is None
    page.keyboard.press("u")
    page.wait_for_selector(".card.accepted", state="detached")


def test_undo_takes_back_ones_own_edits_only(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    server = serve(file)
    first, second = visit(server), visit(server)
    first.keyboard.press("a")
    first.wait_for_selector(".card.accepted")
    second.keyboard.press("j")
    second.keyboard.press("k")
    second.reload()
    second.wait_for_selector(".card.accepted")
    second.keyboard.press("x")  # the same example
    second.wait_for_selector(".card.rejected")
    first.keyboard.press("u")
    first.wait_for_selector("#message.wrong:has-text('changed elsewhere')")
    first.wait_for_selector(".card.rejected")
    assert first.query_selector(".card.accepted") is not None


def test_a_tab_catches_up_when_another_one_has_read_the_file_again(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any]
) -> None:
    server = serve(file)
    first, second = visit(server), visit(server)
    second.keyboard.press("x")
    second.wait_for_selector(".card.rejected")
    save_examples(file, [Example("other", "4 cats: ", "4"), *load_examples(file)])
    second.keyboard.press("s")
    second.click("#banner button:has-text('Reload')")
    second.wait_for_selector(".item:has-text('other')")
    first.keyboard.press("d")  # on what is another example by now
    first.wait_for_selector("#message.wrong:has-text('changed elsewhere')")
    first.wait_for_selector("#name:has-text('other')")
    assert first.inner_text(".body >> nth=0") == "4 cats: ", "the text is the example's whose links are shown"
    settle(first)
    assert first.query_selector("#done[aria-pressed=true]") is None
    second.keyboard.press("u")  # its edit is of an example that has moved
    second.wait_for_selector("#message.wrong:has-text('nothing to undo in this example')")
    second.wait_for_selector("#unsaved:has-text('1 unsaved')")


def test_a_phone(file: Path, serve: Callable[..., Server], browser: Any) -> None:
    server = serve(file)
    for width in (360, 400):
        context = browser.new_context(viewport={"width": width, "height": 740}, is_mobile=True, has_touch=True)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector(".card")
        for name in ("#progress-text", "#unsaved", "#help", "#save"):
            box = page.locator(name).bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert page.locator("kbd:visible").count() == 0
        page.click("#help")
        assert "Select words" in page.inner_text("#keys") and page.locator("kbd:visible").count() == 0
        context.close()


def test_curves_cover_no_letters(file: Path, serve: Callable[..., Server], browser: Any) -> None:
    words = "Red hats: 3. Some words that are in no link stand here, over several lines. Blue hats: 5. And more words: "
    spans = [Span("prompt", words.index(phrase), words.index(phrase) + len(phrase)) for phrase in ("Red hats: 3", "5")]
    save_examples(file, [Example("hats", words, "8", links=(CausalLink(Span("completion", 0, 1), tuple(spans)),))])
    server = serve(file)
    for width in (360, 1400):
        context = browser.new_context(viewport={"width": width, "height": 740})
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector(".mark .curve", state="attached")
        assert page.locator("#curves .curve").count() == 0, "curves are behind the letters"
        assert page.evaluate(_LETTERS_UNDER_CURVES) == []
        context.close()


_LETTERS_UNDER_CURVES = """() => {
    const origin = document.getElementById("canvas").getBoundingClientRect(), found = [];
    const letters = [...document.querySelectorAll(".body")].flatMap((body) => {
        const node = body.firstChild, range = document.createRange();
        return [...node.data].flatMap((letter, place) => {
            if (!letter.trim()) return [];
            range.setStart(node, place); range.setEnd(node, place + 1);
            const box = range.getBoundingClientRect(), edge = box.height * 0.15;
            return [{ letter, left: box.left, right: box.right, top: box.top + edge, bottom: box.bottom - edge }];
        });
    });
    for (const path of document.querySelectorAll(".mark .curve")) {
        for (let way = 0; way <= path.getTotalLength(); way += 2) {
            const point = path.getPointAtLength(way), x = point.x + origin.left, y = point.y + origin.top;
            const hit = letters.find((box) => box.left < x && x < box.right && box.top < y && y < box.bottom);
            if (hit) found.push(hit.letter);
        }
    }
    return found;
}"""


def test_correcting_a_link(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    page.keyboard.press("r")
    page.wait_for_selector("#draft:has-text('Correct link 1')")
    page.click("#draft .remove >> nth=0")
    drag(page, "5")
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card:has-text('person')")
    page.keyboard.press("s")
    page.wait_for_selector("#unsaved:has-text('all saved')")
    first, second = load_examples(file)[0].links
    assert first.causes == (LINK.causes[1], Span("prompt", 24, 25)) and first.status == "accepted"
    assert second.status == "proposed"


def test_the_filter(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    page.keyboard.press("f")
    page.check("#filter input[value=none]")
    page.wait_for_selector("#found:has-text('3 of 5')")
    page.wait_for_selector("#name:has-text('emoji')")
    page.keyboard.press("/")
    page.keyboard.type("תפוחים")
    page.wait_for_selector("#found:has-text('1 of 5')")
    page.reload()
    page.wait_for_selector("#found:has-text('1 of 5')")  # the filter stays
    page.wait_for_selector("#name:has-text('hebrew')")
    page.keyboard.press("f")
    page.click("#filter .clear")
    page.wait_for_selector("#found:has-text('5 examples')")


def test_keys_are_letters_where_one_writes(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    page = visit(serve(file))
    page.keyboard.press("/")
    page.keyboard.type("xajnsu")
    settle(page)
    assert page.input_value("#search") == "xajnsu" and page.query_selector(".card.rejected") is None
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    assert page.query_selector(".card.rejected") is None


def test_a_server_that_is_gone(file: Path, serve: Callable[..., Server], visit: Callable[..., Any]) -> None:
    server = serve(file)
    page = visit(server)
    page.keyboard.press("a")
    page.wait_for_selector(".card.accepted")
    status, said = server.stop()
    assert status == 0 and "not saved" in said and "review-journal" in said
    page.keyboard.press("x")
    page.wait_for_selector("#banner:has-text('does not answer')")
    again = serve(file)
    page = visit(again)
    page.wait_for_selector(".card.accepted")
    page.wait_for_selector("#message:has-text('in force again')")
    assert "in force again" in again.stop()[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_told_from_their_ground(
    file: Path, serve: Callable[..., Server], visit: Callable[..., Any], scheme: str
) -> None:
    page = visit(serve(file), color_scheme=scheme, reduced_motion="reduce")
    page.keyboard.press("x")
    page.wait_for_selector(".card.rejected")
    page.keyboard.press("f")
    low = page.evaluate(_CONTRASTS)
    assert low == []


_CONTRASTS = """() => {
    const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        const colour = parse(getComputedStyle(element).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
        return element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    };
    const low = [];
    for (const element of document.querySelectorAll("body *:not(script)")) {
        const words = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
        if (!words || !element.checkVisibility() || element.disabled || element.closest(":disabled, svg")) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05), name = element.className || element.tagName;
        if (ratio < 4.5) low.push(`${name}: ${element.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return low;
}"""
