"""The systemd unit: by systemd's own verifier, and by how little it leaves open."""

import re
import shutil
import time
from pathlib import Path

from gateway import BINARY, Gateway
from shipped import DEPLOY, said
from test_containers import assert_accepted
from test_prometheus import buy

UNIT = DEPLOY / "systemd/reputation-gateway.service"
INSTALLED = "/usr/local/bin/reputation-gateway"

# What systemd calls OK ends at 5.0; a unit without any hardening has 9.6.
MOST_EXPOSURE = 1.5

# How long the last words of a trace may take.
PATIENCE_SECONDS = 30


def test_systemd_finds_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    """The verifier wants the program to be there, so the unit names the one under test."""
    text = UNIT.read_text()
    assert text.count(INSTALLED) == 1
    program = tmp_path / "reputation-gateway"
    program.symlink_to(BINARY.resolve())
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(INSTALLED, str(program)))
    assert said("systemd-analyze", "verify", unit) == ""


def test_systemd_finds_little_exposure() -> None:
    told = said("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told)[1])
    assert exposure <= MOST_EXPOSURE, told


def test_the_binary_accepts_the_command() -> None:
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *arguments = command.split()
    assert program == INSTALLED
    assert_accepted(arguments)


def system_calls(*groups: str) -> set[str]:
    """The system calls of these groups, as systemd has them."""
    listed = said("systemd-analyze", "--no-pager", "syscall-filter", *groups)
    calls = set(re.findall(r"^ {4}([\w@-]+)$", listed, re.MULTILINE))
    inner = {call for call in calls if call.startswith("@")}
    return (calls - inner) | (system_calls(*sorted(inner)) if inner else set())


def test_a_gateway_makes_no_system_call_that_the_unit_forbids(tmp_path: Path) -> None:
    allowed, refused = re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE)
    permitted = system_calls(*allowed.split()) - system_calls(*refused.removeprefix("~").split())
    trace = tmp_path / "trace"
    # Beside it, so that it is the gateway that gets the signal of the stop.
    gateway = Gateway(tmp_path, "1.00", watch=(shutil.which("strace"), "-D", "-f", "-qq", "-o", str(trace)))
    buy(gateway, range(3))
    gateway.scrape()
    gateway.stop()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "exit_group" not in trace.read_text(errors="replace"):
        assert time.monotonic() < deadline
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"execve", "fsync", "accept4"} <= made, "the trace is of a gateway that writes its ledger"
    # As root, which the service is not, SQLite gives its files to whom the ledger belongs.
    assert made - permitted <= {"fchown"}
