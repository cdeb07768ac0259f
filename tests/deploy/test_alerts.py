"""The alerts for Prometheus, checked by promtool; and that they use the receiver's metrics."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from receiver import metrics
from receiver.cli import COMMANDS
from tests.support.deploy import DEPLOY, ran, tool

HERE = DEPLOY / "prometheus"
ALERTS = HERE / "alerts.yml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
METRIC = re.compile(r"\bdocker_hub_receiver_[a-z_]+")
COMMAND = re.compile(r"`receiver ([a-z-]+)")
PARTS = ("_sum", "_count")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def promtool() -> str:
    return tool("promtool", "apt-get install prometheus")


def test_prometheus_takes_the_rules(promtool: str) -> None:
    done = ran(promtool, "check", "rules", ALERTS)

    assert done.returncode == 0, done.stdout


def test_they_fire_when_they_should_and_only_then(promtool: str) -> None:
    done = ran(promtool, "test", "rules", HERE / "alerts_test.yml")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_that_never_fires_would_be_noticed(
    promtool: str, tmp_path: Path, name: str
) -> None:
    assert "FAILED" in tried(promtool, tmp_path, name, "vector(1) > 2", mentioned=name)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_that_always_fires_would_be_noticed(
    promtool: str, tmp_path: Path, name: str
) -> None:
    always = 'label_replace(vector(1), "a", "b", "", "")'

    assert "FAILED" in tried(promtool, tmp_path, name, always, mentioned="count(ALERTS)")


def tried(promtool: str, folder: Path, name: str, expression: str, mentioned: str) -> str:
    """What promtool says of the alerts with another expression in one of them.

    Only of the tests in which that is mentioned: all of them take it 5 s.
    """
    broken = [{**rule, "expr": expression} if rule["alert"] == name else rule for rule in RULES]
    rules = {"groups": [{"name": "receiver", "rules": broken}]}
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules), "utf-8")
    suite = yaml.safe_load((HERE / "alerts_test.yml").read_text("utf-8"))
    suite["tests"] = [one for one in suite["tests"] if mentioned in str(one)]
    (folder / "alerts_test.yml").write_text(yaml.safe_dump(suite), "utf-8")

    done = ran(promtool, "test", "rules", folder / "alerts_test.yml")

    assert done.returncode != 0
    return done.stdout


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_says_what_is_wrong_what_to_do_and_how_urgent_it_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    asked = set(COMMAND.findall(rule["annotations"]["description"]))
    assert asked <= COMMANDS.keys()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_has_a_page_that_exists(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    headings = re.findall(r"^#+ (.*)$", (DEPLOY.parent / page).read_text("utf-8"), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_the_page_is_about_these_alerts_and_knows_the_commands() -> None:
    text = (DEPLOY.parent / "docs" / "alerts.md").read_text("utf-8")

    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == NAMES
    assert set(COMMAND.findall(text)) <= COMMANDS.keys()
    assert set(METRIC.findall(text)) <= exposed()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_asks_for_metrics_and_labels_that_the_receiver_has(rule: dict[str, Any]) -> None:
    asked = set(METRIC.findall(rule["expr"]))

    assert asked <= exposed()
    for label in re.findall(r"\b(\w+)=", rule["expr"]):
        assert label in {"job", "state", "verdict", "reason"}


def test_the_table_of_metrics_names_each_that_there_is() -> None:
    table = (HERE / "README.md").read_text("utf-8").partition("## The metrics")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `docker_hub_receiver_")]
    named = {name for row in rows for name in METRIC.findall(row.split("|")[1])}

    whole = {name.removesuffix("_bucket") for name in exposed() if not name.endswith(PARTS)}
    assert named == {name for name in whole if not name.startswith("process_")}


def test_promtool_finds_no_fault_with_the_metrics(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "metrics").write_bytes(metrics.exposition())

    with (tmp_path / "metrics").open("rb") as file:
        done = subprocess.run(
            [promtool, "check", "metrics"], stdin=file, capture_output=True, text=True, check=False
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_of_alerts_names_each_that_there_is() -> None:
    text = (HERE / "README.md").read_text("utf-8")

    assert re.findall(r"^\| `(Receiver\w+)`", text, re.MULTILINE) == NAMES


def exposed() -> set[str]:
    """The names of all series, those of Docker Hub's pull limit as if it had been reported."""
    limit = metrics.PullLimit()
    limit.known = 1, 1
    families = [*metrics.registry.collect(), *limit.collect()]
    return {one.name + suffix for one in families for suffix in SUFFIXES[one.type]}
