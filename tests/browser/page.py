"""The labelling page as a person uses it: what is on the screen, the mouse and the keys."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from playwright.sync_api import Browser, BrowserContext, Frame, Page, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FONTS = "https://fonts.googleapis.com/"
"""Argilla's own page asks for its typeface there and does without where it gets no answer."""
_NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

_ON_SCREEN = """() => {
  const root = document.getElementById("pw");
  const said = (selector, within) => [...root.querySelectorAll(selector)].map(
    (box) => [box.querySelector(within).innerText, box.querySelector(".pw-text").innerText]);
  return { messages: said(".pw-turn", ".pw-role"), answers: said(".pw-answer", ".pw-title") };
}"""

_NOTHING_LEFT = re.compile("The task is completed|no (pending|draft) records")
_SHOWS_ANOTHER = """(before) => {
  const said = document.body.innerText;
  if (/The task is completed|no (pending|draft) records/.test(said)) { return true; }
  const frame = document.querySelector("iframe");
  const root = frame && frame.contentDocument && frame.contentDocument.getElementById("pw");
  if (!root || !root.querySelector(".pw-answer") || root.innerText === before) { return false; }
  const form = document.querySelector(".questions-form");
  const fresh = form.matches(".--draft") || form.querySelector("input:checked") === null;
  return fresh && form.contains(document.activeElement);
}"""

_TITLES_IN_SIGHT = """() => {
  const above = parent.document.querySelector(".record__content").getBoundingClientRect();
  const offset = window.frameElement.getBoundingClientRect().top;
  return [...document.querySelectorAll(".pw-title")].filter((title) => {
    const box = title.getBoundingClientRect();
    return box.top + offset >= above.top - 1 && box.bottom + offset <= above.bottom;
  }).map((title) => title.innerText);
}"""

_SCROLLED = "() => document.querySelector('.record__content').scrollTop"


class Screen(NamedTuple):
    """What can be read of one record; `innerText` is what a person would copy off the page."""

    messages: list[tuple[str, str]]
    """Role and text a turn."""
    answers: dict[str, str]
    """The text by its title: A, B, or Answer 1 ..."""

    @property
    def question(self) -> str:
        return self.messages[-1][1]

    def title_of(self, text: str) -> str:
        """Under which title the answer with just this text stands."""
        (title,) = [title for title, shown in self.answers.items() if shown == text]
        return title


def chromium_path() -> str | None:
    """The system's Chromium, or None."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", _NO_OTHER_HOST]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


class LabellingPage:
    """One person's browser window; nothing but the labelling server can be reached from it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            **{"viewport": {"width": 1366, "height": 768}, **options}
        )
        self.strays: list[str] = []
        """Requests to other places than the server, typefaces aside; none gets there."""
        self.dialogs: list[str] = []
        self.sent: list[str] = []
        """Method and path of each change that was sent to the server."""
        self.loads = 0
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(90_000)  # a machine may be busy with the other tests
        self.page.on("dialog", self._dismiss)
        self.page.on("request", self._note)

    def close(self) -> None:
        self.context.close()

    def sign_in(self, username: str, password: str) -> None:
        if self.page.url.startswith(self.url):
            self.page.evaluate("localStorage.clear()")
        self.page.goto(f"{self.url}/sign-in")
        self.page.fill("input[type=text]", username)
        self.page.fill("input[type=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"{self.url}/")

    def sign_out(self) -> None:
        self.page.click(".user__button")
        self.page.click("text=Log out")
        self.page.wait_for_url(f"{self.url}/sign-in*")

    def home(self) -> str:
        """What the list of datasets says."""
        self.page.goto(f"{self.url}/")
        self.page.wait_for_load_state("networkidle")
        return self.page.inner_text("body")

    def open(self, dataset_id: str, status: str = "pending") -> Screen:
        """The first record of the queue."""
        self.page.goto(f"{self.url}/dataset/{dataset_id}/annotation-mode?page=1&status={status}")
        return self.screen()

    def screen(self) -> Screen:
        """What the record in front of the person says, once it is drawn."""
        self.page.wait_for_selector("form.questions-form")
        self.page.frame_locator("iframe").locator(".pw-answer").first.wait_for()
        shown = self.frame.evaluate(_ON_SCREEN)
        return Screen(
            messages=[(role.lower(), text) for role, text in shown["messages"]],
            answers=dict(shown["answers"]),
        )

    @property
    def frame(self) -> Frame:
        """The frame that shows the conversation and the answers."""
        frame = self.page.query_selector("iframe").content_frame()  # type: ignore[union-attr]
        assert frame is not None
        return frame

    @property
    def finished(self) -> bool:
        """Whether the page says that nothing is left in this queue."""
        return bool(self.page.get_by_text(_NOTHING_LEFT).count())

    def chosen(self) -> list[str]:
        """The ids of the options that are selected, such as `overall_a`."""
        found: list[str] = self.page.eval_on_selector_all(
            ".questions-form input:checked", "boxes => boxes.map((box) => box.id)"
        )
        return found

    def guidelines(self) -> str:
        """What the guidelines say, opened from below the record."""
        self.page.click(".panel__header:has-text('Guidelines') >> visible=true")
        text = self.page.locator("text=Which answer is better? >> visible=true")
        text.first.wait_for()
        return self.page.inner_text("body")

    def click(self, option: str, question: str = "overall") -> None:
        """Choose by the option's words: `B is better`, or the figure of a rating."""
        self.page.click(f"[aria-label='Question: {question}'] label:has-text('{option}')")

    def key_of(self, option: str) -> str:
        """The key that the page shows beside an option."""
        box = f"[aria-label='Question: overall'] label:has-text('{option}')"
        return self.page.inner_text(box).split()[0]

    def write_reason(self, text: str) -> None:
        self.page.click("#contentId")
        self.page.keyboard.type(text)

    def press(self, *keys: str, pause: float = 0) -> None:
        """`pause` is in milliseconds, after each key."""
        for key in keys:
            self.page.keyboard.press(key)
            if pause:
                self.page.wait_for_timeout(pause)

    def submit(self, *keys: str) -> None:
        """Press the keys, or click Submit where there are none, and wait for what comes next."""
        self._on(keys, "button.button--submit")

    def discard(self, *keys: str) -> None:
        self._on(keys, "button.button--discard")

    def save_draft(self, *keys: str) -> None:
        """The record stays in front of the person."""
        self._do(keys, "button.button--draft")
        self.wait_until("draft")

    def turn_page(self) -> None:
        """To the next record of the queue, without an answer."""
        self._on(("ArrowRight",), "")

    def resubmit(self) -> None:
        """Submit a record that had been submitted and is changed; it stays there."""
        self.page.click("button.button--submit")
        self.page.wait_for_selector("button.button--submit[disabled]")
        self.wait_until("submitted")

    def wait_until(self, status: str) -> None:
        """The record in front of the person has this status."""
        self.page.wait_for_selector(f"form.questions-form.--{status}")

    def scrolled(self) -> float:
        """How far down the record is scrolled, in pixels."""
        return float(self.page.evaluate(_SCROLLED))

    def titles_in_sight(self) -> list[str]:
        """Those of the answers, as far as the record is scrolled now."""
        found: list[str] = self.frame.evaluate(_TITLES_IN_SIGHT)
        return found

    def ranked(self) -> list[list[str]]:
        """The titles in each slot of the ranking, the best first."""
        slots = self.page.query_selector_all(
            "[aria-label='Question: overall'] .draggable__slot-box"
        )
        return [slot.inner_text().split("\n") if slot.inner_text() else [] for slot in slots]

    def _on(self, keys: tuple[str, ...], button: str) -> None:
        before = self.frame.evaluate("() => document.getElementById('pw').innerText")
        self._do(keys, button)
        self.page.wait_for_function(_SHOWS_ANOTHER, arg=before)

    def _do(self, keys: tuple[str, ...], button: str) -> None:
        if keys:
            self.press(*keys)
        else:
            self.page.click(button)

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, FONTS, "data:", "blob:", "about:")):
            self.strays.append(request.url)
        if request.is_navigation_request() and request.frame == self.page.main_frame:
            self.loads += 1
        if request.method != "GET" and "/responses" in request.url and "search" not in request.url:
            self.sent.append(f"{request.method} {request.url.partition('/api/v1')[2]}")
