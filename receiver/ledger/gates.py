"""Gates hold all work back: `busy` until a time, `token` until a probe finds it accepted."""

import msgspec

from receiver.backoff import FIRST_BACKOFF, MIN_SLOWDOWN, probe_delay
from receiver.ledger.deletions import deletion_under_way
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import may_run
from receiver.ledger.views import HeldBack, Registration
from receiver.reasons import Reason, State, explain
from receiver.rules.rule import Mode
from receiver.timestamps import Time

BUSY = "busy"
TOKEN = "token"  # noqa: S105 - a gate's name
REMEMBERED_MS = 10 * 60 * 1000  # a token refused again this soon goes on with the slow probes

_BUSY = """INSERT INTO gates (name, closed, until, since, sentence)
 VALUES ('busy', true, :until, :now, :sentence)
 ON CONFLICT (name) DO UPDATE SET closed = true, sentence = excluded.sentence,
  since = CASE WHEN gates.until > excluded.since THEN gates.since ELSE excluded.since END,
  until = CASE WHEN gates.until > excluded.until THEN gates.until ELSE excluded.until END"""
_CLOSE = """INSERT INTO gates (name, closed, until, probes, since, sentence)
 VALUES ('token', true, :until, :probes, :now, :sentence)
 ON CONFLICT (name) DO UPDATE SET closed = true, since = excluded.since,
  sentence = excluded.sentence, probes = excluded.probes, until = excluded.until
 WHERE NOT gates.closed"""
_OPEN = """UPDATE gates SET closed = false, until = :now
 WHERE name = :name AND closed AND (name = 'token' OR until > :now)"""
_ACCEPTED = """UPDATE gates SET closed = false, until = :now, sentence = ''
 WHERE name = 'token' AND (closed OR sentence <> '')"""
_UNPROVEN = "SELECT 1 FROM gates WHERE name = 'token' AND NOT closed AND sentence <> ''"
_DUE_NOW = """UPDATE registrations SET due_at = :now
 WHERE state = 'waiting' AND waiting_reason = :reason"""
_FIRST_WAITING = """SELECT min(id) FROM registrations
 WHERE state = 'waiting' AND waiting_reason = :reason"""
_REASONS = {BUSY: Reason.EDGEGAP_BUSY, TOKEN: Reason.EDGEGAP_TOKEN_REFUSED}
ALL = "*"

_PAUSE = """INSERT INTO pauses (repository, since, source) VALUES (:repository, :now, :source)
 ON CONFLICT (repository) DO NOTHING"""

_PAUSES_OF = """SELECT repository, since, source FROM pauses
 WHERE repository IN (:repository, '*') ORDER BY repository"""

_KNOWN = """SELECT 1 WHERE EXISTS (SELECT 1 FROM deliveries WHERE repository = :repository)
 OR EXISTS (SELECT 1 FROM targets WHERE repository = :repository)
 OR EXISTS (SELECT 1 FROM pauses WHERE repository = :repository)"""


class Gate(msgspec.Struct, frozen=True):
    """One closed gate: until when (epoch ms; for the token: when to probe), why."""

    name: str
    until: int
    probes: int
    since: int
    sentence: str


def closed_gates(tx: Tx) -> list[Gate]:
    """Return the gates that hold work back now."""
    rows = tx.run(
        "SELECT name, until, probes, since, sentence FROM gates"
        " WHERE closed AND (name = 'token' OR until > :now)",
        now=tx.now,
    )
    return [Gate(row.name, row.until, row.probes, row.since, row.sentence) for row in rows]


def slow_down(tx: Tx, until: int, sentence: str) -> None:
    """Hold all work back until then (epoch ms); never shortens a longer hold."""
    tx.run(_BUSY, until=until, now=tx.now, sentence=sentence)


def respect(tx: Tx, retry_after: int | None) -> None:
    """Hold all work back for as long as a 429 asked (ms), whichever request received it."""
    delay = max(MIN_SLOWDOWN, FIRST_BACKOFF if retry_after is None else retry_after)
    slow_down(tx, tx.now + delay, explain(Reason.EDGEGAP_BUSY))


def close_token_gate(tx: Tx, sentence: str) -> bool:
    """Hold all work back until the token is good; True when that is news.

    One that was refused, accepted and refused again a little later is asked for less often.
    """
    known = tx.run("SELECT until, probes FROM gates WHERE name = 'token'").first()
    unproven = is_token_unproven(tx)
    lately = known is not None and known.until > tx.now - REMEMBERED_MS
    probes = int(known.probes) if known is not None and lately else 0
    until = tx.now + probe_delay(probes)
    closed = tx.run(_CLOSE, until=until, probes=probes, now=tx.now, sentence=sentence)
    return bool(closed.rowcount) and probes == 0 and not unproven


def take_probe(tx: Tx) -> bool:
    """Take the right to probe the token if it is time; sets when the next probe may be."""
    gate = next((gate for gate in closed_gates(tx) if gate.name == TOKEN), None)
    if gate is None or gate.until > tx.now:
        return False
    taken = tx.run(
        "UPDATE gates SET probes = probes + 1, until = :until"
        " WHERE name = 'token' AND closed AND until = :seen",
        until=tx.now + probe_delay(gate.probes + 1),
        seen=gate.until,
    )
    return bool(taken.rowcount)


def open_token_gate(tx: Tx) -> bool:
    """Open the token gate: the token is accepted; return whether the gate was closed."""
    return bool(tx.run(_ACCEPTED, now=tx.now).rowcount)


def is_token_unproven(tx: Tx) -> bool:
    """Return whether a person opened the token's gate, and no call was accepted since."""
    return tx.run(_UNPROVEN).first() is not None


def open_gate(tx: Tx, name: str) -> bool:
    """Open a gate, and make due what waits for it; False if it is open.

    Edgegap may answer as before: then it closes again. The token's sentence stays until a call is
    accepted.
    """
    opened = tx.run(_OPEN, name=name, now=tx.now)
    if opened.rowcount:
        tx.run(_DUE_NOW, reason=_REASONS[name].value, now=tx.now)
    return bool(opened.rowcount)


def first_refused(tx: Tx) -> str | None:
    """Return the oldest registration that waits until the token is accepted."""
    reason = Reason.EDGEGAP_TOKEN_REFUSED.value
    found: str | None = tx.run(_FIRST_WAITING, reason=reason).scalar()
    return found


def probe_now(tx: Tx) -> None:
    """Try a refused token at once: a restart may have brought a new one."""
    tx.run("UPDATE gates SET until = :now WHERE name = 'token' AND closed", now=tx.now)


def is_known(tx: Tx, repository: str) -> bool:
    """Return whether the ledger knows the repository: a delivery, a target or a pause names it."""
    return tx.run(_KNOWN, repository=repository).first() is not None


def repositories_held(tx: Tx) -> list[str]:
    """Return the repositories whose images are in versions that we created or moved."""
    rows = tx.run("SELECT DISTINCT repository FROM targets ORDER BY repository")
    return [str(row.repository) for row in rows]


def pause(tx: Tx, repository: str, source: str = "") -> None:
    """Hold back a repository's registrations, or ALL; `source` is who requested it."""
    tx.run(_PAUSE, repository=repository, now=tx.now, source=source)


def resume(tx: Tx, repository: str) -> bool:
    """End a pause; return whether there was one. ALL ends every pause."""
    if repository == ALL:
        return bool(tx.run("DELETE FROM pauses").rowcount)
    ended = tx.run("DELETE FROM pauses WHERE repository = :repository", repository=repository)
    return bool(ended.rowcount)


def paused(tx: Tx) -> dict[str, Time]:
    """Return what is paused, and since when."""
    rows = tx.run("SELECT repository, since FROM pauses ORDER BY repository")
    return {str(row.repository): Time(row.since) for row in rows}


def blockers(tx: Tx, registration: Registration) -> list[HeldBack]:
    """Return each thing that holds it back now, with a sentence; none once it is claimed.

    `until_at` is None for what does not end by itself at a known time.
    """
    if registration.state not in {State.QUEUED, State.WAITING}:
        return []
    goes_on = registration.mode is Mode.TRIAL and may_run(tx, registration.id)
    pauses = () if goes_on else tx.run(_PAUSES_OF, repository=registration.repository)
    held = [
        HeldBack("pause", _of_pause(row.repository, row.source), Time(row.since), None)
        for row in pauses
    ]
    for gate in closed_gates(tx):
        busy = gate.name == BUSY
        until = Time(gate.until) if busy else None
        held.append(HeldBack("busy" if busy else "token", gate.sentence, Time(gate.since), until))
    locked = deletion_under_way(tx, registration.app, registration.version)
    return held if locked is None else [*held, locked]


def _of_pause(name: str, source: str) -> str:
    by = f" by {source}" if source else ""
    if name == ALL:
        return f"Everything is paused{by}; `receiver resume --all` lets it go on."
    return f"{name} is paused{by}; `receiver resume {name}` lets it go on."
