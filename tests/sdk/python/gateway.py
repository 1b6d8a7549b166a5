"""The gateway as a process of its own, in front of its sandbox."""

import hashlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from decimal import Decimal
from pathlib import Path

ENTERPRISE = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
STORED = "+16035551234"
NEVER_ANY_DATA = "+12025559999"
NOT_ASSOCIATED = "+19995550000"

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("GATEWAY_BIN", ROOT / "target/debug/reputation-gateway"))

# How long the process may take to be ready, and to stop.
PATIENCE_SECONDS = 30

READY = re.compile(rb"ready listen=(\S+) admin=(\S+) sandbox=(\S+)\n")


def never_checked(index: int) -> str:
    """One of the sandbox's numbers that nobody has paid a check for."""
    return f"+1202555{index:04}"


class Gateway:
    """A running gateway: `dialer` may do all there is, `reader` only read. `settings` are its environment, `watch` a program that starts it."""

    def __init__(self, folder: Path, budget_usd: str, settings: dict[str, str] | None = None, watch: tuple[str, ...] = ()):
        self.keys = {name: f"{name}-{secrets.token_hex(16)}" for name in ("dialer", "reader")}
        config = folder / "gateway.toml"
        config.write_text(self._config(folder, budget_usd))
        command = [*watch, str(BINARY), "serve", "--sandbox=127.0.0.1:0", "--config", str(config)]
        command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        self._log = folder / "gateway.log"
        with self._log.open("wb") as log:
            # No other environment: settings of the machine must not reach the gateway.
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(command, cwd=folder, env=settings or {}, **pipes)
        try:
            self.listen, self.admin, self._sandbox = self._ready()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _config(self, folder: Path, budget_usd: str) -> str:
        digest = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in self.keys.items()}
        return f"""
[upstream]
default_enterprise = "{ENTERPRISE}"

[auth]
mode = "keys"

[[caller]]
name = "dialer"
key_sha256 = "{digest["dialer"]}"
allow = ["fresh", "refresh", "associate", "remediation", "enable", "frequency", "ownership", "enterprises"]

[[caller]]
name = "reader"
key_sha256 = "{digest["reader"]}"

[prices]
unpublished = "0"

[ledger]
path = "{folder / "ledger.sqlite"}"

[[budget]]
name = "all-month"
limit = "{budget_usd}"
window = "month"
"""

    def _ready(self) -> list[str]:
        """The three addresses of the one line that says that all listeners are bound."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                assert selector.select(deadline - time.monotonic()), f"not ready in time, after {line!r}: {self._said()}"
                some = os.read(self._process.stdout.fileno(), 4096)
                assert some, f"ended before it was ready, after {line!r}: {self._said()}"
                line += some
        ready = READY.fullmatch(line)
        assert ready, f"not the ready line: {line!r}"
        return [address.decode() for address in ready.groups()]

    def _said(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Asks the gateway to drain, and expects a clean end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            rest, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        assert self._process.returncode == 0, f"exit code {self._process.returncode}: {self._said()}"
        assert rest == b"", f"stdout holds more than the ready line: {rest!r}"

    @property
    def base_url(self) -> str:
        return f"http://{self.listen}/v2"

    def charges(self) -> dict:
        """What the sandbox billed, by its own count."""
        return json.loads(_read(f"http://{self._sandbox}/sandbox/charges"))

    def posted_usd(self) -> Counter[str]:
        """What the ledger posted, row by row, by the state of the charge."""
        posted, cursor = Counter(), ""
        while cursor is not None:
            page = json.loads(_read(f"http://{self.admin}/admin/v1/ledger?limit=1000{cursor and f'&cursor={cursor}'}"))
            for row in page["data"]:
                posted[row["state"]] += Decimal(row["posted_usd"])
            cursor = page["meta"]["next_cursor"]
        return posted

    def requests_upstream(self) -> object:
        """What the sandbox has seen."""
        return json.loads(_read(f"http://{self._sandbox}/sandbox/requests"))

    def script(self, fault: dict) -> None:
        """Lets something go wrong with the next request that matches."""
        _read(f"http://{self._sandbox}/sandbox/faults", json.dumps(fault).encode())

    def assert_charged(self, count: int) -> None:
        """Nothing but so many checks was billed."""
        charges = self.charges()
        assert (charges["count"], Decimal(charges["total_usd"])) == (count, Decimal("0.10") * count), charges

    def scrape(self) -> str:
        """All metrics."""
        return _read(f"http://{self.admin}/metrics").decode()

    def metric_sum(self, name: str) -> Decimal:
        """All series of a metric, added up."""
        lines = self.scrape().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if re.match(rf"{name}(\{{| )", line)]
        assert values, f"no series of {name}"
        # A float is the metric's own form: it is exact to far less than a cent.
        return sum((Decimal(value) for value in values), Decimal(0)).quantize(Decimal("0.000001"))


def _read(url: str, posted: bytes | None = None) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, data=posted, timeout=PATIENCE_SECONDS) as answer:
        return answer.read()
