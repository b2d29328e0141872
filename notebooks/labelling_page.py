"""A picture of the labelling page as an annotator sees it, taken where there is a browser."""

import shutil
from importlib.util import find_spec
from pathlib import Path

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # The page asks another host for its typeface and does without.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_KEPT = Path(__file__).parents[1] / "docs" / "images" / "labelling.png"


async def picture(url: str, username: str, password: str, dataset: str) -> bytes:
    """A PNG of the first record that waits for the annotator.

    Without playwright, or a Chromium on this machine, it is the picture that the project keeps, and
    a printed sentence says so.
    """
    chromium = next(filter(None, map(shutil.which, _CHROMIUMS)), None)
    if chromium is None or find_spec("playwright") is None:
        print("No Chromium, or no playwright, on this machine: this picture was taken on another.")
        return _KEPT.read_bytes()
    from playwright.async_api import ViewportSize, async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = await browser.new_page(viewport=ViewportSize(width=1366, height=768))
        await page.goto(f"{url}/sign-in")
        await page.fill("input[type=text]", username)
        await page.fill("input[type=password]", password)
        await page.click("button[type=submit]")
        await page.wait_for_url(f"{url}/")
        await page.goto(f"{url}/dataset/{dataset}/annotation-mode?page=1&status=pending")
        await page.wait_for_selector("form.questions-form")
        await page.frame_locator("iframe").locator(".pw-answer").first.wait_for()
        taken = await page.screenshot()
        await browser.close()
    return taken
