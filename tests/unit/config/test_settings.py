"""The environment and receiver.toml: every setting, read from each source it may have."""

from pathlib import Path

import pytest

from receiver.config.load import load_settings
from receiver.config.settings import Settings
from receiver.errors import ConfigError
from tests.unit.config.test_errors import NOTHING, faults

DAY = 86_400_000
RULE = '[[rule]]\nrepository = "studio/game"\napp = "my-game"\n'


def test_if_there_is_a_ledger_nobody_is_advised_to_make_a_new_key(tmp_path: Path) -> None:
    """A new key ends every link that was pasted into Docker Hub."""
    url = f"sqlite:///{tmp_path}/receiver.db"
    need = frozenset({"RECEIVER_SECRET_KEY"})
    assert "secrets.token_urlsafe" in faults(NOTHING, need, DATABASE_URL=url)[0].hint

    (tmp_path / "receiver.db").touch()

    (fault,) = faults(NOTHING, need, DATABASE_URL=url)
    assert "token_urlsafe" not in fault.hint
    assert "set that key again" in fault.hint
    for wrong in (",", "short", "'',''", "a-key-that-is-long-enough-0123,short"):
        (fault,) = faults(NOTHING, need, DATABASE_URL=url, RECEIVER_SECRET_KEY=wrong)
        assert "token_urlsafe" not in fault.hint
        assert "set that key again" in fault.hint
        (shared,) = faults(
            NOTHING, need, DATABASE_URL="postgresql://a/b", RECEIVER_SECRET_KEY=wrong
        )
        assert shared.hint.startswith("Look first for the key that made the existing links")


@pytest.mark.parametrize("config", ["RECEIVER_CONFIG_TOML", "RECEIVER_CONFIG"])
def test_a_ledger_that_an_earlier_configuration_used_is_found(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was used with `data/receiver.toml`; now the text is in a variable, or elsewhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "receiver.db").touch()
    (tmp_path / "receiver.toml").touch()
    monkeypatch.chdir(tmp_path)
    text = {"RECEIVER_CONFIG_TOML": "#", "RECEIVER_CONFIG": "receiver.toml"}[config]

    with pytest.raises(ConfigError) as refused:
        load_settings({config: text}, need=frozenset({"RECEIVER_SECRET_KEY"}))

    assert "data/receiver.db were signed with a key" in refused.value.faults[0].hint


@pytest.mark.parametrize("text", [",", ",,", " , ", '"",""', "' '", "','"])
def test_a_list_of_no_keys_is_no_key(text: str) -> None:
    """`check` called it valid, and `link` and `serve` ended in an IndexError."""
    found = faults(NOTHING, frozenset({"RECEIVER_SECRET_KEY"}), RECEIVER_SECRET_KEY=text)

    assert [fault.where for fault in found] == ["RECEIVER_SECRET_KEY"]


def load(toml: str = NOTHING, /, **environ: str) -> Settings:
    return load_settings({"RECEIVER_CONFIG_TOML": toml, **environ})


def test_nothing_set_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings({})

    assert settings == Settings()
    assert settings.edgegap_base_url == "https://api.edgegap.com"
    assert settings.registry_url == "https://registry-1.docker.io"
    assert settings.registry_auth_url == "https://auth.docker.io/token"
    assert settings.hub_api_url == "https://hub.docker.com"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.requests_per_second, settings.concurrency) == (8.0, 4)
    assert (settings.catch_up_every, settings.keep) == (15 * 60_000, 90 * DAY)
    assert str(settings.database_url) == "sqlite:///receiver.db"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("EDGEGAP_BASE_URL", "http://127.0.0.1:9/x/", "edgegap_base_url", "http://127.0.0.1:9/x"),
        ("EDGEGAP_REQUESTS_PER_SECOND", "0.5", "requests_per_second", 0.5),
        ("EDGEGAP_CONCURRENCY", " 9 ", "concurrency", 9),
        ("RECEIVER_LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("RECEIVER_LOG_FORMAT", "json", "log_format", "json"),
        ("DOCKERHUB_REGISTRY_URL", "https://r.example", "registry_url", "https://r.example"),
        ("DOCKERHUB_AUTH_URL", "https://a.example/t", "registry_auth_url", "https://a.example/t"),
        ("DOCKERHUB_API_URL", "https://h.example", "hub_api_url", "https://h.example"),
        ("RECEIVER_PUBLIC_URL", "https://me.example/", "public_url", "https://me.example"),
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104 - as in a container
        ("HOST", "[::1]", "host", "::1"),
        ("HOST", "localhost", "host", "localhost"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8,::1", "forwarded_allow_ips", "10.0.0.0/8,::1"),
        ("FORWARDED_ALLOW_IPS", "*", "forwarded_allow_ips", "*"),
        ("FORWARDED_ALLOW_IPS", "", "forwarded_allow_ips", "127.0.0.1"),
        ("EDGEGAP_BASE_URL", "https://e.example/v1/", "edgegap_base_url", "https://e.example"),
        ("EDGEGAP_BASE_URL", "https://e.example/V1", "edgegap_base_url", "https://e.example"),
        ("EDGEGAP_BASE_URL", "https://e.example//v1/app", "edgegap_base_url", "https://e.example"),
        ("EDGEGAP_BASE_URL", "https://e.example/v1/apps", "edgegap_base_url", "https://e.example"),
        ("EDGEGAP_BASE_URL", "https://a.b/V2/app/x/version", "edgegap_base_url", "https://a.b"),
        ("EDGEGAP_BASE_URL", "https://a.b/v1/edge", "edgegap_base_url", "https://a.b/v1/edge"),
        ("EDGEGAP_BASE_URL", "https://a.b/dev1", "edgegap_base_url", "https://a.b/dev1"),
        ("DOCKERHUB_REGISTRY_URL", "https://r.example/v2", "registry_url", "https://r.example"),
        ("DOCKERHUB_API_URL", "https://h.example/v2/", "hub_api_url", "https://h.example"),
        ("PORT", "0", "port", 0),
        ("PORT", "65535", "port", 65_535),
    ],
)
def test_each_plain_variable(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load(**{name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("EDGEGAP_TOKEN", "edgegap_token"),
        ("RECEIVER_ADMIN_PASSWORD", "admin_password"),
        ("RECEIVER_METRICS_TOKEN", "metrics_token"),
    ],
)
def test_each_secret_comes_from_its_variable_or_its_file(
    name: str, field: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("  from-a-file\n\n", "utf-8")

    assert getattr(load(**{name: " plain \n"}), field).reveal() == "plain"
    assert getattr(load(**{f"{name}_FILE": str(file)}), field).reveal() == "from-a-file"
    assert getattr(load(**{name: "plain", f"{name}_FILE": str(file)}), field).reveal() == "plain"
    assert getattr(load(**{name: "", f"{name}_FILE": str(file)}), field).reveal() == "from-a-file"
    assert getattr(load(**{name: " "}), field) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbffrom-a-file\r\n", None),
        (b'"from-a-file"\n', None),
        ("from-a-file".encode("utf-16"), "UTF-16"),
        (b"from-\xff", "not UTF-8"),
        (b"from-a-file\0", "NUL"),
    ],
)
def test_a_file_of_a_secret_is_a_text_file_as_any_other(
    tmp_path: Path, content: bytes, words: str | None
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    environ = {"EDGEGAP_TOKEN_FILE": str(file)}

    if words is None:
        token = load(**environ).edgegap_token
        assert token is not None
        assert token.reveal() == "from-a-file"
        return
    with pytest.raises(ConfigError, match=words) as refused:
        load(**environ)
    assert refused.value.faults[0].where == "EDGEGAP_TOKEN_FILE"


@pytest.mark.parametrize(
    ("written", "token"),
    [
        ("abc-1", "abc-1"),
        ("token token abc-1", "abc-1"),
        ("token=abc-1", "abc-1"),
        ("TOKEN = abc-1", "abc-1"),
        ("api_token: abc-1", "abc-1"),
        ('"token abc-1"', "abc-1"),
        ('token "abc-1"', "abc-1"),
        ("Bearer abc-1", "abc-1"),
        ("Authorization: token abc-1", "abc-1"),
        ("\u00a0abc-1\u200b", "abc-1"),
        ("token-abc", "token-abc"),
        ("token abc-1", "abc-1"),
        ("Token \t abc-1\n", "abc-1"),
        ("token", "token"),
        ("tokenabc", "tokenabc"),
    ],
)
def test_the_word_token_before_the_api_token_is_left_off(written: str, token: str) -> None:
    found = load(EDGEGAP_TOKEN=written).edgegap_token

    assert found is not None
    assert found.reveal() == token


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("SQLite:///receiver.db", "sqlite"),
        ("POSTGRES://u@h/db", "postgresql+psycopg"),
        ("PostgreSQL+psycopg://u@h/db", "postgresql+psycopg"),
    ],
)
def test_the_scheme_of_a_database_url_may_be_in_upper_case(url: str, driver: str) -> None:
    assert load(DATABASE_URL=url).database_url.drivername == driver


def test_keys_are_listed_newest_first_and_kept_oldest_first() -> None:
    new, older, oldest = (name * 8 for name in ("new", "older", "oldest"))

    keys = load(RECEIVER_SECRET_KEY=f" {new} , {older},, {oldest} ,").secret_keys

    assert [key.reveal() for key in keys] == [oldest, older, new]


def test_keys_and_login_and_database_come_from_files_too(tmp_path: Path) -> None:
    new, old = "new-" * 8, "old-" * 8
    contents = {
        "RECEIVER_SECRET_KEY": f"{new},{old}\n",
        "DOCKERHUB_USERNAME": "studio\n",
        "DOCKERHUB_TOKEN": "pull-only\n",
        "DATABASE_URL": "postgres://u:pass-word@db/ledger\n",
        "RECEIVER_CONFIG_TOML": RULE,
    }
    environ = {}
    for name, text in contents.items():
        (tmp_path / name).write_text(text, "utf-8")
        environ[f"{name}_FILE"] = str(tmp_path / name)

    settings = load_settings(environ)

    assert [key.reveal() for key in settings.secret_keys] == [old, new]
    assert settings.login is not None
    assert (settings.login.username, settings.login.token.reveal()) == ("studio", "pull-only")
    assert settings.database_url.drivername == "postgresql+psycopg"
    assert settings.rules[0].login == settings.login
    revealed = {secret.reveal() for secret in settings.secrets()}
    assert revealed == {old, new, "pull-only", "pass-word"}


def test_every_secret_is_known_for_masking_and_none_prints() -> None:
    environ = {
        "RECEIVER_SECRET_KEY": "canary-1-0123456,canary-2-0123456",
        "EDGEGAP_TOKEN": "token canary-3",
        "RECEIVER_ADMIN_PASSWORD": "canary-4",
        "RECEIVER_METRICS_TOKEN": "canary-5",
        "DOCKERHUB_USERNAME": "studio",
        "DOCKERHUB_TOKEN": "canary-6",
        "LOBBY_USER": "lobby",
        "LOBBY_TOKEN": "canary-7",
        "GAME_DB": "canary-8",
        "DATABASE_URL": "postgresql://u:canary-9@db/ledger",
    }
    toml = (
        RULE + 'login = { username_env = "LOBBY_USER", token_env = "LOBBY_TOKEN" }\n'
        '[rule.settings]\nenvs = [{ key = "DB", value_from = "GAME_DB", is_hidden = true }]\n'
    )

    settings = load(toml, **environ)

    revealed = {secret.reveal() for secret in settings.secrets()}
    assert {secret[: len("canary-1")] for secret in revealed} == {
        f"canary-{number}" for number in range(1, 10)
    }
    assert "canary" not in repr(settings)


def test_the_file_is_named_by_receiver_config_and_the_ledger_lies_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('public_url = "https://me.example"\n', "utf-8")

    settings = load_settings({"RECEIVER_CONFIG": str(path)})

    assert settings.public_url == "https://me.example"
    assert settings.database_url.database == str(tmp_path / "receiver.db")


def test_the_text_in_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    environ = {"RECEIVER_CONFIG": str(tmp_path / "gone.toml")}

    assert load('public_url = "https://a.example"', **environ).public_url == "https://a.example"


def test_the_variable_goes_before_the_file() -> None:
    toml = 'public_url = "https://file.example"'

    settings = load(toml, RECEIVER_PUBLIC_URL="https://variable.example")

    assert settings.public_url == "https://variable.example"


def test_the_links_catch_up_and_ledger_tables_are_read() -> None:
    settings = load(
        '[links]\n"studio/game" = 2\n[catch_up]\nevery = "90s"\n'
        '[ledger]\nkeep = "36h"\nbodies = "7d"\n'
    )

    assert settings.links == {"studio/game": 2}
    assert (settings.catch_up_every, settings.keep) == (90_000, DAY * 3 // 2)
    assert settings.keep_bodies == 7 * DAY
    assert load('[catch_up]\nevery = "off"').catch_up_every is None
