"""Whatever `.env`, the environment, a secret's file or receiver.toml hold: it is read, or reported
as a fault of the configuration; nothing else happens.
"""

import json
import string
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hypothesis import assume, example, given
from hypothesis import strategies as st

from receiver.cli.output import CommandError, moment
from receiver.config.checks import CATCH_UP_BOUNDS
from receiver.config.load import load_settings
from receiver.config.model import NoticeTable
from receiver.config.settings import Settings
from receiver.config.tables import keys_of
from receiver.config.text import strip
from receiver.config.values import UNITS, token_fault
from receiver.errors import ConfigError
from receiver.secret import Secret

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
NUMBERS = st.integers().map(str) | st.floats().map(str)
URLS = st.text("htps:/?#@[].0123456789a%\\ é", max_size=24).map(lambda rest: f"https://{rest}")
DATABASES = st.sampled_from(["sqlite", "postgresql", "postgres", "mysql"]).flatmap(
    lambda kind: st.text(":/@?=&%[]a0.", max_size=20).map(lambda rest: f"{kind}:{rest}")
)
# As the system hands them over: bytes that are no UTF-8 become halves of letters.
ENCODED = st.binary(max_size=20).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
VARIABLES = (
    "EDGEGAP_TOKEN",
    "EDGEGAP_BASE_URL",
    "EDGEGAP_REQUESTS_PER_SECOND",
    "EDGEGAP_CONCURRENCY",
    "DOCKERHUB_USERNAME",
    "DOCKERHUB_TOKEN",
    "DOCKERHUB_AUTH_URL",
    "RECEIVER_SECRET_KEY",
    "RECEIVER_PUBLIC_URL",
    "RECEIVER_CONFIG",
    "RECEIVER_CONFIG_TOML",
    "RECEIVER_ADMIN_PASSWORD",
    "RECEIVER_LOG_LEVEL",
    "DATABASE_URL",
    "FORWARDED_ALLOW_IPS",
    "HOST",
    "PORT",
)
SCALARS = st.none() | st.booleans() | st.integers() | TEXTS
JUNK: st.SearchStrategy[Any] = SCALARS | st.lists(SCALARS, max_size=3)


def read(environ: Mapping[str, str]) -> Settings | None:
    """The settings; None if it has faults, each of which says where and what to do."""
    try:
        return load_settings(environ)
    except ConfigError as error:
        faults = error.faults
    assert faults
    assert all(fault.where and fault.what and fault.hint for fault in faults)
    return None


@given(
    st.dictionaries(
        st.sampled_from([*VARIABLES, *(f"{name}_FILE" for name in VARIABLES)]),
        TEXTS | NUMBERS | URLS | DATABASES | ENCODED,
        max_size=2,  # of many at once one is surely a fault
    )
)
def test_any_environment_is_read_or_has_faults(environ: dict[str, str]) -> None:
    settings = read({"RECEIVER_CONFIG_TOML": "# nothing", **environ})

    if settings is not None:
        assert all(secret.reveal().encode() for secret in settings.secrets())
        assert settings.host.encode()
        assert 0.01 <= settings.requests_per_second <= 1000
        assert 1 <= settings.concurrency <= 64
        assert 0 <= settings.port <= 65_535
        for url in (settings.edgegap_base_url, settings.registry_auth_url):
            assert urlsplit(url).scheme in {"http", "https"}
            assert urlsplit(url).hostname
        assert settings.database_url.get_backend_name() in {"sqlite", "postgresql"}


@given(st.binary(max_size=60))
@example(b"pass\rword")  # as text it came out with a line's end of ours
def test_any_file_of_a_secret_is_read_or_a_fault(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret"
        path.write_bytes(content)
        settings = read({"RECEIVER_CONFIG_TOML": "#", "RECEIVER_ADMIN_PASSWORD_FILE": str(path)})

    if settings is not None and settings.admin_password is not None:
        assert settings.admin_password.reveal() in content.decode("utf-8")
    elif settings is not None:
        assert strip(content.decode("utf-8-sig").strip("\"'")) == ""


@given(TEXTS | st.text("[]=\"'.\n_ruleapnotc1", max_size=60))
def test_any_text_of_a_configuration_is_read_or_has_faults(text: str) -> None:
    read({"RECEIVER_CONFIG_TOML": f"#\n{text}"})


@given(
    st.dictionaries(st.sampled_from(["public_url", "links", "catch_up", "ledger", "x"]), JUNK),
    st.lists(st.dictionaries(st.sampled_from(list(keys_of(NoticeTable))), JUNK), max_size=2),
)
def test_any_tables_are_read_or_have_faults(top: dict[str, Any], notices: list[Any]) -> None:
    lines = [f"{key} = {_toml(value)}" for key, value in top.items() if value is not None]
    for notice in notices:
        lines.append("[[notice]]")
        lines += [f"{key} = {_toml(value)}" for key, value in notice.items() if value is not None]

    read({"RECEIVER_CONFIG_TOML": "\n".join(["#", *lines]), "A": "json://a"})


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value if one is not None)}]"
    return json.dumps(value).replace("\x7f", "")  # TOML's own, but for this and halves of letters


@given(st.integers(1, 999_999), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "\t"]))
def test_a_duration_reads_as_it_is_written(number: int, unit: str, around: str) -> None:
    written = json.dumps(f"{around}{number}{unit}{around}")

    settings = read({"RECEIVER_CONFIG_TOML": f"[catch_up]\nevery = {written}"})

    shortest, longest = CATCH_UP_BOUNDS
    if shortest <= number * UNITS[unit] <= longest:
        assert settings is not None
        assert settings.catch_up_every == number * UNITS[unit]
    else:
        assert settings is None


@given(
    st.text(string.ascii_letters + string.digits + "-", min_size=1),
    st.sampled_from(["token ", "Token  ", ""]),
)
def test_an_edgegap_token_is_the_same_with_and_without_its_scheme(token: str, scheme: str) -> None:
    assume(token_fault(token) is None)  # no placeholder
    settings = read({"RECEIVER_CONFIG_TOML": "#", "EDGEGAP_TOKEN": scheme + token})

    assert settings is not None
    assert settings.edgegap_token == Secret(token)


@given(st.text() | st.text("0123456789mhdago -:TZ+²٣", max_size=20))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with suppress(CommandError):
        assert moment(text) >= 0


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_moment_reads_as_it_is_written(when: datetime) -> None:
    assert moment(when.isoformat()) == int(when.timestamp() * 1000)
