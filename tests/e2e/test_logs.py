"""The log: one line per thing that happened, and none that an outsider made up."""

import asyncio
import io
import json
import logging
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from receiver.logs import configure_logs, get_logger, log_operation
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from tests.conftest import StartReceiver, logs_as_before
from tests.support.receiver_process import (
    REPOSITORY,
    RULE,
    TIMEOUT_SECONDS,
    ReceiverProcess,
    until,
    webhook_body,
)

EVIL = 'x\n{"event": "forged"}\r\n\x1b[2J\x1b[31mred\x00\x85\u2028\u202eevil\u200b\u2066'
UNSEEN = ("\x1b", "\x00", "\r", "\x85", "\u2028", "\u202e", "\u200b", "\u2066")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged by this process goes here for the while of a test."""
    out = io.StringIO()
    with logs_as_before():
        configure_logs(stream=out)
        yield out


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _fail(text: str) -> None:
    raise ValueError(text)


def _events(receiver: ReceiverProcess) -> list[str]:
    return [json.loads(line)["event"] for line in receiver.log.read_text("utf-8").splitlines()]


def test_each_event_is_logged_as_one_json_line_with_its_name(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start(config=f'{RULE}\n[catch_up]\nevery = "off"\n')
    receiver.ended(receiver.push("1.0.0"))
    receiver.post(webhook_body(None))
    receiver.post(b"no json")
    receiver.post(webhook_body("1.0", "studio/other"))
    sandbox.misbehave(Fault("status", method="POST", status=400, message="No such thing"))
    receiver.ended(receiver.push("1.1.0"))
    receiver.stop()

    assert _events(receiver) == [
        "page_off",
        "listening",
        "delivery_accepted",
        "registration_done",
        "delivery_ignored",
        "delivery_refused",
        "delivery_refused",  # recorded, by the link it came by
        "link_refused",
        "delivery_accepted",
        "registration_parked",
        "stopped",
    ]


def test_each_line_says_when_how_grave_and_about_what(receiver: ReceiverProcess) -> None:
    identity = receiver.push("1.0.0")
    receiver.ended(identity)

    lines = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    accepted = next(line for line in lines if line["event"] == "delivery_accepted")
    assert accepted["delivery"] == identity
    assert (accepted["repository"], accepted["tag"]) == (REPOSITORY, "1.0.0")
    assert accepted["level"] == "info"
    assert accepted["timestamp"].endswith("Z")


def test_what_a_person_should_know_of_a_version_is_a_warning(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    receiver.ended(receiver.push("1.0.0"))
    sandbox.quirks.stores = {"force_cache": False}
    receiver.config.write_text(f"{RULE}force_cache = true\n", "utf-8")
    receiver.stop()
    receiver.start()
    receiver.ended(receiver.push("1.1.0"))

    lines = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    plain, warned = (line for line in lines if line["event"] == "registration_done")
    assert (plain["level"], plain["notes"]) == ("info", [])
    assert warned["level"] == "warning"
    assert warned["notes"] == ["asked for force_cache True, Edgegap holds False"]


def test_text_from_outside_forges_no_line(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message=EVIL))
    receiver.ended(receiver.push("1.0.0", pusher=EVIL))
    receiver.post(webhook_body(EVIL))
    receiver.post(webhook_body("1.0", f"studio/{EVIL}"))
    receiver.post(webhook_body("1.0", media_type=EVIL))

    text = receiver.log.read_text("utf-8")
    assert "forged" not in _events(receiver)
    for letter in UNSEEN:
        assert letter not in text, repr(letter)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.characters(), max_size=30))
@example("\ud800")
def test_any_text_is_one_json_line(stream: io.StringIO, text: str) -> None:
    stream.seek(0)
    stream.truncate()

    get_logger().warning("client_disconnected", tag=text, items=[text], inner={text: text})
    logging.getLogger("uvicorn.error").error("%s", text)

    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert [len(line.splitlines()) for line in lines] == [1, 1, 0]
    assert json.loads(lines[0])["event"] == "client_disconnected"
    assert json.loads(lines[1])["event"] == "library_message"
    assert not any(letter in stream.getvalue() for letter in UNSEEN)


@pytest.mark.parametrize("secret", ["plain-canary", 'can"ary', "can\\ary", "canärÿ", "can\tary"])
def test_a_secret_is_masked_however_json_writes_it(stream: io.StringIO, secret: str) -> None:
    configure_logs(stream=stream, secrets=[Secret(secret)])

    get_logger().info("delivery_accepted", tag=f"a {secret} b", items=[secret], inner={secret: 1})

    answer = json.loads(stream.getvalue())
    assert (answer["tag"], answer["items"], answer["inner"]) == ("a *** b", ["***"], {"***": 1})


def test_a_library_that_logs_the_interrupt_which_ends_it_writes_no_traceback(
    stream: io.StringIO,
) -> None:
    for error in (KeyboardInterrupt(), ValueError("another")):
        logging.getLogger("sqlalchemy.pool").error("closing failed", exc_info=error)

    (line,) = stream.getvalue().splitlines()
    assert "another" in line


def test_a_line_of_uvicorn_has_a_fixed_event_and_its_text_in_a_field(stream: io.StringIO) -> None:
    log = logging.getLogger("uvicorn.error")
    log.error("Exception in ASGI application\n", exc_info=ValueError("of a request"))
    log.error("Cancel %s running task(s), timeout graceful shutdown exceeded", 7)
    log.error(OSError(98, "Address already in use"))
    log.info("Shutting down")

    fault, cut_off, other = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (fault["event"], fault["level"]) == ("request_fault", "error")
    assert "of a request" in fault["exception"]
    assert cut_off["event"] == "requests_cut_off"
    assert cut_off["message"].startswith("Cancel 7 running")
    assert (other["event"], other["library"]) == ("library_message", "uvicorn.error")
    assert "Address already in use" in other["message"]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_of_all_but_what_a_person_did(
    stream: io.StringIO, level: str, written: list[str]
) -> None:
    configure_logs(stream=stream, level=level.upper())

    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger(), name)("client_disconnected")
        getattr(logging.getLogger("uvicorn.error"), name)("of uvicorn")
        getattr(logging.getLogger("apprise"), name)("of another")
    log_operation("paused", source="page", repository="*")

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    ours = [line["level"] for line in lines if line["event"] == "client_disconnected"]
    theirs = [line["level"] for line in lines if line.get("library") == "uvicorn.error"]
    others = [line["level"] for line in lines if line.get("library") == "apprise"]
    assert ours == written
    assert theirs == [name for name in written if name in {"warning", "error"}]
    assert others == [name for name in written if name != "debug"]  # it may hold secrets
    assert lines[-1]["event"] == "paused"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("form", ["json", "text"])
def test_the_form_can_be_set_and_only_a_terminal_gets_colors(form: str, *, terminal: bool) -> None:
    out = _Terminal() if terminal else io.StringIO()
    with logs_as_before():
        configure_logs(stream=out, form=form)
        get_logger().warning("link_refused", why=EVIL)

    assert out.getvalue().startswith("{") == (form == "json")
    assert ("\x1b" in out.getvalue()) == (terminal and form == "text")
    assert out.getvalue().count("\n") == 1


def test_serve_logs_in_the_form_and_from_the_level_of_its_variables(
    receiver: ReceiverProcess,
) -> None:
    receiver.stop()
    port = receiver.url.rpartition(":")[2]
    variables = {"PORT": port, "RECEIVER_LOG_LEVEL": "Warning", "RECEIVER_LOG_FORMAT": "text"}
    with receiver.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "serve"],
            cwd=receiver.folder,
            env={**receiver.environment, **variables},
            stderr=log,
        )
    until(lambda: _answers(f"{receiver.url}/livez"))
    receiver.post(b"no json")
    receiver.post(webhook_body(None))
    process.terminate()
    assert process.wait(TIMEOUT_SECONDS) == 0

    text = receiver.log.read_text("utf-8")
    assert "delivery_refused" in text
    assert "delivery_ignored" not in text
    assert "listening" not in text
    assert "{" not in text


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_the_lines_of_a_turn_are_written_in_order_and_none_waits_for_the_next(
    stream: io.StringIO,
) -> None:
    async def two_turns() -> list[int]:
        written = []
        for turn in range(2):
            for number in range(3):
                get_logger().info("client_disconnected", turn=turn, number=number)
            await asyncio.sleep(0)
            written.append(len(stream.getvalue().splitlines()))
        get_logger().info("stopped")  # the loop ends in this turn
        return written

    assert asyncio.run(two_turns()) == [3, 6]
    get_logger().info("after")

    answer = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in answer] == ["client_disconnected"] * 6 + ["stopped", "after"]
    assert [line["number"] for line in answer[:6]] == [0, 1, 2, 0, 1, 2]


def test_what_a_command_sets_up_for_its_logs_ends_with_its_test() -> None:
    with logs_as_before():
        configure_logs(level="CRITICAL")

    with capture_logs() as answer:
        get_logger().warning("client_disconnected")
    assert [line["event"] for line in answer] == ["client_disconnected"]


class _Full(io.StringIO):
    """As a file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_failure_to_write_the_log_is_not_logged(stream: io.StringIO) -> None:
    """Each failure made a line, whose failure made the next: a core was busy with it."""
    configure_logs(stream=_Full())
    faults: list[dict[str, object]] = []

    async def some_turns() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, answer: faults.append(answer))
        for _ in range(5):
            get_logger().info("client_disconnected")
            await asyncio.sleep(0)

    asyncio.run(some_turns())

    assert faults == []


@pytest.mark.parametrize("terminal", [False, True])
def test_a_traceback_keeps_to_its_event_and_masks_secrets(terminal: bool) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    out = _Terminal() if terminal else io.StringIO()
    configure_logs(stream=out, secrets=[Secret("canary-in-traceback")])
    try:
        _fail(f"canary-in-traceback \x1b[2J /hooks/dockerhub/abc.def {EVIL}")
    except ValueError:
        get_logger().exception("worker_fault")
    finally:
        root.handlers, root.level = handlers, level

    answer = out.getvalue()
    assert "worker_fault" in answer
    assert "ValueError" in answer
    assert "canary-in-traceback" not in answer
    assert "abc.def" not in answer
    assert "\x1b[2J" not in answer
    assert "\u202e" not in answer
    assert not any(line.startswith('{"event": "forged"') for line in answer.splitlines())
    if not terminal:
        assert json.loads(answer)["event"] == "worker_fault"


def test_on_a_terminal_it_is_for_people_and_still_harmless() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    out = _Terminal()
    configure_logs(stream=out)
    get_logger().warning("link_refused", why=EVIL)
    root.handlers, root.level = handlers, level

    answer = out.getvalue()
    assert not answer.startswith("{")
    assert "link_refused" in answer
    assert answer.count("\n") == 1
    assert "\x1b[2J" not in answer
    assert "\u202e" not in answer


def test_serve_writes_for_people_when_its_output_is_a_terminal(receiver: ReceiverProcess) -> None:
    receiver.stop()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver", "serve"],
        cwd=receiver.folder,
        env=receiver.environment,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    answer = b""
    end = time.monotonic() + TIMEOUT_SECONDS
    while b"listening" not in answer and time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            answer += os.read(ours, 65536)
    process.terminate()
    code = process.wait(TIMEOUT_SECONDS)
    os.close(ours)

    assert b"listening" in answer
    assert b'"event"' not in answer
    assert code == 0
