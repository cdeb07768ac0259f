"""What a person does with the page in a real browser, and what the receiver then has."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from receiver import backoff
from receiver.config.variables import variables_of
from receiver.ledger.deliveries import DELIVERY
from receiver.ledger.ids import first_id
from receiver.ledger.stats import DAY_MS
from receiver.ledger.transaction import Tx
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.timestamps import format_time
from tests.support.browser import an_address, needs_chromium, sign_in
from tests.support.dockerhub import catch_up, deliveries, hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE, webhook_body
from tests.support.visitor import PAGE, PASSWORD

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')

pytestmark = [needs_chromium, pytest.mark.usefixtures("lists_are_read_at_once")]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def here(sandbox: EdgegapSandbox, hub: DockerHubSandbox, tmp_path: Path) -> Iterator[ReceiverHere]:
    with (
        serving(sandbox.app) as url,
        hub_beside(hub) as found,
        receiver_here(tmp_path, url, config=CONFIG, environment={**PAGE, **found}) as one,
    ):
        yield one


@pytest.fixture
def page(browser: Browser, here: ReceiverHere) -> Iterator[Page]:
    context = browser.new_context(base_url=here.url, extra_http_headers=an_address())
    yield context.new_page()
    context.close()


def api(here: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    return httpx.get(f"{here.url}{path}", headers=headers, trust_env=False, timeout=20).json()


def step(page: Page, title: str) -> Locator:
    steps = page.get_by_role("region", name="First steps").locator("ol")
    return steps.get_by_role("listitem").filter(has_text=title)


def test_the_first_steps_turn_green_one_by_one_without_a_reload(
    here: ReceiverHere, hub: DockerHubSandbox, sandbox: EdgegapSandbox, page: Page
) -> None:
    missing, hidden = sandbox.apps.pop(APP), hub.repositories.pop(REPOSITORY)
    catch_up(here)
    sign_in(page, PASSWORD)
    page.evaluate("window.here = true")
    app, tags = step(page, f"has the app {APP}"), step(page, f"Docker Hub shows {REPOSITORY}")
    public, reached = step(page, "A public https address"), step(page, "leads to this receiver")
    webhook, version = step(page, "A webhook of Docker Hub"), step(page, "The first version")
    for one, state in (
        (app, "failed"), (tags, "failed"), (public, "to do"), (reached, "to do"),
        (webhook, "to do"), (version, "to do"),
    ):  # fmt: skip
        expect(one).to_contain_text(f": {state}")
        expect(one).to_have_class("bad" if state == "failed" else "next")

    sandbox.apps[APP] = missing
    expect(app).to_have_class("good")
    expect(tags).to_have_class("bad")

    hub.repositories[REPOSITORY] = hidden
    catch_up(here)
    expect(tags).to_have_class("good")
    expect(webhook).to_have_class("next")

    here.post(webhook_body("latest"))
    for one in (reached, webhook):
        expect(one).to_have_class("good")
    expect(version).to_have_class("next")
    assert sandbox.versions == {}

    delivery = here.push("1.0.0")

    expect(page.get_by_role("heading", name="First steps")).to_be_hidden()
    expect(page.get_by_text(f"The newest version is {APP}/1.0.0")).to_be_visible()
    expect(page.get_by_role("list", name="Progress")).to_contain_text(f"created {APP}/1.0.0")
    assert page.evaluate("window.here") is True
    assert here.details(delivery)["registrations"][0]["outcome"] == "created"
    assert sandbox.versions[APP, "1.0.0"]["docker_tag"] == "1.0.0"


def test_an_https_address_is_a_step_that_a_reload_of_the_configuration_does(
    here: ReceiverHere, page: Page
) -> None:
    sign_in(page, PASSWORD)
    expect(step(page, "A public https address")).to_have_class("next")

    here.environment["RECEIVER_PUBLIC_URL"] = "https://hooks.example.com"
    here.inside(lambda: here.service.reload(variables_of(here.environment)))

    page.get_by_label("Password").fill(PASSWORD)  # its cookies have another name
    page.get_by_role("button", name="Sign in").click()
    expect(step(page, "A public https address")).to_have_class("good")


def test_a_test_push_says_whether_it_arrived_and_creates_nothing(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(page, PASSWORD)
    send = page.get_by_role("button", name="Send a test push")
    links, said = here.service.links, page.locator(".flash")
    of = links.link
    with monkeypatch.context() as patch:
        patch.setattr(type(links), "link", lambda *_: "http://nowhere.invalid/hooks/dockerhub/x")
        send.click()
        expect(said).to_contain_text("The test push did not arrive: nothing answers at the public")
    expect(step(page, "leads to this receiver")).to_have_class("next")
    assert deliveries(here) == []

    monkeypatch.setattr(type(links), "link", lambda _, base, name: of(here.url, name))
    send.click()

    expect(said).to_contain_text("The test push arrived as delivery d")
    expect(step(page, "leads to this receiver")).to_have_class("good")
    expect(step(page, "A webhook of Docker Hub")).to_have_class("next")
    (row,) = api(here, "/api/deliveries")["deliveries"]
    assert (row["source"], row["verdict"], row["reason"]) == ("test", "ignored", "test_push")
    expect(said).to_contain_text(row["id"])
    assert here.details(row["id"])["registrations"] == []
    assert sandbox.versions == {}


def test_a_tag_is_tried_on_the_rules_and_nothing_is_recorded(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    sign_in(page, PASSWORD, "/rules")
    asked = page.get_by_label("What would happen with the tag")
    result = page.locator(".note")
    expect(result).to_have_count(0)
    for tag, verdict, what in (
        ("2.0.0-rc1", "accepted", f"matches: version {APP}/2.0.0-rc1, then channel staging."),
        ("latest", "ignored", "does not match: latest matches only if it is listed."),
    ):
        asked.fill(tag)
        page.get_by_role("button", name="Try", exact=True).click()

        expect(page).to_have_url(f"{here.url}/rules?tag={tag}")
        expect(asked).to_have_value(tag)
        expect(result).to_contain_text(f"{REPOSITORY}:{tag} would be")
        expect(result).to_contain_text(verdict)
        expect(result).to_contain_text(what)
        assert api(here, f"/api/check?image={REPOSITORY}:{tag}")["verdict"] == verdict
    page.get_by_role("link", name="Clear").click()
    expect(result).to_have_count(0)
    expect(asked).to_have_value("")
    assert deliveries(here) == []
    assert sandbox.versions == {}


def test_a_refused_token_is_tried_now_on_request(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "PROBE_FIRST", DAY_MS)  # it is not tried before somebody asks
    monkeypatch.setattr(backoff, "PROBE_LONGEST", DAY_MS)
    here.ended(here.push("1.0.0"))
    sandbox.token_state = "refused"
    delivery = here.push("1.1.0")
    sign_in(page, PASSWORD)
    refused = page.get_by_role("region", name="Degraded")
    expect(refused).to_contain_text("Edgegap refuses the API token")
    assert here.details(delivery)["registrations"][0]["reason"] == "edgegap_token_refused"
    assert [one["code"] for one in api(here, "/api/overview")["degraded"]] == ["token"]

    sandbox.token_state = "good"
    page.get_by_role("button", name="Try now").click()

    expect(page.locator(".flash")).to_have_text("Waiting work is tried now.")
    expect(refused).to_be_hidden()
    expect(page.get_by_text(f"The newest version is {APP}/1.1.0")).to_be_visible()
    assert here.details(delivery)["registrations"][0]["outcome"] == "created"
    assert sandbox.versions[APP, "1.1.0"]["docker_tag"] == "1.1.0"
    assert api(here, "/api/overview")["degraded"] == []


def test_the_list_shows_the_period_that_was_chosen(here: ReceiverHere, page: Page) -> None:
    ages = {"now": 0, "three-days": 3, "twenty-days": 20, "forty-days": 40}
    here.inside(lambda: here.service.ledger.write(lambda tx: received(tx, ages)))
    sign_in(page, PASSWORD, "/deliveries")
    rows, period = page.locator("[data-row]"), page.get_by_role("navigation", name="Period")
    expect(rows).to_have_count(4)
    for chip, days in (("24 h", 1), ("7 d", 7), ("30 d", 30), ("any time", 100)):
        period.get_by_role("link", name=chip, exact=True).click()

        shown = [tag for tag, age in ages.items() if age < days]
        expect(rows).to_have_count(len(shown))
        for row, tag in zip(rows.all(), shown, strict=True):
            expect(row).to_contain_text(f"{REPOSITORY}:{tag}")
        expect(period.locator("[aria-current]")).to_have_text(chip)
        since = format_time(time.time_ns() // 1_000_000 - days * DAY_MS)
        listed = api(here, f"/api/deliveries?since={since}")["deliveries"]
        assert [one["tag"] for one in listed] == shown


def received(tx: Tx, ages: Mapping[str, int]) -> int:
    """Record a push of each tag, by how many days ago it was received."""
    columns = ("id", "received_at", "source", "repository", "tag", "verdict", "reason")
    for tag, days in ages.items():
        at = tx.now - days * DAY_MS
        row = (first_id(DELIVERY, at), at, "webhook", REPOSITORY, tag, "accepted", None)
        tx.insert("deliveries", columns, [row])
    return len(ages)
