"""What is shipped for deployments, held against the gateway and the real tools."""

from collections.abc import Iterator

import pytest

from gateway import BINARY, Gateway


def pytest_sessionstart() -> None:
    assert BINARY.is_file(), f"no gateway at {BINARY}: build it, or name it in GATEWAY_BIN"


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that may spend a dollar a month."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), "1.00")
    yield gateway
    gateway.stop()
