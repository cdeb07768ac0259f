"""`.env` as people and tools write it: each line is read, or named with what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.dotenv import Dotenv, dotenv_line, parse_dotenv
from receiver.config.environment import VARIABLES, WITHOUT_FILE

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=plain", "plain"),
        ("  export KEY = spaced  ", "spaced"),
        ("\u200bKEY\u00a0=\u00a0pasted\u200b", "pasted"),
        ("KEY='single'", "single"),
        ('KEY="double"', "double"),
        ("KEY=a=b#c", "a=b#c"),
        ("KEY=#abc", "#abc"),
        ("KEY=it's", "it's"),
        ("KEY=", ""),
        ("KEY= # not yet", ""),
        ("KEY=plain # from the dashboard", "plain"),
        ("KEY=plain\u00a0# from a web page", "plain"),
        ("KEY = plain\t# from the dashboard", "plain"),
        ('KEY="double"  # from the dashboard', "double"),
        ("KEY='single'# from the dashboard", "single"),
        ('KEY="a # is no comment here"', "a # is no comment here"),
        ("KEY='a\\n\"b'", 'a\\n"b'),
        (r'KEY="a\"b\\c\$d\ne\qf"', 'a"b\\c$d\ne\\qf'),
        ("KEY='two\nlines' # and a comment", "two\nlines"),
        ("KEY=\"[[rule]]\napp = 'x'\n\"\n", "[[rule]]\napp = 'x'\n"),
        ("# KEY=comment", None),
        ("KEY", None),
        ("export KEY", None),
    ],
)
def test_a_line_is_read_as_other_tools_read_it(line: str, value: str | None) -> None:
    found = parse_dotenv(f"{line}\n")

    assert found.values.get("KEY") == value
    assert found.problems == ()


@pytest.mark.parametrize(
    ("text", "line", "name", "words"),
    [
        ("A=1\nno line of ours\n", 2, "no", "not NAME=value"),
        ("EDGEGAP_TOKEN: tok\n", 1, "EDGEGAP_TOKEN", "not NAME=value"),
        ('$env:EDGEGAP_TOKEN = "tok"', 1, "EDGEGAP_TOKEN", "not NAME=value"),
        ("set EDGEGAP_TOKEN=tok", 1, "EDGEGAP_TOKEN", "not NAME=value"),
        ('\nKEY="open', 2, "KEY", "never closed"),
        ("KEY='open\nB=1\n", 1, "KEY", "never closed"),
        ('KEY="open\nEDGEGAP_TOKEN="tok"\n', 1, "KEY", "never closed"),
        ('KEY="one" "two"', 1, "KEY", "after its closing"),
        ("KEY=a EDGEGAP_TOKEN=b", 1, "KEY", "line break before EDGEGAP_TOKEN="),
        (r"KEY=a\nEDGEGAP_TOKEN=b", 1, "KEY", "line break before EDGEGAP_TOKEN="),
        ("A=1\nKEY=aDATABASE_URL=b", 2, "KEY", "line break before DATABASE_URL="),
        ("HOST=::PORT=1", 1, "HOST", "line break before PORT="),
        ("EDGEGAP_TOKEN=tokEDGEGAP_TOKEN=tok", 1, "EDGEGAP_TOKEN", "before EDGEGAP_TOKEN="),
        ("EDGEGAP_TOKEN='tok'PORT=1", 1, "EDGEGAP_TOKEN", "line break before PORT="),
        ("EDGEGAP_TOKEN='tokPORT=1'", 1, "EDGEGAP_TOKEN", "line break before PORT="),
        ("EDGEGAP_TOKEN=tokHTTPS_PROXY=http://p", 1, "EDGEGAP_TOKEN", "before HTTPS_PROXY="),
    ],
)
def test_a_line_that_sets_nothing_is_named(text: str, line: int, name: str, words: str) -> None:
    (problem,) = parse_dotenv(text).problems

    assert (problem.line, problem.name) == (line, name)
    assert words in problem.what
    assert problem.fix


@pytest.mark.parametrize("name", [variable.name for variable in VARIABLES])
@pytest.mark.parametrize("ending", ["", "_FILE"])
def test_two_variables_with_nothing_between_are_never_one_value(name: str, ending: str) -> None:
    """Only white space before the second name was noticed: the first value had both."""
    if name in WITHOUT_FILE and ending:
        return
    found = parse_dotenv(f"RECEIVER_SECRET_KEY=canary0123{name}{ending}=canary\n")

    (problem,) = found.problems
    assert found.values == {}
    assert problem.what == f"the line break before {name}{ending}= is missing"


@pytest.mark.parametrize(
    "line",
    [
        "ARGUMENTS=-HOST=a -PORT=7777",
        "ARGUMENTS='-DEDGEGAP_TOKEN=x'",
        "EDGEGAP_TOKEN=EDGEGAP_TOKEN=tok",
        "EDGEGAP_TOKEN=tok # once EDGEGAP_TOKEN=old",
        "EDGEGAP_TOKEN='tok' # once EDGEGAP_TOKEN=old",
        "RECEIVER_SECRET_KEY=c2VjcmV0LWtleS1wYWRkZWQHOST=",
        "RECEIVER_CONFIG_TOML='# the token is EDGEGAP_TOKEN=…'",
        "DATABASE_URL=postgresql://a/b?host=c&port=5433",
    ],
)
def test_a_value_may_have_what_only_resembles_another_variable(line: str) -> None:
    assert parse_dotenv(line).problems == ()


def test_what_follows_a_line_that_sets_nothing_counts() -> None:
    found = parse_dotenv('KEY="open\nEDGEGAP_TOKEN="tok"\n')

    assert found.values == {"EDGEGAP_TOKEN": "tok"}


def test_of_a_variable_that_is_set_twice_the_last_one_counts_and_it_is_named() -> None:
    found = parse_dotenv("A=1\nB=1\nA=2\nB=1\n")

    assert found == Dotenv({"A": "2", "B": "1"}, twice=("A",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_one(end: str) -> None:
    assert parse_dotenv(f"A=1{end}B='2'{end}{end}C=3").values == {"A": "1", "B": "2", "C": "3"}


@given(TEXTS | st.text("=\n'\" #export A\0é\r\u2028\\$", max_size=40))
def test_any_text_is_read(text: str) -> None:
    found = parse_dotenv(text)

    assert all(name.isidentifier() for name in found.values)
    assert all(problem.line and problem.what and problem.fix for problem in found.problems)


@given(st.dictionaries(NAMES, TEXTS), st.sampled_from(["", "export ", "  "]), ENDS)
def test_what_is_written_reads_back(values: dict[str, str], before: str, end: str) -> None:
    lines = [before + dotenv_line(name, value) for name, value in values.items()]

    found = parse_dotenv("".join(lines).replace("\n", end))

    assert found == Dotenv(values)
