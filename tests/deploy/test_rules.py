"""The rules: by Prometheus' own linter and test runner, and held against their documentation."""

import re

import pytest
import yaml

from gateway import ROOT
from shipped import DEPLOY, RULES, alerts, records, said

PROMETHEUS = DEPLOY / "prometheus"
CASES = sorted(PROMETHEUS.glob("rules*_test.yml"))


def test_promtool_accepts_the_rules_and_the_example() -> None:
    assert f"{len(alerts()) + len(records())} rules found" in said("promtool", "check", "rules", RULES)
    assert "SUCCESS" in said("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.name)
def test_each_case_of_the_rules_comes_out_as_it_says(cases) -> None:
    assert "SUCCESS" in said("promtool", "test", "rules", cases)


def test_each_alert_fires_in_a_case_and_does_not_in_another() -> None:
    fires, rests = set(), set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for expected in case["alert_rule_test"]:
                (fires if expected["exp_alerts"] else rests).add(expected["alertname"])
    assert (fires, rests) == (set(alerts()), set(alerts()))


def test_each_alert_says_what_it_is_and_where_to_read_on() -> None:
    for name, alert in alerts().items():
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}, name
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert alert["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    told = {section.split("\n", 1)[0]: section for section in sections}
    assert list(told) == list(alerts()), "in the order of the rules"
    for name, section in told.items():
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in section, f"{name} has no {part}"

