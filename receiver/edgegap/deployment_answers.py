"""Deployments as Edgegap's responses show them, read into values.

Few of the fields are required, numbers may be text, and the values of the status are documented
nowhere: what decides is `running` and `error`, and of the status only a few known words.

What a response means, for pull profiles too, is a table: the first row that matches decides. What
to do about it is decided by the caller.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Generic, TypeVar

import msgspec

from receiver.edgegap.fields import flag, number
from receiver.edgegap.listing import Listing
from receiver.edgegap.responses import Answer, Body, Row, Shape, count_of, message_pattern, one_line
from receiver.secret import Secret, mask, mask_spelt, spellings_of

T = TypeVar("T")
LOG_KEPT = 65_536  # characters of a log's end
MAX_ENCODED = 4  # times a secret's hex: what its beginning may take in other encodings
LAST_LINES = 40
MAX_TAGS = 100
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
# Words of a status before Ready, from the enumerations in Edgegap's own plugins.
_STARTING = re.compile(r"INITIALI|SEEK|SCAN|DEPLOYING|PENDING|QUEUE|PULLING|STARTING|NOT.?READY")
_COLOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MAX_NUMBER = 1e18
_MAX_EXIT_CODE = 10**18  # an exit code: the ledger keeps it


class Call(StrEnum):
    """The kind of call."""

    DEPLOY = "deploy"
    STATUS = "status"
    LOGS = "logs"
    METRICS = "metrics"
    STOP = "stop"
    LIST = "list"
    LINK = "link"


class Meaning(StrEnum):
    """What a response means.

    - `DONE`: it is what was requested. For a stop: it is accepted, and the status shows the end
    - `NO_CAPACITY`, `DEPLOYMENT_LIMIT`, `RATE_LIMITED`: not now; the same call will work later
    - `GONE`: Edgegap does not know the deployment, or it is stopped; for logs and metrics: there
      are none. A list by tag shows whether it is true: a wrong id is answered in the same way
    - `UNKNOWN_NAME`: there is no such endpoint storage, pull profile, app or version
    - `TOKEN_REFUSED`, `FORBIDDEN`: 401 and 403; a probe shows whether a 403 is about the token
    - `REFUSED`: the same call will not work later
    - `UNCERTAIN`: no response, a proxy's, a 5xx or `success: false`; a write may have taken effect
    """

    DONE = "done"
    NO_CAPACITY = "no_capacity"
    DEPLOYMENT_LIMIT = "deployment_limit"
    RATE_LIMITED = "rate_limited"
    GONE = "gone"
    UNKNOWN_NAME = "unknown_name"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a word
    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"


class Read(msgspec.Struct, Generic[T], frozen=True):
    """A response, what it means, and the value in it: always there if it is `DONE`."""

    meaning: Meaning
    answer: Answer
    value: T | None = None


_ANY = frozenset(Call)
_BY_ID = frozenset({Call.STATUS, Call.STOP})
_READINGS = frozenset({Call.LOGS, Call.METRICS})
_NAMING = frozenset({Call.DEPLOY, Call.LINK})
# Edgegap does not document the status of a plan's limit: it was seen as 400 for other limits.
_LIMITED = frozenset({400, 402, 403, 409, 422})
_LIMIT = (
    r"\bdeployments? limit\b|\blimit of (\d+ )?(\w+ )?deployments?\b"
    r"|\bdeployments?\b.{0,40}\b(limit of \d+|limit (is |was )?(reached|exceeded)|maximum)"
    r"|\b(maximum|max|too many|only \d+|limit on)\b.{0,40}\bdeployments?\b"
)
# 422 is also the answer to more resources than the plan has, which no waiting changes.
_TOO_LARGE = (
    r"\b(exceed\w*|over|above|more than|upgrade)\b.{0,80}\b(plan|tier|quota)\b"
    r"|\b(plan|tier|quota)\b.{0,80}\b(exceed\w*|over|above|more than|upgrade)\b"
)
_CAPACITY = (
    r"\bcapacity\b|\bno (\w+ )?(server|location|host|node|resource)s?\b.{0,30}\b(avail|found)"
    r"|\bno (available|free|suitable) (\w+ )?(server|location|host|node|resource)s?\b"
)
_NO_ID = r"\brequest[ _-]?id\b|\bdeployment\b.{0,40}\b(not found|not exist|unknown)"
_ENDED = r"\balready\b.{0,40}\b(stopp|terminat|delet|remov)|\b(is|was) (stopped|terminated)\b"
_NO_NAME = (
    r"\bnot (be )?found\b|\b(does|do|did) ?n[o']t exist\b|\bno such\b|\bunknown (app|ver|pull|end)"
)
_LINKED = r"\balready\b"

_TABLE: tuple[Row[Meaning], ...] = (
    Row(Meaning.RATE_LIMITED, _ANY, {429}),
    Row(Meaning.TOKEN_REFUSED, _ANY, {401}),
    Row(Meaning.UNCERTAIN, _ANY, {408, *range(500, 600)}),
    Row(Meaning.DEPLOYMENT_LIMIT, {Call.DEPLOY}, _LIMITED, message_pattern(_LIMIT)),
    Row(Meaning.FORBIDDEN, _ANY, {403}),
    Row(Meaning.REFUSED, {Call.DEPLOY}, {422}, message_pattern(_TOO_LARGE)),
    Row(Meaning.NO_CAPACITY, {Call.DEPLOY}, {422}),
    Row(Meaning.NO_CAPACITY, {Call.DEPLOY}, {400}, message_pattern(_CAPACITY)),
    Row(Meaning.UNKNOWN_NAME, _NAMING, {404}),
    Row(Meaning.UNKNOWN_NAME, _NAMING, {400}, message_pattern(_NO_NAME)),
    Row(Meaning.DONE, {Call.LINK}, {400, 409, 422}, message_pattern(_LINKED)),
    Row(Meaning.DONE, {Call.LINK}, {409}),
    Row(Meaning.GONE, _BY_ID | _READINGS, {404, 410}),
    Row(Meaning.GONE, _BY_ID, {400}, message_pattern(_NO_ID)),
    Row(Meaning.GONE, _BY_ID, {400}, message_pattern(_ENDED)),
    Row(Meaning.GONE, {Call.STATUS}, {200}),  # null, which the document allows
    # The 400 for logs that are not there does not say why.
    Row(Meaning.GONE, _READINGS, {400, 422}),
    Row(Meaning.REFUSED, _ANY, range(400, 500)),
)


def meaning_of(call: Call, answer: Answer) -> Meaning:
    """Return what the response to this call means."""
    if answer.ok:
        return Meaning.DONE
    if answer.foreign or answer.declined or answer.unread:
        return Meaning.UNCERTAIN
    fitting = (row.means for row in _TABLE if row.fits(call, answer))
    return next(fitting, Meaning.UNCERTAIN)


def says_no_capacity(text: str) -> bool:
    """Return whether the text of an error says that there is no server now."""
    return re.search(_CAPACITY, text, re.IGNORECASE) is not None


class Coordinates(msgspec.Struct, frozen=True):
    """A point on the earth, in degrees."""

    latitude: float
    longitude: float


Near = Coordinates | IPv4Address | IPv6Address
"""What Edgegap chooses the location of a deployment by."""


def read_near(text: str) -> Near:
    """Return the coordinates or the IP address in a text such as `45.5,-73.6`, or raise."""
    latitude, comma, longitude = text.partition(",")
    try:
        if not comma:
            return ip_address(text.strip())
        near = Coordinates(float(latitude), float(longitude))
    except ValueError:
        near = Coordinates(math.nan, math.nan)
    if not (abs(near.latitude) <= 90 and abs(near.longitude) <= 180):  # noqa: PLR2004 - degrees
        raise ValueError(
            f"{text!r} is neither coordinates (latitude,longitude, such as 45.5,-73.6) nor an IP "
            "address"
        )
    return near


def deployment_body(app: str, version: str, near: Near, tags: Iterable[str]) -> dict[str, Any]:
    """Return the body of the POST that deploys a version near a location."""
    user: dict[str, Any]
    if isinstance(near, Coordinates):
        point = {"latitude": near.latitude, "longitude": near.longitude}
        user = {"user_type": "geo_coordinates", "user_data": point}
    else:
        user = {"user_type": "ip_address", "user_data": {"ip_address": str(near)}}
    return {"application": app, "version": version, "users": [user], "tags": list(tags)}


class DeploymentState(StrEnum):
    """How far a deployment is."""

    STARTING = "starting"
    READY = "ready"
    ERROR = "error"
    TERMINATED = "terminated"


class Deployment(msgspec.Struct, frozen=True):
    """A deployment's status.

    `status` is Edgegap's own word, `error` its explanation of an error, not cut yet: the hidden
    values of its version have to be masked first. `tags` is None if the response does not show
    them. `seconds` is how long it has been Ready, None if that is unknown.
    """

    state: DeploymentState
    status: str = ""
    error: str = ""
    tags: frozenset[str] | None = None
    seconds: int | None = None


class Crash(msgspec.Struct, frozen=True):
    """The end of a deployment's process. None is what the response does not show."""

    exit_code: int | None
    message: str
    restart_count: int | None


class Logs(msgspec.Struct, frozen=True):
    """The ends of a deployment's logs, masked, and its last crash, if there was one.

    `crash_lines` is the log of the process that crashed, `lines` that of the one after it.
    """

    lines: tuple[str, ...]
    crash_lines: tuple[str, ...] = ()
    crash: Crash | None = None

    @property
    def restarts(self) -> int:
        """How often the process was restarted; a crash that shows no number is one."""
        if self.crash is None:
            return 0
        if self.crash.restart_count is not None:
            return self.crash.restart_count
        return int(bool(self.crash.exit_code or self.crash.message))

    @property
    def crashed(self) -> bool:
        """Whether the process ended with an error, or was restarted."""
        return self.restarts > 0 or bool(self.crash and self.crash.exit_code)

    def last(self, most: int = LAST_LINES) -> tuple[str, ...]:
        """Return the last lines: those of the process that crashed, if one did."""
        return (self.crash_lines or self.lines)[-most:]


class Series(msgspec.Struct, frozen=True):
    """A measured value over the life of a deployment, in Edgegap's unit."""

    peak: float
    mean: float


class Usage(msgspec.Struct, frozen=True):
    """What a deployment used; None if it was not measured (yet). The units are not documented."""

    cpu: Series | None
    memory: Series | None


class ListedDeployment(msgspec.Struct, frozen=True):
    """A row of the list of deployments, which names neither app nor version."""

    request_id: str
    tags: frozenset[str] | None


class Deployments(msgspec.Struct, frozen=True):
    """The deployments that a list shows; `complete` is False if there may be more."""

    rows: tuple[ListedDeployment, ...]
    complete: bool

    def tagged(self, tag: str) -> tuple[str, ...]:
        """Return the ids of the rows that show this tag themselves: the filter may not work."""
        return tuple(row.request_id for row in self.rows if tag in (row.tags or ()))

    @property
    def without_tags(self) -> tuple[str, ...]:
        """The ids of the rows that show no tags at all: only the status says whose they are."""
        return tuple(row.request_id for row in self.rows if row.tags is None)


def request_id_of(body: Body | None) -> str | None:
    """Return the id of the deployment in a response, None if there is none."""
    found = (body or {}).get("request_id")
    found = str(found) if type(found) is int else found
    return found if isinstance(found, str) and _REQUEST_ID.fullmatch(found) else None


def deployment_accepted(body: Body) -> str:
    """Expect the id of a new deployment."""
    return "" if request_id_of(body) else "the answer has no id of a deployment"


def status_of(request_id: str) -> Shape:
    """Expect the status of this deployment."""

    def fault(body: Body) -> str:
        if body.get("request_id") is not None and request_id_of(body) != request_id:
            return f"the answer is not the deployment {request_id}"
        says = isinstance(body.get("current_status"), str) or isinstance(
            flag(body.get("running")), bool
        )
        return "" if says else "the answer is not the status of a deployment"

    return fault


def _with_any(fields: set[str], otherwise: str) -> Shape:
    """Expect one of these fields, none of which is required."""
    return lambda body: "" if fields & body.keys() else otherwise


logs_shape = _with_any(
    {"logs", "crash_logs", "crash_data", "encoding", "logs_link"}, "the answer has no logs"
)
metrics_shape = _with_any(
    {"cpu", "mem", "network", "total", "cpu_throttle_rate", "cpu_throttle_total"},
    "the answer has no metrics",
)
stop_shape = _with_any({"message", "deployment_summary"}, "the answer confirms no stop")


def read_status(body: Body, secrets: Sequence[Secret]) -> Deployment:
    """Return the status in a response."""
    seconds, detail = number(body.get("elapsed_time")), body.get("error_detail")
    return Deployment(
        state=_state(body),
        status=_text(body.get("current_status"), secrets),
        error=mask(detail, secrets) if isinstance(detail, str) else "",
        tags=_tags(body.get("tags")),
        seconds=seconds if type(seconds) is int and seconds >= 0 else None,
    )


def read_logs(body: Body, secrets: Sequence[Secret]) -> Logs:
    """Return the ends of the logs in a response, and its crash."""
    found = body.get("crash_data")
    return Logs(
        lines=_lines(body.get("logs"), secrets),
        crash_lines=_lines(body.get("crash_logs"), secrets),
        crash=_crash(found, secrets) if isinstance(found, Mapping) and found else None,
    )


def read_usage(body: Body) -> Usage:
    """Return the usage in a response."""
    return Usage(cpu=_series(body.get("cpu")), memory=_series(body.get("mem")))


def read_deployments(listing: Listing) -> Deployments:
    """Return the rows of a list of deployments.

    A `message` about the query means that Edgegap may have read it differently.
    """
    rows = tuple(
        ListedDeployment(row["request_id"], _tags(row.get("tags")))
        for row in listing.rows
        if request_id_of(row)
    )
    understood = not (listing.answer.body or {}).get("message")
    return Deployments(rows, listing.complete and understood and len(rows) == len(listing.rows))


def _state(body: Body) -> DeploymentState:
    status = _text(body.get("current_status")).upper()
    if "TERMINATED" in status:
        return DeploymentState.TERMINATED
    if flag(body.get("error")) is True or "ERROR" in status:
        return DeploymentState.ERROR
    running = flag(body.get("running"))
    if not isinstance(running, bool):
        running = "READY" in status
    # `running` is true by default, so a status that names an earlier step is believed.
    is_ready = running and not _STARTING.search(status) and "TERMINATING" not in status
    return DeploymentState.READY if is_ready else DeploymentState.STARTING


def _crash(found: Mapping[str, Any], secrets: Sequence[Secret]) -> Crash:
    exit_code = number(found.get("exit_code"))
    return Crash(
        exit_code=max(-_MAX_EXIT_CODE, min(exit_code, _MAX_EXIT_CODE))
        if type(exit_code) is int
        else None,
        message=_text(found.get("message"), secrets),
        restart_count=count_of(found.get("restart_count")),
    )


def _lines(log: Any, secrets: Sequence[Secret]) -> tuple[str, ...]:
    """Return the last lines of a log, masked before anything is cut off."""
    if isinstance(log, list):
        log = "\n".join(line for line in log if isinstance(line, str))
    if not isinstance(log, str):
        return ()
    spellings = spellings_of(secrets)
    text = mask_spelt(_COLOR.sub("", log[-LOG_KEPT:]), spellings)
    if len(log) > LOG_KEPT:  # what is cut at its beginning may be the rest of a secret
        text = text[len(spellings[0]) * MAX_ENCODED if spellings else 0 :]
    return tuple(line for raw in text.splitlines() if (line := one_line(raw)))


def _series(found: Any) -> Series | None:
    data = found.get("datasets") if isinstance(found, Mapping) else None
    values = [value for one in (data if isinstance(data, list) else ()) for value in _numbers(one)]
    if not values:
        return None
    return Series(peak=max(values), mean=math.fsum(values) / len(values))


def _numbers(value: Any) -> Iterable[float]:
    """Return a measured value; a gap in the measurements is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ()
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return ()
    return (read,) if math.isfinite(read) and abs(read) < _MAX_NUMBER else ()


def _tags(found: Any) -> frozenset[str] | None:
    if not isinstance(found, list):
        return None
    return frozenset(tag for tag in found[:MAX_TAGS] if isinstance(tag, str))


def _text(value: Any, secrets: Iterable[Secret] = ()) -> str:
    return one_line(value, secrets) if isinstance(value, str) else ""
