"""A link that opens nothing: why, how often, and what its owner is to do; in every place."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from receiver.errors import BadLink
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import SHOWN_MS, count_refused_links, refused_links
from receiver.signing import ACTIONABLE, PATH, LinkFault, LinkSigner, what_to_do
from receiver.upkeep.health import Code
from receiver.upkeep.links import RefusedLinks
from tests.crash.asking import logged
from tests.support.commands import Commands, commands_beside
from tests.support.ledger_work import MINUTE, at, pushed, write
from tests.support.metrics import scrape
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import (
    KEY,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)
from tests.support.visitor import PAGE, Visitor, visitor

LOBBY = "studio/lobby"
ANOTHER_KEY = "another-key-0123456789-0123456789-abcdef"
CONFIG = f"""{RULE}
[[rule]]
repository = "{LOBBY}"
app = "lobby"
preflight = false

[links]
"{LOBBY}" = 2

[catch_up]
every = "off"
"""
GOOD = LinkSigner([KEY], {LOBBY: 2}, [REPOSITORY, LOBBY])
TOKEN = GOOD.token(REPOSITORY)
DAMAGED: dict[str, tuple[str, LinkFault, str | None]] = {
    "revoked": (LinkSigner([KEY], {}).token(LOBBY), LinkFault.REVOKED, LOBBY),
    "of a number to come": (
        LinkSigner([KEY], {REPOSITORY: 7}).token(REPOSITORY), LinkFault.REVOKED, REPOSITORY,
    ),
    "of another key": (
        LinkSigner([ANOTHER_KEY], {}).token(REPOSITORY), LinkFault.SIGNATURE, REPOSITORY,
    ),
    "old, of another key": (
        LinkSigner([ANOTHER_KEY], {}).token(LOBBY), LinkFault.SIGNATURE, LOBBY,
    ),
    "one letter changed": (TOKEN[:-3] + ("A" if TOKEN[-3] != "A" else "B") + TOKEN[-2:],
                           LinkFault.SIGNATURE, REPOSITORY),
    "in lower case": (TOKEN.lower(), LinkFault.SIGNATURE, REPOSITORY),
    "with what stood after it": (TOKEN + '",', LinkFault.SIGNATURE, REPOSITORY),
    "pasted twice": (TOKEN + TOKEN, LinkFault.SIGNATURE, REPOSITORY),
    "cut off in the signature": (TOKEN[:-5], LinkFault.TRUNCATED, REPOSITORY),
    "cut off before the signature": (TOKEN.partition(".")[0], LinkFault.TRUNCATED, REPOSITORY),
    "cut off in the repository": (TOKEN[:20], LinkFault.TRUNCATED, REPOSITORY),
    "cut off where two are alike": (TOKEN[:12], LinkFault.TRUNCATED, None),
    "cut off at its start": ("", LinkFault.TRUNCATED, None),
    "of a repository of no rule": (
        LinkSigner([ANOTHER_KEY], {}).token("studio/unheard-of"),
        LinkFault.UNKNOWN_REPOSITORY, None,
    ),
    "made up": ("wp-login.php", LinkFault.MALFORMED, None),
    "a path": ("../../etc/passwd", LinkFault.MALFORMED, None),
    "long": ("A" * 5000, LinkFault.MALFORMED, None),
    "no letters of ours": ("\\u00e9\\x00", LinkFault.MALFORMED, None),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_each_damage_is_known_for_what_it_is(damage: str) -> None:
    token, reason, repository = DAMAGED[damage]

    with pytest.raises(BadLink) as refused:
        GOOD.repository(token)

    assert (refused.value.reason, refused.value.repository) == (reason, repository)


@given(st.integers(0, len(TOKEN) - 1))
def test_wherever_a_link_is_cut_off_it_needs_its_owner(length: int) -> None:
    with pytest.raises(BadLink) as refused:
        GOOD.repository(TOKEN[:length])

    enough = length == 0 or length >= 12
    assert (refused.value.reason in ACTIONABLE) == enough


@given(st.text() | st.text("ABCabc012_-.=", max_size=120))
def test_noise_needs_nobody(token: str) -> None:
    with pytest.raises(BadLink) as refused:
        GOOD.repository(token)

    assert not token or refused.value.reason not in ACTIONABLE


@pytest.mark.parametrize("reason", LinkFault)
def test_each_reason_says_what_to_do(reason: LinkFault) -> None:
    for repository in (REPOSITORY, None):
        text = what_to_do(reason, repository)
        assert "receiver link" in text
        assert text.endswith(".")
        assert "{" not in text


# In the ledger, on both engines.


def counted(ledger: Ledger, now: int, *requests: tuple[LinkFault, str | None, int]) -> None:
    counts = {(reason, repository): many for reason, repository, many in requests}
    write(ledger, at(now, lambda tx: count_refused_links(tx, counts)))


def shown(ledger: Ledger, now: int) -> list[tuple[str, str | None, int, int, int]]:
    found = write(ledger, at(now, refused_links))
    return [(one.reason, one.repository, one.requests, one.first_at, one.last_at) for one in found]


NOW = 1_790_000_000_000


def test_requests_add_up_by_reason_and_repository(ledger: Ledger) -> None:
    counted(ledger, NOW, (LinkFault.REVOKED, LOBBY, 2), (LinkFault.MALFORMED, None, 40))
    counted(ledger, NOW + MINUTE, (LinkFault.REVOKED, LOBBY, 1))

    assert shown(ledger, NOW + MINUTE) == [
        ("revoked", LOBBY, 3, NOW, NOW + MINUTE),
        ("malformed", None, 40, NOW, NOW),
    ]


def test_what_nobody_sent_for_a_week_is_forgotten(ledger: Ledger) -> None:
    counted(ledger, NOW, (LinkFault.REVOKED, LOBBY, 2))
    later = NOW + SHOWN_MS + 1

    assert shown(ledger, later) == []
    counted(ledger, later, (LinkFault.REVOKED, LOBBY, 1))
    assert shown(ledger, later) == [("revoked", LOBBY, 1, later, later)]


@pytest.mark.parametrize("reason", [LinkFault.REVOKED, LinkFault.SIGNATURE, LinkFault.TRUNCATED])
@pytest.mark.parametrize(("after", "left"), [(-2 * MINUTE, 1), (-1, 1), (1, 0), (MINUTE, 0)])
def test_a_later_push_by_a_good_link_ends_it(
    ledger: Ledger, reason: LinkFault, after: int, left: int
) -> None:
    """Where both links stand on Docker Hub, each push comes by both: nothing is lost."""
    if after < 0:
        write(ledger, at(NOW + after, lambda tx: pushed(tx, "1.0")))
    counted(ledger, NOW, (reason, REPOSITORY, 1), (LinkFault.OTHER_REPOSITORY, REPOSITORY, 1))
    if after > 0:
        write(ledger, at(NOW + after, lambda tx: pushed(tx, "1.0")))

    found = [one[0] for one in shown(ledger, NOW + 2 * MINUTE)]

    assert found.count(reason) == left
    assert found.count("other_repository") == 1  # the push to the other is lost all the same


def test_strangers_do_not_have_the_disk_written_for_each_request(tmp_path: Path) -> None:
    written: list[int] = []

    class Watched(Ledger):
        async def write(self, write: Any) -> Any:
            written.append(1)
            return await super().write(write)

    async def flood() -> None:
        refused = RefusedLinks(ledger)
        refused.background.start()
        for _ in range(5000):
            refused.count(BadLink(LinkFault.MALFORMED, "not a token of ours"))
            await asyncio.sleep(0)
        await refused.stop()

    ledger = Watched(URL.create("sqlite", database=str(tmp_path / "receiver.db")))
    ledger.open_to_write()
    asyncio.run(flood())
    (row,) = ledger.read_sync(refused_links)
    ledger.close()

    assert row.requests == 5000
    assert len(written) < 20


# Over HTTP.


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=PAGE) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def beside(here: ReceiverHere) -> Commands:
    return commands_beside(here)


@pytest.fixture
def person(here: ReceiverHere) -> Iterator[Visitor]:
    with visitor(here) as one:
        yield one


def sent(receiver: ReceiverProcess, token: str, repository: str = REPOSITORY) -> httpx.Response:
    body = webhook_body("1.0.0", repository)
    return httpx.post(f"{receiver.url}{PATH}{token}", json=body, trust_env=False)


def overview(receiver: ReceiverProcess) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}/api/overview", headers=headers, trust_env=False).json()


def test_an_old_link_is_seen_in_every_place(
    here: ReceiverHere, person: Visitor, beside: Commands
) -> None:
    """Every push was answered 404, and nothing but one line of the log said so."""
    token = LinkSigner([ANOTHER_KEY], {}).token(REPOSITORY)
    before = scrape(here).value("docker_hub_receiver_links_refused_total", reason="signature") or 0
    for _ in range(3):
        assert sent(here, token).status_code == 404

    (one,) = overview(here)["refused_links"]
    assert (one["reason"], one["repository"], one["requests"]) == ("signature", REPOSITORY, 3)
    assert one["actionable"]
    assert one["last_at"].endswith("Z")
    assert (
        scrape(here).value("docker_hub_receiver_links_refused_total", reason="signature")
        == before + 3
    )
    page = person.read("/").text
    assert f"3 requests with an invalid link of {REPOSITORY}" in page
    assert f"receiver link {REPOSITORY}" in page
    found = doctor(beside, "links")
    assert found["health"] == "warn"
    assert f"3 requests with an invalid link of {REPOSITORY} (signature), last " in found["found"]
    assert found["found"].endswith(" ago")
    assert "RECEIVER_SECRET_KEY" in found["hint"]


def doctor(beside: Commands, what: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in beside.run("doctor", "--json").stdout.splitlines()]
    (found,) = [line for line in lines if line["what"] == what]
    return dict(found)


def test_an_old_link_is_a_problem_until_a_good_one_works(
    here: ReceiverHere, person: Visitor, beside: Commands
) -> None:
    """The page said that all was well above it, and `receiver status` ended with 0."""
    sent(here, LinkSigner([ANOTHER_KEY], {}).token(REPOSITORY))

    (problem,) = overview(here)["degraded"]
    assert (problem["code"], problem["repository"]) == ("links", REPOSITORY)
    assert f"receiver link {REPOSITORY}" in problem["message"]
    shown = person.read("/").text
    assert "All is well" not in shown
    assert Code.LINKS.clause in shown
    assert "No push is lost" not in shown
    assert shown.count(f"1 request with an invalid link of {REPOSITORY}") == 1
    ready = httpx.get(f"{here.url}/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["links"])
    done = beside.run("status")
    assert (done.exit_code, "problem  links since " in done.stdout) == (1, True)

    sent(here, TOKEN, REPOSITORY)

    assert overview(here)["degraded"] == []


def test_what_anyone_may_send_is_no_problem(here: ReceiverHere, person: Visitor) -> None:
    for path in ("", "wp-login.php", LinkSigner([ANOTHER_KEY], {}).token("studio/unheard-of")):
        httpx.post(f"{here.url}{PATH}{path}", json={"a": 1}, trust_env=False)

    assert len(overview(here)["refused_links"]) == 3
    assert overview(here)["degraded"] == []
    shown = person.read("/")
    assert "1 request with an invalid link" in shown.text
    assert 'class="alert bad"' not in shown.html


def test_a_new_link_that_works_ends_it(here: ReceiverHere) -> None:
    sent(here, LinkSigner([KEY], {}).token(LOBBY), LOBBY)
    assert [one["reason"] for one in overview(here)["refused_links"]] == ["revoked"]

    assert sent(here, GOOD.token(LOBBY), LOBBY).status_code == 202

    assert overview(here)["refused_links"] == []


def test_a_link_of_another_repository_is_named_with_the_repository_it_is_of(
    here: ReceiverHere,
) -> None:
    assert sent(here, TOKEN, LOBBY).status_code == 404

    (one,) = overview(here)["refused_links"]
    assert (one["reason"], one["repository"]) == ("other_repository", REPOSITORY)


@pytest.mark.parametrize(
    "path", ["/hooks/dockerhub", "/hooks/dockerhub/", PATH + "a/b", PATH + "x"]
)
def test_whatever_is_left_of_a_link_the_answer_is_the_same(here: ReceiverHere, path: str) -> None:
    answer = httpx.post(here.url + path, json=webhook_body(), trust_env=False)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    (one,) = overview(here)["refused_links"]
    assert one["reason"] == ("misdirected" if path[len(PATH) :] else "truncated")


ASTRAY = {
    "nothing of the path": f"/{TOKEN}",
    "upper case": f"/Hooks/Dockerhub/{TOKEN}",
    "one letter less": f"/hook/dockerhub/{TOKEN}",
    "no slash before the token": f"/hooks/dockerhub{TOKEN}",
    "no token": "/hooks/",
    "no link at all": "/webhook",
    "the page": "/",
    "a few letters of the token": f"{PATH}{TOKEN[:5]}",
    "no start of the token": f"{PATH}{TOKEN[3:]}",
    "the link in the link": f"{PATH}https://hooks.example.com{PATH}{TOKEN}",
    "a placeholder": f"{PATH}%3Ctoken%3E",
    "another's link": PATH + LinkSigner([ANOTHER_KEY], {}).token("studio/unheard-of"),
}


@pytest.mark.parametrize("path", ASTRAY.values(), ids=ASTRAY)
def test_a_push_to_a_wrong_address_is_seen(here: ReceiverHere, path: str) -> None:
    """It was answered 404 and counted nowhere, or as the Internet's noise."""
    answer = httpx.post(here.url + path, json=webhook_body("1.0.0"), trust_env=False)

    assert answer.status_code in {404, 405}
    (one,) = until(lambda: overview(here)["refused_links"])
    assert (one["reason"], one["repository"]) == ("misdirected", REPOSITORY)
    assert one["actionable"]


def test_a_link_in_a_wrong_place_is_seen_whatever_its_body(here: ReceiverHere) -> None:
    httpx.post(f"{here.url}/{TOKEN}", content=b"x", trust_env=False)

    (one,) = until(lambda: overview(here)["refused_links"])
    assert (one["reason"], one["repository"]) == ("misdirected", REPOSITORY)


@pytest.mark.parametrize(
    ("path", "reasons"), [("/hooks/x", ["malformed"]), ("/xmlrpc.php", []), ("/api/none", [])]
)
def test_a_strangers_post_is_counted_only_if_its_path_resembles_a_links(
    here: ReceiverHere, path: str, reasons: list[str]
) -> None:
    httpx.post(here.url + path, json={"a": 1}, trust_env=False)
    sent(here, "")  # what came before it is in the ledger once this is

    found = until(lambda: overview(here)["refused_links"])
    assert {one["reason"] for one in found} == {"truncated", *reasons}


def test_a_push_of_an_unknown_repository_adds_no_row_of_its_own(here: ReceiverHere) -> None:
    """Anybody may send any name: the ledger has one row for all of them."""
    for number in range(20):
        body = webhook_body("1.0", f"stranger/number-{number}")
        httpx.post(f"{here.url}/webhook", json=body, trust_env=False)

    def counted() -> bool:
        found = overview(here)["refused_links"]
        return [(one["repository"], one["requests"]) for one in found] == [(None, 20)]

    until(counted)


def test_noise_is_passed_over_by_doctor(here: ReceiverHere, beside: Commands) -> None:
    httpx.post(f"{here.url}{PATH}wp-login.php", json={"log": "admin"}, trust_env=False)
    overview(here)  # by then it is in the ledger

    found = doctor(beside, "links")

    assert found["health"] == "pass"
    assert "harmless" in found["found"]


def test_the_log_says_what_to_do_and_nothing_keeps_the_link(edgegap: str, tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path, edgegap, config=CONFIG).start()
    tokens = [token for token, _, _ in DAMAGED.values() if token.isascii() and len(token) > 30]
    try:
        for token in tokens:
            sent(receiver, token)
        until(lambda: len(overview(receiver)["refused_links"]) >= 5)
    finally:
        receiver.stop()

    lines = [line for line in logged(receiver.log) if line["event"] == "link_refused"]
    assert {line["reason"] for line in lines} >= {"revoked", "signature", "truncated"}
    assert all("receiver link" in line["todo"] for line in lines)
    written = receiver.everything_written()
    for token in tokens:
        assert token not in written


def test_what_is_counted_when_it_stops_is_kept(edgegap: str, tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path, edgegap, config=CONFIG).start()
    for _ in range(3):
        sent(receiver, "x")
    receiver.stop()
    receiver.start()
    try:
        (one,) = overview(receiver)["refused_links"]
    finally:
        receiver.stop()

    assert one["requests"] == 3


def test_a_pushs_own_work_is_not_kept_waiting(here: ReceiverHere) -> None:
    """What is counted is written beside; a ledger that is away only delays it."""
    (here.folder / "receiver.db").rename(here.folder / "elsewhere")
    assert sent(here, "x").status_code == 404
    (here.folder / "elsewhere").rename(here.folder / "receiver.db")

    (one,) = until(lambda: overview(here).get("refused_links"))
    assert one["requests"] == 1
