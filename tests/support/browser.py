"""Debian's Chromium, headless, spoken to by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.processes import require

SECONDS = 60.0


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser; skips the test, saying why, where there is none."""
    path = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Console:
    """A tab with the console in it; whatever the browser complains about fails the test at its end."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        page.on("dialog", lambda dialog: dialog.accept())

    def _hear(self, message: Any) -> None:
        refused = "status of 4" in message.text  # the API's to say, and the page's to show
        if message.type in ("error", "warning") and not refused:
            self.complaints.append(message.text)

    def sign_in(self, token: str) -> None:
        """Sign in as a person does."""
        self.page.goto(self.url)
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("navigation").wait_for()

    def go(self, *parts: str) -> None:
        """Press the words of the navigation, or of links, one after the other."""
        for part in parts:
            self.page.get_by_role("link", name=part, exact=True).first.click()

    def title(self, text: str) -> None:
        """Wait for a page whose heading has this text."""
        self.page.get_by_role("heading", level=1).filter(has_text=text).wait_for()

    def sees(self, text: str) -> None:
        """Wait until the page shows this text."""
        self.page.locator("main").get_by_text(text).first.wait_for()


@contextmanager
def console_of(browser: Browser, url: str, **options: Any) -> Iterator[Console]:
    """Open a tab of its own; `options` are of Playwright's new_context."""
    context = browser.new_context(**options)
    made = Console(context.new_page(), url)
    yield made
    context.close()
    assert made.complaints == [], made.complaints
