"""The states of the page that a person seldom meets, in a real browser: usable, and kept."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.approvals import PUSHED, link_to, registration_of
from tests.support.browser import kept, needs_chromium, sign_in
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, until
from tests.support.visitor import COOKIE, PAGE, PASSWORD

NAMES = ", ".join(f'"region-{number}"' for number in range(1, 100))
CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 2')
    + f'\n[[channel]]\napp = "{APP}"\nname = "prod"\nfrom = "staging"\nneeds = ["approval"]\n'
    + NO_CATCH_UP
)
MANY = CONFIG.replace('["staging"]\nkeep', f'["staging", {NAMES}]\nkeep')

TOP_OF_TEXT = """one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getBoundingClientRect().top;
}"""

pytestmark = needs_chromium


@pytest.fixture
def page(browser: Browser, here: ReceiverHere) -> Iterator[Page]:
    with_context = browser.new_context(base_url=here.url, bypass_csp=True)
    one = with_context.new_page()
    sign_in(one, PASSWORD)
    yield one
    with_context.close()


def created(here: ReceiverHere, tag: str) -> None:
    """Push the tag, and wait for its version and for `staging`."""
    delivery = here.push(tag)
    until(lambda: registration_of(here, delivery, "staging")["state"] == "done")


def test_errors_are_pages_that_lead_on(
    page: Page, here: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.goto("/nothing-here")
    expect(page.get_by_role("heading", name="There is no such page.")).to_be_visible()
    kept(page, "no-such-page")

    page.goto("/rules")
    form = page.locator('form[action="/do/pause"]').first
    form.locator('[name="repository"]').evaluate("one => { one.value = 'x'.repeat(2 ** 21); }")
    form.get_by_role("button").click()
    expect(page.get_by_role("link", name="Go to the overview")).to_be_visible()
    kept(page, "body-too-large")

    with monkeypatch.context() as patch:
        patch.setattr("receiver.web.page.answers.render", None)
        page.goto("/rules")
    expect(page.get_by_role("heading", name="The receiver failed")).to_be_visible()
    kept(page, "fault")

    page.context.clear_cookies()
    page.goto("/nothing-here")
    expect(page.get_by_role("heading", name="There is no such page.")).to_be_visible()
    kept(page, "no-such-page-signed-out")


def test_a_form_of_an_expired_login_is_shown_again(page: Page) -> None:
    page.goto("/rules")
    page.context.clear_cookies(name=COOKIE)
    page.get_by_role("button", name="Pause everything …").click()
    expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    kept(page, "expired-login")

    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="Pause everything?")).to_be_visible()
    kept(page, "form-shown-again")


def test_the_reference_of_the_api_is_readable(page: Page) -> None:
    page.get_by_role("link", name="API reference").click()
    expect(page.get_by_role("heading", name="API", exact=False).first).to_be_visible()
    kept(page, "reference", large=True)


def test_a_list_without_a_match_leads_back(page: Page, here: ReceiverHere) -> None:
    created(here, "1.0")
    page.goto("/deliveries?text=nothing-like-this&state=parked&reason=not_amd64")
    expect(page.get_by_role("heading", name="No deliveries match")).to_be_visible()
    kept(page, "list-without-a-match")

    page.get_by_role("link", name="Clear all filters").click()

    expect(page.get_by_role("link", name="1.0").first).to_be_visible()


def test_an_approval_link_says_why_it_asks_nothing(page: Page, here: ReceiverHere) -> None:
    delivery = here.push("1.0", pushed_at=PUSHED)
    until(lambda: registration_of(here, delivery, "prod")["reason"] == "needs_approval")
    for state, link, heading in (
        ("approval-expired", link_to("1.0", seconds=-5), "This link has expired."),
        ("approval-of-another", link_to("0.9"), "There is nothing to approve any more."),
        ("approval-not-ours", "/approve/cut-off", "This link is not valid."),
    ):
        page.goto(link)
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        kept(page, state)
    page.goto(link_to("0.9"))
    expect(page.locator("code")).to_have_text("receiver promote my-game prod --to 0.9")
    page.goto("/rules")
    page.get_by_role("button", name="Pause everything …").click()
    page.get_by_role("button", name="Confirm").click()
    page.goto(link_to("1.0"))
    expect(page.get_by_text("Held back")).to_be_visible()
    kept(page, "approval-paused")

    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("The channel is not being moved yet")).to_be_visible()
    page.goto(link_to("1.0"))
    expect(page.get_by_text("It was approved already by page")).to_be_visible()
    kept(page, "approval-used")


def test_versions_are_deleted_after_a_question(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.deployments.run(APP, "1.0")
    for tag in ("1.0", "1.1", "1.2", "1.3"):
        created(here, tag)
    until(lambda: (APP, "1.1") not in sandbox.versions)
    page.goto("/versions")
    page.get_by_role("button", name="Try again").click(timeout=30_000)
    expect(page.get_by_role("heading", name="Delete 1.0 of my-game")).to_be_visible()
    kept(page, "question-delete")
    sandbox.deployments.clear()

    page.get_by_role("button", name="Confirm").click()

    expect(page.get_by_role("status").first).to_contain_text("1.0")
    page.get_by_text("Last 2 deletions").click()
    kept(page, "versions-deleted")


def test_a_move_by_hand_asks_and_a_move_to_the_same_says_so(page: Page, here: ReceiverHere) -> None:
    for tag in ("1.0", "1.1"):
        created(here, tag)
    page.goto("/channels")
    page.get_by_role("button", name="Move …").first.click()
    expect(page.get_by_role("heading", name="Roll back staging")).to_be_visible()
    tops = [page.locator(f".confirm {one}").evaluate(TOP_OF_TEXT) for one in ("button", "a")]
    assert tops[0] == tops[1]
    kept(page, "question-rollback")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("status").first).to_contain_text("staging")
    kept(page, "rolled-back")

    page.goto(f"/promote?app={APP}&channel=staging&to=1.0")
    expect(page.get_by_role("heading", name=f"Hold {APP}/staging at 1.0?")).to_be_visible()
    kept(page, "promote-nothing-to-change")
    page.goto(f"/promote?app={APP}&channel=staging&to=9.9")
    expect(page.get_by_role("heading", name="Nothing can be moved.")).to_be_visible()
    kept(page, "promote-unknown")


def test_versions_are_shown_while_edgegap_does_not_answer(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    created(here, "1.0")
    sandbox.misbehave(Fault("status", method="GET", status=503, times=None))
    here.push("1.1")
    page.goto("/versions")
    expect(page.get_by_text("Edgegap's list of versions is unavailable")).to_be_visible(
        timeout=30_000
    )
    kept(page, "versions-unavailable")


def test_a_hundred_channels_fit_their_pages(
    browser: Browser, sandbox: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("many")
    with (
        serving(sandbox.app) as url,
        receiver_here(folder, url, config=MANY, environment=PAGE) as one,
    ):
        delivery = one.push("1.24.3-rc.1")
        until(lambda: registration_of(one, delivery, "region-99")["state"] == "done")
        page = browser.new_context(base_url=one.url, bypass_csp=True).new_page()
        sign_in(page, PASSWORD)
        rules = page.get_by_role("region", name="Newest push of each rule")
        expect(rules.get_by_role("listitem").last).to_have_text(re.compile(r"\d\d more"))
        expect(rules.get_by_text("needs_approval")).to_be_visible()  # what is not done is shown
        boxes = [rules.locator(one).bounding_box() for one in (".image", ".when")]
        tops = [box["y"] for box in boxes if box is not None]
        assert abs(tops[0] - tops[1]) < 5, tops  # the time is on the first line
        kept(page, "hundred-overview", large=True)
        for state, path in (
            ("channels", "/channels"),
            ("versions", "/versions"),
            ("rules", "/rules"),
            ("delivery", f"/deliveries/{delivery}"),
            ("list", "/deliveries"),
        ):
            page.goto(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            kept(page, f"hundred-{state}", large=True)
        page.context.close()
