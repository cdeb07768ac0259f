"""The API reference: complete, for anyone, small, and readable in a real browser."""

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.web.messages import ProblemCode
from receiver.web.page.reference import reference_of
from receiver.web.page.rendering import HEADERS
from tests.support.browser import (
    FOR_AXE,
    SCHEMES,
    WIDTHS,
    needs_chromium,
    sign_in,
    sticks_out,
    violations,
)
from tests.support.deploy import tool
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, RULE
from tests.support.visitor import PAGE, PASSWORD, Reading, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 1')
MAX_BYTES, MAX_REQUESTS = 60_000, 5


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("reference")
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=CONFIG, environment=PAGE) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def document(receiver: ReceiverHere) -> Any:
    return httpx.get(f"{receiver.url}/api/openapi.json", trust_env=False).json()


@pytest.fixture(scope="module")
def shown(receiver: ReceiverHere) -> Reading:
    with Visitor(receiver) as stranger:
        return stranger.read("/api/")


def operations_of(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, one)
        for path, item in document["paths"].items()
        for method, one in item.items()
    ]


def test_it_has_every_operation_with_its_parameters_and_responses(
    shown: Reading, document: Any
) -> None:
    for method, path, one in operations_of(document):
        part = Reading(shown.html.partition(f'<article class="card" id="{one["operationId"]}"')[2])
        text = Reading(part.html.partition("</article>")[0]).text
        assert f"{one['summary']} {method} {path}" in text
        for parameter in one.get("parameters", ()):
            assert f" {parameter['name']} " in text, (path, parameter["name"])
            assert parameter["description"].replace("`", "") in text
        for status, response in one["responses"].items():
            assert f"{status} {response['description'].replace('`', '')}" in text, (path, status)


def test_it_has_every_schema_with_its_fields_and_every_error_code(
    shown: Reading, document: Any
) -> None:
    for name, schema in document["components"]["schemas"].items():
        part = shown.html.partition(f'<article class="card" id="schema-{name}"')[2]
        part = part.partition("</article>")[0]
        for one in (*schema.get("properties", ()), *filter(None, schema.get("enum", ()))):
            assert f"<code>{one}</code>" in part, (name, one)
    for code in ProblemCode:
        assert f"{code} {code.status} {code.meaning.replace('`', '')}" in shown.text


def test_the_document_has_the_meaning_of_every_error_code(document: Any) -> None:
    schema = document["components"]["schemas"]["ProblemCode"]

    assert schema["x-enumDescriptions"] == {code.value: code.meaning for code in ProblemCode}


def test_each_link_leads_to_a_part_of_the_page_and_each_id_is_unique(shown: Reading) -> None:
    ids = [found["id"] for _, found in shown.elements if "id" in found]

    assert len(ids) == len(set(ids))
    inside = {link.removeprefix("#") for link in shown.links() if link.startswith("#")}
    assert inside <= set(ids)
    assert {link for link in shown.links() if not link.startswith("#")} == {
        *("/", "/api/", "/api/openapi.json")
    }


def test_each_body_has_an_example_that_is_valid(document: Any) -> None:
    bodies = [
        one["requestBody"]["content"]["application/json"]
        for _, _, one in operations_of(document)
        if "requestBody" in one
    ]
    assert len(bodies) > 10
    for body in bodies:
        schema = {**body["schema"], "components": document["components"]}
        assert list(Draft202012Validator(schema).iter_errors(body["example"])) == []
        assert body["example"] != {}


def test_each_example_for_the_shell_is_answered_as_documented(
    receiver: ReceiverHere, document: Any
) -> None:
    curl = tool("curl", "apt-get install curl")
    delivery = receiver.push("1.4.2")
    receiver.ended(delivery)
    view = reference_of(document)
    quiet = f"{curl} -s -o out -w '%{{http_code}}'"
    done = {}
    for call in (call for calls in view.groups.values() for call in calls):
        ran = subprocess.run(
            [
                "/bin/sh",
                "-c",
                call.curl.replace("curl", quiet, 1),
            ],
            cwd=receiver.folder,
            env={
                "RECEIVER_URL": receiver.url,
                "RECEIVER_API_TOKEN": receiver.api_token(),
                "ID": delivery,
                "TOKEN": receiver.link().rpartition("/")[2],
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert int(ran.stdout) in [answer.status for answer in call.answers], call.id
        done[call.id] = int(ran.stdout)

    assert [name for name, status in done.items() if status == 400] == []
    assert (done["listDeliveries"], done["getVersions"], done["pushImage"]) == (200, 200, 202)
    assert (done["pauseRepository"], done["replayDeliveries"]) == (200, 202)
    assert APP in view.groups["Versions"][0].curl


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_it_is_for_anyone_and_leads_programs_to_the_document(
    receiver: ReceiverHere, path: str
) -> None:
    with Visitor(receiver) as stranger:
        page = stranger.get(path, headers={"Accept": "text/html,application/json;q=0.9"})
        plain = stranger.get(path, headers={"Accept-Encoding": "identity"})
        program = stranger.get(path, headers={"Accept": "application/json"})

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-encoding"] == "gzip"
    assert (page.content, "content-encoding" in plain.headers) == (plain.content, False)
    assert {name: page.headers[name] for name in HEADERS} == HEADERS
    assert (program.status_code, program.headers["location"]) == (307, "/api/openapi.json")


def test_it_is_served_while_the_page_is_off(edgegap: str, tmp_path_factory: Any) -> None:
    with receiver_here(tmp_path_factory.mktemp("off"), edgegap) as one, Visitor(one) as stranger:
        assert "List deliveries, newest first" in stranger.read("/api/").text
        missing = stranger.get("/api/no-such-path", headers={"Accept": "text/html"})
        assert missing.json()["detail"] == "there is no such path; /api/ lists all"


def test_every_page_links_to_it(receiver: ReceiverHere) -> None:
    with visitor(receiver) as person:
        for path in ("/", "/deliveries", "/channels", "/versions", "/rules"):
            assert "/api/" in person.read(path).links()


@needs_chromium
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_by_everyone(
    browser: Browser, receiver: ReceiverHere, scheme: Literal["light", "dark"], width: str
) -> None:
    context = browser.new_context(
        base_url=receiver.url, viewport=WIDTHS[width], color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto("/api/#listDeliveries")

    expect(page.get_by_role("heading", name="List deliveries, newest first")).to_be_in_viewport()
    page.get_by_text("Fields of listDeliveries").click()
    assert sticks_out(page) == 0
    if (scheme, width) in FOR_AXE:
        found = violations(page)
        assert found == [], json.dumps(found, indent=1)
    context.close()


@needs_chromium
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_it_is_small_and_asks_nobody_else(
    browser: Browser, receiver: ReceiverHere, scripts: bool
) -> None:
    context = browser.new_context(base_url=receiver.url, java_script_enabled=scripts)
    page = context.new_page()
    wrong, sizes = watched(page)
    page.goto("/api/", wait_until="networkidle")
    page.get_by_role("navigation", name="Contents").get_by_role(
        "link", name="Try a version"
    ).click()

    expect(page.get_by_role("heading", name="Try a version")).to_be_in_viewport()
    expect(page.locator("#tryVersion")).to_contain_text("$RECEIVER_URL/api/trials")
    assert len(sizes) <= MAX_REQUESTS
    assert sum(sizes.values()) <= MAX_BYTES
    assert all(url.startswith(receiver.url) for url in sizes)
    assert wrong == []
    context.close()


@needs_chromium
def test_an_example_is_copied_and_the_footer_leads_here(
    browser: Browser, receiver: ReceiverHere
) -> None:
    context = browser.new_context(base_url=receiver.url)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    sign_in(page, PASSWORD)
    page.get_by_role("contentinfo").get_by_role("link", name="API reference").click()
    page.get_by_role("button", name="Copy the example of pushImage").click()

    expect(page.locator("#said")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.match(r"curl -X POST .*/api/deliveries\"$", copied, re.DOTALL)
    context.close()


def watched(page: Page) -> tuple[list[str], dict[str, int]]:
    """Return what fills with all that goes wrong, and with the size of each response as sent."""
    wrong: list[str] = []
    sizes: dict[str, int] = {}
    page.on("console", lambda said: wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "response",
        lambda answer: sizes.update({answer.url: int(answer.headers["content-length"])}),
    )
    return wrong, sizes


def test_the_compressed_page_is_the_page(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as stranger, stranger.stream("GET", "/api/") as answer:
        raw = b"".join(answer.iter_raw())
        assert len(raw) == int(answer.headers["content-length"])

    assert gzip.decompress(raw).startswith(b"<!doctype html>")
