"""Reaching the receiver: the running server if there is one, else the ledger itself.

Commands that change something ask the server that holds the ledger; only when none does, they
take its lock and write themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import click

from receiver.api_tokens import ApiKeys, ApiToken
from receiver.cli.exits import NOT_DONE, NOT_FOUND, Stop
from receiver.errors import LedgerError, LedgerInUse

if TYPE_CHECKING:
    import httpx

    from receiver.ledger.ledger import Ledger
    from receiver.settings import Settings
    from receiver.upkeep.manual import Manual

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where not to call
ANSWER_SECONDS = 15.0
ONE_MINUTE = 60
NOT_FOUND_STATUS = 404
UNAUTHORIZED = 401
FAULTS = 400
SERVES_AT = "serves_at"
A_MOMENT_SECONDS = 2.0  # another command may hold the ledger, or a server that just begins or ends
LOOK_EVERY_SECONDS = 0.05


Answer = dict[str, Any]


def new_token(seconds: int, repository: str | None = None) -> ApiToken:
    """Return a new API token that is valid for this many seconds."""
    return ApiToken(token_hex(8), int(time.time()) + seconds, repository)


def api_keys(settings: Settings) -> ApiKeys:
    """Return what signs API tokens with the keys in force."""
    return ApiKeys([key.reveal() for key in settings.secret_keys])


class Server:
    """The running server, asked through its API with a one-minute token."""

    def __init__(self, http: httpx.AsyncClient, settings: Settings) -> None:
        self._http = http
        self._settings = settings

    async def ask(
        self, method: str, path: str, body: object = None, *, seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Return its JSON answer; raises Stop with what it said when it refuses."""
        from httpx import HTTPError

        from receiver.upkeep.operations import SOURCE_HEADER, Source

        token = api_keys(self._settings).sign(new_token(ONE_MINUTE))
        headers = {"Authorization": f"Bearer {token}", SOURCE_HEADER: Source.COMMAND.value}
        try:
            answer = await self._http.request(
                method, path, json=body, headers=headers, timeout=seconds
            )
            told = answer.json()
        except (HTTPError, ValueError):
            told, answer = {}, None
        if answer is None or not isinstance(told, dict):
            sentence = (
                f"what listens at {self._http.base_url} does not answer as this receiver; "
                "set HOST and PORT as the server has them"
            )
            raise Stop(sentence, NOT_DONE)
        if answer.status_code == UNAUTHORIZED:
            sentence = (
                f"the receiver at {self._http.base_url} refuses this command's token: "
                "set RECEIVER_SECRET_KEY as the server has it"
            )
            raise Stop(sentence, NOT_DONE)
        if answer.status_code >= FAULTS:
            code = NOT_FOUND if answer.status_code == NOT_FOUND_STATUS else NOT_DONE
            raise Stop(str(told.get("error", "the server refused")), code)
        return told


async def perform(
    settings: Settings,
    path: str,
    asked: Answer,
    here: Callable[[Manual], Awaitable[Answer]],
    *,
    without_server: str,
) -> Answer:
    """Have the running server do it, or do it here on the ledger when there is none.

    `without_server` is said then: when it takes effect.
    """
    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            return await there.ask("POST", path, asked)
        from receiver.settings import Current
        from receiver.upkeep.manual import Manual

        done = await here(Manual(there, Current(settings)))
        click.echo(f"receiver: no server is running; {without_server}", err=True)
        return done


@asynccontextmanager
async def reached(settings: Settings, *, begin: bool = False) -> AsyncIterator[Server | Ledger]:
    """Yield the running server, or the ledger opened for writing when no server holds it.

    `begin` makes the ledger where there is none yet; another schema is refused, never migrated.
    What is logged meanwhile goes to standard error: standard output is the command's own.
    """
    from receiver.ledger.ledger import Ledger
    from receiver.logs import configure_logs
    from receiver.outgoing import http_client

    configure_logs(secrets=settings.secrets(), level="WARNING")
    ledger = Ledger(settings.database_url)
    try:
        new = begin and ledger.path is not None and not ledger.path.exists()
        if not new:
            ledger.open_to_read()
        here = await _open_or_find_server(ledger, settings)
        if here is None:
            yield ledger
            return
        async with http_client(direct=True, base_url=here, timeout=ANSWER_SECONDS) as http:
            yield Server(http, settings)
    finally:
        ledger.close()


async def _open_or_find_server(ledger: Ledger, settings: Settings) -> str | None:
    """Return where the server answers, or None once the ledger is open for writing."""
    if ledger.shared:
        here = address(settings.host, settings.port)
        if await _works_on(ledger, here, settings):
            return here
    until = time.monotonic() + A_MOMENT_SECONDS
    while True:
        try:
            await asyncio.to_thread(ledger.open_to_write, wait_seconds=0)
        except LedgerInUse:
            here = serving_address(ledger) or address(settings.host, settings.port)
            if await _answers(here) or time.monotonic() >= until:
                return here
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        else:
            return None


async def _works_on(ledger: Ledger, here: str, settings: Settings) -> bool:
    """Return whether the server at this machine's address works on this very ledger."""
    from httpx import HTTPError

    from receiver.ledger.replicas import is_there
    from receiver.outgoing import http_client

    headers = {"Authorization": f"Bearer {api_keys(settings).sign(new_token(ONE_MINUTE))}"}
    async with http_client(direct=True, timeout=ANSWER_SECONDS) as http:
        try:
            answer = (await http.get(f"{here}/readyz", headers=headers)).json()
        except (HTTPError, ValueError):
            return False
    owner = answer.get("replica") if isinstance(answer, dict) else None
    return isinstance(owner, str) and await ledger.read(lambda tx: is_there(tx, owner))


async def _answers(here: str) -> bool:
    from httpx import HTTPError

    from receiver.outgoing import http_client

    async with http_client(direct=True, timeout=ANSWER_SECONDS) as http:
        try:
            await http.get(f"{here}/livez")
        except HTTPError:
            return False
    return True


def address(host: str, port: int) -> str:
    """Return the URL to call a server on this machine at."""
    host = ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serving_address(ledger: Ledger) -> str | None:
    """Return where the server that holds the ledger listens, as it wrote down at its start."""
    try:
        ledger.open_to_read()
        found = ledger.read_now(
            lambda tx: tx.run("SELECT value FROM meta WHERE key = :key", key=SERVES_AT).scalar()
        )
    except LedgerError:  # it is being made this very moment
        return None
    return str(found) if found else None
