"""What each response about deployments and pull profiles means: the table, as data.

The first row that matches decides. What to do about it is decided by the caller.
"""

import re
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from receiver.edgegap.responses import Answer, Row, saying

T = TypeVar("T")


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
    Row(Meaning.DEPLOYMENT_LIMIT, {Call.DEPLOY}, _LIMITED, saying(_LIMIT)),
    Row(Meaning.FORBIDDEN, _ANY, {403}),
    Row(Meaning.REFUSED, {Call.DEPLOY}, {422}, saying(_TOO_LARGE)),
    Row(Meaning.NO_CAPACITY, {Call.DEPLOY}, {422}),
    Row(Meaning.NO_CAPACITY, {Call.DEPLOY}, {400}, saying(_CAPACITY)),
    Row(Meaning.UNKNOWN_NAME, _NAMING, {404}),
    Row(Meaning.UNKNOWN_NAME, _NAMING, {400}, saying(_NO_NAME)),
    Row(Meaning.DONE, {Call.LINK}, {400, 409, 422}, saying(_LINKED)),
    Row(Meaning.DONE, {Call.LINK}, {409}),
    Row(Meaning.GONE, _BY_ID | _READINGS, {404, 410}),
    Row(Meaning.GONE, _BY_ID, {400}, saying(_NO_ID)),
    Row(Meaning.GONE, _BY_ID, {400}, saying(_ENDED)),
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
