"""What is scraped: well formed, and all that the rules and the dashboard ask for."""

import json
import re

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import promql
from gateway import Gateway
from shipped import DEPLOY, alerts, records, said

DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

# What Grafana puts in for its own.
BUILT_IN = {"$__rate_interval": "5m"}


def plain(expression: str) -> str:
    """An expression without Grafana's variables."""
    for name, value in BUILT_IN.items():
        expression = expression.replace(name, value)
    used = set(re.findall(r"\$(\w+)", expression))
    assert used <= VARIABLES, f"{expression} has variables that are not there"
    return re.sub(r"\$\w+", ".*", expression)


@pytest.fixture(scope="module")
def series(gateway: Gateway) -> promql.Series:
    return promql.scraped(gateway.scrape())


def test_promtool_finds_nothing_to_say_of_a_scrape(gateway: Gateway) -> None:
    assert said("promtool", "check", "metrics", given=gateway.scrape()) == ""


@pytest.mark.parametrize("name", [*alerts(), *records()])
def test_a_rule_asks_for_what_there_is(name: str, series: promql.Series) -> None:
    rules = {**{name: alert["expr"] for name, alert in alerts().items()}, **records()}
    assert promql.faults(rules[name], series, records()) == []


def test_labels_in_an_alerts_words_are_labels_of_it() -> None:
    for name, alert in alerts().items():
        words = " ".join(alert["annotations"].values())
        told = set(re.findall(r"\$labels\.(\w+)", words))
        recorded = promql.asked(alert["expr"]).selectors[0].name
        labels = promql.kept(records().get(recorded, alert["expr"]))
        assert told <= labels, f"{name} tells of {told - labels}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict, series: promql.Series) -> None:
    assert panel["targets"] and panel["description"]
    for target in panel["targets"]:
        expression = plain(target["expr"])
        assert promql.faults(expression, series, records()) == []
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert named <= promql.kept(expression) | promql.SCRAPED, target


def test_annotations_and_variables_ask_for_what_there_is(series: promql.Series) -> None:
    for annotation in DASHBOARD["annotations"]["list"]:
        if "expr" in annotation:
            assert promql.faults(plain(annotation["expr"]), series, records()) == []
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
            assert label in promql.SCRAPED or all(label in labels for labels in series[metric]), variable["name"]


def lost(written: object, read: object, place: str = "") -> list[str]:
    """What was not read; defaults may have come in addition."""
    if isinstance(written, dict) and isinstance(read, dict):
        return [fault for key in written for fault in lost(written[key], read.get(key), f"{place}/{key}")]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [fault for at, pair in enumerate(zip(written, read, strict=True)) for fault in lost(*pair, f"{place}/{at}")]
    return [] if written == read else [place]


def test_grafanas_own_types_know_all_of_each_panel() -> None:
    def known(dashboard: dict) -> dict:
        return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))

    assert lost(DASHBOARD["panels"], known(DASHBOARD)["panels"]) == []
    wrong = {**DASHBOARD, "panels": [{**PANELS[0], "titel": "no such word"}]}
    assert lost(wrong["panels"], known(wrong)["panels"]) == ["/0/titel"]


def test_the_dashboard_is_laid_out_without_gaps_and_overlaps() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert {y for _, y in taken} == set(range(max(y for _, y in taken) + 1))
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows[0] == "Money" and {"Decisions", "Hit rate", "Latency", "Upstream", "Holds", "Cache", "Ledger", "Process"} < set(rows)


def test_what_is_not_there_is_found(series: promql.Series) -> None:
    for expression, fault in [
        ("reputation_gateway_nothing", "no series"),
        ('reputation_gateway_holds_total{why="settled"}', "no label why"),
        ('reputation_gateway_holds_total{end="forgotten"}', "no series of"),
        ('reputation_gateway_holds_total{end=~"settled|forgotten"}', "is never end=forgotten"),
        ("sum by (why) (reputation_gateway_holds_total)", "has the label why"),
        ("reputation_gateway:nothing:ratio", "no series"),
    ]:
        assert any(fault in found for found in promql.faults(expression, series, records())), expression
