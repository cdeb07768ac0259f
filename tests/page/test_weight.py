"""What the pages weigh on the wire: 5 requests and 60 kB at most, however much they show."""

import gzip
from collections.abc import Iterator

import pytest

from receiver.ledger.transaction import Tx
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.web.page.rendering import packed
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE
from tests.support.visitor import PAGE, Reading, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 50')
MAX_BYTES, MAX_REQUESTS = 60_000, 5
SENTENCE = (
    "Edgegap has a version with this name and another image. Push under a new tag, or delete that "
    "version in Edgegap and replay."
)
PARKED = """UPDATE registrations SET state = 'parked', outcome = NULL, reason = 'name_taken',
  sentence = :sentence WHERE mode = 'create' AND version <> '1.0.0'"""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    """One with 60 versions and a channel, and 59 parked registrations."""
    folder = tmp_path_factory.mktemp("weight")
    sandbox = EdgegapSandbox()
    with (
        serving(sandbox.app) as url,
        receiver_here(folder, url, config=CONFIG, environment=PAGE) as one,
    ):
        pushes = [one.push(f"1.0.{number}") for number in range(60)]
        for delivery in pushes:
            one.ended(delivery)
        one.inside(lambda: one.service.ledger.write(_park))
        yield one


def _park(tx: Tx) -> int:
    return tx.run(PARKED, sentence=SENTENCE).rowcount


@pytest.fixture
def person(receiver: ReceiverHere) -> Iterator[Visitor]:
    with visitor(receiver) as one:
        yield one


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    """One with a rule and a channel for each of 100 repositories, without any version."""
    folder = tmp_path_factory.mktemp("hundred")
    config = NO_CATCH_UP + "".join(
        CONFIG.replace(REPOSITORY, f"studio/game-server-{n:03}").replace(APP, f"my-game-{n:03}")
        for n in range(100)
    )
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=config, environment=PAGE) as one,
    ):
        yield one


def on_the_wire(person: Visitor, path: str) -> tuple[int, str]:
    """Return the size of a response as sent, and its text."""
    with person.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.status_code == 200
        raw = b"".join(answer.iter_raw())
        assert len(raw) == int(answer.headers["content-length"])
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-encoding"] == "gzip"
    return len(raw), gzip.decompress(raw).decode()


def weighed(person: Visitor, path: str) -> Reading:
    """Return a page, after its weight was checked with that of all that it loads."""
    size, html = on_the_wire(person, path)
    shown = Reading(html)
    assets = [one["href"] or "" for tag, one in shown.elements if tag == "link"]
    assets += [one["src"] or "" for tag, one in shown.elements if tag in {"script", "img"}]
    assert len(assets) + 1 <= MAX_REQUESTS
    assert size + sum(on_the_wire(person, asset)[0] for asset in assets) < MAX_BYTES
    return shown


@pytest.mark.parametrize("name", ["/", "/deliveries", "/channels", "/versions", "story"])
def test_a_first_visit_is_five_requests_and_sixty_kilobytes_at_most(
    person: Visitor, name: str
) -> None:
    """The overview with 30 parked was 82 kB, a full list 69 kB."""
    list_of_all = Reading(on_the_wire(person, "/deliveries")[1]).links()
    story = next(link for link in list_of_all if link.startswith("/deliveries/"))

    shown = weighed(person, story if name == "story" else name)

    if name == "/deliveries":
        assert sum("data-row" in found for _, found in shown.elements) == 50


@pytest.mark.parametrize("path", ["/", "/rules", "/rules?tag=1.0.0", "/channels", "/versions"])
def test_pages_of_a_hundred_repositories_are_as_light(hundred: ReceiverHere, path: str) -> None:
    """The rules of 26 repositories were 65 kB: a page with a signed link is not compressed."""
    with visitor(hundred) as person:
        weighed(person, path)


def test_the_overview_shows_five_parked_for_a_reason_and_links_to_all(person: Visitor) -> None:
    shown = person.read("/")

    assert "Parked 59" in shown.text
    assert shown.html.count('action="/do/dismiss"') == 5
    assert "/deliveries?state=parked&reason=name_taken" in shown.links()


def test_a_page_that_did_not_change_is_not_sent_compressed_or_not(person: Visitor) -> None:
    for coding in ("gzip", "identity"):
        headers = {"Accept-Encoding": coding}
        first = person.get("/deliveries?live=1", headers=headers)
        assert first.headers.get("content-encoding", "identity") == coding
        for tag in (first.headers["etag"], f"W/{first.headers['etag']}"):
            again = person.get("/deliveries?live=1", headers={**headers, "If-None-Match": tag})
            assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("accepted", ["identity", "", "br", "gzip;q=0", "deflate, gzip; q=0"])
def test_a_browser_that_accepts_no_gzip_gets_none(person: Visitor, accepted: str) -> None:
    answer = person.get("/deliveries", headers={"Accept-Encoding": accepted})

    assert "content-encoding" not in answer.headers
    assert APP in answer.text


def test_a_page_with_a_signed_link_is_not_compressed(person: Visitor) -> None:
    answer = person.get(f"/rules/link?repository={REPOSITORY}", headers={"Accept-Encoding": "gzip"})

    assert "/hooks/dockerhub/" in answer.text
    assert "content-encoding" not in answer.headers
    assert packed(b"/approve/" + b"x" * 5000) is None
    assert packed(b"x" * 5000) is not None
