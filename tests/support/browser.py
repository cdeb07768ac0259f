"""A real browser, for the tests that look at the page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt install"
)
AXE = files("axe_playwright_python") / "axe.min.js"
_windows = count()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run it until the block is left; no asyncio of one's own may run meanwhile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-gpu",
                  "--disable-component-update", "--disable-sync", "--no-first-run"],
        )  # fmt: skip
        yield browser
        browser.close()


def an_address() -> dict[str, str]:
    """Each window asks from an address of its own: signing in is limited by address."""
    return {"X-Forwarded-For": f"198.18.0.{next(_windows)}"}


def sign_in(page: Page, password: str, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.mouse.move(0, 0)  # a page holds still under the mouse
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sticks_out(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(wider))


def violations(page: Page) -> list[Any]:
    """Return what axe-core finds; the window must bypass the CSP."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
