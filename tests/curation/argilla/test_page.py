"""The labelling page in a real browser, given records as Argilla's custom field gives them."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from curation.argilla.settings import dataset_settings, record_fields
from curation.argilla.text import shown_answer
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt

# What Argilla 2.8 does with a record and a template, in its own words.
HOST = """<!doctype html><html data-theme="light"><body>
<form class="questions-form"><input id="question" type="checkbox"></form>
<iframe frameborder="0" scrolling="no" style="width: WIDTHpx"></iframe>
<script>
  window.keys = [];
  document.addEventListener("keydown", (event) => window.keys.push(event.key));
  window.show = (record, template) => new Promise((done) => {
    const frame = document.querySelector("iframe");
    frame.onload = () => {
      frame.style.height = frame.contentWindow.document.documentElement.scrollHeight + "px";
      setTimeout(done, 150);
    };
    frame.srcdoc = "\\n<script>\\n  const record = #RECORD_OBJECT#;\\n<\\/script>\\n#TEMPLATE#\\n"
      .replace("#RECORD_OBJECT#", JSON.stringify(record)).replace("#TEMPLATE#", template);
  });
</script></body></html>"""
LONG = "The quick brown fox jumps over the lazy dog. " * 12
NASTY = (
    "</script><script>parent.pwned = 1</script><img src=x onerror='parent.pwned = 1'>"
    " $& $' $` $$ #TEMPLATE# #RECORD_OBJECT# <!--<script> &lt; &amp;gt; {{record}} \\u0024 'x' \x00"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; install it from the system's packages")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


class Shown:
    """A host page with the labelling page inside."""

    def __init__(self, browser: Any, width: int = 800) -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 900})
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_content(HOST.replace("WIDTH", str(width)))

    def show(
        self, *answers: str, layout: Any = "auto", kind: Any = "pairwise", turns: Any = ()
    ) -> None:
        messages = turns or (Message(role="user", content="Q?"),)
        prompt = Prompt(messages=tuple(messages))
        candidates = tuple(
            Candidate(
                prompt_id=prompt.id,
                completion=Completion.from_text(answer),
                origin=Origin(generator="import:test"),
            )
            for answer in answers
        )
        task = LabelTask(
            dataset="d", workspace="w", prompt=prompt, candidates=candidates, kind=kind
        )
        config = LabelConfig(
            dataset="d", workspaces={"w": WorkspaceConfig(annotators=("a",))}, layout=layout
        )
        self.texts = [shown_answer(candidate.completion) for candidate in candidates]
        self.template = dataset_settings(config, task).fields[0]["settings"]["template"]
        # As the server sends it: JSON there and back.
        record = json.loads(json.dumps({"fields": record_fields(task)}))
        self.page.evaluate(
            "([record, template]) => show(record, template)", [record, self.template]
        )

    @property
    def inner(self) -> Any:
        return self.page.frame_locator("iframe")

    def answers(self) -> list[str]:
        return list(self.inner.locator(".pw-answer .pw-text").all_text_contents())

    def in_columns(self) -> bool:
        return bool(self.inner.locator(".pw-answers[data-columns]").count())

    def height(self) -> float:
        return float(self.page.evaluate("document.querySelector('iframe').offsetHeight"))


def test_a_text_full_of_markup_is_shown_literally_and_runs_nothing(browser: Any) -> None:
    shown = Shown(browser)
    shown.show(NASTY, "plain", turns=[Message(role="user", content=NASTY)])
    assert shown.answers() == shown.texts
    assert shown.inner.locator(".pw-turn .pw-text").all_text_contents() == [shown.texts[0]]
    shown.page.wait_for_timeout(200)
    assert shown.page.evaluate("window.pwned") is None
    assert shown.inner.locator("img").count() == 0
    assert not [url for url in shown.asked if url.startswith("http")]


@pytest.mark.parametrize(
    ("answers", "layout", "columns"),
    [
        ((LONG, LONG + "More."), "auto", True),
        (("short", LONG), "auto", True),
        (("yes", "no"), "auto", False),
        (("1\n2\n3\n4\n5\n6", "no"), "auto", True),
        (("yes", "no"), "side_by_side", True),
        ((LONG, LONG + "More."), "stacked", False),
    ],
)
def test_long_answers_are_side_by_side_and_short_ones_stacked(
    browser: Any, answers: tuple[str, str], layout: str, columns: bool
) -> None:
    shown = Shown(browser)
    shown.show(*answers, layout=layout)
    assert shown.in_columns() is columns
    assert shown.inner.locator(".pw-title").all_text_contents() == ["A", "B"]


def test_two_columns_need_room_for_two(browser: Any) -> None:
    shown = Shown(browser, width=420)
    shown.show(LONG, LONG + "More.")
    assert not shown.in_columns()
    shown.page.evaluate("document.querySelector('iframe').style.width = '900px'")
    shown.page.wait_for_timeout(200)
    assert shown.in_columns()


def test_what_only_one_answer_says_is_marked_and_the_texts_stay_whole(browser: Any) -> None:
    shown = Shown(browser)
    shown.show(
        "It was written in 1808 in Leipzig, they say.", "It was written in 1810 in Rome, they say."
    )
    assert shown.answers() == shown.texts
    boxes = shown.inner.locator(".pw-answer")
    assert boxes.nth(0).locator("mark").all_text_contents() == ["1808", "Leipzig"]
    assert boxes.nth(1).locator("mark").all_text_contents() == ["1810", "Rome"]


def test_answers_with_little_in_common_are_not_marked_all_over(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("Bananas grow in bunches near rivers.", "I cannot help you with that request today!")
    assert shown.inner.locator("mark").count() == 0


def test_very_long_answers_are_shown_whole_without_waiting(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("a b " * 8000, "b c " * 8000)
    assert shown.answers() == shown.texts


def test_all_turns_are_there_with_their_roles(browser: Any) -> None:
    shown = Shown(browser)
    turns = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="One?"),
        Message(role="assistant", content="Two."),
        Message(role="user", content="Three?"),
    ]
    shown.show("x", "y", turns=turns)
    roles = shown.inner.locator(".pw-role").all_text_contents()
    assert roles == ["system", "user", "assistant", "user"]
    texts = shown.inner.locator(".pw-turn .pw-text").all_text_contents()
    assert texts == ["Be brief.", "One?", "Two.", "Three?"]


def test_an_endless_turn_is_cut_until_it_is_asked_for(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("x", "y", turns=[Message(role="user", content="line\n" * 200)])
    cut = shown.height()
    shown.inner.locator("button.pw-more").click()
    shown.page.wait_for_timeout(200)
    assert shown.height() > cut + 2000
    assert shown.inner.locator("button.pw-more").count() == 0


def test_the_frame_is_as_high_as_its_content_also_after_a_longer_record(browser: Any) -> None:
    shown = Shown(browser)
    shown.show(LONG * 5, LONG * 4)
    long = shown.height()
    shown.show("yes", "no")
    content = shown.inner.locator("#pw").evaluate("node => node.getBoundingClientRect().height")
    assert long > 2 * shown.height()
    assert content <= shown.height() <= content + 4


def test_keys_reach_the_questions_after_a_click_or_a_selection_in_the_page(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("some words here", "others there")
    shown.page.focus("#question")
    for act in ("click", "dblclick"):
        shown.page.evaluate("window.keys.length = 0")
        getattr(shown.inner.locator(".pw-answer .pw-text").first, act)()
        shown.page.wait_for_timeout(100)
        for key in ("1", "Enter"):
            shown.page.keyboard.press(key)
        shown.page.wait_for_timeout(100)
        assert shown.page.evaluate("window.keys") == ["1", "Enter"]
        assert shown.page.evaluate("document.activeElement.id") == "question"


def test_the_page_does_not_take_the_focus_when_it_loads(browser: Any) -> None:
    shown = Shown(browser)
    shown.page.focus("#question")
    shown.show("x", "y")
    assert shown.page.evaluate("document.activeElement.id") == "question"


def test_the_letters_stay_in_sight_while_a_long_answer_scrolls_by(browser: Any) -> None:
    shown = Shown(browser)
    shown.show(LONG * 20, LONG * 19)
    for scrolled in (0, 1500, 3000, 0):
        shown.page.evaluate("top => scrollTo(0, top)", scrolled)
        shown.page.wait_for_timeout(150)
        for box in (title.bounding_box() for title in shown.inner.locator(".pw-title").all()):
            assert 0 <= box["y"] < 900


def test_a_record_after_another_leaves_one_listener_each(browser: Any) -> None:
    shown = Shown(browser)
    shown.page.evaluate(
        """() => {
          window.listeners = 0;
          const add = document.addEventListener.bind(document);
          const remove = document.removeEventListener.bind(document);
          document.addEventListener = (...all) => { window.listeners += 1; add(...all); };
          document.removeEventListener = (...all) => { window.listeners -= 1; remove(...all); };
        }"""
    )
    for number in range(5):
        shown.show(f"x {number}", "y")
    assert shown.page.evaluate("window.listeners") == 2


def test_empty_answers_say_that_they_are_empty(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("", "  \n")
    assert shown.answers() == ["(empty)", "(only white space)"]


def test_answers_to_rank_are_numbered_and_stacked(browser: Any) -> None:
    shown = Shown(browser)
    shown.show(LONG, "y", "z", kind="ranking")
    titles = shown.inner.locator(".pw-title").all_text_contents()
    assert titles == ["Answer 1", "Answer 2", "Answer 3"]
    assert not shown.in_columns()


def test_a_record_of_another_kind_says_so_instead_of_an_empty_page(browser: Any) -> None:
    shown = Shown(browser)
    shown.show("x", "y")
    shown.page.evaluate("([record, template]) => show(record, template)", [{}, shown.template])
    assert "cannot be shown" in (shown.inner.locator("#pw").text_content() or "")
