"""Nothing moves or changes under the mouse and the focus, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from receiver.logs import Source
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.browser import needs_chromium, sign_in, violations
from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE
from tests.support.visitor import PASSWORD, visitor

CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]') + NO_CATCH_UP
)
TALL: ViewportSize = {"width": 1440, "height": 1600}  # nothing is scrolled
LOOKS = 4500  # milliseconds: the page asks at least twice

pytestmark = needs_chromium


@pytest.fixture
def page(browser: Browser, here: ReceiverHere) -> Iterator[Page]:
    context = browser.new_context(base_url=here.url, bypass_csp=True, viewport=TALL)
    yield context.new_page()
    context.close()


def parked(here: ReceiverHere, sandbox: EdgegapSandbox, tag: str) -> str:
    """Park a push: the name of its version is taken."""
    sandbox.add_version(APP, tag, docker_image="studio/another")
    identity = here.push(tag)
    assert here.ended(identity)["reason"] == "name_taken"
    return identity


def outcome(here: ReceiverHere, delivery: str) -> str | None:
    found: str | None = here.details(delivery)["registrations"][0]["outcome"]
    return found


def test_a_push_while_the_mouse_rests_on_dismiss_changes_nothing_under_it(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    """The newest of a reason comes first: the click dismissed it instead."""
    parked(here, sandbox, "6.0")
    shown = parked(here, sandbox, "7.0")
    sign_in(page, PASSWORD)
    button = page.get_by_role("button", name=f"Dismiss {APP}/7.0")
    button.hover()
    before = button.bounding_box()

    newer = parked(here, sandbox, "8.0")
    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))  # an alert above it

    changed = page.get_by_role("button", name="Show what changed")
    expect(changed).to_be_visible()
    page.wait_for_timeout(LOOKS)
    assert button.bounding_box() == before
    assert violations(page) == []
    page.mouse.down()
    page.mouse.up()

    expect(page.get_by_role("status").first).to_contain_text(f"{APP}/7.0 was dismissed.")
    assert (outcome(here, shown), outcome(here, newer)) == ("dismissed", None)


def test_what_waits_is_shown_once_the_mouse_leaves_or_on_request(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    parked(here, sandbox, "7.0")
    sign_in(page, PASSWORD)
    old = page.get_by_role("button", name=f"Dismiss {APP}/7.0")
    changed = page.get_by_role("button", name="Show what changed")
    old.hover()
    parked(here, sandbox, "8.0")
    expect(changed).to_be_visible()

    page.mouse.move(1, 1)

    new = page.get_by_role("button", name=f"Dismiss {APP}/8.0")
    expect(new).to_be_visible()
    expect(changed).to_be_hidden()
    new.hover()
    parked(here, sandbox, "9.0")
    changed.click()
    expect(page.get_by_role("button", name=f"Dismiss {APP}/9.0")).to_be_visible()
    expect(changed).to_be_hidden()


@pytest.mark.parametrize("path", ["/channels", "/"])
def test_what_has_the_focus_of_the_keyboard_holds_still(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page, path: str
) -> None:
    here.ended(here.push("1.0"))
    here.ended(here.push("1.1"))
    parked(here, sandbox, "7.0")
    sign_in(page, PASSWORD, path)
    region = page.locator("[data-live^=board], [data-live=parked]").first
    expect(region).to_contain_text("1.1" if path == "/channels" else "7.0")
    control = region.locator("button").first
    control.focus()
    before = region.evaluate("contentOf")  # without relative times

    parked(here, sandbox, "8.0")
    here.ended(here.push("1.2"))

    expect(page.get_by_role("button", name="Show what changed")).to_be_visible()
    assert region.evaluate("contentOf") == before
    expect(control).to_be_focused()


def test_all_of_a_reason_are_those_that_were_shown(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    shown = [parked(here, sandbox, tag) for tag in ("6.0", "7.0")]
    with visitor(here) as person:
        form = person.read("/").form("/do/dismiss-reason", reason="name_taken")
        newer = parked(here, sandbox, "8.0")
        asked = person.post("/do/dismiss-reason", data=form).text
        assert f"Dismiss {APP}/7.0, {APP}/6.0, parked for name_taken?" in asked
        answer = person.confirm("/do/dismiss-reason", form)
        assert (
            "2 parked for name_taken were dismissed."
            in person.read(answer.headers["location"]).text
        )
    assert [outcome(here, one) for one in (*shown, newer)] == ["dismissed", "dismissed", None]


TOP = "one => one.getBoundingClientRect().top"


def waiting(page: Page) -> None:
    """Something arrived, and waits until it may be shown."""
    expect(page.locator("button.new")).to_be_visible()


def test_a_parked_line_under_the_mouse_stays_where_it_is(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    """Only a control did: with the mouse on the line's text, a push moved it by 46 pixels."""
    parked(here, sandbox, "7.0")
    sign_in(page, PASSWORD)
    text = page.get_by_text(f"The app {APP} already has a version 7.0").first
    text.hover()
    before = text.evaluate(TOP)

    parked(here, sandbox, "8.0")  # a line above it
    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))  # and an alert

    waiting(page)
    page.wait_for_timeout(LOOKS)
    assert abs(text.evaluate(TOP) - before) < 2
    page.mouse.move(1, 1)
    expect(page.get_by_text(f"{REPOSITORY} is paused").first).to_be_visible()
    expect(page.get_by_role("button", name=f"Dismiss {APP}/8.0")).to_be_visible()
    expect(page.locator("button.new")).to_be_hidden()


def test_what_is_selected_or_scrolled_to_stays_where_it_is(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    """What is above it changed all the same, and moved it."""
    parked(here, sandbox, "7.0")
    sign_in(page, PASSWORD)
    row = page.locator("[data-live=parked] [data-row]").first
    row.evaluate("one => window.getSelection().selectAllChildren(one)")
    before = row.evaluate(TOP)

    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))

    waiting(page)
    assert abs(row.evaluate(TOP) - before) < 2
    page.evaluate("window.getSelection().removeAllRanges()")
    expect(page.get_by_text(f"{REPOSITORY} is paused").first).to_be_visible()

    page.set_viewport_size({"width": 1440, "height": 500})
    page.evaluate("window.scrollTo({ top: 100 })")
    before = row.evaluate(TOP)
    here.inside(lambda: here.service.manual.resume(REPOSITORY, Source.PAGE))
    waiting(page)
    assert abs(row.evaluate(TOP) - before) < 2
    page.evaluate("window.scrollTo({ top: 0 })")
    expect(page.locator("button.new")).to_be_hidden()


def test_a_line_under_the_mouse_still_fills_itself_in(here: ReceiverHere, page: Page) -> None:
    """What changes in place may: nothing moves for it."""
    here.ended(here.push("1.0"))
    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))
    here.push("1.1")
    sign_in(page, PASSWORD)
    line = page.get_by_role("region", name="Newest push of each rule").get_by_role("listitem").first
    expect(line).to_contain_text("queued")
    page.mouse.move(0, 0)
    title = page.get_by_role("heading", name="Newest push of each rule")
    before = title.evaluate(TOP)
    title.hover()

    here.inside(lambda: here.service.manual.resume(REPOSITORY, Source.PAGE))
    here.wake()

    expect(line).to_contain_text(f"created {APP}/1.1")
    assert abs(title.evaluate(TOP) - before) < 2


def test_a_time_that_grows_longer_moves_nothing_under_the_mouse(
    here: ReceiverHere, sandbox: EdgegapSandbox, page: Page
) -> None:
    """After ten seconds the line above took a second line."""
    parked(here, sandbox, "4.0")
    sign_in(page, PASSWORD)
    time = page.locator("main .pushes time").first
    shown = time.inner_text()
    time.evaluate(
        "one => Object.assign(one.style, {display: 'inline-block', width: `${one.offsetWidth}px`})"
    )
    heading = page.get_by_role("heading", name="Parked")
    heading.hover()
    before = heading.bounding_box()

    time.evaluate("one => { one.dateTime = new Date(Date.now() - 1_200_000).toISOString() }")
    page.wait_for_timeout(LOOKS)

    assert (heading.bounding_box(), time.inner_text()) == (before, shown)
    page.mouse.move(0, 0)
    expect(time).to_have_text("20 min ago")
