"""What a person does on the page. Each action is one the commands and the API have too."""

from collections.abc import Callable

from starlette.routing import Route

from receiver.channel_order import ByHand
from receiver.images import is_repository
from receiver.ledger import pauses
from receiver.ledger.recording import Recorded
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.replaying import replay, replay_chosen
from receiver.retiring import Retired, kept_by, retire
from receiver.service import Service
from receiver.steering import (
    CannotMove,
    CannotPause,
    log_moved,
    pause_known,
    promote,
    release,
    roll_back,
)
from receiver.upkeep.operations import log_operation
from receiver.web.doorkeeping import Form, for_a_deed
from receiver.web.login import safe_path
from receiver.web.versions import Shelf

MOST_RETIRED = 20
PAGE = "page"

log = get_logger()


class Actions:
    """Replay, moving channels, retiring, pausing; afterwards the page is shown again."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def routes(self) -> list[Route]:
        """Return the routes of the actions: POST only, each with the form's token."""
        actions = {
            "replay": self._replay, "replay-parked": self._replay_parked,
            "rollback": self._roll_back, "promote": self._promote, "release": self._release,
            "retire": self._retire, "make-room": self._make_room,
            "pause": self._pause, "resume": self._resume,
        }  # fmt: skip
        return [
            Route(f"/do/{name}", for_a_deed(action), methods=["POST"])
            for name, action in actions.items()
        ]

    async def _replay(self, service: Service, form: Form) -> tuple[str, str]:
        identity, rules = _text(form, "delivery"), service.settings.rules
        replayed = await service.ledger.write(lambda tx: replay(tx, rules, identity))
        if replayed is None:
            raise ValueError(f"there is no delivery {identity}")
        service.worker.config_changed()
        log.info("delivery_replayed", delivery=identity, verdict=replayed.verdict)
        went = "It was replayed; what becomes of it shows below."
        return _back(form, f"/deliveries/{replayed.delivery}"), replayed.sentence or went

    async def _replay_parked(self, service: Service, form: Form) -> tuple[str, str]:
        rules = service.settings.rules
        replayed, _ = await service.ledger.write(
            lambda tx: replay_chosen(tx, rules, (), parked=True, since=None)
        )
        service.worker.config_changed()
        log.info("parked_replayed", count=len(replayed))
        many = "1 push was" if len(replayed) == 1 else f"{len(replayed)} pushes were"
        return _back(form, "/"), f"{many} replayed; what cannot be made is parked again."

    async def _roll_back(self, service: Service, form: Form) -> tuple[str, str]:
        rules, place, to = service.settings.rules, _place(form), _text(form, "to") or None
        return await self._moved(
            service,
            form,
            lambda tx: roll_back(tx, rules, *place, to, source=PAGE),
            ByHand.ROLLBACK,
        )

    async def _promote(self, service: Service, form: Form) -> tuple[str, str]:
        rules, place = service.settings.rules, _place(form)
        to, other = _text(form, "to") or None, _text(form, "from") or None
        return await self._moved(
            service,
            form,
            lambda tx: promote(tx, rules, *place, to=to, from_channel=other, source=PAGE),
            ByHand.PROMOTE,
        )

    async def _moved(
        self, service: Service, form: Form, move: Callable[[Tx], Recorded], action: ByHand
    ) -> tuple[str, str]:
        try:
            recorded = await service.ledger.write(move)
        except CannotMove as error:
            return _back(form, "/versions"), f"Nothing was moved: {error}."
        self._shelf.forget()
        service.worker.wake()
        log_moved(action, *_place(form), recorded, PAGE)
        return f"/deliveries/{recorded.delivery}", recorded.ruling.sentence

    async def _release(self, service: Service, form: Form) -> tuple[str, str]:
        rules, (app, channel) = service.settings.rules, _place(form)
        try:
            sentence = await service.ledger.write(lambda tx: release(tx, rules, app, channel))
        except CannotMove as error:
            return _back(form, "/versions"), f"Nothing was released: {error}."
        log_operation("released", source=PAGE, app=app, channel=channel)
        return _back(form, "/versions"), sentence

    async def _retire(self, service: Service, form: Form) -> tuple[str, str]:
        app = _text(form, "app")
        if kept_by(service.settings, app) is None:
            raise ValueError(f"no rule of the app {app} says how many to keep")
        went = await retire(
            service.ledger, service.client, service.settings, app, keep=None, most=MOST_RETIRED
        )
        self._shelf.forget()
        return _back(form, "/versions"), _told(went)

    async def _make_room(self, service: Service, form: Form) -> tuple[str, str]:
        """Retire the oldest version that may go, then replay what met the limit."""
        app, identity = _text(form, "app"), _text(form, "delivery")
        if not any(rule.app == app for rule in service.settings.rules):
            raise ValueError(f"no rule names the app {app}")
        went = await retire(service.ledger, service.client, service.settings, app, keep=1, most=1)
        self._shelf.forget()
        told = _told(went)
        if any(one.retired for one in went):
            path, _ = await self._replay(service, {**form, "delivery": identity})
            return path, f"{told} The push was replayed."
        return _back(form, "/versions"), told

    async def _pause(self, service: Service, form: Form) -> tuple[str, str]:
        repository, rules = _repository(form), service.settings.rules
        try:
            await service.ledger.write(lambda tx: pause_known(tx, repository, rules))
        except CannotPause as error:
            return _back(form, "/"), f"Nothing was paused: {error}"
        log.info("paused", repository=repository)
        return _back(form, "/"), f"{_named(repository)} paused: pushes are recorded and wait."

    async def _resume(self, service: Service, form: Form) -> tuple[str, str]:
        repository = _repository(form)
        await service.ledger.write(lambda tx: pauses.resume(tx, repository))
        service.worker.wake()
        log.info("resumed", repository=repository)
        return _back(form, "/"), f"{_named(repository)} resumed: what waited goes on."


def _told(went: list[Retired]) -> str:
    gone = [one.version for one in went if one.retired]
    left = [f"{one.version} was left: {one.why}" for one in went if not one.retired]
    if not went:
        return "Nothing may go: only versions that this receiver made, that no channel holds."
    first = [f"Retired {', '.join(gone)}."] if gone else ["Nothing was retired."]
    return " ".join([*first, *(f"{one}." for one in left)])


def _named(repository: str) -> str:
    return "Everything is" if repository == pauses.ALL else f"{repository} is"


def _back(form: Form, default: str) -> str:
    return safe_path(form["back"]) if "back" in form else default


def _place(form: Form) -> tuple[str, str]:
    return _text(form, "app"), _text(form, "channel")


def _text(form: Form, name: str) -> str:
    value = form.get(name, "")
    if not value.isprintable():
        raise ValueError(f"{name} is printable text")
    return value


def _repository(form: Form) -> str:
    repository = _text(form, "repository")
    if repository != pauses.ALL and not is_repository(repository):
        raise ValueError("a pause names a repository as group/project, or * for all")
    return repository
