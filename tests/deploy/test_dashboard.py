"""The Grafana dashboard: each of its queries has a result with what a running receiver exposes."""

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.signing import LinkFault
from tests.conftest import StartReceiver
from tests.support.deploy import DEPLOY, ran, tool
from tests.support.dockerhub import hub_beside
from tests.support.grafana import faults_of
from tests.support.metrics import Scrape, scrape
from tests.support.receiver_process import REPOSITORY, RULE, until, webhook_body

DASHBOARD: dict[str, Any] = json.loads(
    (DEPLOY / "prometheus" / "dashboard.json").read_text("utf-8")
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    (panel["title"], target["legendFormat"], target["expr"])
    for panel in PANELS
    for target in panel["targets"]
]
METRIC = re.compile(r"\b(?:docker_hub_receiver|process)_[a-z_]+")
CATCH_UP = "docker_hub_receiver_catch_up_last_success_timestamp_seconds"
MINUTES = 10


def test_each_panel_has_its_own_place_a_title_and_a_description() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_the_source_and_the_job_can_be_chosen_and_every_query_respects_it() -> None:
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "job"]
    for panel in PANELS:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for _, _, expression in QUERIES:
        assert expression.count('{job="$job"') == len(METRIC.findall(expression))


def test_a_legend_names_only_labels_that_the_query_keeps() -> None:
    for title, legend, expression in QUERIES:
        kept = re.search(r"by \(([\w, ]+)\)", expression)
        labels = set(kept[1].split(", ")) if kept else {"instance", "job"}
        assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, title


def test_every_field_is_one_of_grafanas_types() -> None:
    assert faults_of(DASHBOARD) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("refesh",), "1m", "dashboard.refesh"),
        (("panels", 1, "titel"), "x", "dashboard.panels[1].titel"),
        (("panels", 1, "targets", 0, "exp"), "x", "dashboard.panels[1].targets[0].exp"),
        (("panels", 1, "options", "graph"), "none", "dashboard.panels[1].options.graph"),
        (("templating", "list", 1, "qury"), "x", "dashboard.templating.list[1].qury"),
        (("panels", 1, "options", "colorMode"), "valu", "options.color_mode = 'valu'"),
        (("templating", "list", 0, "hide"), 7, "hide = 7"),
        (("panels", 1, "gridPos", "w"), "4", "w = '4'"),
        (("panels", 8, "fieldConfig", "defaults", "custom", "lines"), 1, "defaults.custom.lines"),
    ],
)
def test_a_misspelled_field_or_value_would_be_noticed(
    path: Sequence[str | int], value: object, fault: str
) -> None:
    part: Any = deepcopy(DASHBOARD)
    dashboard, (*parents, last) = part, path
    for name in parents:
        part = part[name]
    part[last] = value

    (found,) = faults_of(dashboard)

    assert found.endswith(fault)


def test_each_query_has_a_result_with_the_metrics_of_a_running_receiver(
    start: StartReceiver, tmp_path: Path
) -> None:
    promtool = tool("promtool", "apt-get install prometheus")
    hub = DockerHubSandbox(anonymous_pull_limit=40)
    hub.push_image(REPOSITORY, "1.0.0")
    with hub_beside(hub) as variables:
        receiver = start(config=RULE.replace("preflight = false\n", ""), environment=variables)
        until(lambda: scrape(receiver).total(CATCH_UP))
        before = scrape(receiver)
        receiver.ended(receiver.push("1.0.0"))
        receiver.post(webhook_body(None))
        after = scrape(receiver)

    expressions = [expression for _, _, expression in QUERIES]
    expressions += [one["query"] for one in DASHBOARD["templating"]["list"] if one["name"] == "job"]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump(suite(before, after, expressions)), "utf-8")
    done = ran(promtool, "test", "rules", file)

    assert done.returncode == 0, done.stdout


def suite(before: Scrape, after: Scrape, expressions: list[str]) -> dict[str, Any]:
    """A test for promtool: what the receiver exposed changes once, then each query has a result."""
    series = []
    for sample in after.samples:
        old = before.value(sample.name, **sample.labels)
        labels = {**sample.labels, "job": "receiver", "instance": "a"}
        text = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        values = ["_" if old is None else str(old)] * (MINUTES - 3) + [str(sample.value)] * 4
        series.append({"series": f"{sample.name}{{{text}}}", "values": " ".join(values)})
    return {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": f"(count({prepared(expression)}) > bool 0) or vector(0)",
                        "eval_time": f"{MINUTES}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for expression in expressions
                ],
            }
        ],
    }


def prepared(expression: str) -> str:
    """A query as Grafana sends it."""
    expression = re.sub(r"^label_values\((\w+), \w+\)$", r"\1", expression)
    return expression.replace("$__rate_interval", "5m").replace("$job", "receiver")


def test_a_query_for_a_metric_that_does_not_exist_would_be_noticed(tmp_path: Path) -> None:
    promtool = tool("promtool", "apt-get install prometheus")
    empty = Scrape("")
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump(suite(empty, empty, ['sum(x{job="$job"})'])), "utf-8")

    assert "FAILED" in ran(promtool, "test", "rules", file).stdout


@pytest.mark.parametrize("word", [LinkFault.MALFORMED, LinkFault.UNKNOWN_REPOSITORY])
def test_the_noise_that_a_panel_names_is_the_receivers_word(word: LinkFault) -> None:
    (panel,) = (one for one in PANELS if one["title"] == "Refused links and requests")

    assert f"`{word}`" in panel["description"]
