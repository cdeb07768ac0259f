"""The actions of the admin page. Commands and API offer the same actions."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from receiver.images import is_repository
from receiver.ledger import gates as pauses
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.gates import BUSY, TOKEN
from receiver.ledger.transaction import Tx
from receiver.logs import Source, log_operation
from receiver.pipeline.prune import MAX_BATCH, Pruned, Scope, keep_count, log_pruned, prune
from receiver.rules.channel_order import ManualAction
from receiver.rules.rule import TargetKey
from receiver.service import Service
from receiver.upkeep.channels import (
    ChannelNotMoved,
    UnknownRepository,
    promote,
)
from receiver.upkeep.notify import send_tests
from receiver.upkeep.operations import Requester, dismiss, undo_dismissal
from receiver.upkeep.replay import ReplayedDeliveries
from receiver.web.page.auth import Form, Redirect, form_action, safe_path
from receiver.web.page.overview import try_public_address
from receiver.web.page.questions import QUESTIONS, channel_of, check_channel, check_limit, do_move

# The page of an action, if its address is opened; the overview has the others.
PAGES = {
    "move": "/channels", "rollback": "/channels", "promote": "/channels", "release": "/channels",
    "prune": "/versions", "make-room": "/versions", "pause": "/rules", "resume": "/rules",
    "run-checks": "/checks", "catch-up": "/checks", "notify-test": "/checks",
}  # fmt: skip
NOT_REOPENED = "It is not dismissed, or a newer registration for the same image is open."


def action_routes() -> list[Route]:
    """Return the routes of the actions: POST with the form's CSRF token; GET leads to the form."""
    actions = {
        "replay": _replay, "replay-parked": _replay_parked, "replay-reason": _replay_reason,
        "dismiss": _dismiss, "dismiss-reason": _dismiss_reason,
        "undo-dismissal": _undo_dismissal, "move": _move,
        "rollback": _move,  # of a page that was open before an update
        "promote": _promote, "release": _release,
        "prune": _prune, "make-room": _make_room,
        "test-push": _test_push, "pause": _pause,
        "resume": _resume, "open-gate": _open_gate,
        "catch-up": _catch_up, "notify-test": _notify_test,
    }  # fmt: skip
    return [
        *(
            Route(f"/do/{name}", form_action(action, QUESTIONS.get(name)), methods=["POST"])
            for name, action in actions.items()
        ),
        Route("/do/{name}", _to_page, methods=["GET"]),
    ]


async def _replay(service: Service, form: Form) -> Redirect:
    identity = _text(form, "delivery")
    replayed = (await service.manual.replay([identity], Source.PAGE)).replayed
    if not replayed:
        raise ValueError(f"there is no delivery {identity}")
    done = "The delivery was replayed; the result appears below."
    back = _back(form, f"/deliveries/{replayed[0].delivery}")
    return Redirect(back, replayed[0].sentence or done)


async def _replay_parked(service: Service, form: Form) -> Redirect:
    done = await service.manual.replay((), Source.PAGE, parked=True)
    more = "" if done.next is None else " Others are still parked: replay them in the same way."
    return Redirect(_back(form, "/"), f"{_replayed(done)}{more}")


async def _replay_reason(service: Service, form: Form) -> Redirect:
    done = await service.manual.replay(_text(form, "registrations").split(), Source.PAGE)
    return Redirect(_back(form, "/"), _replayed(done))


def _replayed(done: ReplayedDeliveries) -> str:
    count = len({one.delivery for one in done.replayed})
    pushes = "1 push was" if count == 1 else f"{count} pushes were"
    return f"{pushes} replayed; a version that cannot be created is parked again."


async def _move(service: Service, form: Form) -> Redirect:
    rules, channel = service.settings.rules, _channel(form)
    _text(form, "to")
    return await _moved(service, form, lambda tx: do_move(tx, rules, channel, form, Source.PAGE))


async def _promote(service: Service, form: Form) -> Redirect:
    rules, channel = service.settings.rules, _channel(form)
    to, other = _text(form, "to") or None, _text(form, "from") or None
    tag, digest = (_text(form, name) or None for name in ("tag", "digest"))

    def write(tx: Tx) -> tuple[ManualAction, RecordedDelivery]:
        if "has" in form:
            check_channel(tx, channel, form)
        moved = promote(
            tx,
            rules,
            *channel,
            to=to,
            from_channel=other,
            source=Source.PAGE,
            by=Source.PAGE,
            tag=tag,
            digest=digest,
        )
        return ManualAction.PROMOTE, moved

    return await _moved(service, form, write)


async def _moved(
    service: Service,
    form: Form,
    move: Callable[[Tx], tuple[ManualAction, RecordedDelivery]],
) -> Redirect:
    try:
        recorded = await service.manual.move_channel(_channel(form), Source.PAGE, move)
    except ChannelNotMoved as error:
        return Redirect(_back(form, "/channels"), f"Nothing was moved: {error}.")
    return Redirect(f"/deliveries/{recorded.delivery}", recorded.ruling.sentence)


async def _release(service: Service, form: Form) -> Redirect:
    channel = _channel(form)
    try:
        sentence = await service.manual.release_channel(
            channel, Source.PAGE, lambda tx: check_channel(tx, channel, form)
        )
    except ChannelNotMoved as error:
        return Redirect(_back(form, "/channels"), f"Nothing was released: {error}.")
    return Redirect(_back(form, "/channels"), sentence)


async def _dismiss(service: Service, form: Form) -> Redirect:
    identity = _text(form, "registration")
    changed = await dismiss(service.ledger, Requester(Source.PAGE), [identity])
    if changed.missing:
        raise ValueError(f"there is no registration {identity}")
    names = ", ".join(f"{one.app}/{one.version}" for one in changed.registrations)
    done = f"{names} was dismissed." if names else "It is no longer parked."
    return Redirect(_back(form, "/"), done)


async def _dismiss_reason(service: Service, form: Form) -> Redirect:
    reason, ids = _text(form, "reason"), _text(form, "registrations").split()
    changed = await dismiss(service.ledger, Requester(Source.PAGE), ids)
    count = len(changed.registrations)
    done = f"{count} parked for {reason} {'was' if count == 1 else 'were'} dismissed."
    return Redirect(_back(form, "/"), done)


async def _undo_dismissal(service: Service, form: Form) -> Redirect:
    identity = _text(form, "registration")
    changed = await undo_dismissal(service.ledger, Requester(Source.PAGE), [identity])
    if changed.missing:
        raise ValueError(f"there is no registration {identity}")
    done = "It is parked again." if changed.registrations else NOT_REOPENED
    if changed.superseded:
        done = "It is superseded: a later push succeeded."
    return Redirect(_back(form, "/"), done)


async def _prune(service: Service, form: Form) -> Redirect:
    app = _text(form, "app")
    if keep_count(service.settings, app) is None:
        raise ValueError(f"no rule of the app {app} has `keep`")
    only = _text(form, "versions").split()  # those that the question named
    results = await _pruned(service, Scope(app, most=MAX_BATCH, only=only, by=Source.PAGE))
    return Redirect(_back(form, "/versions"), _summary(results))


async def _make_room(service: Service, form: Form) -> Redirect:
    """Delete the first of the named versions that may be deleted, then replay the push."""
    app, identity = _text(form, "app"), _text(form, "delivery")
    if not any(rule.app == app for rule in service.settings.rules):
        raise ValueError(f"no rule names the app {app}")
    await check_limit(service, app, identity)
    why, only = "room at Edgegap's version limit", _text(form, "versions").split()
    scope = Scope(app, most=1, keep=1, only=only, why=why, by=Source.PAGE)
    results = await _pruned(service, scope)
    if any(result.deleted for result in results):
        replayed = await _replay(service, {**form, "delivery": identity})
        return Redirect(replayed.path, f"{_summary(results)} The push was replayed.")
    return Redirect(_back(form, "/versions"), _summary(results))


async def _pruned(service: Service, scope: Scope) -> list[Pruned]:
    results = await prune(service.ledger, service.client, service.current, scope)
    log_pruned(scope.app, results, source=Source.PAGE)
    return results


async def _test_push(service: Service, form: Form) -> Redirect:
    repository = _repository(form)
    if repository not in {rule.repository for rule in service.settings.rules}:
        raise ValueError(f"no rule names {repository}")
    log_operation("test_push_sent", source=Source.PAGE, repository=repository)
    return Redirect(_back(form, "/"), await try_public_address(service, repository))


async def _pause(service: Service, form: Form) -> Redirect:
    repository = _repository(form)
    try:
        await service.manual.pause(repository, Source.PAGE)
    except UnknownRepository as error:
        return Redirect(_back(form, "/"), f"Nothing was paused: {error}")
    done = f"{_named(repository)} paused: pushes are recorded and wait in the queue."
    return Redirect(_back(form, "/"), done)


async def _resume(service: Service, form: Form) -> Redirect:
    repository = _repository(form)
    await service.manual.resume(repository, Source.PAGE)
    return Redirect(_back(form, "/"), f"{_named(repository)} resumed: its work continues.")


async def _open_gate(service: Service, form: Form) -> Redirect:
    gate = _text(form, "gate")
    if gate not in {BUSY, TOKEN}:
        raise ValueError(f"there is no gate {gate}")
    opened = await service.manual.open_gate(gate, Source.PAGE)
    done = "Waiting work is tried now." if opened else "Nothing is held back any more."
    return Redirect(_back(form, "/"), done)


async def _catch_up(service: Service, _: Form) -> Redirect:
    if service.settings.catch_up_every is None:
        raise ValueError("catch-up is off: `receiver catch-up` runs it once")
    await service.catch_up.begin()
    log_operation("catch_up_requested", source=Source.PAGE)
    return Redirect("/checks", "Catch-up runs now: missed pushes appear under Deliveries.")


async def _notify_test(service: Service, _: Form) -> Redirect:
    results = await send_tests(service.settings.notices)
    if not results:
        raise ValueError("no [[notice]] is configured")
    log_operation("notifications_tested", source=Source.PAGE, destinations=len(results))
    sent = (f"{name}: {f'not sent, {why}' if why else 'sent'}" for name, why in results.items())
    return Redirect("/checks", f"Test notification: {'; '.join(sent)}.")


async def _to_page(request: Request) -> Response:
    """Redirect to the page with the action's form: the address of an action is no page."""
    return RedirectResponse(PAGES.get(request.path_params["name"], "/"), 303)


def _summary(results: list[Pruned]) -> str:
    deleted = [result.version for result in results if result.deleted]
    kept = [f"{result.version} was kept: {result.why}." for result in results if not result.deleted]
    if not results:
        return (
            "Nothing can be deleted: only versions that this receiver created and that no channel "
            "uses."
        )
    first = f"Deleted {', '.join(deleted)}." if deleted else "Nothing was deleted."
    return " ".join([first, *kept])


def _named(repository: str) -> str:
    return "Everything is" if repository == pauses.ALL else f"{repository} is"


def _back(form: Form, default: str) -> str:
    return safe_path(form["back"]) if "back" in form else default


def _channel(form: Form) -> TargetKey:
    _text(form, "app")
    _text(form, "channel")
    return channel_of(form)


def _text(form: Form, name: str) -> str:
    value = form.get(name, "")
    if not value.isprintable():
        raise ValueError(f"{name} must be printable text")
    return value


def _repository(form: Form) -> str:
    repository = _text(form, "repository")
    if repository != pauses.ALL and not is_repository(repository):
        raise ValueError("write the repository as group/project, or * for all")
    return repository
