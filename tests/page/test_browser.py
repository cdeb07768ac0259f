"""The page in a real browser, against the demo: what a person does, and what they see."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import WIDTHS, an_address, kept, needs_chromium, sign_in
from tests.support.demo import Demo, demonstrating

ARM = "1.5.0-arm64"
# What Chromium itself notes of a wrong password's answer, and of a session's end.
_NOTED = "Failed to load resource: the server responded with a status of"
REFUSED = {f"{_NOTED} 403 (Forbidden)", f"{_NOTED} 401 (Unauthorized)"}

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demonstrating(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A fresh window; nothing in its console, no request but to the receiver, no CSP report."""
    context = browser.new_context(
        base_url=demo.url, viewport=WIDTHS["desktop"], extra_http_headers=an_address()
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.text not in REFUSED else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith(demo.url) else None,
    )
    yield page
    context.close()
    assert wrong == []


def test_signing_in_shows_the_overview_and_signing_out_ends_the_session(
    page: Page, demo: Demo
) -> None:
    page.goto("/")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The password is wrong")
    page.get_by_label("Password").fill(demo.password)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto("/deliveries")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_session_that_ends_leads_back_to_where_one_was(page: Page, demo: Demo) -> None:
    path = "/deliveries?verdict=accepted&text=my-game"
    sign_in(page, demo.password, path)
    page.context.clear_cookies()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    page.get_by_label("Password").fill(demo.password)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
    assert page.url == f"{demo.url}{path}"


def test_a_push_appears_and_its_state_moves_without_reload(page: Page, demo: Demo) -> None:
    sign_in(page, demo.password, "/deliveries")
    page.evaluate("window.here = true")

    demo.push("1.5.0", pusher="ann")

    row = page.get_by_role("listitem").filter(has_text="by ann")
    expect(row).to_contain_text("created")
    expect(row).to_contain_text("my-game/1.5.0")
    expect(row).to_contain_text("staging updated")
    assert page.evaluate("window.here") is True
    expect(page.locator("#said")).to_contain_text("new push")


def test_a_parked_push_is_explained_fixed_and_replayed(page: Page, demo: Demo) -> None:
    sign_in(page, demo.password)
    demo.push(ARM)
    parked = page.get_by_role("region", name="Parked")
    expect(parked).to_contain_text("not_amd64")
    page.get_by_role("link", name=f"my-game/{ARM}").first.click()
    expect(page.get_by_text("docker buildx build --platform linux/amd64")).to_be_visible()
    expect(page.get_by_text("parked not_amd64").first).to_be_visible()

    demo.push_image(ARM)
    page.get_by_role("button", name="Replay").click()

    expect(page.get_by_role("status").first).to_contain_text("The delivery was replayed")
    expect(page.get_by_role("heading", name=f"my-game/{ARM} created")).to_be_visible()
    dashboard = page.get_by_role("link", name="Open at Edgegap").first
    path = f"my-game/versions/{ARM}"
    expect(dashboard).to_have_attribute("href", re.compile(re.escape(path)))
    expect(page.get_by_role("button", name="Replay")).to_have_count(0)


def test_a_channel_is_rolled_back(page: Page, demo: Demo) -> None:
    demo.push_image("1.9.0")
    demo.push("1.9.0")
    sign_in(page, demo.password, "/channels")
    expect(page.get_by_text("has studio/game-server:1.9.0")).to_be_visible()
    page.get_by_label("Move staging to").select_option("studio/game-server:1.4.2")
    page.get_by_role("button", name="Move …").click()
    expect(page.get_by_role("heading", name="Roll back staging of my-game from")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Channels")).to_be_visible()  # nothing was done yet
    page.get_by_label("Move staging to").select_option("studio/game-server:1.4.2")
    page.get_by_role("button", name="Move …").click()
    page.get_by_role("button", name="Confirm").click()

    expect(page.get_by_role("status").first).to_contain_text("staging")
    done = re.compile("staging (updated|unchanged)")
    expect(page.get_by_role("heading", name=done)).to_be_visible()
    page.get_by_role("link", name="Channels").click()
    expect(page.get_by_text("has studio/game-server:1.4.2")).to_be_visible()
    expect(page.get_by_text("Held at 1.4.2")).to_be_visible()


def test_the_link_is_masked_until_shown_and_copied_with_one_click(page: Page, demo: Demo) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, demo.password, "/rules")
    page.get_by_role("link", name="Copy the link of studio/game-server").click()

    expect(page.get_by_text("The link was copied.")).to_be_attached()
    assert page.evaluate("navigator.clipboard.readText()") == demo.link
    assert demo.link not in page.content()
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("link", name="Show the link of studio/game-server").click()
    expect(page.get_by_label("The link", exact=True)).to_have_value(demo.link)
    page.get_by_role("button", name="Copy the link").click()
    expect(page.get_by_text("The link was copied.")).to_be_attached()
    assert page.evaluate("navigator.clipboard.readText()") == demo.link


def test_what_is_open_and_focused_stays_so_while_the_page_moves(page: Page, demo: Demo) -> None:
    identity = demo.push("latest")
    sign_in(page, demo.password, f"/deliveries/{identity}")
    button = page.get_by_role("button", name="Replay")
    button.focus()
    with page.expect_response(re.compile("live=1")):
        pass
    page.evaluate("""() => {
        const region = document.querySelector("[data-live]");
        seen.set(region.dataset.live, "as if something had changed"); tag = "";
    }""")
    with page.expect_response(lambda answer: "live=1" in answer.url and answer.status == 200):
        pass

    expect(button).to_be_focused()


def test_the_page_shows_that_the_receiver_cannot_be_reached(page: Page, demo: Demo) -> None:
    sign_in(page, demo.password)
    page.route(re.compile("live=1"), lambda route: route.fulfill(status=200, body="<p></p>"))
    expect(page.get_by_text("The receiver cannot be reached")).to_be_hidden()
    page.evaluate("() => { window.fetch = () => Promise.reject(new Error('away')); }")

    expect(page.get_by_text("The receiver cannot be reached")).to_be_visible()


def test_the_keyboard_alone_is_enough(page: Page, demo: Demo) -> None:
    page.goto("/")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(demo.password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_each_page_is_usable_by_everyone(browser: Browser, demo: Demo) -> None:
    """Seen at three widths, light and dark, with a hostile tag in the lists."""
    hostile = demo.push(
        "v" + "0123456789abcdef" * 7 + "0123456789abcde", pusher="<b>&\u202eevil 👩‍🚀"
    )
    good = demo.push("1.4.2")
    demo.push_image("2.0-arm64", "linux/arm64")
    parked = demo.push("2.0-arm64")
    context = browser.new_context(
        base_url=demo.url, bypass_csp=True, extra_http_headers=an_address()
    )
    page = context.new_page()
    page.goto("/login")
    kept(page, "login")
    sign_in(page, demo.password)
    page.goto(f"/deliveries/{parked}")
    expect(page.get_by_text("parked not_amd64").first).to_be_visible()
    paths = {
        "overview": "/", "deliveries": "/deliveries", "delivery": f"/deliveries/{good}",
        "parked": f"/deliveries/{parked}", "hostile": f"/deliveries/{hostile}",
        "versions": "/versions", "channels": "/channels", "rules": "/rules?tag=latest",
        "link": "/rules/link?repository=studio/game-server", "failure": "/deliveries/d0",
    }  # fmt: skip
    for name, path in paths.items():
        page.goto(path)
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        kept(page, name)
    context.close()
