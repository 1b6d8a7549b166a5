"""A gateway and a client for each test: every count starts at nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import BINARY, Gateway
from sdk import Async, Sync

Connect = Callable[..., Sync | Async]


def pytest_sessionstart() -> None:
    assert BINARY.is_file(), f"no gateway at {BINARY}: build it, or name it in GATEWAY_BIN"


def running(folder: Path, budget_usd: str) -> Iterator[Gateway]:
    gateway = Gateway(folder, budget_usd)
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose budget no test reaches."""
    yield from running(tmp_path, "100.00")


@pytest.fixture
def rich(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that may spend what monitoring costs."""
    yield from running(tmp_path, "1000.00")


@pytest.fixture
def penniless(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that may spend nothing."""
    yield from running(tmp_path, "0.00")


@pytest.fixture
def one_check(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that may spend what one check costs."""
    yield from running(tmp_path, "0.10")


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one of the two kinds; the dialer's, unless another key is named."""
    clients: list[Sync | Async] = []

    def new(gateway: Gateway, key: str | None = None, **options: str) -> Sync | Async:
        clients.append(request.param(gateway, key or gateway.keys["dialer"], **options))
        return clients[-1]

    yield new
    for client in clients:
        client.close()
