"""The image's recipe and the compose file: by their linters, and held against the binary and the files that they name."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from gateway import BINARY, ROOT
from shipped import DEPLOY, said

COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES: dict[str, dict] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "reputation-gateway"}

# What an operator has to set.
SECRETS = {"GATEWAY_ADMIN_TOKEN": "a-token", "GRAFANA_PASSWORD": "a-password"}


def environment(service: dict) -> dict[str, str]:
    """A service's environment, with what it takes from the operator's."""
    taken = service.get("environment", {})
    return {name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS[found[1]], value) for name, value in taken.items()}


def test_hadolint_finds_nothing_to_say_of_the_dockerfile() -> None:
    assert said("hadolint", "--failure-threshold", "style", ROOT / "Dockerfile") == ""


def test_the_image_is_nobodys_and_knows_how_to_ask_for_its_health() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text.rsplit("\nFROM ", 1)[1]
    assert "\nUSER 65532:65532\n" in last and 'CMD ["reputation-gateway", "health"]' in last
    assert all(re.fullmatch(r"\S+:\S+( AS \w+)?", base) and ":latest" not in base for base in re.findall(r"^FROM (.*)", text, re.MULTILINE))
    (entry,) = re.findall(r'^CMD \["(.*)"\]$', last, re.MULTILINE)
    assert_accepted(entry.split('", "'))


def test_the_image_is_built_of_all_that_the_build_reads() -> None:
    """Docker is not here; what `.dockerignore` lets in is what cargo's own listing of the crate needs."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    included = re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs")))
    outside = {os.path.normpath(name.lstrip("./")) for name in included if name.startswith("../")}
    for name in outside | {"Cargo.toml", "Cargo.lock", "src", "config/gateway.toml"}:
        assert any(name == root or name.startswith(f"{root}/") for root in allowed), f"{name} is kept out"


def test_the_compose_file_is_as_its_specification_says() -> None:
    assert "ok" in said("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yml")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_and_shows_no_secret(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in service and "mem_limit" in service
    assert "build" in service or service["image"] == "reputation-gateway" or re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    secret = re.compile("TOKEN|PASSWORD|KEY|SECRET")
    assert all(value.startswith("${") for key, value in service.get("environment", {}).items() if secret.search(key))


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, target, *options = mount.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists() and options == ["ro"], mount
        else:
            assert source in COMPOSE["volumes"], mount
        assert Path(target).is_absolute()


def assert_accepted(arguments: list[str]) -> None:
    """The binary knows all of a command line. `--help` is read last, and keeps it from being carried out."""
    run = subprocess.run([BINARY, *arguments, "--help"], capture_output=True, text=True, env={}, timeout=30, check=False)
    assert run.returncode == 0 and "Usage: " in run.stdout, f"{arguments}: {run.stderr}"


def test_the_binary_accepts_the_commands_and_the_configuration() -> None:
    assert set(OURS) == {"gateway", "sandbox"}
    for service in OURS.values():
        assert_accepted(service["command"])
        check = service["healthcheck"].get("test")
        if check:
            assert check[:2] == ["CMD", "reputation-gateway"]
            assert_accepted(check[2:])
    with pytest.raises(AssertionError):
        assert_accepted(["serve", "--no-such"])
    config = DEPLOY / "compose/gateway.toml"
    assert "valid" in said(BINARY, "check-config", "--config", config, environment=environment(SERVICES["gateway"]))
    settings = tomllib.loads(config.read_text())
    listens = SERVICES["sandbox"]["command"][-1]
    assert settings["upstream"]["base_url"] == f"http://{listens}/v2" and SERVICES["sandbox"]["network_mode"] == "service:gateway"


def test_prometheus_and_grafana_find_what_they_are_given() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    admin = tomllib.loads((DEPLOY / "compose/gateway.toml").read_text())["admin"]["listen"]
    assert scraped == [f"gateway:{admin.rsplit(':', 1)[1]}"]
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["isDefault"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/reputation-gateway.yml").read_text())["providers"]
    mounted = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/dashboard.json" in mounted
