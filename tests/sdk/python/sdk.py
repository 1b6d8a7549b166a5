"""The SDK's two clients behind one face, so that each test is written once and holds for both."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable

import httpx
import telnyx

from gateway import ENTERPRISE, Gateway


@dataclass(frozen=True)
class Answer:
    """A parsed body, and the gateway's word on it."""

    body: Any
    decision: str
    billed: str
    cost_usd: str
    headers: httpx.Headers

    @classmethod
    def of(cls, headers: httpx.Headers, body: Any) -> "Answer":
        gateway = (headers[f"x-gateway-{name}"] for name in ("decision", "billed", "cost-usd"))
        return cls(body, *gateway, headers)


def simplified(client: Any, number: str, **options: Any) -> Any:
    """`GET /reputation/numbers/{number}`"""
    return client.reputation.numbers.with_raw_response.retrieve(number, **options)


def scoped(client: Any, number: str, **options: Any) -> Any:
    """`GET /enterprises/{enterprise}/reputation/numbers/{number}`"""
    return client.enterprises.reputation.numbers.with_raw_response.retrieve(number, enterprise_id=ENTERPRISE, **options)


def refresh(client: Any, numbers: list[str]) -> Any:
    """`POST /enterprises/{enterprise}/reputation/numbers/refresh`"""
    return client.enterprises.reputation.numbers.with_raw_response.refresh(ENTERPRISE, phone_numbers=numbers)


class Sync:
    """`telnyx.Telnyx`, its concurrency by threads."""

    def __init__(self, gateway: Gateway, key: str, base_url: str | None = None):
        self.attempts: list[httpx.Request] = []
        self._http = telnyx.DefaultHttpxClient(event_hooks={"request": [self.attempts.append]}, trust_env=False)
        self._client = telnyx.Telnyx(api_key=key, base_url=base_url or gateway.base_url, http_client=self._http)

    def ask(self, call: Callable[[Any], Any]) -> Answer:
        raw = call(self._client)
        return Answer.of(raw.headers, raw.parse())

    def ask_at_once(self, calls: list[Callable[[Any], Any]]) -> list[Answer]:
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(self.ask, calls))

    def all_of(self, call: Callable[[Any], Any]) -> list[Any]:
        """Every item of a list, page after page."""
        return list(call(self._client))

    def close(self) -> None:
        self._client.close()


class Async:
    """`telnyx.AsyncTelnyx`, its concurrency by tasks of one loop."""

    def __init__(self, gateway: Gateway, key: str, base_url: str | None = None):
        self.attempts: list[httpx.Request] = []
        self._loop = asyncio.Runner()
        self._http = telnyx.DefaultAsyncHttpxClient(event_hooks={"request": [self._attempt]}, trust_env=False)
        self._client = telnyx.AsyncTelnyx(api_key=key, base_url=base_url or gateway.base_url, http_client=self._http)

    async def _attempt(self, request: httpx.Request) -> None:
        self.attempts.append(request)

    async def _ask(self, call: Callable[[Any], Any]) -> Answer:
        raw = await call(self._client)
        return Answer.of(raw.headers, await raw.parse())

    def ask(self, call: Callable[[Any], Any]) -> Answer:
        return self._loop.run(self._ask(call))

    def ask_at_once(self, calls: list[Callable[[Any], Any]]) -> list[Answer]:
        async def gather() -> list[Answer]:
            return await asyncio.gather(*map(self._ask, calls))

        return self._loop.run(gather())

    def all_of(self, call: Callable[[Any], Any]) -> list[Any]:
        """Every item of a list, page after page."""

        async def collect() -> list[Any]:
            return [item async for item in call(self._client)]

        return self._loop.run(collect())

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()
