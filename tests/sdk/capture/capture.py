"""Writes down what the official SDKs send, for `tests/it/replays`: each request byte for byte, in the order in which it came.

    tests/sdk/.venv/bin/python tests/sdk/capture/capture.py

Needs both SDKs installed, as `tests/run` installs them. Run it when one of them is moved to a newer version, and look at what changed.
The listener's address becomes `gateway`; the key is the replays' own. `STATUSES` lets the clients try again where it fails them.
"""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import telnyx

HERE = Path(__file__).resolve().parent
REPLAYS = HERE.parents[1] / "it" / "replays"
ENTERPRISE = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
KEY = "key-of-sdk"

# One for each request: the second call and the fifth are answered by failures first.
STATUSES = [200, 500, 500, 200, 200, 200, 500, 200, 201, 204]
BETWEEN = b"\n----\n"
FAILED = b'{"errors":[{"code":"10011","title":"a","detail":"b","meta":{"url":"c"}}]}'


def read(stream: socket.socket) -> bytes:
    """A request: its head, and as much of a body as its length says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += stream.recv(65536) or sys.exit("ended within a head")
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < sum(lengths):
        body += stream.recv(65536) or sys.exit("ended within a body")
    return head + b"\r\n\r\n" + body


def serve(server: socket.socket, seen: list[bytes]) -> None:
    for status in STATUSES:
        stream, _ = server.accept()
        with stream:
            seen.append(read(stream))
            body = b"" if status == 204 else b'{"data":{}}' if status < 300 else FAILED
            head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            stream.sendall(head.encode() + body)


def capture(name: str, client) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "127.0.0.1:%d" % server.getsockname()[1]
        listener = threading.Thread(target=serve, args=(server, seen), daemon=True)
        listener.start()
        client(f"http://{address}/v2")
        listener.join(timeout=30)
    if len(seen) != len(STATUSES):
        sys.exit(f"{name} sent {len(seen)} requests instead of {len(STATUSES)}")
    (REPLAYS / f"{name}.http").write_bytes(BETWEEN.join(seen).replace(address.encode(), b"gateway"))


def python(base_url: str) -> None:
    client = telnyx.Telnyx(api_key=KEY, base_url=base_url, http_client=telnyx.DefaultHttpxClient(trust_env=False))
    scoped = client.enterprises.reputation.numbers
    client.reputation.numbers.retrieve("+16035551234")
    client.reputation.numbers.retrieve("+12025550001", fresh=True)
    scoped.retrieve("%2B16035551234", enterprise_id=ENTERPRISE, fresh=False)
    scoped.list(ENTERPRISE, filter_phone_number_eq="+16035551234", page_size=5)
    scoped.refresh(ENTERPRISE, phone_numbers=["+12025550002"])
    scoped.associate(ENTERPRISE, phone_numbers=["+19995550001"])
    client.reputation.numbers.delete("+12025550003")


def node(base_url: str) -> None:
    subprocess.run(["node", HERE / "capture.mjs", base_url, KEY, ENTERPRISE], check=True, env={"PATH": "/usr/local/bin:/usr/bin:/bin"})


capture("python", python)
capture("node", node)
