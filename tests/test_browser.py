"""The page in a real browser, against the demo: what a person does, and what they see."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.demonstrating import Demo, demonstrating

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARTEFACTS = Path(__file__).parent / "artefacts"
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
WIDTHS: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 860},
    "phone": {"width": 390, "height": 844},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ARM = "1.5.0-arm64"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-gpu",
                  "--disable-component-update", "--disable-sync", "--no-first-run"],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demonstrating(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A fresh window; nothing in its console, no request but to the receiver, no CSP report."""
    context = browser.new_context(base_url=demo.url, viewport=WIDTHS["desktop"])
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type != "log" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith(demo.url) else None,
    )
    yield page
    context.close()
    assert wrong == []


def sign_in(page: Page, demo: Demo, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("Password").fill(demo.password)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_leads_to_the_overview_and_signing_out_ends_it(page: Page, demo: Demo) -> None:
    page.goto("/")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the password")
    page.get_by_label("Password").fill(demo.password)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto("/deliveries")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
