"""Text from outside is shown as text, wherever on the page it comes to stand."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.dockerhub.webhook import Push
from receiver.ledger.deliveries import NewDelivery, record
from receiver.rules.rule import rule_on
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE
from tests.support.visitor import PAGE, Reading, Visitor

HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>'\"{{ 7*7777 }}</bdi>"
TURNING = "exe.\u202egpj\u2066 \u200f"
EMOJI = "👩‍👩‍👧‍👦🚀"
LONG_TAG = "v" + "0123456789abcdef" * 7 + "0123456789abcde"
TURNS = "\u202e\u2066\u200f"


@pytest.fixture(scope="module")
def sandbox() -> EdgegapSandbox:
    return EdgegapSandbox()


@pytest.fixture(scope="module")
def receiver(
    sandbox: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        serving(sandbox.app) as url,
        receiver_here(folder, url, config=RULE, environment=PAGE) as one,
    ):
        yield one


def is_harmless(shown: Reading) -> bool:
    """Whether a page holds no element but its own, and nothing that turns its text about."""
    own = [one for tag, one in shown.elements if tag == "script"]
    return (
        len(own) == 1
        and all(str(one.get("src", "/static/")).startswith("/static/") for _, one in shown.elements)
        and not any(name.startswith("on") for _, one in shown.elements for name in one)
        and "54439" not in shown.text.split()
        and not set(TURNS) & set(shown.html)
    )


@pytest.mark.parametrize("text", [HTML, TURNING, EMOJI], ids=["html", "turning", "emoji"])
@pytest.mark.parametrize("field", ["tag", "pusher", "media_type", "digest", "source"])
def test_what_a_delivery_holds_is_text(
    receiver: ReceiverHere, person: Visitor, field: str, text: str
) -> None:
    facts: dict[str, Any] = {"tag": "1.0.0", field: text}
    facts["source"] = facts.get("source", "webhook")
    source = facts.pop("source")
    delivery = NewDelivery(source, REPOSITORY, **facts)
    ruling = rule_on(Push(REPOSITORY, "1.0.0"), receiver.service.settings.rules)
    done = receiver.inside(
        lambda: receiver.service.ledger.write(lambda tx: record(tx, delivery, ruling))
    )
    receiver.wake()
    receiver.ended(done.delivery)  # so that it meets no fault of a later test

    for path in ("/", "/deliveries", f"/deliveries/{done.delivery}", "/versions"):
        assert is_harmless(person.read(path)), path
    visible = "".join("\ufffd" if letter in TURNS else letter for letter in text)
    assert " ".join(visible.split()) in person.read(f"/deliveries/{done.delivery}").text


@pytest.mark.parametrize("text", [HTML, TURNING, EMOJI], ids=["html", "turning", "emoji"])
def test_what_edgegap_says_is_text(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox, text: str
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message=f"no: {text}"))
    sandbox.add_version(APP, text[:40], docker_image=text, docker_tag=text, create_time=text)
    tag = f"3.0.{len(text)}"
    identity = receiver.push(tag)
    receiver.ended(identity)

    for path in ("/", f"/deliveries/{identity}", "/versions"):
        assert is_harmless(person.read(path)), path
    assert "parked refused_by_edgegap" in person.read(f"/deliveries/{identity}").text


@pytest.mark.parametrize("text", [HTML, EMOJI], ids=["html", "emoji"])
@pytest.mark.parametrize("name", ["text", "tag", "repository"])
def test_what_is_filtered_for_is_text(person: Visitor, name: str, text: str) -> None:
    answer = person.get("/deliveries", params={name: text})

    assert answer.status_code in {200, 400}  # a joiner of emoji is not printable
    assert is_harmless(Reading(answer.text))


@pytest.mark.parametrize("header", ["cookie", "host", "x-forwarded-for", "referer"])
def test_headers_are_text(person: Visitor, header: str) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    value = "<script>alert(1)</script>"
    if header == "cookie":
        value = f"{cookies}; receiver-flash={value}"
    answer = httpx.get(
        f"{person.base_url}", headers={"Cookie": cookies, header: value}, trust_env=False
    )

    assert answer.status_code in {200, 400}
    assert "<script>alert" not in answer.text


def test_a_tag_of_128_characters_is_shown_whole(receiver: ReceiverHere, person: Visitor) -> None:
    assert len(LONG_TAG) == 128
    identity = receiver.push(LONG_TAG)
    receiver.ended(identity)

    assert LONG_TAG in person.read("/deliveries").text
    assert LONG_TAG in person.read(f"/deliveries/{identity}").text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["state", "verdict", "repository", "text", "before", "live"]),
        st.text(st.characters(codec="utf-8"), max_size=20),
    ),
    identity=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)
def test_whatever_a_page_is_asked_for_it_answers_in_peace(
    person: Visitor, query: dict[str, str], identity: str
) -> None:
    for path in ("/deliveries", f"/deliveries/{quote(identity, safe='')}"):
        answer = person.get(path, params=query)
        assert answer.status_code in {200, 303, 400, 404}
        assert "<script>" not in answer.text
