"""The page in a real browser while a push comes, the receiver restarts, the session ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.web.page.sessions import SESSION_SECONDS
from tests.support.browser import an_address, needs_chromium, sign_in
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, webhook_body
from tests.support.visitor import COOKIE, PAGE, PASSWORD, cookie

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')

pytestmark = needs_chromium


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with serving(EdgegapSandbox().app) as edgegap:
        one = ReceiverProcess(tmp_path, edgegap, config=CONFIG, environment=PAGE).start()
        yield one
        one.stop()


@pytest.fixture
def page(browser: Browser, receiver: ReceiverProcess) -> Iterator[Page]:
    context = browser.new_context(base_url=receiver.url, extra_http_headers=an_address())
    yield context.new_page()
    context.close()


def test_what_a_person_has_chosen_stays_while_what_is_around_it_moves(
    page: Page, receiver: ReceiverProcess
) -> None:
    for tag in ("0.9", "1.0", "2.0"):
        receiver.ended(receiver.push(tag))
    sign_in(page, PASSWORD, "/channels")
    expect(page.get_by_text("has studio/game-server:2.0")).to_be_visible()
    choice = page.get_by_label("Move staging to")
    expect(choice).to_have_value(f"{REPOSITORY}:1.0")
    choice.select_option(f"{REPOSITORY}:0.9")
    choice.blur()

    receiver.push("3.0")

    expect(page.get_by_text("has studio/game-server:3.0")).to_be_visible()
    expect(choice).to_have_value(f"{REPOSITORY}:0.9")


def test_the_page_shows_that_the_receiver_is_away_and_goes_on_when_it_is_back(
    page: Page, receiver: ReceiverProcess
) -> None:
    sign_in(page, PASSWORD, "/deliveries")
    away = page.get_by_text("The receiver cannot be reached")
    page.evaluate("window.here = true")
    expect(away).to_be_hidden()

    receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
    receiver.stop()
    expect(away).to_be_visible()

    receiver.start()
    expect(away).to_be_hidden()
    receiver.push("1.0.0", pusher="ann")
    row = page.get_by_role("listitem").filter(has_text="by ann")
    expect(row).to_contain_text("created")
    expect(row).to_contain_text("my-game/1.0.0")
    assert page.evaluate("window.here") is True


def test_when_the_session_has_ended_the_page_goes_to_the_login(
    page: Page, receiver: ReceiverProcess
) -> None:
    sign_in(page, PASSWORD)
    too_old = cookie(age=SESSION_SECONDS + 60)

    page.context.add_cookies([{"name": COOKIE, "value": too_old, "url": receiver.url}])

    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page).to_have_url(f"{receiver.url}/login")


def test_nothing_moves_under_the_mouse(page: Page, receiver: ReceiverProcess) -> None:
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
    sign_in(page, PASSWORD, "/deliveries")
    page.set_viewport_size({"width": 1440, "height": 900})
    row = page.get_by_role("listitem").filter(has_text="studio/game-server:1.0.0")
    row.hover()
    before = row.bounding_box()

    receiver.ended(receiver.push("1.2.0"))

    new = page.get_by_role("button", name="1 new push")
    expect(new).to_be_visible()
    assert row.bounding_box() == before
    new.click()
    expect(page.get_by_role("listitem").first).to_contain_text("1.2.0")
    expect(new).to_be_hidden()


def test_a_click_anywhere_on_a_row_opens_the_delivery(
    page: Page, receiver: ReceiverProcess
) -> None:
    identity = receiver.push("1.0.0")
    receiver.ended(identity)
    sign_in(page, PASSWORD, "/deliveries")

    box = page.get_by_role("listitem").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)

    expect(page).to_have_url(f"{receiver.url}/deliveries/{identity}")


@pytest.mark.parametrize(("width", "height", "least"), [(1440, 900, 15), (390, 844, 7)])
def test_a_screen_has_at_least_fifteen_rows_and_a_phone_s_seven(
    page: Page, receiver: ReceiverProcess, width: int, height: int, least: int
) -> None:
    """A phone's had five: its filters took half of it."""
    page.set_viewport_size({"width": width, "height": height})
    receiver.post(webhook_body("latest"))
    for n in range(16):
        receiver.ended(receiver.push(f"1.{n}.0"))  # a row that changes is another one
    sign_in(page, PASSWORD, "/deliveries")
    rows = page.get_by_role("listitem").filter(has_text="my-game/")
    expect(rows).to_have_count(16)

    box = rows.nth(least - 1).bounding_box()

    assert box is not None
    assert box["y"] + box["height"] <= height


def test_ignored_pushes_are_folded_and_opened_with_a_click(
    page: Page, receiver: ReceiverProcess
) -> None:
    receiver.push("1.0.0")
    for _ in range(3):
        receiver.post(webhook_body("latest"))
    sign_in(page, PASSWORD, "/deliveries")
    latest = page.get_by_role("listitem").filter(has_text="studio/game-server:latest")
    expect(latest.first).to_be_hidden()

    page.get_by_text("3 ignored pushes: latest_not_named").click()

    expect(latest).to_have_count(3)
    page.get_by_role("link", name="ignored").click()
    expect(page).to_have_url(f"{receiver.url}/deliveries?verdict=ignored")
    expect(latest.first).to_be_visible()


def test_a_delivery_begins_with_its_result_and_then_says_what_to_do(
    page: Page, receiver: ReceiverProcess
) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    created = receiver.push("1.0.0", pusher="ann")
    receiver.ended(created)
    sign_in(page, PASSWORD, f"/deliveries/{created}")
    result = page.get_by_role("region", name="Result")

    expect(result).to_contain_text("created my-game/staging")
    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    expect(page.get_by_text("GET /v1/app/my-game/version/1.0.0").first).to_be_hidden()
    page.get_by_text("requests in 1 attempt").first.click()
    expect(page.get_by_text("GET /v1/app/my-game/version/1.0.0").first).to_be_visible()

    page.goto(f"/deliveries/{receiver.post(webhook_body('latest')).json()['delivery']}")
    expect(page.get_by_role("heading", name="What to do")).to_be_in_viewport()


def test_a_push_fills_its_line_in(page: Page, receiver: ReceiverProcess) -> None:
    sign_in(page, PASSWORD)
    expect(page.get_by_text("none yet")).to_be_visible()

    receiver.push("1.0.0")

    line = page.get_by_role("list", name="Progress")
    expect(line).to_contain_text("created my-game/1.0.0")
    expect(line).to_contain_text("created my-game/staging")


def test_it_asks_every_two_seconds_while_something_happens_and_every_fifteen_at_rest(
    page: Page, receiver: ReceiverProcess
) -> None:
    page.clock.install()
    sign_in(page, PASSWORD, "/rules")
    page.evaluate("""() => {
        window.asked = 0;
        window.fetch = async () => { asked += 1; return new Response(null, { status: 304 }); };
    }""")

    def asked_in(seconds: int) -> int:
        before = int(page.evaluate("asked"))
        for _ in range(seconds):
            page.clock.run_for(1000)
        return int(page.evaluate("asked")) - before

    assert asked_in(20) == 10
    page.clock.fast_forward("01:00")
    assert asked_in(30) == 6
    page.clock.fast_forward("05:00")
    asked_in(15)
    assert asked_in(60) == 4
    before = int(page.evaluate("asked"))

    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    assert page.evaluate("asked") == before + 1
    assert asked_in(20) == 10
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => away }); away = true")
    asked_in(5)
    assert asked_in(120) == 2
    page.evaluate("away = false")
    page.clock.fast_forward("06:00")
    page.evaluate("document.querySelector('[data-live]').innerHTML = '<p class=busy></p>'")
    asked_in(15)
    assert asked_in(20) == 10
