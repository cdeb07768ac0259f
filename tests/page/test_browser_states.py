"""Each state of the page in a real browser, at three widths, light and dark: usable, and kept."""

import re
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from receiver.ledger.deliveries import DELIVERY, REGISTRATION
from receiver.ledger.ids import first_id
from receiver.ledger.stats import DAY_MS
from receiver.ledger.transaction import Tx
from receiver.logs import Source
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.web.page import charts
from tests.support.approvals import registration_of
from tests.support.browser import WIDTHS, kept, needs_chromium, sign_in
from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, until
from tests.support.visitor import PASSWORD

CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 2')
    + f'\n[[channel]]\napp = "{APP}"\nname = "prod"\nfrom = "staging"\nneeds = ["approval"]\n'
    + NO_CATCH_UP
)
DELIVERIES = ("id", "received_at", "source", "repository", "tag", "verdict", "reason")
REGISTRATIONS = (
    *("id", "rule", "app", "version", "mode", "repository", "tag", "push_time", "overwritten"),
    *("state", "outcome", "reason", "due_at", "created_at", "updated_at", "finished_at"),
)

pytestmark = needs_chromium


@pytest.fixture
def page(browser: Browser, here: ReceiverHere) -> Iterator[Page]:
    context = browser.new_context(base_url=here.url, bypass_csp=True)
    one = context.new_page()
    sign_in(one, PASSWORD)
    yield one
    context.close()


def created(here: ReceiverHere, tag: str) -> str:
    """Push a tag, and wait for its version; `prod` then waits for an approval."""
    delivery = here.push(tag)
    until(lambda: here.details(delivery)["registrations"][0]["state"] == "done")
    return delivery


def test_the_first_steps_turn_into_the_first_version(here: ReceiverHere, page: Page) -> None:
    expect(page.get_by_role("heading", name="First steps")).to_be_visible()
    kept(page, "first-steps")

    created(here, "1.0")

    expect(page.get_by_role("heading", name="First steps")).to_be_hidden()


def test_everything_is_paused_after_a_question_and_resumed(page: Page, here: ReceiverHere) -> None:
    created(here, "1.0")
    page.goto("/rules")
    page.get_by_role("button", name="Pause everything …").click()
    kept(page, "question")
    page.get_by_role("button", name="Confirm").click()
    page.goto("/")
    expect(page.get_by_text("Registrations are paused").first).to_be_visible()
    kept(page, "paused")

    page.get_by_role("button", name="Resume").first.click()

    expect(page.get_by_text("Registrations are paused")).to_have_count(0)


def test_a_move_that_waits_is_approved_on_its_own_page(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    here.push("1.0")
    page.goto("/")
    link = page.get_by_role("link", name=f"Review and approve {APP}/prod to 1.0").first
    expect(link).to_be_visible()
    kept(page, "waiting-for-approval")
    link.click()
    kept(page, "approve")
    assert (APP, "prod") not in sandbox.versions

    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("The channel is being moved").first).to_be_visible()
    page.goto("/channels")
    expect(page.get_by_text("1.0").first).to_be_visible()
    expect(page.get_by_role("button", name="Promote")).to_have_count(0)  # both have it
    kept(page, "channels-with-prod")


def test_a_channel_is_promoted_after_a_look_at_what_changes(page: Page, here: ReceiverHere) -> None:
    delivery = created(here, "1.0")
    until(lambda: registration_of(here, delivery, "prod")["reason"] == "needs_approval")
    page.goto(f"/promote?app={APP}&channel=prod&from=staging")
    expect(page.get_by_role("button", name="Promote")).to_be_visible()
    kept(page, "promote")

    page.get_by_role("button", name="Promote").click()

    expect(page.get_by_role("status").first).to_contain_text("Promoted my-game/prod")
    page.goto("/channels")
    page.get_by_role("button", name="Release").first.click()
    kept(page, "question-release")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("status").first).to_contain_text("Released my-game/prod")


def test_what_is_parked_is_dismissed_and_taken_back(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        sandbox.add_version(APP, tag, docker_image="studio/another")
    delivery = here.push("1.0")
    assert here.ended(delivery)["reason"] == "name_taken"
    page.goto("/")
    kept(page, "parked-one")
    for tag in ("1.1", "1.2"):
        here.ended(here.push(tag))
    page.goto("/")
    kept(page, "parked-alike")

    page.get_by_role("button", name=f"Dismiss {APP}/1.0").click()

    expect(page.get_by_role("status").first).to_contain_text(f"{APP}/1.0 was dismissed")
    page.goto(f"/deliveries/{delivery}")
    kept(page, "dismissed")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("parked name_taken").first).to_be_visible()


def test_each_tab_counts_what_needs_a_person_and_has_a_red_dot_meanwhile(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """Only the overview did, and only in its title."""
    icon = page.locator("link[rel=icon]")
    page.goto("/rules")
    expect(page).to_have_title("Rules · Receiver")
    expect(icon).to_have_attribute("href", re.compile(r"/icon\.svg"))

    created(here, "1.0")  # `prod` waits for an approval

    expect(page).to_have_title("(1) Rules · Receiver")
    expect(icon).to_have_attribute("href", re.compile(r"/icon-attention\.svg"))
    assert page.request.get(str(icon.get_attribute("href"))).ok
    sandbox.add_version(APP, "1.1", docker_image="studio/another")
    delivery = here.push("1.1")
    assert here.ended(delivery)["reason"] == "name_taken"
    for path in ("/", "/deliveries", f"/deliveries/{delivery}", "/channels", "/checks"):
        page.goto(path)
        expect(page).to_have_title(re.compile(r"^\(2\) "))
    page.goto("/")
    page.get_by_role("button", name=f"Dismiss {APP}/1.1").click()
    expect(page).to_have_title("(1) Overview · Receiver")


def test_versions_say_why_they_are_kept_and_what_changed(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9.0")
    sandbox.deployments.run(APP, "1.0")
    long = "nightly-" + "x" * 100
    for tag in ("1.0", "1.1", long):
        created(here, tag)
    page.goto("/versions")
    expect(page.get_by_role("cell", name="1 deployment of it is running")).to_be_visible()
    kept(page, "versions")

    page.get_by_role("link", name="Changes from 1.1 to nightly-").click()

    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    kept(page, "versions-diff")


@pytest.mark.parametrize("width", ["desktop", "tablet", "phone"])
def test_a_row_of_the_list_shows_the_tag_and_the_version_whole(
    page: Page, here: ReceiverHere, width: str
) -> None:
    """On a tablet each row ended in "studio/game-server:1.…", and its time in "22 min a…"."""
    delivery = created(here, "1.24.3-rc.1")
    cut = "one => one.scrollWidth > one.clientWidth + 1"
    page.set_viewport_size(WIDTHS[width])
    row = page.locator(f'[data-row="{delivery}"]')
    for minutes, shown in ((22, r"22 min ago"), (3 * 24 * 60, r"\d\d:\d\d UTC")):
        change = partial(made_earlier, delivery=delivery, minutes=minutes)
        here.inside(partial(here.service.ledger.write, change))
        page.goto("/deliveries")

        expect(row.locator(".when")).to_have_text(re.compile(rf"^{shown}$"))
        whole = (".image bdi", ".target bdi", ".also") if width == "desktop" else ()
        for part in (".image .tag", ".target .tag", ".when", *whole):
            assert not row.locator(part).first.evaluate(cut), part
    link = page.get_by_role("link", name=f"{REPOSITORY}:1.24.3-rc.1", exact=True)
    expect(link).to_have_count(1)
    kept(page, "list-of-one")


@pytest.mark.parametrize("width", WIDTHS)
def test_times_are_local_on_request_and_nothing_moves_for_them(
    browser: Browser, here: ReceiverHere, width: str
) -> None:
    delivery = created(here, "1.24.3-rc.1")
    change = partial(made_earlier, delivery=delivery, minutes=3 * 24 * 60)
    here.inside(lambda: here.service.ledger.write(change))
    with browser.new_context(
        base_url=here.url, timezone_id="Asia/Kolkata", viewport=WIDTHS[width], bypass_csp=True
    ) as context:
        page = context.new_page()
        sign_in(page, PASSWORD, "/deliveries")
        time = page.locator(f'[data-row="{delivery}"] .when')
        expect(time).to_have_text(re.compile(r"^\d\d:\d\d UTC$"))
        place = time.evaluate(PLACE)

        page.get_by_role("group", name="Times").get_by_role("button", name="local").click()

        expect(time).to_have_text(re.compile(r"^\d\d:\d\d \+05:30$"))
        assert time.evaluate(PLACE) == place
        assert not time.evaluate("one => one.scrollWidth > one.clientWidth + 1")
        whole = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+05:30 · \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"
        expect(time.locator("time")).to_have_attribute("title", re.compile(whole))
        page.add_init_script(SHIFTS)
        page.goto("/deliveries")
        expect(time).to_have_text(re.compile(r"\+05:30$"))
        pressed = page.get_by_role("button", name="local", pressed=True)
        expect(pressed).to_be_visible()
        assert page.evaluate("shifted") < 0.02
        if width == "desktop":
            kept(page, "local-times")
        pressed.locator("..").get_by_role("button", name="UTC").click()
        expect(time).to_have_text(re.compile(r"UTC$"))


PLACE = "one => [one.getBoundingClientRect().top, one.offsetHeight]"
SHIFTS = """window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) shifted += one.value;
}).observe({ type: "layout-shift", buffered: true });"""


def test_how_long_something_lasts_is_not_said_as_a_time_ago(page: Page, here: ReceiverHere) -> None:
    """It said "Since 2 min ago"."""
    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))
    set_back = "UPDATE pauses SET since = since - 125000"
    here.inside(lambda: here.service.ledger.write(lambda tx: tx.run(set_back).rowcount))

    page.goto("/")

    alert = page.get_by_role("region", name="Degraded")
    expect(alert).to_contain_text("Ongoing for 2 min.")
    alert.locator("time").evaluate("one => { one.textContent = ''; showTimes(); }")
    expect(alert).to_contain_text("Ongoing for 2 min.")


def made_earlier(tx: Tx, delivery: str, minutes: int) -> int:
    at = tx.now - minutes * 60_000
    return tx.run(
        "UPDATE deliveries SET received_at = :at WHERE id = :id", at=at, id=delivery
    ).rowcount


def test_a_refused_body_is_shown_with_its_sender(page: Page, here: ReceiverHere) -> None:
    link = here.service.links.link(here.url, REPOSITORY)
    body = '{"callback_url": "https://example.com/' + "x" * 80 + '", "text": "<b>' + "y" * 400
    answer = httpx.post(link, content=body, headers={"User-Agent": "curl/8"}, trust_env=False)
    page.goto(f"/deliveries/{answer.json()['delivery']}")

    expect(page.get_by_text("curl/8")).to_be_visible()
    kept(page, "refused-body")


def test_the_charts_show_a_month_and_lead_to_each_day(
    page: Page, here: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "COUNTED_FOR_SECONDS", 0.0)
    created(here, "1.0")
    here.inside(lambda: here.service.ledger.write(a_month))
    created(here, "1.1")
    page.goto("/")
    expect(page.get_by_role("heading", name="Deliveries by day")).to_be_visible()
    kept(page, "charts")

    page.get_by_role("link", name="1 waiting, ").first.click()

    expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
    kept(page, "deliveries-of-a-day")


def a_month(tx: Tx) -> int:
    """Pushes of 30 days, with each result among them."""
    for day in range(1, 30):
        for number in range(day * 7 % 23):
            state = "parked" if (day, number) == (9, 1) else "waiting" if number == 12 else "done"
            ignored, at = number % 5 == 4, tx.now - day * DAY_MS + number * 1000
            delivery, work = first_id(DELIVERY, at), first_id(REGISTRATION, at)
            tx.insert("deliveries", DELIVERIES, [
                (delivery, at, "webhook", REPOSITORY, f"0.{day}.{number}",
                 "ignored" if ignored else "accepted", "no_rule_matches" if ignored else None),
            ])  # fmt: skip
            if not ignored:
                overwritten = state == "done" and number % 6 == 5
                slow = 500 + number * 90 + (60_000 if day == 1 and number == 3 else 0)
                tx.insert("registrations", REGISTRATIONS, [
                    (work, "main", APP, f"0.{day}.{number}", "create", REPOSITORY,
                     f"0.{day}.{number}", at, overwritten, state,
                     "created" if state == "done" else None,
                     {"parked": "gave_up", "waiting": "edgegap_error"}.get(state), at + 10**10,
                     at, at, at + slow),
                ])  # fmt: skip
                tx.insert("led_to", ("delivery_id", "registration_id"), [(delivery, work)])
    return 29


def test_a_refused_token_is_the_first_line(
    page: Page, here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    created(here, "1.0")
    sandbox.misbehave(Fault("status", status=401, message="bad token", times=None))
    here.push("1.1")
    page.goto("/")

    expect(page.get_by_text("Edgegap refuses the API token").first).to_be_visible()
    kept(page, "token-refused")
    assert REPOSITORY in page.content()


def test_the_checks_are_run_and_their_findings_appear(page: Page, here: ReceiverHere) -> None:
    page.get_by_role("link", name="Checks").click()
    page.get_by_role("button", name="Run the checks").click()

    expect(page.get_by_text(re.compile(r"checks: \d+ failed"))).to_be_visible(timeout=60_000)
    kept(page, "checks")
