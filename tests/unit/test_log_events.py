"""Each event in the log is a fixed word of docs/log-events.md, with that level and those fields."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from receiver.logs import OF_A_LIBRARY, OF_LIBRARIES
from receiver.reasons import Reason
from receiver.upkeep.channels import DONE
from tests.support.deploy import HERE

PAGE = (HERE / "docs" / "log-events.md").read_text("utf-8")
SOURCE = HERE / "receiver"
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "bound"}  # the name of each logger in the source
INFO, ERROR = frozenset({"info"}), frozenset({"error"})
# Functions that log their first argument, and with which level.
LOG_IT = {
    "log_operation": INFO,
    "_log": INFO,
    "log_done": frozenset({"info", "warning"}),
    "log_errors": ERROR,
    "Hazard": frozenset({"warning"}),
}
# Here the event is a variable: it is a word at the calls of LOG_IT, or in the dictionary.
PASSED_ON = {
    ("logs.py", "operation"): (),
    ("cli/server.py", "danger.event"): (),
    ("periodic.py", "fault"): (),
    ("periodic.py", "self._fault"): (),
    ("upkeep/operations.py", "operation"): (),
    ("upkeep/channels.py", "DONE[action]"): tuple(DONE.values()),
}
OF_EACH_OPERATION = {"source", "by"}
ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \| ([a-z_, ]*)\|", re.MULTILINE)


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def of_the_page() -> dict[str, Event]:
    return {
        name: Event(set(levels.strip().split(", ")), set(filter(None, fields.strip().split(", "))))
        for name, levels, fields in ROW.findall(PAGE)
    }


@cache
def of_the_source() -> dict[str, Event]:
    found: dict[str, Event] = defaultdict(Event)
    for path in sorted(SOURCE.rglob("*.py")):
        if "sandbox" in path.parts:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            for word, levels, fields in logged_by(node, tree, str(path.relative_to(SOURCE))):
                found[word].levels |= levels
                found[word].fields |= fields
    for word in (*OF_LIBRARIES.values(), OF_A_LIBRARY):
        found[word].fields |= {"message", "library"}
    return found


def logged_by(
    node: ast.AST, tree: ast.AST, place: str
) -> Iterator[tuple[str, frozenset[str], set[str]]]:
    """Yield what one call logs: events, levels, fields."""
    if not isinstance(node, ast.Call):
        return
    keywords = {one.arg: one.value for one in node.keywords if one.arg is not None}
    if isinstance(keywords.get("fault"), ast.Constant):  # of a periodic task
        yield str(ast.literal_eval(keywords["fault"])), ERROR, {"exception"}
    levels = levels_of(node.func)
    if levels is None or not node.args:
        return
    fields = set(keywords) | ({"exception"} if ast.unparse(node.func) == "log_errors" else set())
    if isinstance(node.func, ast.Attribute) and node.func.attr == "exception":
        fields.add("exception")
    if ast.unparse(node.func) == "log_operation":
        fields -= OF_EACH_OPERATION
    for word in words_of(node.args[0], tree, place):
        yield word, levels, fields


def levels_of(function: ast.expr) -> frozenset[str] | None:
    """The levels with which a function logs; None if it logs nothing."""
    if isinstance(function, ast.IfExp):
        either = levels_of(function.body), levels_of(function.orelse)
        return frozenset().union(*(one or () for one in either)) if any(either) else None
    if isinstance(function, ast.Name):
        return {**LOG_IT, "log_wait": LOG_IT["log_done"]}.get(function.id)
    match function:
        case ast.Attribute(value=ast.Name(id=logger), attr=method) if (
            logger in LOGGERS and method in METHODS
        ):
            return frozenset({"error" if method == "exception" else method})
    return None


def words_of(first: ast.expr, tree: ast.AST, place: str) -> Iterator[str]:
    """The events that an expression may be; it fails if they are not in the source as words."""
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value
    elif isinstance(first, ast.IfExp):
        yield from words_of(first.body, tree, place)
        yield from words_of(first.orelse, tree, place)
    elif (place, ast.unparse(first)) in PASSED_ON:
        yield from PASSED_ON[place, ast.unparse(first)]
    else:
        values = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(first)
        ]
        assert values, f"{place}: {ast.unparse(first)} is no fixed word"
        for value in values:
            yield from words_of(value, tree, place)


def test_the_page_lists_each_event_of_the_source_once_and_no_other() -> None:
    assert sorted(name for name, *_ in ROW.findall(PAGE)) == sorted(of_the_source())


@pytest.mark.parametrize("name", sorted(of_the_source()))
def test_each_has_its_levels_and_fields_on_the_page(name: str) -> None:
    event, said = of_the_source()[name], of_the_page()[name]

    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    assert event.levels in (said.levels, set())
    assert event.fields - said.fields == set()


def test_all_loggers_of_the_source_have_the_names_that_are_looked_for() -> None:
    made = {
        match[1]
        for path in SOURCE.rglob("*.py")
        for match in re.finditer(r"(\w+) = (?:get_logger|log\.bind)\(", path.read_text("utf-8"))
    }

    assert made == LOGGERS


def test_the_anchors_of_the_page_exist() -> None:
    alerts = (HERE / "docs" / "alerts.md").read_text("utf-8").lower()

    for page, anchor in re.findall(r"\]\(([\w./-]+)#?(\w*)\)", PAGE):
        assert (HERE / "docs" / page).is_file()
        assert not anchor or f"## {anchor}\n" in alerts


def test_the_events_that_alerts_name_are_on_the_page() -> None:
    alerts = [HERE / "docs" / "alerts.md", HERE / "deploy" / "prometheus" / "alerts.yml"]
    named = {
        word
        for path in alerts
        for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", path.read_text("utf-8"))
    }
    named -= {word for word in named if word.startswith("docker_hub_receiver_")}

    others = {reason.value for reason in Reason} | {
        "other_repository",
        "runbook_url",
        "credentials_file",
    }
    assert named - others - set(of_the_page()) == set()
