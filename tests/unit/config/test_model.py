"""The JSON Schema, the documentation and the reader of `receiver.toml` agree with the model."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # has no types

from receiver.config.environment import VARIABLES, Variable
from receiver.config.model import Configuration, Table, VersionSettings, schema_text
from receiver.config.tables import keys_of, line_of, read_table
from receiver.errors import ConfigIssue
from tests.support.deploy import DEPLOY, HERE, ran, tool

SCHEMA = DEPLOY / "receiver.schema.json"
RULE = '[[rule]]\nrepository = "studio/game"\napp = "my-game"\n'
SCHEMED = re.compile(r"#:schema (\S+)")
LINE = re.compile(r"([a-z_]+) = (.+?)(?:\s+# (.+))?")
SCHEMA_OF_THE_MODEL = json.loads(schema_text())


def blocks(page: str) -> list[str]:
    """The TOML examples of a page that are a receiver.toml."""
    text = (HERE / page).read_text("utf-8")
    found = re.findall(
        r"```toml\n(.*?)```", re.sub(r"^   ", "", text, flags=re.MULTILINE), re.DOTALL
    )
    assert found
    return list(found)


VALID = [
    *blocks("README.md"),
    *blocks("docs/rules.md"),
    *blocks("docs/notifications.md"),
    (DEPLOY / "kustomize" / "rules.toml").read_text("utf-8"),
    "# nothing\n",
    f'{RULE}tags = "v*"\n[catch_up]\nevery = "off"\n[links]\n"studio/game" = 1\n',
    f"""{RULE}[rule.settings]
ports = [
  {{ port = 0, protocol = "udp", name = "any" }},
  {{ port = 1, protocol = "WS", name = "web", to_check = true, tls_upgrade = true }},
]
envs = [{{ key = "A", value = "b", is_hidden = false }}, {{ key = "C", value_from = "D" }}]
""",
]
INVALID = [
    "publik_url = 1",
    'public_url = "hooks.example.com"',
    'public_url = "https://a/hooks"',
    '[rule]\nrepository = "studio/game"\napp = "my-game"',
    '[[rule]]\nrepository = "studio/game"',
    '[[rule]]\nrepository = "Studio/Game"\napp = "my-game"',
    '[[rule]]\nrepository = "studio/game"\napp = "x"',
    f'{RULE}versions = "no"',
    f"{RULE}keep = 0",
    f'{RULE}on_overwrite = "ask"',
    f'{RULE}channels = ["two words"]',
    f"{RULE}tags = {{ prerelease = true }}",
    f'{RULE}login = {{ username_env = "A" }}',
    f"{RULE}[rule.settings]\nreq_cpus = 1",
    f"{RULE}[rule.settings]\nreq_cpu = 99",
    f'{RULE}[rule.settings]\nrestart_policy = "often"',
    f"{RULE}[rule.settings]\nports = [{{ port = 60000 }}]",
    f'{RULE}[rule.settings]\nenvs = [{{ key = "A", hidden = true }}]',
    f'{RULE}[[channel]]\napp = "my-game"\nname = "dev"\nfollow = "latest"',
    '[[notice]]\nurl_env = "A"\non = ["nonsense"]',
    "[[notice]]",
    "[catch_up]\nevery = 15",
    '[ledger]\nkeep = "off"',
    '[links]\n"studio/game" = 0',
    '[links]\n"Studio" = 1',
]


def faults_of(toml: str) -> list[ConfigIssue]:
    """What is wrong with the tables alone, whatever the environment is."""
    faults: list[ConfigIssue] = []
    read_table(Configuration, tomllib.loads(toml), faults)
    return faults


def checked(folder: Path, samples: list[str]) -> list[bool]:
    """Whether check-jsonschema accepts each sample."""
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    for number, sample in enumerate(samples):
        (folder / f"{number}.toml").write_text(sample, "utf-8")
    files = sorted(folder.iterdir())
    done = ran(checker, "--schemafile", SCHEMA, "--output-format", "json", *files)
    found = json.loads(done.stdout)
    assert found["parse_errors"] == []
    wrong = {Path(error["filename"]).stem for error in found["errors"]}
    return [str(number) not in wrong for number in range(len(samples))]


def test_the_schema_in_deploy_is_the_models() -> None:
    """Renew it with `receiver config schema > deploy/receiver.schema.json`."""
    assert SCHEMA.read_text("utf-8") == schema_text()


def test_the_schema_obeys_its_own_schema() -> None:
    checker = tool("check-jsonschema", "pip install check-jsonschema")

    done = ran(checker, "--check-metaschema", SCHEMA)

    assert done.returncode == 0, done.stdout


def test_the_schema_and_the_reader_take_the_same_samples(tmp_path: Path) -> None:
    assert [faults_of(sample) for sample in VALID] == [[]] * len(VALID)
    assert [sample for sample in INVALID if not faults_of(sample)] == []

    accepted = checked(tmp_path, [*VALID, *INVALID])

    assert [sample for sample, good in zip(VALID + INVALID, accepted, strict=True) if good] == VALID


def test_each_sample_file_names_the_schema_in_its_first_line() -> None:
    files = [*DEPLOY.rglob("rules.toml"), *DEPLOY.rglob("receiver.toml")]

    for path in files:
        named = SCHEMED.match(path.read_text("utf-8"))
        assert named is not None, path
        assert (path.parent / named[1]).resolve() == SCHEMA
    assert files


SCALARS = (
    st.booleans()
    | st.integers(-2, 2000)
    | st.sampled_from(["v*", "1.x", "a/b", "15m", "off", "warn", "UDP", "dev", "https://a.example"])
    | st.text("aA1.*-/ \n", max_size=8)
)
VALUES: st.SearchStrategy[Any] = (
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(st.sampled_from(["semver", "prerelease", "a/b"]), SCALARS, max_size=2)
)
REQUIRED = {"repository": "a/b", "app": "my-app", "name": "dev", "url_env": "A", "at": "1,2"}


def keys_in(model: type[Table], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each key of the model, after the names of the tables around it."""
    for name, key in keys_of(model).items():
        if key.inner is None:
            yield *above, name
        else:
            yield from keys_in(key.inner, (*above, name))


def with_one(model: type[Table], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A table with this key, and those that are required."""
    keys, (name, *rest) = keys_of(model), path
    inner = keys[name].inner
    if inner is not None:
        value = with_one(inner, tuple(rest), value)
        value = [value] if keys[name].is_list else value
    return {**{one: REQUIRED[one] for one in keys if keys[one].required}, name: value}


@given(st.sampled_from(list(keys_in(Configuration))), VALUES)
def test_what_the_reader_takes_the_schema_takes_too(path: tuple[str, ...], value: object) -> None:
    """Apart from white space around a text, which the reader takes off."""
    faults: list[ConfigIssue] = []
    read_table(Configuration, with_one(Configuration, path, value), faults)
    stripped = value.strip() if isinstance(value, str) else value

    if not faults:
        Draft7Validator(SCHEMA_OF_THE_MODEL).validate(with_one(Configuration, path, stripped))


def lines_of(model: type[Table], above: str = "") -> Iterator[tuple[str, type[Table]]]:
    """The line before each table in a file, and the table."""
    for name, key in keys_of(model).items():
        if key.inner is not None:
            line = line_of(above, name, key)
            yield line, key.inner
            yield from lines_of(key.inner, line)


def written(text: str) -> Iterator[tuple[type[Table], str, str, str | None]]:
    """Each key of an example: its table, its name, its value, its comment."""
    heads = dict(lines_of(Configuration))
    model: type[Table] = Configuration
    for line in text.splitlines():
        head, _, comment = line.partition("#")
        if head.strip() in heads:
            model = heads[head.strip()]
        elif head.startswith("[links]"):
            yield Configuration, "links", "{}", comment.strip()
        elif (found := LINE.fullmatch(line)) is not None:
            yield model, found[1], found[2], found[3]


def test_the_documentation_has_every_key_with_its_meaning_and_its_default() -> None:
    pages = ("README.md", "docs/rules.md", "docs/notifications.md")
    found = [one for page in pages for example in blocks(page) for one in written(example)]
    tables: set[type[Table]] = {Configuration, *dict(lines_of(Configuration)).values()}

    for model, name, value, comment in found:
        key, said = keys_of(model)[name], meaning(model, name)
        assert comment in {None, said}, f"{name}: the model says {said!r}"
        if isinstance(key.default, str | bool):
            assert tomllib.loads(f"it = {value}")["it"] == key.default, name
    for model in tables - {VersionSettings}:
        own = {name for name, key in keys_of(model).items() if key.inner is None}
        assert own - {name for other, name, *_ in found if other is model} == set()


def test_the_documentation_names_what_needs_a_restart() -> None:
    page = (HERE / "docs" / "operations.md").read_text("utf-8")
    sentence = page.partition("log name what needs a restart:")[2].partition(".")[0]

    fixed = {variable.name for variable in VARIABLES if variable.restart}
    assert set(re.findall(r"`(\w+)`", sentence)) == {
        name for name in fixed if not name.startswith("DOCKERHUB_")
    }
    assert "Docker Hub's addresses" in sentence


def meaning(model: type[Table], name: str) -> str:
    schema = SCHEMA_OF_THE_MODEL["definitions"].get(model.__name__, SCHEMA_OF_THE_MODEL)
    return str(schema["properties"][name]["description"])


def row(variable: Variable) -> str:
    default = f"; default `{variable.default}`" if variable.default else ""
    return f"| `{variable.name}` | {variable.meaning}{default} |"


def test_the_table_in_the_readme_is_that_of_the_variables() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    section = text.partition("\n## Settings\n")[2].partition("\n## ")[0]

    assert [line for line in section.splitlines() if line.startswith("| `")] == [
        row(variable) for variable in VARIABLES
    ]
