"""One delivery in a real browser: all of it on one screen if all is well."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.browser import chromium, needs_chromium, sign_in
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, REPOSITORY, RULE
from tests.support.visitor import PAGE, PASSWORD

CONFIG = RULE.replace("preflight = false", 'channels = ["staging", "nightly"]') + NO_CATCH_UP

pytestmark = needs_chromium


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def here(hub: DockerHubSandbox, tmp_path: Path) -> Iterator[ReceiverHere]:
    with (
        serving(EdgegapSandbox().app) as url,
        hub_beside(hub) as found,
        receiver_here(tmp_path, url, config=CONFIG, environment={**PAGE, **found}) as one,
    ):
        yield one


@pytest.fixture
def page(here: ReceiverHere) -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page(base_url=here.url, viewport={"width": 1440, "height": 900})


def test_a_push_with_two_channels_fits_on_one_screen(
    hub: DockerHubSandbox, here: ReceiverHere, page: Page
) -> None:
    """It was 1,089 pixels high, with 50 lines that said three times what was the same for all."""
    digest = hub.push_image(REPOSITORY, "1.0.0")
    delivery = here.push("1.0.0", pusher="ann")
    here.ended(delivery)
    sign_in(page, PASSWORD, f"/deliveries/{delivery}")

    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    shown = page.get_by_role("main").inner_text()
    for once in (digest, "built for linux/amd64", f"{REPOSITORY} → my-game"):
        assert shown.count(once) == 1, once
    targets = page.get_by_role("region", name="Targets").get_by_role("listitem")
    for name, row in zip(
        ("1.0.0 created", "staging created", "nightly created"), targets.all(), strict=True
    ):
        expect(row).to_contain_text(f"my-game/{name}")
        box = row.bounding_box()
        assert box is not None
        assert box["height"] < 60
    request = page.get_by_text("POST /v1/app/my-game/version").first
    expect(request).to_be_hidden()
    page.get_by_text("requests in 1 attempt").first.click()
    expect(request).to_be_visible()
