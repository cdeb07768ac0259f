"""The page in a real browser by its keys alone, and on paper."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.browser import chromium, needs_chromium, sign_in, violations
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, RULE, webhook_body
from tests.support.visitor import PAGE, PASSWORD

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("keys")
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=RULE + NO_CATCH_UP, environment=PAGE) as one,
    ):
        for tag in ("1.0.0", "1.1.0", "1.2.0"):
            one.ended(one.push(tag))
        one.post(webhook_body("latest"))
        yield one


@pytest.fixture
def page(here: ReceiverHere) -> Iterator[Page]:
    with chromium() as browser:
        context = browser.new_context(base_url=here.url, bypass_csp=True)
        one = context.new_page()
        sign_in(one, PASSWORD, "/deliveries")
        yield one


def test_keys_go_through_the_rows_and_open_one(page: Page, here: ReceiverHere) -> None:
    for keys, tag in (("j", "1.2.0"), ("jj", "1.0.0"), ("j", "1.0.0"), ("k", "1.1.0")):
        for key in keys:
            page.keyboard.press(key)
        expect(page.locator(":focus")).to_have_text(f"studio/game-server:{tag}")

    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="studio/game-server:1.1.0")).to_be_visible()


def test_keys_go_to_pages_and_to_the_search(page: Page, here: ReceiverHere) -> None:
    for key, path in (("o", "/"), ("c", "/channels"), ("v", "/versions"), ("r", "/rules")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page).to_have_url(f"{here.url}{path}")
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    expect(page).to_have_url(re.compile("/deliveries"))
    page.get_by_role("heading", name="Deliveries").click()
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()

    page.keyboard.type("gv?/jk")

    expect(page.get_by_label("Text")).to_have_value("gv?/jk")
    expect(page).to_have_url(re.compile("/deliveries"))
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_dialog_lists_the_keys_and_turns_them_off(page: Page, here: ReceiverHere) -> None:
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("next row")
    assert violations(page) == []
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()

    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Use these keys").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("j")

    expect(page.locator("a.whole:focus")).to_have_count(0)
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_label("Use these keys")).not_to_be_checked()


def test_on_paper_there_is_what_is_read_and_nothing_to_press(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")

    expect(page.get_by_role("link", name="1.2.0")).to_be_visible()
    for gone in ("navigation", "button", "searchbox", "contentinfo"):
        assert [one for one in page.get_by_role(gone).all() if one.is_visible()] == [], gone
    colour = page.evaluate("getComputedStyle(document.body).color")
    assert colour == "rgb(26, 34, 48)"  # dark text, also if the screen is dark
