"""Approving in a real browser: a preview fetches the link first, then a person presses a button."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, expect

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.approvals import (
    CONFIG,
    PUSHED,
    Chat,
    chatting,
    link_to,
    registration_of,
)
from tests.support.browser import needs_chromium, sign_in, sticks_out, violations
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, until
from tests.support.visitor import PAGE, PASSWORD

pytestmark = needs_chromium


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
def sandbox() -> EdgegapSandbox:
    return EdgegapSandbox(apps=(APP,))


@pytest.fixture
def here(sandbox: EdgegapSandbox, chat: Chat, tmp_path: Path) -> Iterator[ReceiverHere]:
    with serving(sandbox.app) as url, chatting(chat) as chat_url:
        environment = {**PAGE, "CHAT_URL": chat_url}
        with receiver_here(tmp_path, url, config=CONFIG, environment=environment) as receiver:
            yield receiver


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_a_move_fit_a_phone_and_are_accessible(
    here: ReceiverHere, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    delivery = here.push("1.0", pushed_at=PUSHED)
    assert registration_of(here, delivery, "prod")["reason"] == "needs_approval"
    context = browser.new_context(
        base_url=here.url, color_scheme=scheme, viewport={"width": 390, "height": 844}
    )
    page = context.new_page()
    sign_in(page, PASSWORD)
    for path in (
        link_to("1.0"),
        link_to("0.9"),
        "/approve/no-link",
        f"/promote?app={APP}&channel=prod&from=staging",
        "/versions",
        "/",
    ):
        page.goto(path)
        assert sticks_out(page) == 0, path
        assert violations(page) == [], path
    page.get_by_role("link", name=f"Review and approve {APP}/prod to 1.0").click()
    expect(page.get_by_role("heading", name=f"Move {APP}/prod to 1.0?")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved by page")).to_be_visible()
    page.get_by_role("link", name="Open the receiver's page").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_approves_what_a_preview_only_fetched(
    here: ReceiverHere, sandbox: EdgegapSandbox, chat: Chat, browser: Browser, scripts: bool
) -> None:
    delivery = here.push("1.0")
    assert registration_of(here, delivery, "prod")["reason"] == "needs_approval"
    here.inside(here.service.notification_sender.send_due)
    link = f"{here.url}{chat.link()}"
    for method in ("HEAD", "GET"):
        assert httpx.request(method, link, trust_env=False).status_code == 200
    assert registration_of(here, delivery, "prod")["state"] == "waiting"

    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text))
    page.goto(link)
    expect(page.get_by_role("heading", name="Move my-game/prod to 1.0?")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(1)
    assert registration_of(here, delivery, "prod")["state"] == "waiting"
    page.get_by_label("Your name").fill("anna")
    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_role("status").first).to_contain_text("Approved.")
    expect(page.get_by_text("Approved by link (anna)")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    until(lambda: registration_of(here, delivery, "prod")["outcome"] == "created")
    page.goto(link)
    expect(page.get_by_text("It was approved already by link (anna)")).to_be_visible()
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"
    context.close()
    assert wrong == []


def test_a_push_while_the_mouse_rests_on_approve_approves_nothing(
    here: ReceiverHere, sandbox: EdgegapSandbox, browser: Browser
) -> None:
    """The same pixel then approved the newer image, which nobody had looked at."""
    assert registration_of(here, here.push("1.0"), "prod")["reason"] == "needs_approval"
    context = browser.new_context(base_url=here.url)
    page = context.new_page()
    sign_in(page, PASSWORD)
    box = page.locator("[data-live=waiting] .main").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    newer = here.push("1.1")
    assert registration_of(here, newer, "prod")["reason"] == "needs_approval"
    page.wait_for_timeout(4500)  # two looks at least
    page.mouse.down()
    page.mouse.up()

    expect(page).to_have_url(re.compile("/approve/"))
    assert registration_of(here, newer, "prod")["state"] == "waiting"
    assert (APP, "prod") not in sandbox.versions
    page.goto("/")
    page.get_by_role("link", name=f"Review and approve {APP}/prod to 1.1").click()
    page.get_by_role("button", name="Approve").click()
    until(lambda: registration_of(here, newer, "prod")["outcome"] == "created")
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.1"
    context.close()
