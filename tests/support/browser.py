"""A real browser, for the tests that look at the page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt install"
)
AXE = files("axe_playwright_python") / "axe.min.js"
ARTEFACTS = Path(__file__).parent.parent / "artefacts"
WIDTHS: dict[str, ViewportSize] = {
    "desktop": {"width": 1440, "height": 900},
    "tablet": {"width": 768, "height": 1024},
    "phone": {"width": 390, "height": 844},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Colours differ by scheme, the layout by width: these two have all of both.
FOR_AXE = {("light", "phone"), ("dark", "desktop")}
_windows = count()
expect.set_options(timeout=30_000)  # the machine may be busy


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


def kept(page: Page, state: str, *, large: bool = False) -> None:
    """Nothing sticks out and axe-core finds nothing; a picture of each is kept to look at.

    `large`: a picture of the window only, and no axe-core, which would take minutes.
    """
    ARTEFACTS.mkdir(exist_ok=True)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for name, size in WIDTHS.items():
            page.set_viewport_size(size)
            path = ARTEFACTS / f"state-{state}-{scheme}-{name}.png"
            page.screenshot(path=path, full_page=not large)
            assert sticks_out(page) == 0, (state, scheme, name)
        assert large or violations(page) == [], (state, scheme)
    page.set_viewport_size(WIDTHS["desktop"])
