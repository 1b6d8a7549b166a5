"""The files under test, and how the tools that look at them are run."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from gateway import ROOT

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/rules.yml"

# How long a tool may take. None waits for anything.
PATIENCE_SECONDS = 300


def said(*command: object, given: str | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command writes; it has to end with 0. Tools of the test's own packages are beside its Python."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    run = subprocess.run(
        [str(word) for word in command],
        input=given or "",
        env={"PATH": path, "HOME": os.environ.get("HOME", "/"), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"{command} ended with {run.returncode}:\n{run.stdout}{run.stderr}"
    return run.stdout + run.stderr


def documents(text: str) -> list[dict]:
    """The documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def groups() -> list[dict]:
    """The groups of rules."""
    return yaml.safe_load(RULES.read_text())["groups"]


def alerts() -> dict[str, dict]:
    """The alerts, by name."""
    found = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in found}) == len(found), "two alerts of one name"
    return {rule["alert"]: rule for rule in found}


def records() -> dict[str, str]:
    """The expressions of recorded series, by their names."""
    return {rule["record"]: rule["expr"] for group in groups() for rule in group["rules"] if "record" in rule}
