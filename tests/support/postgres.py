"""A real PostgreSQL for the tests: Debian's programs, a folder and a port of its own.

One server for the whole run; each test that asks gets a new database. Durable as in production:
fsync stays on. Where PostgreSQL is not installed, the tests that need it are skipped.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import URL

from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from tests.support.receiver_process import until

DEBIAN = Path("/usr/lib/postgresql")
TRIES = 5
IN_USE = "Address already in use"
NOT_INSTALLED = "PostgreSQL is not installed: apt-get install postgresql, or set CI to insist"


def programs() -> Path | None:
    """Where the newest PostgreSQL's programs are."""
    found = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("postgres")
    return Path(elsewhere).parent if elsewhere is not None else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class PortTaken(Exception):
    """Another program listens on the port that the server was to listen on."""


class Postgres:
    """One server; may be stopped, crashed and started again on the same data and port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        self._programs = programs
        self._names = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # It refuses to run as root: then Debian's own user runs it.
        self._user: dict[str, Any] = {}
        self.owner = getpass.getuser()
        if os.geteuid() == 0:
            self.owner = "postgres"
            self._user = {"user": self.owner, "group": self.owner, "extra_groups": []}
            shutil.chown(folder, self.owner, self.owner)
        make = [str(self._programs / "initdb"), "-D", str(self._data), "--no-instructions"]
        how = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run([*make, *how], check=True, cwd=folder, capture_output=True, **self._user)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "32MB",
            "fsync": "on",
            "deadlock_timeout": "200ms",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *options],
                cwd=self._data,
                stdout=log,
                stderr=log,
                **self._user,
            )
        until(self._answers, 90)

    def stop(self) -> None:
        """Stop it as an administrator in a hurry does: every connection is cut."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Let every process of it end at once, without a checkpoint."""
        self._end(signal.SIGQUIT)

    @property
    def deadlocks(self) -> int:
        """How many deadlocks there were: transactions that waited for each other."""
        return self._log.read_text("utf-8").count("deadlock detected")

    def new_database(self) -> URL:
        """Make an empty database; return its URL."""
        name = f"receiver_{next(self._names)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return read_database_url(self._url(name))

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            written = self._log.read_text("utf-8")
            raise PortTaken(written) if IN_USE in written else AssertionError(written)
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


def plain(url: URL) -> str:
    """The URL as people write it into DATABASE_URL, and as psycopg reads it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def rows(url: URL, sql: str, *params: object) -> list[tuple[Any, ...]]:
    """Ask a PostgreSQL ledger directly, as a stranger would."""
    with psycopg.connect(plain(url)) as connection:
        return connection.execute(sql.encode(), params).fetchall()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The run's server."""
    found = programs()
    if found is None:
        pytest.skip(NOT_INSTALLED)
    folder = Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
    server = Postgres(folder, found)
    for _ in range(TRIES):  # another program may have taken the port that was free
        try:
            server.start()
            break
        except PortTaken:
            server.port = free_port()
    else:
        pytest.fail("PostgreSQL found no free port")
    yield server
    server.crash()
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres: Postgres) -> URL:
    """A new, empty database."""
    return postgres.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The test runs twice: on a new SQLite file, and on a new PostgreSQL database."""
    if request.param == "sqlite":
        return URL.create("sqlite", database=str(tmp_path / "receiver.db"))
    url: URL = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ledger(either: URL) -> Iterator[Ledger]:
    """One that is open to write, on each of the two; a module about one of them has its own."""
    opened = Ledger(either)
    opened.open_to_write(wait_seconds=0)
    yield opened
    opened.close()


@pytest.fixture
def replicas(postgres_url: URL) -> Iterator[tuple[Ledger, Ledger]]:
    """Two replicas on one PostgreSQL, as far as the ledger goes."""
    with ExitStack() as closing:
        opened = []
        for _ in range(2):
            one = Ledger(postgres_url)
            one.open_to_write()
            closing.callback(one.close)
            opened.append(one)
        yield opened[0], opened[1]
