"""The house stands: imports go down or stay on their floor, and below the waterline all is pure."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "receiver"
WATERLINE = 2  # the floors up to here touch no network, disk, clock, environment or framework
MOST_LINES = 500

# Every module stands on a floor; a folder's name stands for all that is in it.
FLOORS: dict[int, str] = {
    1: """errors explanations version findings images reasons secret texts dotenv environment
          config_values times retry_after""",
    2: """api_tokens channel_config channel_order closing hook_tokens hosts retry keeping notices
          proxies purge_clock rule_config rules sent_values tag_order tag_patterns telling
          dockerhub.manifest dockerhub.push dockerhub.tag_record edgegap.answers edgegap.comparing
          edgegap.copying edgegap.fields edgegap.listing edgegap.messages edgegap.shapes
          edgegap.shown edgegap.versions""",
    3: """background bounded_body config_warnings extras logs metrics notify outgoing
          outgoing_variables reading_settings settings variables ledger
          dockerhub.fetching dockerhub.hub dockerhub.login_server dockerhub.pull_limits
          dockerhub.registry
          edgegap.catalogue edgegap.client edgegap.pace""",
    4: """aftermath announcing asking by_hand catch_up claiming doctor doctor_hub in_hand intake
          ledger_watch missed preflight purge registering replaying retention
          service settling steering telling_others wanting worker pipeline upkeep""",
    5: "__main__ app cli healthcheck sandbox start web",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

PURE = frozenset(
    {
        "base64",
        "collections",
        "dataclasses",
        "datetime",  # its values; its clock is forbidden below
        "difflib",
        "email",  # for HTTP's dates
        "enum",
        "fnmatch",
        "functools",  # remembering what a pure function said
        "hashlib",
        "html",  # its escaping
        "ipaddress",
        "itsdangerous",
        "json",
        "msgspec",
        "re",
        "string",
        "typing",
        "unicodedata",
        "urllib",
    }
)
CLOCKS_AND_HANDS = frozenset({"now", "utcnow", "today", "urlopen"})
HANDS = frozenset({"open", "print", "input", "exec", "eval", "compile", "__import__"})
NO_ROOMS = ("utils", "util", "helpers", "common", "models", "services", "managers", "manager")
MAY_USE_THE_SANDBOX = frozenset({"cli.tour"})


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(HOUSE.rglob("*.py"))}
ROOMS = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}
PURE_ROOMS = [name for name in ROOMS if FLOOR.get(name, 9) <= WATERLINE]


def floor_of(name: str) -> int | None:
    while name:
        if name in FLOOR:
            return FLOOR[name]
        name = name.rpartition(".")[0]
    return None


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def imports(name: str) -> Iterator[str]:
    """Each module that this one imports, wherever in it the import stands."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots: write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("receiver.") in MODULES
                yield whole if is_module else str(node.module)


def own_imports(name: str) -> list[str]:
    prefix = "receiver."
    return [found.removeprefix(prefix) for found in imports(name) if found.startswith(prefix)]


@pytest.mark.parametrize("name", ROOMS)
def test_every_module_stands_on_a_floor(name: str) -> None:
    assert floor_of(name) is not None, f"{name} is on no floor: put it on one, in FLOORS"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_or_stay_on_their_floor(name: str) -> None:
    here = floor_of(name) or 1  # a folder's own __init__ may import nothing but words
    up = [other for other in own_imports(name) if (floor_of(other) or 9) > here]

    assert up == [], f"{name} is on floor {here}"


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    around = {name: set(own_imports(name)) & set(MODULES) for name in MODULES}
    while leaves := {name for name, others in around.items() if not others}:
        around = {name: others - leaves for name, others in around.items() if name not in leaves}

    assert around == {}


@pytest.mark.parametrize("name", PURE_ROOMS)
def test_below_the_waterline_only_pure_modules_are_imported(name: str) -> None:
    outside = {found.partition(".")[0] for found in imports(name)} - {"receiver"}

    assert outside <= PURE


@pytest.mark.parametrize("name", PURE_ROOMS)
def test_below_the_waterline_no_clock_is_read_and_no_file_opened(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in CLOCKS_AND_HANDS, f"{name}, line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in HANDS, f"{name}, line {node.lineno}"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{name} waits for something"


def test_the_sandbox_is_for_the_demo_and_the_tests_alone() -> None:
    users = {
        name
        for name in MODULES
        if not name.startswith("sandbox")
        and any(other.split(".")[0] == "sandbox" for other in own_imports(name))
    }

    assert users <= MAY_USE_THE_SANDBOX


def test_the_sandbox_knows_nothing_of_the_house_it_stands_in_for() -> None:
    """It would else repeat the house's own mistakes."""
    for name in (name for name in MODULES if name.startswith("sandbox.")):
        assert {other.split(".")[0] for other in own_imports(name)} <= {"sandbox"}, name


@pytest.mark.parametrize("name", MODULES)
def test_http_clients_are_made_in_one_place(name: str) -> None:
    """Elsewhere one would read the proxy variables otherwise, or send a loopback call to one."""
    makes = {"AsyncClient", "Client", "get", "post", "request", "stream", "urlopen"}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            made = isinstance(of, ast.Name) and of.id == "httpx" and node.func.attr in makes
            assert not made or name == "outgoing", f"{name}, line {node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_no_room_is_named_after_a_kind(name: str) -> None:
    assert not set(name.split(".")) & set(NO_ROOMS)


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_longer_than_can_be_read_at_once(name: str) -> None:
    assert len(MODULES[name].read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", ROOMS)
def test_every_file_says_first_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(tree(name)) or name.startswith("ledger.migrations.")


def test_a_folders_own_file_holds_no_code() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "cli":
            (only,) = tree(name).body
            assert isinstance(only, ast.Expr), name


def test_what_counts_as_pure_is_the_language_or_a_named_library() -> None:
    assert PURE - set(sys.stdlib_module_names) == {"itsdangerous", "msgspec"}
