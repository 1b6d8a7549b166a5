"""The Kubernetes set: built by kustomize, held against the schemas of Kubernetes and of the Prometheus operator, and against the binary."""

import json
import re
from pathlib import Path

import pytest
import yaml

from gateway import BINARY, ROOT
from shipped import DEPLOY, documents, groups, said
from test_containers import assert_accepted

FOLDER = DEPLOY / "kubernetes"
OPERATOR = "monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def built() -> str:
    return said("kubectl", "kustomize", FOLDER)


@pytest.fixture(scope="module")
def resources(built: str) -> dict[str, dict]:
    """The resources, by kind; of services the one for callers."""
    return {resource["kind"]: resource for resource in reversed(documents(built))}


@pytest.fixture(scope="module")
def pod(resources: dict[str, dict]) -> dict:
    return resources["StatefulSet"]["spec"]["template"]["spec"]


def test_each_resource_is_as_the_schemas_of_kubernetes_say(built: str, tmp_path: Path) -> None:
    ours = [document for document in documents(built) if document["apiVersion"] != OPERATOR]
    assert len(ours) == 8
    (tmp_path / "set.yaml").write_text(yaml.safe_dump_all(ours))
    told = said("kubernetes-validate", "--strict", tmp_path / "set.yaml")
    assert told.count("passed for resource") == len(ours) and "WARN" not in told, told


def test_the_operators_resources_are_as_its_schemas_say(built: str) -> None:
    theirs = [document for document in documents(built) if document["apiVersion"] == OPERATOR]
    told = said("node", ROOT / "tests/deploy/schemas/validate.mjs", given=json.dumps(theirs))
    assert told == "PrometheusRule is valid\nServiceMonitor is valid\n"


def test_prometheus_gets_the_shipped_rules() -> None:
    (rule,) = documents((FOLDER / "prometheusrule.yaml").read_text())
    assert rule["spec"]["groups"] == groups(), "write it anew, as its first lines say"


def test_the_pod_is_what_the_restricted_profile_allows(pod: dict) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"configMap", "emptyDir", "projected", "secret"}


def test_probes_ask_what_the_admin_listener_answers_and_nothing_that_costs(pod: dict) -> None:
    (container,) = pod["containers"]
    asked = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in asked.values()} == {"admin"}
    assert [probe["path"] for probe in asked.values()] == ["/livez", "/livez", "/readyz"]


def test_selectors_and_ports_meet(resources: dict[str, dict], pod: dict, built: str) -> None:
    labels = resources["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("StatefulSet", "PodDisruptionBudget"):
        assert resources[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items(), kind
    assert resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    named = {port["name"] for port in pod["containers"][0]["ports"]}
    services = [document for document in documents(built) if document["kind"] == "Service"]
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    assert resources["StatefulSet"]["spec"]["serviceName"] in {service["metadata"]["name"] for service in services}
    monitor = resources["ServiceMonitor"]["spec"]
    (scraped,) = [s for s in services if monitor["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()]
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {port["name"] for port in scraped["spec"]["ports"]}
    assert scraped["metadata"]["labels"][monitor["jobLabel"]] == "reputation-gateway", "the job that the rules name"
    opened = {port["port"] for rule in resources["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    assert opened == named


def test_the_binary_accepts_the_command_and_the_configuration(resources: dict[str, dict], pod: dict) -> None:
    (container,) = pod["containers"]
    assert_accepted(container["args"])
    secrets = {"TELNYX_API_KEY": "a-key", "GATEWAY_ADMIN_TOKEN": "a-token", "REDIS_URL": "redis://redis:6379/0"}
    assert {variable["name"] for variable in container["env"]} == set(secrets)
    assert all(set(variable) == {"name", "valueFrom"} for variable in container["env"]), "no secret stands in the set"
    assert "valid" in said(BINARY, "check-config", "--config", FOLDER / "gateway.toml", environment=secrets)
    assert resources["ConfigMap"]["data"]["gateway.toml"] == (FOLDER / "gateway.toml").read_text()
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert str(Path(container["args"][-1]).parent) in mounts
    (path,) = re.findall(r'^path = "(.*)"$', (FOLDER / "gateway.toml").read_text(), re.MULTILINE)
    (claim,) = resources["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert mounts[str(Path(path).parent)] == claim["metadata"]["name"], "the copy outlives the pod"
