"""A shell for each document, in a folder of its own, with the gateway's command as the documents write it."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path

from examples import ROOT

HERE = Path(__file__).resolve().parent
BINARY = Path(os.environ.get("GATEWAY_BIN", ROOT / "target/debug/reputation-gateway")).resolve()
SDK = ROOT / "tests/sdk"

# How long a command may take, on a machine that is busy with something else.
PATIENCE_SECONDS = 180

# Folders of the machine that documents name; those of the session stand for them.
ABSOLUTE = ["/etc/gateway/", "/etc/reputation-gateway/", "/var/lib/reputation-gateway/"]


class Session:
    def __init__(self, folder: Path):
        self.folder, self.stand = folder / "work", folder / "stand"
        # What the last block printed; of programs one behind the other, what each of them did.
        self.printed: list[str] = []
        self.ran_program = False
        self.folder.mkdir()
        self.stand.mkdir()
        for absolute in ABSOLUTE:
            (self.folder / absolute.strip("/")).mkdir(parents=True)
        (self.folder / "node_modules").symlink_to(SDK / "node/node_modules")
        environment = {
            "PATH": f"{HERE / 'stand'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "USER": "alice",
            "STAND": str(self.stand),
            "GATEWAY_BIN": str(BINARY),
            "TELNYX_API_KEY": "sandbox",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        shutil.copytree(ROOT / "config", self.folder / "config")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._shell = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd=self.folder, env=environment, start_new_session=True, **pipes)
        self._ends = 0

    def run(self, command: str) -> tuple[int, str]:
        """Runs a command in the shell: its exit code, and what it wrote, with the addresses that the documents have."""
        self._ends += 1
        # A command begins with the shell's own `$?` as the one before left it, so that `echo $?` tells of that.
        end = f"--- end {self._ends} of a command: "
        script = self.stand / "command"
        script.write_text(f"(exit ${{code:-0}})\n{self.local(command)}\n")
        shell = f'source "$STAND/command" < /dev/null; code=$?; printf "%s%s ---\\n" "{end}" "$code"\n'
        try:
            self._shell.stdin.write(shell.encode())
            self._shell.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the shell has ended before: {command}") from None
        said = self._until(end.encode(), command)
        text, _, code = said.rpartition(end)
        return int(code.split(" ")[0]), self.documented(text)

    def _until(self, end: bytes, command: str) -> str:
        said, deadline = b"", time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while end not in said or not said.endswith(b" ---\n"):
                assert selector.select(deadline - time.monotonic()), f"not over in time: {command}\n{said.decode(errors='replace')}"
                some = os.read(self._shell.stdout.fileno(), 65536)
                if not some:
                    # It has closed its output, and ends.
                    self._shell.wait()
                    raise AssertionError(f"it ended the shell: {command}\n{said.decode(errors='replace')}")
                said += some
        return said.decode()

    def local(self, text: str) -> str:
        """The same with the session's folders for the machine's."""
        for absolute in ABSOLUTE:
            text = text.replace(absolute, f"{self.folder}{absolute}")
        return text

    def documented(self, text: str) -> str:
        """The same with the documents' addresses and folders for those of this session."""
        for documented, bound in self.addresses().items():
            text = text.replace(bound, documented)
        return text.replace(f"{self.folder}/", "/").replace(str(self.stand / "log"), "log")

    def bound(self, text: str) -> str:
        for documented, bound in self.addresses().items():
            text = text.replace(documented, bound)
        return text

    def addresses(self) -> dict[str, str]:
        file = self.stand / "addresses"
        return json.loads(file.read_text()) if file.exists() else {}

    def python(self, text: str) -> str:
        return self._program([str(SDK / ".venv/bin/python")], "walk.py", text)

    def js(self, text: str) -> str:
        return self._program(["node"], "walk.mjs", text)

    def _program(self, interpreter: list[str], name: str, text: str) -> str:
        (self.folder / name).write_text(self.bound(text))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": PATIENCE_SECONDS}
        ended = subprocess.run([*interpreter, name], cwd=self.folder, text=True, **pipes)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def has_ended(self) -> bool:
        """Whether a command has ended the shell."""
        return self._shell.poll() is not None

    def close(self) -> None:
        """Ends the shell, and what it has started."""
        # Either fails if a command has ended the shell.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._shell.wait()
        self._shell.stdout.close()
        started = self.stand / "pids"
        for pid in started.read_text().split() if started.exists() else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
