"""What is wrong with the configuration: reported at once, each with location and fix."""

from pathlib import Path

import pytest

from receiver.config.load import load_settings
from receiver.config.settings import MAKE_A_KEY
from receiver.errors import ConfigError, ConfigIssue

EVERYTHING = frozenset({"RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "public_url", "rule"})
NOTHING = "# nothing"


def faults(
    toml: str = NOTHING, need: frozenset[str] = frozenset(), /, **environ: str
) -> list[ConfigIssue]:
    with pytest.raises(ConfigError) as refused:
        load_settings({"RECEIVER_CONFIG_TOML": toml, **environ}, need=need)
    for fault in refused.value.faults:
        assert fault.where
        assert fault.what
        assert fault.hint
        assert str(fault) in str(refused.value)
    return list(refused.value.faults)


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        ("= 1", "RECEIVER_CONFIG_TOML"),
        ("a = " + "9" * 5000, "RECEIVER_CONFIG_TOML"),
        ("publik_url = 1", "RECEIVER_CONFIG_TOML, publik_url"),
        ("public_url = 1", "public_url"),
        ('public_url = "hooks.example.com"', "public_url"),
        ('public_url = "https://a b"', "public_url"),
        ('public_url = "https://a\\tb"', "public_url"),
        ('public_url = "https://:pw@a"', "public_url"),
        ('public_url = "https://a/?x=1"', "public_url"),
        ('public_url = "https://[a"', "public_url"),
        ('public_url = "ftp://a"', "public_url"),
        ('public_url = "https://a/hooks"', "public_url"),
        ('public_url = "https://a:99999"', "public_url"),
        ('public_url = "https://a..b"', "public_url"),
        (f'public_url = "https://{"a" * 64}"', "public_url"),
        ("links = 1", "links"),
        ('[links]\n"Studio" = 1', "links"),
        ('[links]\n"a/b" = 0', "links"),
        ('[links]\n"a/b" = true', "links"),
        ("catch_up = 1", "catch_up"),
        ('[catch_up]\nevry = "1m"', "catch_up.evry"),
        ('[catch_up]\nevery = "0m"', "catch_up.every"),
        ('[catch_up]\nevery = "59s"', "catch_up.every"),
        ('[catch_up]\nevery = "8d"', "catch_up.every"),
        ("[catch_up]\nevery = 15", "catch_up.every"),
        ('[ledger]\nkeep = "off"', "ledger.keep"),
        ('[ledger]\nkeep = "1w"', "ledger.keep"),
        ('[ledger]\nkeep = "1s"', "ledger.keep"),
        ('[ledger]\nkeep = "23h"', "ledger.keep"),
        ('[ledger]\nbodies = "59m"', "ledger.bodies"),
        ("[ledger]\nbodies = true", "ledger.bodies"),
        ('[ledger]\nkeep = "' + "9" * 5000 + 'd"', "ledger.keep"),
        ("rule = 1", "rule"),
        ('[rule]\napp = "x"', "rule"),
    ],
)
def test_each_fault_of_the_file_says_where(toml: str, where: str) -> None:
    assert any(where in fault.where for fault in faults(toml))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("PORT", "nan"),
        ("PORT", "http"),
        ("EDGEGAP_CONCURRENCY", "0"),
        ("EDGEGAP_CONCURRENCY", "inf"),
        ("EDGEGAP_REQUESTS_PER_SECOND", "0"),
        ("EDGEGAP_BASE_URL", "api.edgegap.com"),
        ("DOCKERHUB_AUTH_URL", "https://u:p@a"),
        ("DATABASE_URL", "mysql://a/b"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "canary"),
        ("DATABASE_URL", "postgresql://receiver:an@canary@127.0.0.1/receiver"),
        ("DATABASE_URL", "sqlite:///receiver.db?mode=ro"),
        ("DATABASE_URL", "sqlite://data/receiver.db"),
        ("DATABASE_URL", "sqlite://receiver.db"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///data/"),
        ("DATABASE_URL", "sqlite:///~/receiver.db"),
        ("DATABASE_URL", "sqlite+aiosqlite:///receiver.db"),
        ("HOST", "x86_64-conda-linux-gnu"),
        ("HOST", "aarch64-conda-linux-gnu"),
        ("HOST", "arm64-apple-darwin20.0.0"),
        ("HOST", "0.0.0.0:8000"),
        ("HOST", "[::1]:8000"),
        ("HOST", "http://127.0.0.1"),
        ("HOST", "0.0.0.0/0"),
        ("HOST", "256.1.1.1"),
        ("HOST", "*"),
        ("HOST", "two words"),
        ("FORWARDED_ALLOW_IPS", "nginx"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/40"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
        ("FORWARDED_ALLOW_IPS", "127.0.0.1,"),
        ("FORWARDED_ALLOW_IPS", "*,127.0.0.1"),
        ("EDGEGAP_BASE_URL", "http://api.edgegap.com"),
        ("EDGEGAP_BASE_URL", "http://10.0.0.1:8080"),
        ("RECEIVER_ALLOW_PLAIN_HTTP", "perhaps"),
        ("RECEIVER_LOG_LEVEL", "verbose"),
        ("RECEIVER_LOG_FORMAT", "logfmt"),
        ("RECEIVER_SECRET_KEY", "canary-key"),
        ("RECEIVER_SECRET_KEY", "changeme"),
        ("RECEIVER_SECRET_KEY", "a-key-that-is-long-enough-0123,canary"),
        ("RECEIVER_SECRET_KEY", "..."),
        ("RECEIVER_SECRET_KEY", "change-me-please-now"),
        ("RECEIVER_SECRET_KEY", "changeme1234567890"),
        ("RECEIVER_SECRET_KEY", "replace-with-32-random-bytes"),
        ("RECEIVER_SECRET_KEY", "***REMOVED_FROM_HISTORY***"),
        ("RECEIVER_ADMIN_PASSWORD", "<your password>"),
        ("RECEIVER_ADMIN_PASSWORD", "“canary"),
        ("RECEIVER_SECRET_KEY", "canary-0123456789-\u200b-0123456789"),
        ("RECEIVER_METRICS_TOKEN", "two canaries"),
        ("EDGEGAP_TOKEN", "..."),
        ("EDGEGAP_TOKEN", "<your-token>"),
        ("EDGEGAP_TOKEN", "your-edgegap-token"),
        ("EDGEGAP_TOKEN", "change_me"),
        ("EDGEGAP_TOKEN", "TOKEN_HERE"),
        ("EDGEGAP_TOKEN", "{token}"),
        ("EDGEGAP_TOKEN", "xxxx-xxxx-xxxx"),
        ("EDGEGAP_TOKEN", "insert-token-here"),
        ("EDGEGAP_TOKEN", "replace-with-token"),
        ("EDGEGAP_TOKEN", "Put.My_API-Key.Here"),
        ("EDGEGAP_TOKEN", "bearer your_edgegap_token_here"),
        ("EDGEGAP_TOKEN", "YourTokenHere"),
        ("EDGEGAP_TOKEN", "Bearer"),
        ("EDGEGAP_TOKEN", "Authorization: Bearer"),
        ("EDGEGAP_TOKEN", "token:"),
        ("RECEIVER_METRICS_TOKEN", "basic"),
        ("EDGEGAP_TOKEN", "XXXX"),
        ("EDGEGAP_TOKEN", "${TOKEN}"),
        ("EDGEGAP_TOKEN", "${{ secrets.EDGEGAP_TOKEN }}"),
        ("EDGEGAP_TOKEN", "canary tok"),
        ("EDGEGAP_TOKEN", "canary\u200btok"),
        ("EDGEGAP_TOKEN", "canary\u2013tok"),
        ("EDGEGAP_TOKEN", '"canary'),
        ("EDGEGAP_TOKEN", "canary\ntoken"),
        ("EDGEGAP_TOKEN", "canaré"),
        ("EDGEGAP_TOKEN_FILE", "/does/not/exist"),
        ("DATABASE_URL_FILE", "/does/not/exist"),
        ("RECEIVER_SECRET_KEY_FILE", "/"),
    ],
)
def test_each_fault_of_the_environment_names_its_variable(name: str, text: str) -> None:
    (fault,) = faults(**{name: text})

    assert fault.where == name
    assert "canar" not in str(fault)


def test_a_name_that_could_not_be_read_is_not_reported_as_duplicate() -> None:
    """It followed from the fault reported already, and named a rule that nobody wrote."""
    rule = '[[rule]]\nrepository = "studio/x"\napp = "x"\n'

    where = [fault.where.removeprefix("RECEIVER_CONFIG_TOML, ") for fault in faults(rule * 2)]

    assert where == ["rule 1, app", "rule 2, app"]


def test_the_faults_of_a_table_follow_each_other() -> None:
    """Some are found in the table alone, some only with what else is there."""
    login = 'login = { username_env = "NOT_SET", token_env = "NOT_SET" }\n'
    rule = f'[[rule]]\nrepository = "studio/x"\napp = "my-game"\nkeep = 0\n{login}'

    where = [fault.where.partition(", ")[2] for fault in faults(rule + rule.replace("/x", "/y"))]

    assert where == [f"rule {n}, {key}" for n in (1, 2) for key in ("keep", "login", "login")]


@pytest.mark.parametrize("missing", ["DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"])
def test_half_a_login_is_a_fault(missing: str) -> None:
    whole = {"DOCKERHUB_USERNAME": "studio", "DOCKERHUB_TOKEN": "pull-only"}
    del whole[missing]

    assert [fault.where for fault in faults(**whole)] == [missing]


@pytest.mark.parametrize("written", ["the-same", "token the-same"])
def test_the_api_token_is_no_registry_token(written: str) -> None:
    login = {"DOCKERHUB_USERNAME": "studio", "DOCKERHUB_TOKEN": "the-same"}

    (fault,) = faults(EDGEGAP_TOKEN=written, **login)

    assert fault.where == "DOCKERHUB_TOKEN"
    assert "the-same" not in str(fault)


def test_a_missing_required_setting_is_reported_with_how_to_get_it() -> None:
    found = {fault.where: fault.hint for fault in faults(NOTHING, EVERYTHING)}

    assert "secrets.token_urlsafe(32)" in found["RECEIVER_SECRET_KEY"]
    assert "app.edgegap.com" in found["EDGEGAP_TOKEN"]
    assert "public_url = " in found["RECEIVER_CONFIG_TOML, public_url"]
    assert "[[rule]]" in found["RECEIVER_CONFIG_TOML, rule"]
    assert len(found) == 4


def test_all_faults_are_reported_at_once() -> None:
    toml = 'publik_url = "x"\n[links]\n"X" = 1\n[catch_up]\nevery = "soon"\n'

    places = [fault.where for fault in faults(toml, EVERYTHING, PORT="x", DOCKERHUB_TOKEN="y")]

    for word in ("publik_url", "public_url", "links", "catch_up", "PORT", "DOCKERHUB_USERNAME"):
        assert any(word in place for place in places), word
    for word in ("RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "rule"):
        assert any(word in place for place in places), word


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"\xff", "not UTF-8"),
        (b"= 1", "line 1"),
        ('app = "x"'.encode("utf-16"), "UTF-16"),
        (b'app = "x"\0', "NUL"),
    ],
)
def test_a_file_that_cannot_be_read_is_the_only_fault_reported(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "receiver.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        load_settings({"RECEIVER_CONFIG": str(path)}, need=frozenset({"rule", "public_url"}))

    (fault,) = refused.value.faults
    assert fault.where == str(path)
    assert words in fault.what


def test_a_directory_and_a_link_to_nothing_are_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing counted as a configuration of nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "receiver.toml").symlink_to(tmp_path / "gone")

    for environ, words in (({"RECEIVER_CONFIG": "folder"}, "directory"), ({}, "symbolic link")):
        with pytest.raises(ConfigError) as refused:
            load_settings(environ)
        assert words in refused.value.faults[0].what


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DATABASE_URL", "sqlite://data/receiver.db", "sqlite:////data/receiver.db"),
        ("DATABASE_URL", "postgresql+asyncpg://h/db", "driver asyncpg: write postgresql://"),
        ("DATABASE_URL", "postgres+psycopg2://h/db", "driver psycopg2: write postgresql://"),
        ("DATABASE_URL", r"sqlite:///C:\data\receiver.db", "a path of Windows"),
        ("DATABASE_URL", "sqlite:///c:/receiver.db", "a path of Windows"),
        ("HOST", "0.0.0.0:8000", "Write HOST=0.0.0.0 and PORT=8000"),
        ("HOST", ":8000", "Write HOST=0.0.0.0 and PORT=8000"),
        ("HOST", "x86_64-conda-linux-gnu", "conda sets HOST"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8", "Write 10.0.0.0/8"),
        ("EDGEGAP_BASE_URL", "http://api.edgegap.com", "RECEIVER_ALLOW_PLAIN_HTTP=true"),
        ("EDGEGAP_TOKEN", "tok\u2013en", "(U+2013)"),
        ("EDGEGAP_TOKEN", "tok en", "white space"),
        ("EDGEGAP_TOKEN_FILE", "tok-en", "If it is the value itself, set EDGEGAP_TOKEN to it"),
        ("RECEIVER_SECRET_KEY", "changeme", "placeholder"),
        ("RECEIVER_SECRET_KEY", "15-characters-x", "shorter than 16"),
        ("RECEIVER_SECRET_KEY", f"{'a' * 20}\n{'b' * 20}", "Put a comma between two keys"),
        ("RECEIVER_SECRET_KEY", "$(openssl rand -hex 32)", "commands are not run"),
        ("RECEIVER_SECRET_KEY", f"$({MAKE_A_KEY})", "commands are not run"),
        ("RECEIVER_SECRET_KEY", MAKE_A_KEY, "commands are not run"),
        ("RECEIVER_SECRET_KEY", "`openssl rand -hex 32`", "commands are not run"),
        ("RECEIVER_SECRET_KEY", "secrets.token_urlsafe(32)", "commands are not run"),
        ("RECEIVER_SECRET_KEY", "op://studio/receiver/key", "not expanded"),
        ("RECEIVER_SECRET_KEY", "arn:aws:secretsmanager:eu:1:secret:x", "not expanded"),
        ("RECEIVER_ADMIN_PASSWORD", "$(openssl rand -hex 16)", "commands are not run"),
        ("EDGEGAP_TOKEN", "$(cat /run/secrets/token)", "commands are not run"),
        ("EDGEGAP_TOKEN", r"token\n", "backslash"),
        ("EDGEGAP_TOKEN", "token;", "semicolon"),
        ("RECEIVER_PUBLIC_URL", "https://a/b", "it has a path"),
        ("RECEIVER_PUBLIC_URL", "https://хост.рф", "begins with xn--"),
        ("RECEIVER_PUBLIC_URL", "https://*.x.com", "not a name that a host can have"),
        ("RECEIVER_PUBLIC_URL", "https://x.com;a", "not a name that a host can have"),
        ("RECEIVER_PUBLIC_URL", "https://x.com%2F", "not a name that a host can have"),
        ("RECEIVER_PUBLIC_URL", "https://x.com:", "a colon, but no port"),
        ("EDGEGAP_BASE_URL", "https://x.com:", "a colon, but no port"),
        ("DATABASE_URL", "sqlite:///.", "is a directory"),
        ("DATABASE_URL", "sqlite:////tmp", "is a directory"),
        ("RECEIVER_PUBLIC_URL", "https://a b", "white space"),
        ("RECEIVER_PUBLIC_URL", "https://u:p@a", "user name or password"),
    ],
)
def test_a_fault_says_what_to_write_instead(name: str, text: str, words: str) -> None:
    assert any(words in str(fault) for fault in faults(**{name: text}))


@pytest.mark.parametrize(
    "url",
    ["HTTPS://X.com", "http://a_b:8000/", "https://[::1]:8443", "https://x.com./", "Http://x"],
)
def test_the_public_url_is_the_same_in_the_file_and_in_its_variable(url: str) -> None:
    """The scheme in upper case was "not text" in the file, and valid in the variable."""
    scheme, _, rest = url.rstrip("/").partition("://")
    in_the_file = load_settings({"RECEIVER_CONFIG_TOML": f'public_url = "{url}"'})
    in_the_variable = load_settings({"RECEIVER_CONFIG_TOML": "#", "RECEIVER_PUBLIC_URL": url})

    assert in_the_file.public_url == in_the_variable.public_url == f"{scheme.lower()}://{rest}"


def test_a_key_of_16_characters_is_taken() -> None:
    key = "16-characters-xx"

    (found,) = load_settings({"RECEIVER_CONFIG_TOML": "#", "RECEIVER_SECRET_KEY": key}).secret_keys

    assert found.reveal() == key


@pytest.mark.parametrize("missing", ["RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN"])
def test_a_missing_variable_comes_with_the_one_that_was_probably_meant(missing: str) -> None:
    wrong = missing.replace("SECRET", "SECRT").replace("GAP_TOK", "GAP_API_TOK")

    (fault,) = faults(NOTHING, frozenset({missing}), **{wrong: "x" * 32})

    assert fault.hint.startswith(f"{wrong} is set: did you mean {missing}?")


@pytest.mark.parametrize("name", ["REGISTRY", "AUTH", "API"])
def test_a_login_goes_over_plain_http_to_this_machine_only_unless_allowed(name: str) -> None:
    url = {f"DOCKERHUB_{name}_URL": "http://registry.internal"}
    login = {"DOCKERHUB_USERNAME": "studio", "DOCKERHUB_TOKEN": "pull-only"}
    text = {"RECEIVER_CONFIG_TOML": NOTHING}

    assert [fault.where for fault in faults(**url, **login)] == [*url]
    load_settings({**text, **url})
    load_settings({**text, **url, **login, "RECEIVER_ALLOW_PLAIN_HTTP": "true"})
    for host in ("127.0.0.1:9", "[::1]:9", "localhost", "hub.localhost"):
        load_settings({**text, **login, **dict.fromkeys(url, f"http://{host}")})


@pytest.mark.parametrize(
    ("toml", "where", "fix"),
    [
        ("[[rules]]", "rules", "Did you mean rule?"),
        ('publik_url = "https://a"', "publik_url", "Did you mean public_url?"),
        ("[catchup]", "catchup", "Did you mean catch_up?"),
        ('[catch_up]\nevry = "15m"', "catch_up.evry", "Did you mean every?"),
        ('[[rule]]\nrepo = "a/b"', "repo", "The keys are repository"),
        ('[[rule]]\nrepositry = "a/b"', "repositry", "Did you mean repository?"),
        ('[[rule]]\npublic_url = "https://a"', "public_url", "above the first [[rule]]"),
        ("[[rule]]\nreq_cpu = 1024", "req_cpu", "under a line [rule.settings]"),
        ("[[rule]]\n[rule.settings]\nreq_cpus = 1024", "settings.req_cpus", "mean req_cpu?"),
        ("[[rule]]\n[rule.settings]\nkeep = 3", "settings.keep", "above the line [rule.settings]"),
        ('[[notice]]\nurl_evn = "A"', "notice 1, url_evn", "Did you mean url_env?"),
    ],
)
def test_a_misspelled_or_misplaced_key_comes_with_the_right_one(
    toml: str, where: str, fix: str
) -> None:
    (fault,) = [one for one in faults(toml) if one.where.endswith(f", {where}")]

    assert fix in fault.hint


@pytest.mark.parametrize("name", ["Staging Server", "", "-x", "a/b", "é", "x" * 65])
def test_a_channel_has_a_name_that_edgegap_takes(name: str) -> None:
    toml = f'[[rule]]\nrepository = "a/b"\napp = "app"\nchannels = ["{name}"]'

    (fault,) = faults(toml)

    assert fault.where.endswith("channels")


def test_every_invalid_port_is_named_with_its_value() -> None:
    toml = (
        '[[rule]]\nrepository = "a/b"\napp = "app"\n[rule.settings]\nports = [\n'
        '{ port = 70000, protocol = "UDP" },\n{ port = 7777, protocol = "XTP" },\n'
        '{ port = "80", protocol = "TCP" },\n{ protocol = "TCP" },\n'
        '{ port = 9, protocol = "TCP" },\n{ port = 9, protocol = "TCP" },\n]'
    )

    (fault,) = faults(toml)

    for words in ("70000", "'XTP'", "'80'", "has no port", "port 9 is twice"):
        assert words in fault.what


@pytest.mark.parametrize(
    "text", ["token", "hub-token", "my-secret-token", "herein-lies-it", "Bearer tok", "x-tok", "xx"]
)
def test_a_token_may_resemble_a_placeholder(text: str) -> None:
    load_settings({"RECEIVER_CONFIG_TOML": "#", "EDGEGAP_TOKEN": text})


@pytest.mark.parametrize(
    "name", ["RECEIVER_SECRET_KEY", "RECEIVER_ADMIN_PASSWORD", "DOCKERHUB_TOKEN", "DATABASE_URL"]
)
def test_what_is_no_utf_8_is_a_fault_of_that_variable(name: str) -> None:
    with pytest.raises(ConfigError) as answer:
        load_settings({"RECEIVER_CONFIG_TOML": "#", name: "caf\udce9"})

    (fault,) = answer.value.faults
    assert (fault.where, fault.what) == (name, "it is not UTF-8")


def test_another_programs_variable_may_be_anything() -> None:
    without = {"RECEIVER_CONFIG_TOML": "#"}

    assert load_settings({**without, "LS_COLORS": "\udce9"}) == load_settings(without)


def test_a_secret_where_a_variables_name_belongs_is_not_shown() -> None:
    config = """
[[rule]]
repository = "studio/game-server"
app = "my-game"
login = { username_env = "HUB_USER", token_env = "dckr_pat_canary-0123" }
[rule.settings]
envs = [{ key = "A", value_from = "canary value" }]
[[notice]]
url_env = "discord://canary/0123"
"""
    with pytest.raises(ConfigError) as answer:
        load_settings({"RECEIVER_CONFIG_TOML": config, "HUB_USER": "x"})

    assert len(answer.value.faults) == 3
    assert "canary" not in str(answer.value)


@pytest.mark.parametrize(
    ("toml", "where", "fix"),
    [
        ('repository = "a/b"', "repository", "Write it under a line [[rule]]"),
        ('every = "1h"', "every", "Write it under a line [catch_up]"),
        ('keep = "30d"', "keep", "Write it under a line [[rule]] or [ledger]"),
        ('[[notice]]\npublic_url = "https://a"', "notice 1, public_url", "the first [[notice]]"),
        ("[catch_up]\npublic_url = 1", "catch_up.public_url", "above the first line with [ ]"),
    ],
)
def test_a_key_of_another_table_comes_with_its_table(toml: str, where: str, fix: str) -> None:
    (fault,) = [one for one in faults(toml) if one.where.endswith(f", {where}")]

    assert fix in fault.hint
