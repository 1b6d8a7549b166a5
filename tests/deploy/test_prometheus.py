"""A real Prometheus, with the shipped rules, before a real gateway."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from gateway import Gateway, never_checked
from shipped import DEPLOY, RULES, alerts, said
from test_metrics import PANELS, plain

# Long after anything that is waited for.
PATIENCE_SECONDS = 60

T = TypeVar("T")


class Prometheus:
    """The shipped example, but for how often it looks and where the gateway is."""

    def __init__(self, folder: Path, gateway: Gateway):
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [gateway.admin]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        said("promtool", "check", "config", folder / "prometheus.yml")
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stdin=subprocess.DEVNULL, stderr=log)
        try:
            self.address = until(self._listens)
        except BaseException:
            self.stop()
            raise

    def _listens(self) -> str | None:
        """Where its log says that it listens, once it answers."""
        said_so_far = self._log.read_text()
        assert self._process.poll() is None, said_so_far
        found = re.search(r'msg="Listening on" address=(\S+)', said_so_far)
        return found[1] if found and "Server is ready" in said_so_far else None

    def get(self, path: str, **parameters: str) -> dict:
        """What its API answers."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
            body = json.load(answer)
        assert body["status"] == "success" and not body.get("warnings"), body
        return body["data"]

    def value(self, expression: str) -> float | None:
        """The one value of an expression, if it has one yet."""
        found = self.get("query", query=expression)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> list[dict]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)


def until(told: Callable[[], T]) -> T:
    """Asks until the answer is something. Each question is a look at the other process, which takes its time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := told():
            return answer
    raise AssertionError(f"{told} told nothing in {PATIENCE_SECONDS} s")


@pytest.fixture
def spender(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that may spend a dollar: ten checks."""
    gateway = Gateway(tmp_path, "1.00")
    yield gateway
    gateway.stop()


@pytest.fixture
def prometheus(tmp_path: Path, spender: Gateway) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path, spender)
    yield prometheus
    prometheus.stop()


def buy(gateway: Gateway, numbers: range) -> None:
    """Pays for a check of each of these numbers."""
    for number in map(never_checked, numbers):
        url = f"{gateway.base_url}/reputation/numbers/{urllib.parse.quote(number)}?fresh=true"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {gateway.keys['dialer']}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            assert answer.headers["x-gateway-billed"] == "yes"


def test_an_alert_fires_when_four_fifths_of_a_budget_are_spent(prometheus: Prometheus, spender: Gateway) -> None:
    used = 'reputation_gateway:budget_used:ratio{budget="all-month"}'
    until(lambda: prometheus.value(used) == 0)
    buy(spender, range(7))
    spender.assert_charged(7)
    until(lambda: prometheus.value(used) == 0.7)
    assert "ReputationGatewayBudgetNearlySpent" not in prometheus.firing()
    buy(spender, range(7, 8))
    spender.assert_charged(8)
    until(lambda: "ReputationGatewayBudgetNearlySpent" in prometheus.firing())
    assert prometheus.value(used) == 0.8
    rest = {"ReputationGatewayDown", "ReputationGatewayAbsent", "ReputationGatewayBudgetSpent", "ReputationGatewayLedgerUnavailable"}
    assert not prometheus.firing() & rest

    until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    rules = prometheus.rules()
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(alerts())
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []

    # What the dashboard asks is answered without an error or a warning.
    for panel in PANELS:
        for target in panel["targets"]:
            prometheus.get("query", query=plain(target["expr"]))
    spent = next(panel for panel in PANELS if panel["title"] == "Budget used most")["targets"][0]
    assert prometheus.value(plain(spent["expr"])) == 0.8
    assert said("promtool", "check", "metrics", given=spender.scrape()) == ""
