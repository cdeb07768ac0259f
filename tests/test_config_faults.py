"""What is wrong with the configuration: told at once, each with where and how to mend it."""

from pathlib import Path

import pytest

from receiver.errors import ConfigError, Fault
from receiver.reading_settings import load_settings

EVERYTHING = frozenset({"RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "public_url", "rule"})
NOTHING = "# nothing"


def faults(
    toml: str = NOTHING, need: frozenset[str] = frozenset(), /, **environ: str
) -> list[Fault]:
    with pytest.raises(ConfigError) as refused:
        load_settings({"RECEIVER_CONFIG_TOML": toml, **environ}, need=need)
    for fault in refused.value.faults:
        assert fault.where
        assert fault.what
        assert fault.mend
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
        ("links = 1", "links"),
        ('[links]\n"Studio" = 1', "links"),
        ('[links]\n"a/b" = 0', "links"),
        ('[links]\n"a/b" = true', "links"),
        ("catch_up = 1", "catch_up"),
        ('[catch_up]\nevry = "1m"', "catch_up.evry"),
        ('[catch_up]\nevery = "0m"', "catch_up.every"),
        ("[catch_up]\nevery = 15", "catch_up.every"),
        ('[ledger]\nkeep = "off"', "ledger.keep"),
        ('[ledger]\nkeep = "1w"', "ledger.keep"),
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


def test_a_name_that_could_not_be_read_is_not_told_as_one_given_twice() -> None:
    """It followed from the fault told already, and named a rule that nobody wrote."""
    rule = '[[rule]]\nrepository = "studio/x"\napp = "x"\n'

    where = [fault.where.removeprefix("RECEIVER_CONFIG_TOML, ") for fault in faults(rule * 2)]

    assert where == ["rule 1, app", "rule 2, app"]


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


def test_what_is_needed_and_missing_is_told_with_how_to_get_it() -> None:
    found = {fault.where: fault.mend for fault in faults(NOTHING, EVERYTHING)}

    assert "secrets.token_urlsafe(32)" in found["RECEIVER_SECRET_KEY"]
    assert "app.edgegap.com" in found["EDGEGAP_TOKEN"]
    assert "public_url = " in found["RECEIVER_CONFIG_TOML, public_url"]
    assert "[[rule]]" in found["RECEIVER_CONFIG_TOML, rule"]
    assert len(found) == 4


def test_all_faults_are_told_at_once() -> None:
    toml = 'publik_url = "x"\n[links]\n"X" = 1\n[catch_up]\nevery = "soon"\n'

    places = [fault.where for fault in faults(toml, EVERYTHING, PORT="x", DOCKERHUB_TOKEN="y")]

    for word in ("publik_url", "public_url", "links", "catch_up", "PORT", "DOCKERHUB_USERNAME"):
        assert any(word in place for place in places), word
    for word in ("RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "rule"):
        assert any(word in place for place in places), word


@pytest.mark.parametrize("content", [None, b"\xff", b"= 1"])
def test_a_file_that_cannot_be_read_is_the_one_thing_told_of_it(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "receiver.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        load_settings({"RECEIVER_CONFIG": str(path)}, need=frozenset({"rule", "public_url"}))

    assert [fault.where for fault in refused.value.faults] == [str(path)]


@pytest.mark.parametrize(
    "name", ["RECEIVER_SECRET_KEY", "RECEIVER_ADMIN_PASSWORD", "DOCKERHUB_TOKEN", "DATABASE_URL"]
)
def test_what_is_no_utf_8_is_a_fault_of_that_variable(name: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings({"RECEIVER_CONFIG_TOML": "#", name: "caf\udce9"})

    (fault,) = told.value.faults
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
    with pytest.raises(ConfigError) as told:
        load_settings({"RECEIVER_CONFIG_TOML": config, "HUB_USER": "x"})

    assert len(told.value.faults) == 3
    assert "canary" not in str(told.value)
