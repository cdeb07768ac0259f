"""Edgegap's answers read from bytes, whatever they are; and times, in every form met."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.answers import (
    Answer,
    read_answer,
    read_retry_after,
    version_path,
    versions_path,
)
from receiver.times import read_iso

NOW = 1_790_000_000_000
HOUR = 3_600_000


def answer(status: int, content: bytes = b"{}", method: str = "GET", headers: Any = None) -> Answer:
    return read_answer(
        method=method,
        path="/v1/app/my-game/version/1.0",
        status=status,
        headers=httpx.Headers(headers or {}),
        content=content,
        milliseconds=12,
        now=NOW,
    )


def test_a_json_object_is_kept_and_never_printed() -> None:
    read = answer(200, b'{"name": "1.0", "private_token": "canary-token"}')

    assert read.ok
    assert read.body == {"name": "1.0", "private_token": "canary-token"}
    assert "canary" not in repr(read)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe\xfd", b"[" * 100_000],
)
def test_a_success_that_is_no_json_object_is_broken(content: bytes) -> None:
    read = answer(200, content)

    assert not read.ok
    assert read.broken
    assert read.body is None
    assert read.message == "the answer is not JSON"


@pytest.mark.parametrize("status", [200, 204])
def test_a_deletion_needs_no_body(status: int) -> None:
    assert answer(status, b"", method="DELETE").ok


@pytest.mark.parametrize("status", [100, 202, 301, 400, 404, 500])
def test_no_other_status_is_a_success(status: int) -> None:
    assert not answer(status, b'{"name": "1.0"}').ok
    assert not answer(status, b'{"name": "1.0"}').broken


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"message": "App not found"}', "App not found"),
        (b'{"message": "a\\n\\tb\\u001b[31m\\u2028c"}', "a b [31m c"),
        (b"Bad Gateway\r\nSet-Cookie: x", "Bad Gateway Set-Cookie: x"),
        (b"<html>\n<h1>502</h1>", "<html> <h1>502</h1>"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
        (b"", "HTTP 502"),
        (b'{"message": ""}', "HTTP 502"),
        (b'{"message": 7}', "HTTP 502"),
        (b'{"message": null}', "HTTP 502"),
        (b'{"error": "x"}', "HTTP 502"),
        (b'{"message": "' + b"x" * 9000 + b'"}', "x" * 300),
    ],
)
def test_an_errors_message_is_one_printable_line(content: bytes, message: str) -> None:
    assert answer(502, content).message == message


@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=20))
def test_any_bytes_are_an_answer(status: int, content: bytes, retry_after: str) -> None:
    read = answer(status, content, headers={"Retry-After": retry_after.encode("utf-8")})

    assert read.message.isprintable()
    assert len(read.message) <= 300
    assert not (read.ok and read.broken)


# Retry-After: seconds or a date (RFC 9110, section 10.2.3)


@given(st.integers(0, 86_400))
def test_seconds_to_wait_are_never_fewer_than_said(seconds: int) -> None:
    assert read_retry_after(f" {seconds} ", NOW) == seconds * 1000


@given(st.integers(0, 86_000))
def test_a_date_to_wait_for_is_never_sooner_than_said(seconds: int) -> None:
    moment = datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(seconds=seconds)

    assert read_retry_after(format_datetime(moment, usegmt=True), NOW) == seconds * 1000


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("Thu, 24 Sep 2026 00:00:00 GMT", 0),  # gone by
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30_000),
        ("Monday, 21-Sep-26 14:13:50 GMT", 30_000),  # the two old forms of HTTP dates
        ("Mon Sep 21 14:13:50 2026", 30_000),
        ("Mon, 21 Sep 2026 14:13:50 -0000", 30_000),
        ("Mon, 21 Sep 2026 16:13:50 +0200", 30_000),
    ],
)
def test_each_form_of_a_date_is_read(written: str, milliseconds: int) -> None:
    now = 1_790_000_000_000  # Mon, 21 Sep 2026 14:13:20 GMT
    if milliseconds == 0:
        now += 90 * 24 * HOUR

    assert read_retry_after(written, now) == milliseconds


@pytest.mark.parametrize("written", ["999999999", "9" * 500, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_past_all_patience_is_held_to_a_day(written: str) -> None:
    assert read_retry_after(written, NOW) == 24 * HOUR


@pytest.mark.parametrize(
    "written",
    [None, "", "soon", "-5", "1.5", "5 s", "٣", "²", "0x10", "Mon, 99 Foo 2026", "1, 2", "\x00"],
)
def test_what_says_no_time_is_none(written: str | None) -> None:
    assert read_retry_after(written, NOW) is None


@given(st.text())
def test_any_header_is_a_wait_within_a_day_or_none(written: str) -> None:
    milliseconds = read_retry_after(written, NOW)

    assert milliseconds is None or 0 <= milliseconds <= 24 * HOUR


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
