"""Edgegap's answers read from bytes, whatever they are; and times in its rows."""

import html
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.responses import (
    MAX_MESSAGE,
    OK,
    Answer,
    Effect,
    Shape,
    any_object,
    app_named,
    list_of,
    read_answer,
    version_named,
    version_path,
    versions_path,
)
from receiver.secret import Secret
from receiver.timestamps import read_iso

NOW = 1_790_000_000_000


def answer(
    status: int,
    content: bytes = b"{}",
    method: str = "GET",
    *,
    headers: Any = None,
    secrets: Sequence[Secret] = (),
    unreadable: str = "",
    shape: Shape = any_object,
) -> Answer:
    return read_answer(
        method=method,
        path="/v1/app/my-game/version/1.0",
        status=status,
        headers=httpx.Headers(headers or {}),
        content=content,
        now=NOW,
        secrets=secrets,
        unreadable=unreadable,
        shape=shape,
    )


def test_a_json_object_is_kept_and_never_printed() -> None:
    read = answer(200, b'{"name": "1.0", "private_token": "canary-token"}')

    assert read.ok
    assert read.body == {"name": "1.0", "private_token": "canary-token"}
    assert "canary" not in repr(read)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"null", b"7", b"{", b"\xff\xfe\xfd", b"[" * 100_000],
)
@pytest.mark.parametrize("status", [200, 201, 202, 401, 403, 404, 409, 424])
def test_what_is_not_edgegaps_json_is_foreign_whatever_its_status(
    status: int, content: bytes
) -> None:
    read = answer(status, content)

    assert not read.ok
    assert not read.accepted
    assert not read.says(status)
    assert read.body is None
    assert read.foreign


@pytest.mark.parametrize("content", [b"[]", b'"x"', b'[{"name": "1.0"}]'])
def test_a_list_or_text_may_be_an_error_of_edgegaps_but_no_success(content: bytes) -> None:
    assert answer(400, content).says(400)
    assert answer(200, content).foreign


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_error_that_may_have_no_body_is_edgegaps_without_one(status: int) -> None:
    assert answer(status, b"").says(status)
    assert not answer(status, b"<html>").says(status)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 407, 511])
def test_redirects_and_a_proxys_refusals_are_foreign_whatever_they_hold(status: int) -> None:
    read = answer(status, b'{"name": "1.0"}')

    assert read.foreign
    assert not read.ok


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("https://portal.example/login?back=canary", "a redirect to portal.example"),
        ("https://user:canary@portal.example:8443/", "a redirect to portal.example"),
        ("//portal.example/x", "a redirect to portal.example"),
        ("/login?canary", "a redirect"),
        ("http://[", "a redirect"),
        ("", "a redirect"),
    ],
)
def test_a_redirect_names_its_host_and_no_more(location: str, message: str) -> None:
    assert answer(302, b"", headers={"Location": location}).message == message


@pytest.mark.parametrize("status", [200, 204])
def test_a_deletion_needs_no_body(status: int) -> None:
    assert answer(status, b"", method="DELETE").ok
    assert answer(status, b"<html>", method="DELETE").foreign


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_success_false_is_no_success(method: str) -> None:
    read = answer(200, b'{"success": false, "message": "It is in use"}', method=method)

    assert read.declined
    assert not read.ok
    assert not read.foreign
    assert read.message == "It is in use"


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"success": "false", "message": "In use"}',
        b'{"success": 0, "message": "In use"}',
        b'{"success": null, "message": "In use"}',
        b'{"message": "In use"}',
        b'{"error": "In use"}',
    ],
)
def test_a_write_is_done_only_if_its_answer_says_so(method: str, content: bytes) -> None:
    read = answer(200, content, method=method)

    assert read.declined
    assert not read.ok
    assert read.message == "In use"


@pytest.mark.parametrize("written", ["true", '"true"', '"True"', "1", "1.0"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_success_may_be_spelled_in_other_ways(method: str, written: str) -> None:
    assert answer(200, f'{{"success": {written}}}'.encode(), method=method).ok


VERSION = {"name": "1.0", "docker_repository": "docker.io", "docker_image": "a/b"}
PAGE = {"total_count": 0, "pagination": {"number": 1, "has_next": False}}


def shaped(shape: Shape, body: Any) -> Answer:
    return answer(200, json.dumps(body).encode(), shape=shape)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": "please sign in"},
        {**VERSION, "docker_tag": None},
        VERSION,
        {**VERSION, "docker_tag": "1.0", "name": "2.0"},
        {"version": {**VERSION, "docker_tag": "1.0"}},
    ],
)
def test_an_object_that_is_not_the_version_asked_for_is_foreign(body: Any) -> None:
    read = shaped(version_named("1.0"), body)

    assert read.foreign
    assert not read.ok
    assert read.body is None
    assert not read.says(200)


def test_the_words_of_another_kind_of_answer_are_shown_and_nothing_else_of_it() -> None:
    body = {"message": "please sign in", "private_token": "canary"}

    read = shaped(version_named("1.0"), body)

    assert read.message == "the answer is not the version 1.0: please sign in"


def test_a_version_needs_its_name_and_image_only() -> None:
    assert shaped(version_named("1.0"), {**VERSION, "docker_tag": "1.0"}).ok
    assert shaped(version_named("A1"), {**VERSION, "docker_tag": "1.0", "name": "a1"}).ok


@pytest.mark.parametrize(
    ("body", "fits"), [({}, False), ({"name": "b"}, False), ({"name": "a"}, True)]
)
def test_an_app_needs_its_name(body: Any, *, fits: bool) -> None:
    assert shaped(app_named("a"), body).foreign is not fits


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({}, False),
        ({"message": "please sign in"}, False),
        ({**PAGE, "total_count": None}, False),
        ({**PAGE, "total_count": 3}, False),
        ({**PAGE, "total_count": "3", "versions": None}, False),
        ({**PAGE, "versions": "none"}, False),
        ({**PAGE, "total_count": 3, "versions": []}, False),
        ({"versions": [None, {}]}, False),
        (PAGE, True),
        ({**PAGE, "total_count": "0", "versions": None}, True),
        ({"versions": []}, True),
        ({"versions": [{"name": "1.0"}, {}]}, True),
    ],
)
def test_a_list_has_its_rows_unless_it_has_none(body: Any, *, fits: bool) -> None:
    assert shaped(list_of("versions", first=True), body).foreign is not fits


def test_a_page_after_the_last_may_be_empty() -> None:
    assert shaped(list_of("versions", first=False), {**PAGE, "total_count": 3, "versions": []}).ok


@pytest.mark.parametrize("content", [b"{}", b'{"error": "x"}', b'{"message": ""}', b"[]", b'"x"'])
def test_a_404_is_edgegaps_only_with_the_documented_message(content: bytes) -> None:
    assert answer(404, content).foreign
    assert answer(404, b'{"message": "Not found"}').says(404)


@pytest.mark.parametrize("status", [100, 202, 301, 400, 404, 500])
def test_no_other_status_is_a_success(status: int) -> None:
    assert not answer(status, b'{"name": "1.0"}').ok


@pytest.mark.parametrize(
    ("status", "beginning", "foreign"),
    [(200, b' {"applications": [', False), (200, b"<html>", True), (500, b'{"message"', True)],
)
def test_a_body_too_large_to_be_read_is_known_by_its_beginning(
    status: int, beginning: bytes, foreign: bool
) -> None:
    read = answer(status, beginning, unreadable="the response is over 20 MiB")

    assert not read.ok
    assert read.foreign is foreign
    assert read.accepted is not foreign
    assert read.message == "the response is over 20 MiB"


SENT = Secret('canary "quoted" & <b>bold</b> 4711')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"message": "App not found"}', "App not found"),
        (b'{"message": "a\\n\\tb\\u001b[31m\\u2028c"}', "a b [31m c"),
        (b'{"message": ["no image", "no tag"]}', "no image; no tag"),
        (b'{"message": {"req_cpu": ["too low", "odd"]}}', "req_cpu: too low; odd"),
        (
            b'{"errors": {"req_cpu": "too low"}, "message": "Not valid"}',
            "Not valid; req_cpu: too low",
        ),
        (b'{"errors": ["too low"], "message": "Not valid"}', "Not valid; too low"),
        (b'{"errors": [{"field": "name", "message": "taken"}]}', "field: name, message: taken"),
        (b'{"errors": {"private_token": "is too short"}}', "private_token: is too short"),
        (b'{"message": "Not valid", "details": {"x": {"y": 1}}}', "Not valid; x: y: 1"),
        (b'{"error": "too low"}', "too low"),
        (b'{"error": {"code": 3, "message": "bad"}, "message": null}', "code: 3, message: bad"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"reason": "too low", "code": 7, "ok": false}', "reason: too low, code: 7, ok: false"),
        (b'{"success": false, "version": {"private_token": "x"}}', "HTTP 502"),
        (b'{"echo": {"private_token": "unknown-token"}}', "echo: private_token: ***"),
        (b'{"envs": [{"key": "DB", "value": "unknown"}]}', "envs: key: DB, value: ***"),
        (b'["no image", {"tag": "no tag"}]', "no image; tag: no tag"),
        (b'"no image"', "no image"),
        (b"Bad Gateway\r\nSet-Cookie: x", "Bad Gateway Set-Cookie: x"),
        (b"<html>\n<h1>502</h1>", "502"),
        (b"<html><title> Log in &amp; go on </title><p>x", "Log in & go on"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
        (b"", "HTTP 502"),
        (b"{}", "HTTP 502"),
        (b'{"message": ""}', "HTTP 502"),
        (b'{"message": 7}', "7"),
        (b'{"message": null}', "HTTP 502"),
        (b'{"message": "' + b"x" * 9000 + b'"}', "x" * 499 + "…"),
    ],
)
def test_an_errors_message_is_one_printable_line_with_all_that_it_says(
    content: bytes, message: str
) -> None:
    assert answer(502, content).message == message


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"message": f"bad: {SENT.reveal()}"}).encode(),
        json.dumps({"message": json.dumps({"value": SENT.reveal()})}).encode(),
        json.dumps({"errors": {SENT.reveal(): ["x " * 245 + SENT.reveal()]}}).encode(),
        json.dumps([[[SENT.reveal()]]]).encode(),
        f"<title>{html.escape(SENT.reveal())}</title>".encode(),
        f"<p>{SENT.reveal()}</p>".encode(),
        (" " * 70_000 + "y " * 240 + SENT.reveal()).encode(),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 502])
def test_a_secret_that_comes_back_is_masked_however_it_is_written(
    status: int, content: bytes
) -> None:
    read = answer(status, content, secrets=[SENT])

    for part in ("canary", "quoted", "bold", "4711"):
        assert part not in read.message


PLANTED = "planted-secret-0815"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TEXTS = st.text(max_size=20) | st.text(max_size=600).map(lambda text: text + PLANTED)
NAMES = (
    st.sampled_from(["message", "errors", "error", "details", "success", "key", "value"]) | TEXTS
)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(
    st.integers(100, 599),
    ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60),
    st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    st.text(max_size=20),
    st.text(max_size=40),
)
def test_any_bytes_are_an_answer_without_the_secret_and_within_its_limit(
    status: int, content: bytes, method: str, retry_after: str, location: str
) -> None:
    headers = {"Retry-After": retry_after.encode(), "Location": location.encode()}

    read = answer(status, content, method, headers=headers, secrets=[Secret(PLANTED)])

    assert PLANTED not in read.message
    assert PLANTED[:10] not in read.message
    assert read.message.isprintable()
    assert len(read.message) <= MAX_MESSAGE
    assert not (read.ok and (read.foreign or read.declined or status not in OK))


@given(st.integers(1, 400))
def test_however_deep_json_is_nested_it_is_read(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"errors":', b"}")):
        read = answer(400, opening * depth + b'"x"' + closing * depth)
        assert len(read.message) <= MAX_MESSAGE


# Times in Edgegap's rows: no zone, a space, microseconds


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-04-22 12:00:46.444265", 1_776_859_246_444),
        ("2026-04-22T12:00:46.444Z", 1_776_859_246_444),
        ("2026-04-22T14:00:46.444+02:00", 1_776_859_246_444),
        ("2026-04-22", 1_776_816_000_000),
    ],
)
def test_a_time_without_zone_is_utc(written: str, milliseconds: int) -> None:
    assert read_iso(written) == milliseconds


@pytest.mark.parametrize("written", [None, 7, "", "yesterday", "2026-13-01", [], "22/04/2026"])
def test_a_time_in_another_form_is_none(written: object) -> None:
    assert read_iso(written) is None


@given(st.text(max_size=40) | st.datetimes().map(str) | st.none())
def test_any_text_is_a_time_or_none(written: object) -> None:
    assert isinstance(read_iso(written), int | None)


@pytest.mark.parametrize("name", ["a/b", "../x", "a?b", "a#b", "a%2fb", "ä b"])
def test_names_from_outside_cannot_leave_their_place_in_a_path(name: str) -> None:
    client = httpx.Client(base_url="https://edgegap.test/base")

    for path in (version_path("app", name), version_path(name), versions_path(name)):
        url = client.build_request("GET", path).url
        assert url.raw_path.startswith(b"/base/v1/app/")
        assert url.raw_path.count(b"/") == path.count("/") + 1
        assert not url.query
        assert not url.fragment


@pytest.mark.parametrize(
    ("status", "content", "effect"),
    [
        (200, b'{"success": true}', Effect.DONE),
        (201, b'{"success": true}', Effect.DONE),
        (200, b"{}", Effect.UNKNOWN),
        (200, b'{"success": false}', Effect.UNKNOWN),
        (200, b"<html>", Effect.UNKNOWN),
        (200, b"", Effect.UNKNOWN),
        (202, b'{"success": true}', Effect.UNKNOWN),
        (302, b"", Effect.UNKNOWN),
        (304, b"{}", Effect.UNKNOWN),
        (400, b'{"message": "no"}', Effect.NONE),
        (403, b'{"message": "no"}', Effect.NONE),
        (403, b"<html>", Effect.UNKNOWN),
        (404, b"", Effect.UNKNOWN),
        (407, b"{}", Effect.UNKNOWN),
        (408, b'{"message": "late"}', Effect.UNKNOWN),
        (409, b'{"message": "taken"}', Effect.NONE),
        (424, b'"cannot pull"', Effect.NONE),
        (429, b"", Effect.NONE),
        (500, b'{"message": "broken"}', Effect.UNKNOWN),
        (504, b"<html>", Effect.UNKNOWN),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_only_a_definite_answer_of_edgegaps_own_says_whether_a_write_took_effect(
    method: str, status: int, content: bytes, effect: Effect
) -> None:
    assert answer(status, content, method).effect is effect


def test_a_write_without_an_answer_or_with_one_too_large_may_have_taken_effect() -> None:
    assert Answer("PATCH", "/", None).effect is Effect.UNKNOWN
    assert answer(200, b'{"a', "PATCH", unreadable="too large").effect is Effect.UNKNOWN
