"""The questions that the server asks before an action that is hard to undo."""

from collections.abc import Awaitable, Callable

from receiver.ledger.gates import ALL
from receiver.ledger.stats import count_open
from receiver.ledger.targets import target
from receiver.pipeline.prune import MOST_AT_ONCE, Scope, keep_count, outlook
from receiver.service import Service

Form = dict[str, str]
Question = Callable[[Service, Form], Awaitable[str]]


async def before_rollback(service: Service, form: Form) -> str:
    """Ask before a rollback, with the versions."""
    app, channel, to = form.get("app", ""), form.get("channel", ""), form.get("to", "")
    known = await service.ledger.read(lambda tx: target(tx, app, channel))
    before = known.before.tag if known is not None and known.before is not None else ""
    return _move("Roll back", app, channel, known.tag if known else "", to or before)


async def before_release(_: Service, form: Form) -> str:
    """Ask before a hold ends."""
    return f"Let pushes move {form.get('channel', '')} of {form.get('app', '')} again?"


async def before_pruning(service: Service, form: Form) -> str:
    """Ask before versions are deleted, with their names.

    The names are added to the form: no version is deleted that the question did not name.
    """
    app, names, first = form.get("app", ""), form.get("versions", "").split(), ""
    if not names and keep_count(service.settings, app) is not None:
        scope = Scope(app, most=MOST_AT_ONCE)
        old = await outlook(service.ledger, service.settings, scope)
        names = [one.made.version for one in old.planned]
        first = f"the oldest {len(names)}, " if old.more else ""
        form["versions"] = " ".join(names)
    return (
        f"Delete {first}{', '.join(names) or 'nothing'} of {app} at Edgegap? This cannot be "
        "undone. A version with running deployments is kept."
    )


async def before_making_room(_: Service, form: Form) -> str:
    """Ask before the oldest version is deleted."""
    return (
        f"Delete the oldest unused version of {form.get('app', '')} at Edgegap, and replay the "
        "push? A deletion cannot be undone."
    )


async def before_replaying_all(service: Service, _: Form) -> str:
    """Ask before everything parked is replayed, with its number."""
    count = await service.ledger.read(lambda tx: count_open(tx).get("parked", 0))
    return f"Replay {'the parked registration' if count == 1 else f'all {count} parked'}?"


async def before_dismissing(_: Service, form: Form) -> str:
    """Ask before all registrations with a reason are dismissed."""
    return f"Dismiss all registrations parked for {form.get('reason', '')}?"


async def before_pause(_: Service, form: Form) -> str:
    """Ask before everything is paused; one repository is paused without a question."""
    if form.get("repository") != ALL:
        return ""
    return "Pause everything? Pushes are recorded, and wait until you resume."


QUESTIONS: dict[str, Question] = {
    "rollback": before_rollback,
    "release": before_release,
    "prune": before_pruning,
    "make-room": before_making_room,
    "replay-parked": before_replaying_all,
    "dismiss-reason": before_dismissing,
    "pause": before_pause,
}


def _move(what: str, app: str, channel: str, has: str, goal: str) -> str:
    start = f" from {has}" if has else ""
    end = f" to {goal}" if goal else ""
    return f"{what} {channel} of {app}{start}{end}? Players get the other version."
