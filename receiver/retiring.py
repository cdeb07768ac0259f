"""Retiring: versions this receiver made are let go, the oldest first, and never one in use.

Where it cannot be told whether anything of a version runs, it is left. A refusal of Edgegap (a
matchmaker may hold the version) is recorded and left too.
"""

from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from receiver.edgegap.answers import Answer
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.listing import running_in
from receiver.edgegap.versions import same_image
from receiver.errors import ReceiverError
from receiver.explanations import explain
from receiver.images import ImageReference
from receiver.keeping import Made, to_retire
from receiver.ledger import gates
from receiver.ledger.ledger import Ledger
from receiver.ledger.targets import Target, note_retirement, targets_of
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.reasons import Reason
from receiver.retry import Row, Then
from receiver.rules import Rule
from receiver.settings import Settings

GONE = 404
GONE_ALREADY = "Edgegap has it no longer"
PATIENCE_SECONDS = 60.0  # while another replica is at it

BUSY = Row(Then.SLOW_DOWN, Reason.EDGEGAP_BUSY)
TOKEN_REFUSED = Row(Then.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED)

log = get_logger()


class NotItsTurn(ReceiverError):
    """Versions are being retired by another, and went on being so."""


class HeldBack(NotItsTurn):
    """Edgegap may not be called now, or could not tell: the row of the table says what then.

    `wait` is what it asked to be left alone for (ms), None where it named nothing.
    """

    def __init__(self, row: Row, wait: int | None = None, detail: str = "") -> None:
        self.row = row
        self.wait = wait
        self.detail = detail
        self.why = explain(row.reason or Reason.EDGEGAP_ERROR, detail=detail)
        super().__init__(f"nothing was retired: {self.why}")


@dataclass(frozen=True, slots=True)
class Retired:
    """One version that was to go: whether it went, and why or why not."""

    app: str
    version: str
    retired: bool
    why: str


def rules_of(settings: Settings, app: str) -> list[Rule]:
    """Return the rules that make versions of the app."""
    return [rule for rule in settings.rules if rule.app == app]


def kept_by(settings: Settings, app: str) -> int | None:
    """Return how many versions of the app are kept: the largest `keep` of its rules, or None."""
    return max((rule.keep for rule in rules_of(settings, app) if rule.keep), default=None)


async def would_go(
    ledger: Ledger, settings: Settings, app: str, keep: int | None = None
) -> list[Made]:
    """Return what would be retired of the app, before Edgegap is asked what runs.

    Without `keep`, what its rules keep counts, each for the versions it makes.
    """
    targets = await ledger.read(lambda tx: targets_of(tx, app))
    return to_retire(map(_made, targets), rules_of(settings, app), keep)


async def retire(
    ledger: Ledger,
    client: EdgegapClient,
    settings: Settings,
    app: str,
    *,
    keep: int | None,
    most: int,
    pushed_by: int | None = None,
) -> list[Retired]:
    """Retire up to `most` versions beyond the newest `keep`; return what came of each.

    `pushed_by`: none that was pushed later (epoch ms). What is gone already does not count.
    One at a time: two would count on the room of one version. Raises NotItsTurn; HeldBack where
    Edgegap may not be called and nothing was retired before: afterwards it ends with a word of it.
    """
    results: list[Retired] = []
    async with ledger.in_turn("retention", PATIENCE_SECONDS) as mine:
        if not mine:
            raise NotItsTurn("versions are being retired just now; try again in a minute")
        for made in await would_go(ledger, settings, app, keep):
            if sum(one.retired and one.why != GONE_ALREADY for one in results) >= most:
                break
            if pushed_by is not None and made.pushed_at > pushed_by:
                break
            try:
                await _look_at_gates(ledger)
                result = await _retire_one(ledger, client, app, made)
            except HeldBack as held:
                if not any(one.retired for one in results):
                    raise
                results.append(Retired(app, made.version, retired=False, why=held.why))
                break
            results.append(result)
            await ledger.write(partial(_note, result))
            event = "version_retired" if result.retired else "version_kept"
            log.info(event, app=app, version=result.version, why=result.why)
    return results


async def _look_at_gates(ledger: Ledger) -> None:
    """Raise HeldBack while a gate holds all work back."""
    now, closed = await ledger.read(lambda tx: (tx.now, gates.closed_gates(tx)))
    if any(gate.name == gates.TOKEN for gate in closed):
        raise HeldBack(TOKEN_REFUSED, detail="as another push was told")
    if closed:
        raise HeldBack(BUSY, max(0, closed[0].until - now))


async def heeded(ledger: Ledger, answer: Answer) -> Answer:
    """Return the answer; a 429 makes all wait as long as it says, and raises HeldBack."""
    if answer.says(HTTPStatus.TOO_MANY_REQUESTS):
        await ledger.write(partial(gates.heed, retry_after=answer.retry_after))
        raise HeldBack(BUSY, answer.retry_after)
    return answer


async def _retire_one(ledger: Ledger, client: EdgegapClient, app: str, made: Made) -> Retired:
    def left(why: str) -> Retired:
        return Retired(app, made.version, retired=False, why=why)

    look = await heeded(ledger, await client.look(app, made.version))
    if look.says(GONE):
        return Retired(app, made.version, retired=True, why=GONE_ALREADY)
    image = ImageReference(repository=made.repository, tag=made.tag)
    if not look.ok or look.body is None:
        return left(f"Edgegap could not be asked: {look.message}")
    if not same_image(look.body, image):
        return left("it holds another image than this receiver put there")
    running = await heeded(ledger, await client.deployments(app, made.version))
    count = running_in(running)
    if count is None:
        return left(f"it is not certain whether anything of it runs: {running.message}")
    if count:
        return left(f"{count} deployments of it run")
    gone = await heeded(ledger, await client.delete(app, made.version))
    if gone.ok and gone.body is None:  # it does not say that it is deleted
        gone = await heeded(ledger, await client.look(app, made.version))
        if gone.ok:
            return left("Edgegap answered the DELETE, and still has it")
    if gone.ok or gone.says(GONE):
        return Retired(app, made.version, retired=True, why="beyond what is kept")
    return left(f"Edgegap refused ({gone.status}): {gone.message}; a matchmaker may use it")


def _note(result: Retired, tx: Tx) -> None:
    note_retirement(tx, result.app, result.version, retired=result.retired, why=result.why)


def _made(target: Target) -> Made:
    return Made(
        version=target.version,
        mode=target.mode,
        repository=target.repository,
        tag=target.tag,
        made_here=target.created_here,
        made_at=target.made_at,
        pushed_at=target.push_time,
        retired=target.retired_at is not None,
    )
