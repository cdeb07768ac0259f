"""Approving in a real browser: a preview fetches the link first, then a person presses a button."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.approvals import CONFIG, Chat, chatting, registration_of
from tests.support.browser import chromium, needs_chromium
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, until

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
        environment = {"CHAT_URL": chat_url}
        with receiver_here(tmp_path, url, config=CONFIG, environment=environment) as receiver:
            yield receiver


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_approves_what_a_preview_only_fetched(
    here: ReceiverHere, sandbox: EdgegapSandbox, chat: Chat, browser: Browser, scripts: bool
) -> None:
    delivery = here.push("1.0")
    assert registration_of(here, delivery, "prod")["reason"] == "needs_approval"
    here.inside(here.service.telling_others.send_due)
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
