"""From which files variables come, what is cleaned off them, and which are misspelled."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.dotenv import dotenv_line, parse_dotenv
from receiver.config.environment import clean
from receiver.config.load import load_settings
from receiver.config.variables import Variables, variables_of
from receiver.errors import ConfigError, ConfigIssue

NAMES = ("RECEIVER_SECRET_KEY", "RECEIVER_ADMIN_PASSWORD", "EDGEGAP_TOKEN", "GAME_DB_PASSWORD")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The folder of a receiver.toml that is somewhere else."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "receiver.toml").touch()
    return folder


def named(folder: Path) -> dict[str, str]:
    return {"RECEIVER_CONFIG": str(folder / "receiver.toml")}


def test_the_process_wins_over_both_files_and_the_one_beside_the_configuration_over_here(
    here: Path, beside: Path
) -> None:
    (here / ".env").write_text("A=here\nB=here\nC=here\n")
    (beside / ".env").write_text("A=beside\nB=beside\n")

    found = variables_of({**named(beside), "A": "process"})

    assert (found["A"], found["B"], found["C"]) == ("process", "beside", "here")
    assert found.from_dotenv == {"B": "beside", "C": "here"}


def test_the_file_here_may_name_the_configuration(here: Path, beside: Path) -> None:
    (here / ".env").write_text(f"RECEIVER_CONFIG='{beside / 'receiver.toml'}'\n")
    (beside / ".env").write_text("A=beside\nRECEIVER_CONFIG=elsewhere.toml\n")

    found = variables_of({})

    assert found["A"] == "beside"
    assert found["RECEIVER_CONFIG"] == str(beside / "receiver.toml")


def test_if_the_configuration_is_a_text_only_the_file_here_is_read(
    here: Path, beside: Path
) -> None:
    (beside / ".env").write_text("A=beside\n")

    assert "A" not in variables_of({**named(beside), "RECEIVER_CONFIG_TOML": "#"})


def test_one_folder_by_two_names_is_read_once(here: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(here)
    (here / ".env").write_text("A=1\nA=2\n")

    assert len(variables_of(named(tmp_path / "link")).warnings) == 1


def test_what_is_set_to_nothing_is_set(here: Path) -> None:
    (here / ".env").write_text("A=here\n")

    assert variables_of({"A": ""})["A"] == ""


@pytest.mark.parametrize(
    ("environ", "dotenv", "value", "used"),
    [
        ({"EDGEGAP_TOKEN_FILE": "token"}, "EDGEGAP_TOKEN=dotenv", "of the file", "_FILE"),
        ({"EDGEGAP_TOKEN_FILE": ""}, "EDGEGAP_TOKEN=dotenv", "dotenv", None),
        ({"EDGEGAP_TOKEN": "process"}, "EDGEGAP_TOKEN_FILE=token", "process", ""),
        ({"EDGEGAP_TOKEN": ""}, "EDGEGAP_TOKEN_FILE=token", "of the file", None),
        ({}, "EDGEGAP_TOKEN_FILE='token'", "of the file", None),
        ({}, "EDGEGAP_TOKEN=dotenv\nEDGEGAP_TOKEN_FILE=token", "dotenv", ""),
        ({"EDGEGAP_TOKEN": "process", "EDGEGAP_TOKEN_FILE": "token"}, "", "process", ""),
        ({"EDGEGAP_TOKEN_FILE": '"token"'}, "", "of the file", None),
    ],
)
def test_a_variable_or_the_file_that_it_names(
    here: Path, environ: dict[str, str], dotenv: str, value: str, used: str | None
) -> None:
    (here / "token").write_text("of the file\n")
    (here / ".env").write_text(dotenv)

    found = variables_of(environ)

    assert found["EDGEGAP_TOKEN"] == value
    both = f"EDGEGAP_TOKEN and EDGEGAP_TOKEN_FILE are both set: EDGEGAP_TOKEN{used} is used"
    assert found.warnings == ([] if used is None else [both])


def test_a_file_without_a_value_is_named(here: Path) -> None:
    """It was: "it is not set"."""
    (here / "token").write_text(" \n")

    with pytest.raises(ConfigError) as refused:
        load_settings(
            Variables({"RECEIVER_CONFIG_TOML": "#", "EDGEGAP_TOKEN_FILE": "token"}),
            need=frozenset({"EDGEGAP_TOKEN"}),
        )

    (fault,) = refused.value.faults
    assert (fault.where, fault.what) == (
        "EDGEGAP_TOKEN_FILE",
        "the file that it names, token, is empty",
    )


def test_the_host_in_a_dotenv_counts_whatever_host_file_is(here: Path) -> None:
    (here / ".env").write_text("HOST=::\n")

    assert variables_of({"HOST_FILE": "/etc/hosts"})["HOST"] == "::"


@pytest.mark.parametrize("name", [".env", "receiver.toml", "token"])
def test_a_named_pipe_is_not_read(name: str, here: Path) -> None:
    """Each command waited for a writer, without a word."""
    (here / "receiver.toml").touch()
    (here / name).unlink(missing_ok=True)
    os.mkfifo(here / name)

    with pytest.raises(ConfigError) as refused:
        load_settings(variables_of({"EDGEGAP_TOKEN_FILE": "token"} if name == "token" else {}))

    assert "it is a named pipe, not a file" in str(refused.value.faults[0])


def test_what_main_has_exported_is_still_of_the_file(here: Path) -> None:
    """A password with ` #` in quotes would else be read as one with a comment."""
    (here / ".env").write_text("RECEIVER_ADMIN_PASSWORD='pass # word'\n")
    exported = dict(variables_of({}).from_dotenv)

    found = variables_of(exported)

    assert found["RECEIVER_ADMIN_PASSWORD"] == "pass # word"
    assert found.faults == []


def only_fault(found: Variables) -> ConfigIssue:
    (fault,) = found.faults
    return fault


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("A=1".encode("utf-16"), "UTF-16"),
        (b"A=\xff", "not UTF-8"),
        (b"A=1\0", "NUL"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_cause(
    here: Path, content: bytes, words: str
) -> None:
    (here / ".env").write_bytes(content)

    fault = only_fault(variables_of({}))

    assert fault.where == ".env"
    assert words in fault.what


def test_a_directory_a_dangling_link_and_a_locked_file_are_named(
    here: Path, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".env").mkdir()
    (beside / ".env").symlink_to(beside / "gone")

    directory, link = (fault.what for fault in reversed(variables_of(named(beside)).faults))

    assert "directory" in directory
    assert "symbolic link" in link

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (here / ".env").rmdir()
    (here / ".env").touch()
    monkeypatch.setattr(Path, "open", denied)  # root may read any file
    assert "Permission denied" in only_fault(variables_of({})).what


def test_a_virtual_environment_of_that_name_is_none_of_ours(here: Path) -> None:
    (here / ".env").mkdir()
    (here / ".env" / "pyvenv.cfg").touch()

    assert variables_of({}).faults == []


def test_lines_that_mean_one_of_ours_are_faults_and_others_warnings(here: Path) -> None:
    (here / ".env").write_text("EDGEGAP_TOKEN: tok\nother: x\n")

    found = variables_of({})

    assert only_fault(found).where == ".env, line 1 (EDGEGAP_TOKEN)"
    assert found.warnings == [".env, line 2 sets nothing: it is not NAME=value"]


def test_what_is_not_set_says_where_it_was_looked_for(here: Path, beside: Path) -> None:
    (here / ".env").write_text("EDGEGAP_API_TOKEN=x\n")

    what, meant = variables_of(named(beside)).why_unset("EDGEGAP_TOKEN")

    assert what == f"it is not set, there is no .env in {beside}, .env does not set it"
    assert meant == "EDGEGAP_API_TOKEN is set: did you mean EDGEGAP_TOKEN? "


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ('"abc-1"', "abc-1"),
        ("'abc-1'", "abc-1"),
        ("`abc-1`", "abc-1"),
        ("“abc-1”", "abc-1"),
        ("«abc-1»", "abc-1"),
        ('"abc-1"  # from the dashboard', "abc-1"),
        ("'\"abc-1\"'", "abc-1"),
        (" \u200babc-1\u00a0\n", "abc-1"),
        ('"abc-1', '"abc-1'),
        ("ab'c", "ab'c"),
        ('"', '"'),
        ('""', ""),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_quotes_are_no_part_of_a_value(name: str, raw: str, value: str) -> None:
    found = Variables({name: raw})

    assert found[name] == value
    assert [
        warning.startswith(f"{name} is read without the quotes") for warning in found.warnings
    ] == ([True] if value != raw.strip(" \u200b\u00a0\n") else [])
    assert "abc-1" not in str(found.warnings)


def test_a_comment_is_no_part_of_a_value_and_a_fault_if_it_may_be_one() -> None:
    found = Variables(dict.fromkeys(NAMES, "abc-1 # from the dashboard"))

    assert found["EDGEGAP_TOKEN"] == "abc-1"
    assert found["GAME_DB_PASSWORD"] == "abc-1 # from the dashboard"
    for name in ("RECEIVER_SECRET_KEY", "RECEIVER_ADMIN_PASSWORD"):
        assert name not in found
    assert found.warnings == [
        "EDGEGAP_TOKEN is read without the comment after it, as .env files are"
    ]
    assert {fault.where for fault in found.faults} == {
        "RECEIVER_SECRET_KEY",
        "RECEIVER_ADMIN_PASSWORD",
    }
    assert all("comment" in fault.what for fault in found.faults)


def test_two_variables_in_one_line_are_named_with_their_file_or_without(here: Path) -> None:
    """`docker run --env-file` passes them on as one value."""
    (here / ".env").write_text("A=1\nEDGEGAP_TOKEN=canaryDOCKERHUB_USERNAME=canary\n")

    of_the_file, of_the_process = variables_of({}), Variables({"EDGEGAP_TOKEN": "canaryPORT=8000"})

    assert of_the_process.get("EDGEGAP_TOKEN") is None
    assert [(fault.where, fault.what) for fault in of_the_file.faults + of_the_process.faults] == [
        (".env, line 2 (EDGEGAP_TOKEN)", "the line break before DOCKERHUB_USERNAME= is missing"),
        ("EDGEGAP_TOKEN", "the line break before PORT= is missing"),
    ]


def test_a_value_that_begins_with_its_own_name_was_pasted_with_it() -> None:
    found = Variables({"EDGEGAP_TOKEN": "export EDGEGAP_TOKEN='abc-1'", "GAME_DB": "GAME_DB=1"})

    assert found["EDGEGAP_TOKEN"] == "abc-1"
    assert found["GAME_DB"] == "GAME_DB=1"


@given(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_container_reads_what_a_dotenv_reads(name: str, value: str) -> None:
    """Docker's --env-file hands over the line as it is; `.env` here takes the quotes off."""
    line = dotenv_line(name, value)
    parsed = clean(name, parse_dotenv(line).values[name], parsed=True)
    handed_over = clean(name, line.removesuffix("\n").partition("=")[2], parsed=False)

    assert handed_over.value == parsed.value


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RECIEVER_SECRET_KEY", "RECEIVER_SECRET_KEY"),
        ("RECEIVER_SECRT_KEY", "RECEIVER_SECRET_KEY"),
        ("EDGEGAP_API_TOKEN", "EDGEGAP_TOKEN"),
        ("EDGEGAP_APITOKEN", "EDGEGAP_TOKEN"),
        ("EDGEGAP_API_KEY", "EDGEGAP_TOKEN"),
        ("edgegap_token", "EDGEGAP_TOKEN"),
        ("EDGEGAP_TOKN_FILE", "EDGEGAP_TOKEN_FILE"),
        ("DOCKERHUB_PASSWORD", "DOCKERHUB_TOKEN"),
        ("DOCKERHUB_USER", "DOCKERHUB_USERNAME"),
        ("DOCKER_HUB_TOKEN", "DOCKERHUB_TOKEN"),
        ("RECEIVER_PORT", "PORT"),
        ("RECEIVER_CONFIG_FILE", "RECEIVER_CONFIG"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("FORWARDED_ALLOW_IP", "FORWARDED_ALLOW_IPS"),
        ("RECEIVER_FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS"),
        ("RECEIVER_DATABASE", "DATABASE_URL"),
        ("RECEIVER_DATABASE_URI_FILE", "DATABASE_URL_FILE"),
        ("RECEIVER_EDGEGAP_TOKEN", "EDGEGAP_TOKEN"),
        ("RECEIVER_URL", "RECEIVER_PUBLIC_URL"),
        ("RECEIVER_SECRET", "RECEIVER_SECRET_KEY"),
        ("RECEIVER_PASSWORD_ADMIN", "RECEIVER_ADMIN_PASSWORD"),
    ],
)
def test_a_misspelled_variable_comes_with_the_one_that_is_meant(name: str, meant: str) -> None:
    assert warned_of(name) == [f"{name} is not a variable of the receiver; did you mean {meant}?"]


def warned_of(name: str, value: str = "x") -> list[str]:
    found = Variables({name: value})
    for known in (*NAMES, "DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN", "RECEIVER_CONFIG", "PORT"):
        assert found.get(known) is None or known == name
    for known in (
        "DATABASE_URL",
        "FORWARDED_ALLOW_IPS",
        "EDGEGAP_BASE_URL",
        "HOST",
        "RECEIVER_PUBLIC_URL",
        "MY_HUB_TOKEN",
    ):
        found.get(known)
    found.warn_of_misspelled()
    return found.warnings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_TOKEN", "x"),
        ("DOCKER_HOST", "unix:///run/docker.sock"),
        ("HOSTNAME", "x"),
        ("MY_HUB_TOKEN", "x"),
        ("MY_HUB_TOKEN2", "x"),
        ("GAME_DB_PASSWORD_FILE", " "),
        ("EDGEGAP_TOKN", ""),
        ("RECEIVER_SERVICE_HOST", "10.0.0.1"),
        ("RECEIVER_SERVICE_PORT", "80"),
        ("RECEIVER_SERVICE_PORT_HTTP", "80"),
        ("RECEIVER_PORT", "tcp://10.0.0.1:80"),
        ("RECEIVER_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_other_programs_variables_are_none_of_ours(name: str, value: str) -> None:
    assert warned_of(name, value) == []


def test_one_that_is_like_none_is_named_all_the_same() -> None:
    assert warned_of("RECEIVER_COLOUR") == ["RECEIVER_COLOUR is not a variable of the receiver"]


def test_the_file_of_another_programs_variable_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for ever

    found = Variables({"OTHER_FILE": str(tmp_path / "pipe")})

    assert found.get("EDGEGAP_TOKEN") is None
