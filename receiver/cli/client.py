"""Access to the receiver: the running server if there is one, otherwise the ledger.

A command asks the server that holds the ledger. If no server holds it, the command takes the
ledger's lock, and asks the same application in its own process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from secrets import token_hex
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import click
import msgspec

from receiver.cli.output import BAD_CONFIG, NOT_DONE, NOT_FOUND, USAGE, CommandError
from receiver.config.variables import variables_of
from receiver.errors import LedgerError, LedgerInUse
from receiver.signing import ApiToken, ApiTokenSigner

if TYPE_CHECKING:
    import httpx

    from receiver.config.settings import Settings
    from receiver.ledger.ledger import Ledger

NOTHING: frozenset[str] = frozenset()
KEY = frozenset({"RECEIVER_SECRET_KEY"})
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - replaced, not listened on
ANSWER_SECONDS = 15.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
ONE_MINUTE = 60
HERE = "http://127.0.0.1"  # the application in this process
OWN_EXITS = {"configuration_refused": BAD_CONFIG}
SERVES_AT = "serves_at"
PROCESSED_LATER = "start `receiver serve` to process them"
IN_FORCE_LATER = "it takes effect at the next `receiver serve`"
RETRY_SECONDS = 2.0  # another command, or a starting or stopping server, may hold the ledger
LOOK_EVERY_SECONDS = 0.05

V = TypeVar("V")


def configured(need: frozenset[str] = NOTHING) -> Settings:
    """Load the settings; raises ConfigError with all faults."""
    from receiver.config.load import load_settings

    return load_settings(variables_of(os.environ), need=need)


def lenient_settings(need: frozenset[str] = NOTHING) -> Settings:
    """Load the settings, and print a warning if receiver.toml has faults; raises ConfigError.

    For commands that use no rule: a typo in a rule must not block them. The environment must be
    valid, because it names the ledger and the server.
    """
    from receiver.config.load import load_settings_lenient

    settings, faults = load_settings_lenient(variables_of(os.environ), need=need)
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        click.echo(
            f"receiver: the configuration has {count}, ignored by this command; "
            "see `receiver check`",
            err=True,
        )
    return settings


class Refused(msgspec.Struct, frozen=True):
    """An error of the API."""

    detail: str = "the server refused"
    code: str = ""


def new_token(seconds: int, repository: str | None = None) -> ApiToken:
    """Return a new API token that is valid for this many seconds."""
    return ApiToken(token_hex(8), int(time.time()) + seconds, repository)


def api_keys(settings: Settings) -> ApiTokenSigner:
    """Return the signer of API tokens with the current keys."""
    return ApiTokenSigner([key.reveal() for key in settings.secret_keys])


class Server:
    """A server's API; requests carry a token that is valid for one minute.

    `is_here`: no server is running, and the application answers in this process.
    """

    def __init__(
        self, http: httpx.AsyncClient, settings: Settings, *, is_here: bool = False
    ) -> None:
        self._http = http
        self._settings = settings
        self.is_here = is_here

    def note(self, sentence: str) -> None:
        """Print to standard error that no server is running, if that is so, and what follows."""
        if self.is_here:
            click.echo(f"receiver: no server is running; {sentence}", err=True)

    async def ask(
        self,
        method: str,
        path: str,
        kind: type[V],
        body: object = None,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> V:
        """Return the response; raises CommandError with the server's error message."""
        from receiver.http.client import NO_ANSWER, ask
        from receiver.ledger.views import to_plain
        from receiver.logs import SOURCE_HEADER, USER_HEADER, Source, user_name
        from receiver.web.serialization import decode

        token = api_keys(self._settings).sign(new_token(ONE_MINUTE))
        headers = {
            "Authorization": f"Bearer {token}",
            SOURCE_HEADER: Source.COMMAND.value,
            USER_HEADER: quote(user_name()),
        }
        try:
            answer, content = await ask(
                self._http,
                method,
                path,
                largest=MAX_RESPONSE_BYTES,
                seconds=seconds,
                headers=headers,
                body=None if body is None else msgspec.to_builtins(body, enc_hook=to_plain),
            )
            if not answer.is_error:
                return decode(content, kind)
            refused = decode(content, Refused)
        except (*NO_ANSWER, msgspec.MsgspecError):
            sentence = (
                f"the server at {self._http.base_url} does not answer like this receiver; "
                "set HOST and PORT to the server's values"
            )
            raise CommandError(sentence, NOT_DONE) from None
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            sentence = (
                f"the receiver at {self._http.base_url} refuses this command's token: "
                "set RECEIVER_SECRET_KEY to the server's value"
            )
            raise CommandError(sentence, NOT_DONE)
        code = NOT_FOUND if answer.status_code == HTTPStatus.NOT_FOUND else NOT_DONE
        raise CommandError(refused.detail, OWN_EXITS.get(refused.code, code))


def ask_receiver(
    settings: Settings,
    method: str,
    path: str,
    kind: type[V],
    body: object = None,
    *,
    begin: bool = False,
    seconds: float = ANSWER_SECONDS,
    later: str = "",
) -> V:
    """Send one request to the receiver that `reached` yields, and return the response.

    `later` says when a change takes effect if no server is running.
    """

    async def ask_it() -> V:
        async with reached(settings, begin=begin) as server:
            done = await server.ask(method, path, kind, body, seconds=seconds)
            if later:
                server.note(later)
            return done

    return asyncio.run(ask_it())


def perform(settings: Settings, path: str, kind: type[V], body: object) -> V:
    """Send a request that changes something, and return the response."""
    return ask_receiver(settings, "POST", path, kind, body, begin=True, later=IN_FORCE_LATER)


def check_app(settings: Settings, app: str) -> None:
    """Raise CommandError if no rule names the app."""
    known = sorted({rule.app for rule in settings.rules})
    if app not in known:
        raise CommandError(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)


@asynccontextmanager
async def reached(settings: Settings, *, begin: bool = False) -> AsyncIterator[Server]:
    """Yield the running server or, if none holds the ledger, the application in this process.

    `begin` creates the ledger if it does not exist; a ledger with another schema is refused, never
    migrated. Log messages go to standard error, because standard output is the command's.
    """
    async with reached_ledger(settings, begin=begin) as (ledger, url):
        if url is not None:
            from receiver.http.client import http_client

            async with http_client(direct=True, base_url=url, timeout=ANSWER_SECONDS) as http:
                yield Server(http, settings)
            return
        from httpx import ASGITransport, AsyncClient

        from receiver.web.app import app_without_worker

        async with app_without_worker(settings, ledger) as app:
            transport = ASGITransport(app)
            async with AsyncClient(transport=transport, base_url=HERE) as http:
                yield Server(http, settings, is_here=True)


@asynccontextmanager
async def reached_ledger(
    settings: Settings, *, begin: bool
) -> AsyncIterator[tuple[Ledger, str | None]]:
    """Yield the ledger and the URL of the server that holds it; without one, open to write."""
    from receiver.ledger.ledger import Ledger
    from receiver.logs import configure_logs

    configure_logs(secrets=settings.secrets(), level="WARNING")
    ledger = Ledger(settings.database_url)
    try:
        new = begin and ledger.path is not None and not ledger.path.exists()
        if not new:
            ledger.open_readonly()
        yield ledger, await _open_or_find_server(ledger, settings)
    finally:
        ledger.close()


async def _open_or_find_server(ledger: Ledger, settings: Settings) -> str | None:
    """Return the server's URL, or None once the ledger is open for writing."""
    if ledger.shared:
        here = address(settings.host, settings.port)
        if await _uses_ledger(ledger, here, settings):
            return here
    until = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            await asyncio.to_thread(ledger.open_to_write, wait_seconds=0)
        except LedgerInUse:
            here = serving_address(ledger) or address(settings.host, settings.port)
            if await _answer(f"{here}/livez") is not None or time.monotonic() >= until:
                return here
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        else:
            return None


async def _uses_ledger(ledger: Ledger, here: str, settings: Settings) -> bool:
    """Return whether the server at this URL uses this ledger."""
    from receiver.ledger.replicas import is_there

    token = api_keys(settings).sign(new_token(ONE_MINUTE))
    content = await _answer(f"{here}/readyz", {"Authorization": f"Bearer {token}"})
    try:
        answer = json.loads(content or b"null")
    except ValueError:
        return False
    owner = answer.get("replica") if isinstance(answer, dict) else None
    return isinstance(owner, str) and await ledger.read(lambda tx: is_there(tx, owner))


async def _answer(url: str, headers: dict[str, str] | None = None) -> bytes | None:
    """Return the body of the response at this URL; None if there is none."""
    from receiver.http.client import NO_ANSWER, ask, http_client

    async with http_client(direct=True, timeout=ANSWER_SECONDS) as http:
        try:
            _, content = await ask(
                http,
                "GET",
                url,
                largest=MAX_RESPONSE_BYTES,
                seconds=ANSWER_SECONDS,
                headers=headers,
            )
        except NO_ANSWER:
            return None
    return content


def address(host: str, port: int) -> str:
    """Return the URL of a server on this machine."""
    host = ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serving_address(ledger: Ledger) -> str | None:
    """Return the URL that the server holding the ledger recorded at its start."""
    from receiver.ledger.transaction import read_note

    try:
        ledger.open_readonly()
        return ledger.read_sync(lambda tx: read_note(tx, SERVES_AT)) or None
    except LedgerError:  # the ledger is being created
        return None
