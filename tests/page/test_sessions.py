"""Who gets in: the login, its limits, its cookies, and what no other site can make a browser do."""

import io
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from receiver.logs import configure_logs
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import ApiToken, ApiTokenSigner
from receiver.web.clients import client_of
from receiver.web.page.auth import TRIES_A_MINUTE, safe_path
from receiver.web.page.sessions import (
    KEPT_SECONDS,
    LOGIN_FORM_SECONDS,
    SESSION_SECONDS,
    Sessions,
)
from tests.conftest import StartReceiver, logs_as_before
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import KEY, REPOSITORY, until, webhook_body
from tests.support.visitor import COOKIE, PAGE, PASSWORD, Reading, Visitor, cookie, visitor

PAGES = ("/", "/deliveries", "/deliveries/d0", "/versions")
ACTIONS = (
    "replay",
    "move",
    "rollback",
    "prune",
    "make-room",
    "dismiss",
    "dismiss-reason",
    "undo-dismissal",
    "pause",
    "resume",
)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    """One for all the tests here that leave no address limited."""
    folder = tmp_path_factory.mktemp("page")
    with serving(EdgegapSandbox().app) as url, receiver_here(folder, url, environment=PAGE) as one:
        yield one


def with_cookie(receiver: ReceiverHere, value: str) -> int:
    with Visitor(receiver, cookies={COOKIE: value}) as person:
        return person.get("/").status_code


def test_without_a_password_there_is_no_page_and_it_says_how_to_turn_it_on(
    start: StartReceiver,
) -> None:
    receiver = start()

    with Visitor(receiver) as person:
        for path in ("/login", "/logout", *(f"/do/{action}" for action in ACTIONS)):
            assert person.post(path, data={"password": ""}).status_code == 404, path
        for path in (*PAGES, "/login"):
            for accept, kind in (
                ("text/html,*/*;q=0.8", "text/html"),
                ("*/*", "application/problem+json"),
            ):
                answer = person.get(path, headers={"Accept": accept})
                assert answer.status_code == 404
                assert answer.headers["content-type"].startswith(kind)
                assert "RECEIVER_ADMIN_PASSWORD" in answer.text, path
                assert "receiver reload" in answer.text, path
        nothing = person.get("/nothing", headers={"Accept": "text/html"})
        assert (nothing.status_code, "There is no such page." in nothing.text) == (404, True)
    assert receiver.push("1.0.0")
    assert receiver.log.read_text("utf-8").count('"page_off"') == 1


@pytest.mark.parametrize("path", PAGES)
def test_a_visitor_without_a_session_is_redirected_to_the_login(
    receiver: ReceiverHere, path: str
) -> None:
    with Visitor(receiver) as person:
        answer = person.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    assert answer.text == ""


def test_a_live_update_without_a_session_is_401(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as person:
        assert person.get("/deliveries?live=1").status_code == 401


def test_signing_in_redirects_to_the_page_asked_for(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as person:
        there = person.get("/deliveries?state=parked").headers["location"]
        answer = person.sign_in(path=there)

        assert answer.headers["location"] == "/deliveries?state=parked"
        assert person.get("/").status_code == 200


def test_the_session_s_cookie_is_out_of_reach_of_scripts_and_other_sites(
    receiver: ReceiverHere,
) -> None:
    with Visitor(receiver) as person:
        made = person.sign_in().headers.get_list("set-cookie")

    (ours,) = [one for one in made if one.startswith(f"{COOKIE}=")]
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={7 * 24 * 3600}"} <= set(
        ours.split("; ")
    )


@pytest.mark.parametrize("url", ["https://hooks.example.com", "HTTPS://hooks.example.com"])
def test_behind_https_cookies_go_over_https_alone(start: StartReceiver, url: str) -> None:
    receiver = start(environment={**PAGE, "RECEIVER_PUBLIC_URL": url})
    with Visitor(receiver) as person:
        shown = person.read("/login")
        answer = person.get("/login")
        form = shown.form("/login")
        held = answer.headers["set-cookie"].partition(";")[0]
        form["csrf"] = ""
        assert held.startswith("__Host-receiver-login=")
        assert "Secure" in answer.headers["set-cookie"]
        refused = person.post("/login", data={**form, "password": PASSWORD})
    assert refused.status_code == 403


def forgeries() -> dict[str, str]:
    good = cookie()
    payload, _, signature = good.rpartition(".")
    login = Sessions([KEY], PASSWORD).begin_login(2**33)[0]
    return {
        "empty": "",
        "nonsense": "nonsense",
        "another key": cookie(key="another-key-0123456789-0123456789"),
        "another password": cookie(password="another"),
        "a login form's cookie": login,
        "an API token": ApiTokenSigner([KEY]).sign(ApiToken("0" * 16, 2**33)),
        "a cut signature": good[:-1],
        "another payload": f"{payload[:-2]}AA.{signature}",
        "no signature": payload,
        "much too long": good + "A" * 5000,
        "too old": cookie(age=SESSION_SECONDS),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_forged_or_old_cookie_opens_nothing(receiver: ReceiverHere, name: str) -> None:
    assert with_cookie(receiver, forgeries()[name]) == 303


def test_a_session_lasts_twelve_hours(receiver: ReceiverHere) -> None:
    assert with_cookie(receiver, cookie(age=SESSION_SECONDS - 60)) == 200


def test_another_password_ends_every_session(start: StartReceiver, tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text(PASSWORD, "utf-8")
    environment = {"RECEIVER_PUBLIC_URL": "http://here", "RECEIVER_ADMIN_PASSWORD_FILE": str(held)}
    receiver = start(environment=environment)
    with visitor(receiver) as person:
        assert person.get("/").status_code == 200

        held.write_text("another password", "utf-8")
        assert receiver.process is not None
        receiver.process.send_signal(signal.SIGHUP)

        until(lambda: person.get("/").status_code == 303)
        assert person.sign_in().status_code == 403
        assert person.sign_in("another password").status_code == 303


def test_a_restart_keeps_sessions_but_not_under_another_password(start: StartReceiver) -> None:
    receiver = start(environment=PAGE)
    with visitor(receiver) as person:
        for password, status in ((PASSWORD, 200), ("another password", 303)):
            receiver.stop()
            receiver.environment["RECEIVER_ADMIN_PASSWORD"] = password
            person.base_url = httpx.URL(receiver.start().url)

            assert person.get("/").status_code == status


def test_signing_out_takes_the_cookie_back(receiver: ReceiverHere) -> None:
    with visitor(receiver) as person:
        form = person.read("/").form("/logout")
        answer = person.post("/logout", data=form)

        assert answer.headers["location"] == "/login"
        assert COOKIE not in person.cookies
        assert person.get("/").status_code == 303


def test_signing_out_ends_the_session_on_the_server_too(receiver: ReceiverHere) -> None:
    with visitor(receiver) as person, Visitor(receiver) as thief, visitor(receiver) as other:
        thief.cookies.update(person.cookies)
        form = person.read("/").form("/logout")
        assert thief.get("/").status_code == 200

        person.post("/logout", data=form)

        assert thief.get("/").status_code == 303
        assert thief.post("/do/pause", data={**form, "repository": "*"}).status_code == 303
        assert "is paused" not in other.read("/").text


@pytest.mark.parametrize("csrf", [None, "", "wrong", "é"])
@pytest.mark.parametrize("action", ACTIONS)
def test_no_action_is_done_without_the_form_s_own_token(
    receiver: ReceiverHere, action: str, csrf: str | None
) -> None:
    with visitor(receiver) as person:
        fields = {"repository": "*", "app": "my-game", "delivery": "d0", "channel": "staging"}
        answer = person.post(
            f"/do/{action}", data=fields if csrf is None else {**fields, "csrf": csrf}
        )

        assert answer.status_code == 403
        assert "Nothing was done" in answer.text
        assert "is paused" not in person.read("/").text


def test_another_session_s_token_is_not_this_one_s(receiver: ReceiverHere) -> None:
    with visitor(receiver) as one, visitor(receiver) as other:
        theirs = other.read("/").form("/logout")["csrf"]

        assert one.post("/logout", data={"csrf": theirs}).status_code == 403
        assert one.get("/").status_code == 200


@pytest.mark.parametrize("csrf", [None, "", "wrong"])
def test_no_other_site_can_sign_a_browser_in(receiver: ReceiverHere, csrf: str | None) -> None:
    with Visitor(receiver) as person:
        person.get("/login")
        fields = {"password": PASSWORD, **({} if csrf is None else {"csrf": csrf})}
        assert person.post("/login", data=fields).status_code == 403
        assert COOKIE not in person.cookies


def test_a_login_form_without_its_cookie_or_too_old_is_refused(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as person, Visitor(receiver) as other:
        theirs = other.read("/login").form("/login")
        assert person.post("/login", data={**theirs, "password": PASSWORD}).status_code == 403
    old, session = Sessions([KEY], PASSWORD).begin_login(1_700_000_000 - LOGIN_FORM_SECONDS)
    with Visitor(receiver, cookies={"receiver-login": old}) as person:
        fields = {"csrf": session.csrf, "password": PASSWORD}
        assert person.post("/login", data=fields).status_code == 403


def test_guessing_is_limited_by_address_and_locks_nobody_else_out(start: StartReceiver) -> None:
    receiver = start(environment=PAGE)
    with visitor(receiver) as person, Visitor(receiver) as guesser, Visitor(receiver) as other:
        guesser.headers["X-Forwarded-For"] = "203.0.113.7"  # 127.0.0.1 is a trusted proxy
        statuses = [guesser.sign_in(f"guess {n}").status_code for n in range(TRIES_A_MINUTE + 1)]
        limited = guesser.sign_in(PASSWORD)
        other.headers["X-Forwarded-For"] = "203.0.113.8"

        assert statuses == [403] * TRIES_A_MINUTE + [429]
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "60")
        assert other.sign_in().status_code == 303
        assert person.get("/").status_code == 200
        assert receiver.push("1.0.0")


def test_an_address_forwarded_by_an_untrusted_proxy_does_not_count(
    start: StartReceiver,
) -> None:
    receiver = start(environment={**PAGE, "FORWARDED_ALLOW_IPS": "192.0.2.1"})
    with Visitor(receiver) as guesser:
        for n in range(TRIES_A_MINUTE):
            guesser.headers["X-Forwarded-For"] = f"203.0.113.{n}"
            guesser.sign_in("guess")
        guesser.headers["X-Forwarded-For"] = "203.0.113.99"

        assert guesser.sign_in().status_code == 429


def test_one_household_s_ipv6_addresses_count_as_one(start: StartReceiver) -> None:
    receiver = start(environment=PAGE)
    with Visitor(receiver) as guesser:
        for n in range(TRIES_A_MINUTE):
            guesser.headers["X-Forwarded-For"] = f"2001:db8:0:1::{n + 1:x}"
            guesser.sign_in("guess")
        guesser.headers["X-Forwarded-For"] = "2001:db8:0:1:ffff::1"
        assert guesser.sign_in().status_code == 429
        guesser.headers["X-Forwarded-For"] = "2001:db8:0:2::1"
        assert guesser.sign_in().status_code == 303


@pytest.mark.parametrize(
    "path",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/login", "/do/pause", "x", "",
     "/deliveries\r\nX: y", "/deliveries/../logout", "javascript:alert(1)", "/?\u202e"],
)  # fmt: skip
def test_a_login_redirects_to_no_other_site(receiver: ReceiverHere, path: str) -> None:
    with Visitor(receiver) as person:
        form = {**person.read("/login").form("/login"), "password": PASSWORD}
        answer = person.post("/login", params={"next": path}, data=form)
        assert answer.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/deliveries/d0?x=1", "/versions/diff?app=a&a=1&b=2"])
def test_the_page_s_own_paths_are_kept(path: str) -> None:
    assert safe_path(path) == path


def test_each_page_is_shown_after_the_login_that_it_led_to(receiver: ReceiverHere) -> None:
    with visitor(receiver) as person:
        pages = [one for one in person.read("/").links() if one.startswith("/")]
    assert {"/", "/channels", "/checks"} <= set(pages)
    assert [one for one in pages if safe_path(one) != one and one != "/api/"] == []


def test_every_page_goes_out_with_headers_that_allow_no_framing_and_no_inline_code(
    receiver: ReceiverHere,
) -> None:
    with Visitor(receiver) as stranger, visitor(receiver) as person:
        pages = [person.get(path) for path in PAGES]
        pages += [stranger.get("/login"), person.post("/do/pause"), stranger.post("/login")]
        pages.append(person.get("/deliveries?live=1"))

    for answer in pages:
        policy = dict(
            one.strip().split(" ", 1)
            for one in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        for inline in ("style=", "<style", "onclick", "<script>", "javascript:"):
            assert inline not in answer.text


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=200), path=st.sampled_from(["/login", "/logout", "/do/replay"]))
def test_whatever_is_sent_as_a_form_is_refused_in_peace(
    receiver: ReceiverHere, body: bytes, path: str
) -> None:
    with Visitor(receiver, cookies={COOKIE: cookie()}) as person:
        assert person.post(path, content=body).status_code in {400, 403, 429}


def test_a_form_that_is_too_large_or_has_too_many_fields_is_refused(receiver: ReceiverHere) -> None:
    with visitor(receiver) as person:
        assert person.post("/do/pause", content=b"a" * 2_000_000).status_code == 400
        assert person.post("/do/pause", content=b"a=b&" * 100).status_code == 400


def test_neither_password_nor_link_is_logged(start: StartReceiver) -> None:
    receiver = start(environment=PAGE)
    with visitor(receiver) as person:
        person.sign_in("a wrong guess at it")
        shown = person.read(f"/rules/link?repository={REPOSITORY}").html
        link = shown.partition("/hooks/dockerhub/")[2].partition('"')[0]
        person.do("pause", repository=REPOSITORY)

    written = receiver.everything_written()
    assert link
    for secret in (PASSWORD, "a wrong guess at it", link, person.cookies[COOKIE]):
        assert secret not in written


def test_the_page_s_own_files_are_kept_by_browsers_and_others_are_not_there(
    receiver: ReceiverHere,
) -> None:
    with Visitor(receiver) as person:
        shown = person.read("/login")
        assets = [one["href"] or "" for tag, one in shown.elements if tag == "link"]
        assets += [one["src"] or "" for tag, one in shown.elements if tag == "script"]
        for address in assets:
            answer = person.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
        for path in ("/static/", "/static/nothing.js", "/static/..%2flogin.py", "/static/%00"):
            assert person.get(path).status_code == 404


def test_a_browser_gets_a_page_where_nothing_is_and_a_machine_json(receiver: ReceiverHere) -> None:
    html = {"Accept": "text/html,*/*"}
    with Visitor(receiver) as person:
        shown = [person.get(path, headers=html) for path in ("/nothing", "/hooks/a/b", "/hooks")]
        answers = [person.get(path) for path in ("/nothing", "/hooks/a/b")]
        of_the_api = person.get("/api/nothing", headers={"Accept": "text/html"})

    for result in shown:
        assert (result.status_code, "There is no such page." in result.text) == (404, True)
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (of_the_api.status_code, of_the_api.json()["code"]) == (404, "not_found")


def test_a_method_that_an_address_does_not_support_is_a_page_for_a_browser(
    receiver: ReceiverHere,
) -> None:
    html = {"Accept": "text/html,*/*"}
    with Visitor(receiver) as person:
        others = [
            person.put(path, headers=html) for path in ("/login", "/do/replay", "/", "/logout")
        ]
        machine = person.put("/login")
        of_the_api = [person.put(path, headers=html) for path in ("/api/deliveries", "/api")]

    for answer in others:
        assert answer.status_code == 405
        assert "This address cannot be opened this way." in answer.text
        assert f"It supports {answer.headers['allow']}, not" in answer.text
    for answer in (machine, *of_the_api):
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_a_fault_of_the_receiver_is_found_in_the_log_by_its_id(
    receiver: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("canary")

    html = {"Accept": "text/html,*/*"}
    token = {"Authorization": f"Bearer {receiver.api_token()}", **html}
    out = io.StringIO()
    with visitor(receiver) as person, monkeypatch.context() as patch, logs_as_before():
        configure_logs(stream=out)
        patch.setattr("receiver.web.page.answers.render", fail)
        patch.setattr("receiver.web.deliveries.search_deliveries", fail)
        patch.setattr("receiver.web.webhook.take", fail)
        patch.setattr("receiver.web.webhook.Hooks.count_invalid_path", fail)
        shown = person.get("/rules", headers=html)
        machines = [
            person.get("/rules"),
            person.get("/api/deliveries", headers=token),
            receiver.post(webhook_body("1.0.0")),
            person.post("/nothing"),
        ]
        until(lambda: len(_faults(out)) == 5)

    for answer, line in zip((shown, *machines), _faults(out), strict=True):
        assert answer.status_code == 500
        assert "canary" not in answer.text
        assert len(line["id"]) == 12
        assert line["id"] in answer.text
        assert "RuntimeError: canary" in line["exception"]
    for answer in machines:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "internal_error"
    assert "<h1>The receiver failed</h1>" in shown.text
    assert "<code>request_fault</code>" in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]


def _faults(out: io.StringIO) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "request_fault"]


@pytest.mark.parametrize(
    ("with_cookie", "tries", "status"), [(False, 0, 403), (True, TRIES_A_MINUTE, 429)]
)
def test_the_form_of_a_stranger_is_not_read(
    receiver: ReceiverHere, with_cookie: bool, tries: int, status: int
) -> None:
    """The response comes while the body is still missing."""
    with Visitor(receiver) as person:
        form = person.read("/login").form("/login")
        for _ in range(tries):
            person.post("/login", data={**form, "password": "wrong"})
        url = httpx.URL(receiver.url)
        with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
            cookies = "; ".join(f"{one.name}={one.value}" for one in person.cookies.jar)
            head = [
                "POST /login HTTP/1.1",
                "Host: x",
                f"X-Forwarded-For: {person.headers['X-Forwarded-For']}",
                "Content-Type: application/x-www-form-urlencoded",
                "Content-Length: 1000000",
                *([f"Cookie: {cookies}"] if with_cookie else []),
            ]
            connection.sendall("\r\n".join([*head, "", ""]).encode())
            assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_form_over_16_kib_is_refused(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as person:
        form = person.read("/login").form("/login")
        answer = person.post("/login", data={**form, "password": "x" * 17_000})

    assert answer.status_code == 400
    assert "The form is larger than 16 KiB." in answer.text
    assert "Docker Hub" not in Reading(answer.text.partition("<main")[2]).text


@pytest.mark.parametrize(
    ("addresses", "clients"),
    [
        (["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201"], 1),
        (["::ffff:192.0.2.1", "::ffff:192.0.2.2"], 2),
        (["2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::2%eth0"], 1),
        (["2001:db8:0:1::1", "2001:db8:0:2::1"], 2),
        (["unknown", "a name"], 2),
    ],
)
def test_what_counts_as_one_client(addresses: list[str], clients: int) -> None:
    assert len({client_of(address) for address in addresses}) == clients


def test_a_form_of_an_expired_session_is_kept_until_one_has_signed_in_again(
    receiver: ReceiverHere,
) -> None:
    with visitor(receiver) as person:
        sessions = Sessions([KEY], PASSWORD)
        old, session = sessions.begin(int(time.time()) - SESSION_SECONDS - 60)
        person.cookies.clear()
        person.cookies.set(COOKIE, old)
        form = {"csrf": session.csrf, "repository": REPOSITORY, "back": "/rules"}

        answer = person.post("/do/pause", data=form)

        login = answer.headers["location"]
        assert login.startswith("/login?next=")
        assert "is paused" not in person.get("/").text
        shown = person.read(person.sign_in(path=login).headers["location"])
        assert "You are signed in again. Nothing was done yet." in shown.text
        assert f"Do you still want this: pause ({REPOSITORY})?" in shown.text
        answer = person.post("/do/pause", data=shown.form("/do/pause", confirmed="yes"))
        assert answer.headers["location"] == "/rules"
        assert f"{REPOSITORY} is paused" in person.read("/").text
        person.do("resume", repository=REPOSITORY)
        assert person.get("/again?form=nonsense").status_code == 400


@pytest.mark.parametrize("status", [403, 429])
def test_a_form_is_kept_while_signing_in_takes_several_tries(
    receiver: ReceiverHere, status: int
) -> None:
    """The form shown for an expired one, or after ten wrong passwords, led to the overview."""
    with visitor(receiver) as person:
        form = person.read("/rules").form("/do/pause", repository="*")
        person.post("/logout", data=person.read("/").form("/logout"))
        shown = person.read(person.post("/do/pause", data=form).headers["location"])
        if status == 429:
            for _ in range(TRIES_A_MINUTE):
                shown = Reading(person.enter(shown, "wrong").text)
        else:
            person.cookies.delete("receiver-login")

        refused = person.enter(shown)

        assert refused.status_code == status
        person.headers["X-Forwarded-For"] = "203.0.113.200"  # not limited
        again = person.read(person.enter(Reading(refused.text)).headers["location"])
        assert "Pause everything?" in again.text


def test_a_kept_form_lasts_longer_than_the_login_form(receiver: ReceiverHere) -> None:
    """Both lasted an hour: after it, one signed in and the form was too old."""
    sessions, now = Sessions([KEY], PASSWORD), int(time.time())
    kept = sessions.keep_form("/do/pause", {"repository": "*"}, now - 2 * LOGIN_FORM_SECONDS)
    old = sessions.keep_form("/do/pause", {"repository": "*"}, now - KEPT_SECONDS)

    with visitor(receiver) as person:
        assert "Pause everything?" in person.read(f"/again?form={kept}").text
        assert "The form is too old" in person.read(f"/again?form={old}", 400).text


def test_the_address_of_what_is_only_sent_leads_to_its_page(receiver: ReceiverHere) -> None:
    """A GET of `/logout` was 405."""
    with visitor(receiver) as person:
        for action, page in (("move", "/channels"), ("run-checks", "/checks"), ("dismiss", "/")):
            assert person.get(f"/do/{action}").headers["location"] == page
    for route in receiver.app.routes:
        assert isinstance(route, Route)
        if "/api/" in route.path or route.methods != {"POST"}:
            continue
        for accept in ("text/html,*/*", "*/*"):
            with visitor(receiver) as person:
                answer = person.get(route.path, headers={"Accept": accept})
                if route.path == "/login" or route.path.startswith("/hooks/"):
                    assert answer.status_code == 200
                    continue
                assert answer.status_code == 303, route.path
                assert person.get(answer.headers["location"]).status_code == 200


def test_an_expired_session_s_form_needs_its_own_token(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as person:
        old, _ = Sessions([KEY], PASSWORD).begin(int(time.time()) - SESSION_SECONDS - 60)
        person.cookies.set(COOKIE, old)

        answer = person.post("/do/pause", data={"csrf": "wrong", "repository": "*"})

        assert answer.headers["location"] == "/login"


def test_a_form_of_an_earlier_session_of_the_browser_is_confirmed(receiver: ReceiverHere) -> None:
    """After signing out and in again in another tab, nothing was done and the form was lost."""
    with visitor(receiver) as person:
        form = person.read("/rules").form("/do/pause", repository=REPOSITORY)
        person.post("/logout", data=person.read("/").form("/logout"))
        person.sign_in()

        asked = person.post("/do/pause", data=form)

        assert "You have signed in again since this form was opened." in asked.text
        shown = Reading(asked.text)
        assert f"Do you still want this: pause ({REPOSITORY})?" in shown.text
        assert "is paused" not in person.read("/").text
        answer = person.post("/do/pause", data=shown.form("/do/pause", confirmed="yes"))
        assert answer.headers["location"] == "/rules"
        assert f"{REPOSITORY} is paused" in person.read("/").text
        person.do("resume", repository=REPOSITORY)


def test_a_form_sent_after_signing_out_is_shown_again_after_signing_in(
    receiver: ReceiverHere,
) -> None:
    """It was dropped without a word."""
    with visitor(receiver) as person:
        form = person.read("/rules").form("/do/pause", repository="*")
        person.post("/logout", data=person.read("/").form("/logout"))

        login = person.post("/do/pause", data=form).headers["location"]

        shown = person.read(login)
        assert "Nothing was done yet: you are not signed in any more." in shown.text
        again = person.read(person.enter(shown).headers["location"])
        assert "You are signed in again. Nothing was done yet." in again.text
        assert "Pause everything?" in again.text
        assert "Nothing was done yet: you" not in person.read("/").text


def test_a_form_that_cannot_be_kept_leads_back_to_its_page_and_says_so(
    receiver: ReceiverHere,
) -> None:
    with visitor(receiver) as person:
        form = person.read("/rules").form("/do/pause", repository=REPOSITORY)
        person.post("/logout", data=person.read("/").form("/logout"))

        answer = person.post("/do/pause", data={**form, "more": token_hex(2000)})

        assert answer.headers["location"] == "/login?next=%2Frules"
        said = "Nothing was done: you are not signed in any more. Sign in, then try again."
        assert said in person.read("/login?next=%2Frules").text


def test_each_page_has_another_text_as_its_token_and_all_are_accepted(
    receiver: ReceiverHere,
) -> None:
    with visitor(receiver) as person:
        tokens = {person.read("/rules").form("/logout")["csrf"] for _ in range(3)}

        assert len(tokens) == 3
        for token in tokens:
            form = {"csrf": token, "repository": REPOSITORY}
            assert person.post("/do/resume", data=form).status_code == 303


def test_a_session_lasts_twelve_hours_after_its_last_use(receiver: ReceiverHere) -> None:
    """It was renewed only in its last six hours: it could end six hours after its last use."""
    with Visitor(receiver) as person:
        person.cookies.set(COOKIE, cookie(age=600))
        began = int(time.time())

        renewed = person.get("/").cookies[COOKIE]

        session = Sessions([KEY], PASSWORD).read(renewed, began)
        assert session is not None
        assert session.expires_at >= began + SESSION_SECONDS


def test_a_session_in_use_lasts_longer_and_still_ends_when_signed_out(
    receiver: ReceiverHere,
) -> None:
    with Visitor(receiver) as person, Visitor(receiver) as thief:
        person.cookies.set(COOKIE, cookie(age=SESSION_SECONDS // 2 + 60))
        assert "set-cookie" not in person.get("/?live=1").headers
        renewed = person.get("/").cookies[COOKIE]
        person.cookies.clear()
        person.cookies.set(COOKIE, renewed)
        thief.cookies.set(COOKIE, renewed)

        person.post("/logout", data=person.read("/").form("/logout"))

        assert thief.get("/").status_code == 303
