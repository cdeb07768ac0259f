"""The structure: imports never go up, there are no cycles, and what only decides stays pure."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "receiver"
MAX_LINES = 500

# From the bottom to the top: a module imports from its own line, or from those above it here.
ORDER = """
    errors extras version secret images timestamps reasons
    config.text backoff
    config.dotenv
    config.environment config.values
    http.proxies
    ledger.mounts config.variables
    sandbox
    signing periodic logs metrics http
    dockerhub edgegap rules notifications
    ledger
    config
    pipeline
    upkeep
    doctor
    service
    web
    healthcheck cli __main__
"""
RANKS = {
    name: rank for rank, line in enumerate(ORDER.strip().splitlines()) for name in line.split()
}

# These touch no network, disk, clock, environment or framework.
DECIDE_ONLY = [
    "errors",
    "version",
    "images",
    "timestamps",
    "reasons",
    "secret",
    "backoff",
    "signing",
    "http.proxies",
    "config.text",
    "config.values",
    "config.environment",
    "config.dotenv",
    "config.rule_tables",
    "config.checks",
    "config.model",
    "config.tables",
    "rules",
    "notifications.destinations",
    "pipeline.retry",
    "ledger.mounts",
    "edgegap.comparison",
    "edgegap.copied_settings",
    "edgegap.deployment_answers",
    "edgegap.fields",
    "edgegap.listing",
    "edgegap.plans",
    "edgegap.responses",
    "edgegap.sent_settings",
    "dockerhub.manifest",
    "dockerhub.records",
    "dockerhub.webhook",
    "web.serialization",
]
PURE = frozenset(
    [
        "base64",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "difflib",
        "email",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "html",
        "http",
        "ipaddress",
        "itsdangerous",
        "json",
        "math",
        "msgspec",
        "operator",
        "re",
        "string",
        "types",
        "typing",
        "unicodedata",
        "urllib",
    ]
)
CLOCKS = frozenset({"now", "utcnow", "today", "urlopen"})
EFFECTS = frozenset({"open", "print", "input", "exec", "eval", "compile", "__import__"})
VAGUE = frozenset(
    ["utils", "util", "helpers", "common", "models", "services", "managers", "manager"]
)
MAY_USE_THE_SANDBOX = frozenset({"cli.tour"})


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
FILES = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}


def is_in(name: str, listed: frozenset[str] | list[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in listed for end in range(1, len(parts) + 1))


PURE_FILES = [name for name in FILES if is_in(name, DECIDE_ONLY)]


def rank_of(name: str) -> int | None:
    while name:
        if name in RANKS:
            return RANKS[name]
        name = name.rpartition(".")[0]
    return None


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def imports(name: str) -> Iterator[str]:
    """Each module that this one imports, also inside functions."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import: write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("receiver.") in MODULES
                yield whole if is_module else str(node.module)


def own_imports(name: str) -> list[str]:
    prefix = "receiver."
    return [found.removeprefix(prefix) for found in imports(name) if found.startswith(prefix)]


@pytest.mark.parametrize("name", FILES)
def test_every_module_is_in_the_order(name: str) -> None:
    assert rank_of(name) is not None, f"{name} is in no line of ORDER"


@pytest.mark.parametrize("name", MODULES)
def test_imports_never_go_up(name: str) -> None:
    here = rank_of(name) or 0
    assert [other for other in own_imports(name) if (rank_of(other) or 0) > here] == []


def test_there_is_no_import_cycle() -> None:
    around = {name: set(own_imports(name)) & set(MODULES) for name in MODULES}
    while leaves := {name for name, others in around.items() if not others}:
        around = {name: others - leaves for name, others in around.items() if name not in leaves}

    assert around == {}


@pytest.mark.parametrize("name", DECIDE_ONLY)
def test_what_is_listed_as_pure_exists(name: str) -> None:
    assert name in MODULES


@pytest.mark.parametrize("name", PURE_FILES)
def test_a_pure_module_imports_only_pure_modules(name: str) -> None:
    outside = {found.partition(".")[0] for found in imports(name)} - {"receiver"}

    assert outside <= PURE


@pytest.mark.parametrize("name", PURE_FILES)
def test_a_pure_module_reads_no_clock_and_opens_no_file(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in CLOCKS, f"{name}, line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in EFFECTS, f"{name}, line {node.lineno}"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{name} is asynchronous"


def test_the_sandbox_is_for_the_demo_and_the_tests_alone() -> None:
    users = {
        name
        for name in MODULES
        if not name.startswith("sandbox")
        and any(other.split(".")[0] == "sandbox" for other in own_imports(name))
    }

    assert users <= MAY_USE_THE_SANDBOX


def test_the_sandbox_imports_nothing_of_what_it_stands_in_for() -> None:
    """It would repeat the receiver's own mistakes."""
    for name in (name for name in MODULES if name.startswith("sandbox.")):
        assert {other.split(".")[0] for other in own_imports(name)} <= {"sandbox"}, name


@pytest.mark.parametrize("name", MODULES)
def test_http_clients_are_made_in_one_place(name: str) -> None:
    """Another place would read the proxy variables differently, or send loopback to a proxy."""
    makes = {"AsyncClient", "Client", "get", "post", "request", "stream", "urlopen"}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            made = isinstance(of, ast.Name) and of.id == "httpx" and node.func.attr in makes
            assert not made or name == "http.client", f"{name}, line {node.lineno}"


@pytest.mark.parametrize("name", FILES)
def test_sql_is_only_in_the_ledger(name: str) -> None:
    if not name.startswith("ledger."):
        outside = {found.partition(".")[0] for found in imports(name)}
        assert not outside & {"alembic", "sqlite3", "psycopg"}, name


@pytest.mark.parametrize("name", MODULES)
def test_no_module_has_a_vague_name(name: str) -> None:
    assert not set(name.split(".")) & VAGUE


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_too_long_to_read(name: str) -> None:
    assert len(MODULES[name].read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(tree(name)) or name.startswith("ledger.migrations.")


def test_a_packages_own_file_holds_no_code() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "cli":
            (only,) = tree(name).body
            assert isinstance(only, ast.Expr), name


def test_what_counts_as_pure_is_the_language_or_a_named_library() -> None:
    assert PURE - set(sys.stdlib_module_names) == {"itsdangerous", "msgspec"}


SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s+\S+.*\b(FROM|VALUES|SET|WHERE)\b", re.DOTALL
)


def test_sql_is_written_in_the_ledger_alone() -> None:
    elsewhere = [
        f"{name}: {node.value}"
        for name in MODULES
        if not name.startswith("ledger")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if SQL.search(node.value)
    ]

    assert elsewhere == []
