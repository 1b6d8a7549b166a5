"""The systemd unit: by systemd's own verifier, and by how little it leaves open."""

import re
from pathlib import Path

from gateway import BINARY
from shipped import DEPLOY, said
from test_containers import assert_accepted

UNIT = DEPLOY / "systemd/reputation-gateway.service"
INSTALLED = "/usr/local/bin/reputation-gateway"

# What systemd calls OK ends at 5.0; a unit without any hardening has 9.6.
MOST_EXPOSURE = 1.5


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
