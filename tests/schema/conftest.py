"""A gateway for each document."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import BINARY, Gateway

# Rates would make answers depend on how fast requests are sent.
UNLIMITED = {"REPUTATION_GATEWAY__UPSTREAM__RATE": "1000000/s", "REPUTATION_GATEWAY__FRESH__RATE": "1000000/s"}


def pytest_sessionstart() -> None:
    assert BINARY.is_file(), f"no gateway at {BINARY}: build it, or name it in GATEWAY_BIN"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway with the budget that the test's module names, and with settings of its own if it has such."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(folder, request.module.BUDGET_USD, UNLIMITED | getattr(request.module, "SETTINGS", {}))
    yield gateway
    gateway.stop()
