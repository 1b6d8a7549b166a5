"""Every fenced block of the documents is run, in its document's order, against a gateway of the document's own."""

import json
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from examples import LANGUAGES, NOTES, REASONS, ROOT, Block, blocks, documents, parsed
from session import BINARY, PATIENCE_SECONDS, Session
from shown import assert_shown, is_shown, json_in, shape

# The blocks that are not run, by document and reason: no more and no fewer.
NOT_RUN = {
    ("README.md", "docker"): 1,
    ("README.md", "itself"): 1,
    ("CONTRIBUTING.md", "drawing"): 1,
    ("docs/architecture.md", "drawing"): 3,
    ("docs/benchmarks.md", "minutes"): 1,
    ("docs/deploy.md", "cluster"): 1,
    ("docs/deploy.md", "docker"): 2,
    ("docs/deploy.md", "host"): 1,
    ("docs/errors.md", "drawing"): 1,
    ("docs/operations.md", "docker"): 1,
    ("docs/operations.md", "host"): 1,
    ("docs/performance.md", "minutes"): 1,
    ("docs/security.md", "drawing"): 1,
}

# What a fragment of a configuration leaves out.
BASE = {
    "upstream": '[upstream]\napi_key = { env = "TELNYX_API_KEY" }\n',
    "caller": "".join(f'[[caller]]\nname = "{name}"\nkey_sha256 = "{digit * 64}"\n' for name, digit in (("dialer", "a"), ("crm", "b"))),
    "budget": '[[budget]]\nname = "all"\nlimit = "1.00"\nwindow = "day"\n',
}

EVERY = [block for document in documents() for block in blocks(document)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Session]]:
    """The session of the document whose turn it is."""
    assert BINARY.is_file(), f"no gateway at {BINARY}: build it, or name it in GATEWAY_BIN"
    open_ones: dict[str, Session] = {}
    yield open_ones
    for session in open_ones.values():
        session.close()


@pytest.fixture
def session(sessions: dict[str, Session], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    document = request.node.callspec.params["block"].document
    if document not in sessions:
        while sessions:
            sessions.popitem()[1].close()
        sessions[document] = Session(tmp_path_factory.mktemp("document"))
    return sessions[document]


@pytest.mark.parametrize("block", EVERY, ids=str)
def test_the_example_is_right(block: Block, session: Session) -> None:
    assert block.language in LANGUAGES, f"its language is {block.language!r}; there are {sorted(LANGUAGES)}"
    assert block.notes.keys() <= NOTES, f"notes are {sorted(NOTES)}, and not {sorted(block.notes)}"
    if "not run" in block.notes:
        assert block.notes["not run"] in REASONS, f"reasons are {sorted(REASONS)}"
        assert len(block.notes) == 1, f"what is not run needs no other note: {block.notes}"
        look(block)
        return
    if "before" in block.notes:
        unshown(session, block.notes["before"])
    if "file" in block.notes:
        (session.folder / block.notes["file"]).write_text(session.local(block.text))
    if block.language not in ("python", "js"):
        session.ran_program = session.ran_program and block.language == "text"
    RUNNERS[block.language](block, session)
    if "then" in block.notes:
        unshown(session, block.notes["then"])


def test_no_more_is_left_out_than_is_listed() -> None:
    assert Counter((block.document, block.notes["not run"]) for block in EVERY if "not run" in block.notes) == NOT_RUN


def test_each_document_is_looked_at() -> None:
    fences = {document: len(re.findall(r"^ *```", (ROOT / document).read_text(), re.MULTILINE)) for document in documents()}
    assert not any("~~~" in (ROOT / document).read_text() for document in documents()), "a fence is made of backticks"
    assert {document: len(blocks(document)) * 2 for document in documents()} == fences
    assert {"console", "sh", "toml", "json", "promql", "python", "js", "text"} <= {block.language for block in EVERY}


def unshown(session: Session, command: str) -> None:
    code, said = session.run(f"set -e\n{command}\nset +e")
    assert code == 0, f"{command}\nended with {code}: {said}"


def sh(block: Block, session: Session) -> None:
    """All variables that it sets are for what comes after it."""
    code, said = session.run(f"set -ea\n{block.text}\nset +ea")
    assert code == 0, f"ended with {code}: {said}"
    session.printed = [said]


def console(block: Block, session: Session) -> None:
    """Each command, with what is shown below it. One that fails has to show why."""
    session.printed = []
    for command, shown in steps(block.text):
        code, said = session.run(command)
        assert code == 0 or shown.strip(), f"$ {command}\nended with {code}: {said}"
        assert_shown(shown, said, f"$ {command}", any_order=" & " in command)
        session.printed.append(said)
    session.printed = session.printed[-1:]


def steps(text: str) -> list[tuple[str, str]]:
    """Its commands, each with the lines below it. A command goes on after a backslash at the end of its line."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        else:
            assert found, f"output before any command: {line}"
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    assert found, "no command: one begins with a dollar"
    return found


def program(block: Block, session: Session) -> None:
    run = session.python if block.language == "python" else session.js
    session.printed = [*(session.printed if session.ran_program else []), run(block.text)]
    session.ran_program = True


def text(block: Block, session: Session) -> None:
    """It is how the output ends of the command in its note, or else of what was run before it: of all programs, where there are several."""
    printed = session.printed
    if "answer" in block.notes:
        printed = [session.run(block.notes["answer"])[1]]
    assert printed, "nothing was printed before it: say by which command it is (answer), or why it is not run"
    lines = len(block.text.strip("\n").splitlines())
    for said in printed:
        assert_shown(block.text, "\n".join(said.strip("\n").splitlines()[-lines:]), "the end of what was printed")


def json_(block: Block, session: Session) -> None:
    """It has the members of the answer to the command in its note, or else of what was printed before it."""
    shown = json.loads(block.text)
    if "into" in block.notes:
        (session.folder / "shown.json").write_text(block.text)
        unshown(session, f"({block.notes['into']}) < shown.json")
        return
    printed = session.run(block.notes["answer"])[1] if "answer" in block.notes else "".join(session.printed[-1:])
    assert printed, "nothing was printed before it: say by which command it is (answer), or which takes it (into)"
    assert shape(shown) == shape(json_in(printed)), printed


def toml(block: Block, session: Session) -> None:
    """A configuration, or a part of one: what it leaves out and needs is added."""
    given = tomllib.loads(block.text)
    whole = "\n".join([block.text, *(part for name, part in BASE.items() if name not in given)])
    (session.folder / "checked.toml").write_text(session.local(whole))
    unshown(session, 'TELNYX_API_KEY=sandbox REDIS_URL=redis://127.0.0.1:6379/0 reputation-gateway check-config --config checked.toml')


def yaml_(block: Block, _session: Session) -> None:
    assert list(yaml.safe_load_all(block.text)) != [None]


def promql(block: Block, session: Session) -> None:
    """Expressions with an empty line between them, which promtool takes."""
    found = [part.strip() for part in re.split(r"\n\s*\n", block.text) if part.strip()]
    rules = [{"record": f"expression:{at}", "expr": expression} for at, expression in enumerate(found)]
    file = session.folder / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert checked.returncode == 0 and f"{len(found)} rules found" in checked.stdout, checked.stdout + checked.stderr


def http(block: Block, _session: Session) -> None:
    """A request: its line, its fields and JSON."""
    head, body = block.text.split("\n\n")
    line, *fields = head.splitlines()
    assert re.fullmatch(r"[A-Z]+ /\S* HTTP/1\.1", line), line
    assert all(re.fullmatch(r"[a-z-]+: \S.*", field) for field in fields), fields
    json.loads(body)


def conf(block: Block, session: Session) -> None:
    """Settings of a Redis, which starts with them."""
    (session.folder / "redis.conf").write_text(block.text)
    command = ["redis-server", "redis.conf", "--port", "0", "--unixsocket", "redis-of-conf.sock", "--dir", "."]
    with subprocess.Popen(command, cwd=session.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        said = []
        for line in server.stdout:
            said.append(line)
            if "ready to accept connections" in line.lower():
                server.terminate()
                return
    raise AssertionError("".join(said))


RUNNERS = {
    "console": console,
    "sh": sh,
    "text": text,
    "json": json_,
    "toml": toml,
    "yaml": yaml_,
    "promql": promql,
    "python": program,
    "js": program,
    "conf": conf,
    "http": http,
}


def look(block: Block) -> None:
    """Of what is not run: its shell is a shell's, and the files, benches and commands of ours that it names are there."""
    if block.language not in ("sh", "console"):
        assert block.notes["not run"] == "drawing", "only what is to be looked at has no command"
        return
    script = block.text if block.language == "sh" else "\n".join(command for command, _ in steps(block.text))
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert checked.returncode == 0, checked.stderr
    for path in re.findall(r"(?<![\w/.])(?:deploy|benches|tests|config|\.ci)/[\w./-]+", script):
        assert (ROOT / path).exists(), f"there is no {path}"
    for bench in re.findall(r"--bench (\w+)", script):
        assert f'[[bench]]\nname = "{bench}"' in (ROOT / "Cargo.toml").read_text(), f"there is no bench {bench}"
    for command in re.findall(r"^reputation-gateway ([a-z-]+)", script, re.MULTILINE):
        helped = subprocess.run([str(BINARY), command, "--help"], capture_output=True, timeout=PATIENCE_SECONDS)
        assert helped.returncode == 0, helped.stderr


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    """The runners fail where a document is wrong: this is what they are for."""
    session = Session(tmp_path)
    wrong = """
```console
$ reputation-gateway check-config --config config/demo.toml
the configuration is invalid
```
```sh
reputation-gateway no-such-command
```
```toml
[cache]
ttl_jiter = 0.1
```
<!-- answer: echo '{"a":1,"b":2}' -->
```json
{"a":1}
```
```promql
sum(rate(x[5m])
```
```python
import telnyx
telnyx.NoSuchThing
```
```js
import { none } from "telnyx"; none();
```
<!-- answer: echo ready -->
```text
steady
```
```yaml
a: [
```
```conf
maxmemory-policy none-such
```
```http
POST hooks HTTP/1.1
host: example.com

{}
```
```text
nothing printed this
```
```
no language
```
<!-- not run: tired -->
```sh
true
```
<!-- not run: minutes -->
```sh
cargo bench --bench none
```
<!-- befor: true -->
```sh
true
```
"""
    why = [
        "configuration is invalid",
        "no-such-command",
        "unknown field",
        '"b":2',
        "parse",
        "NoSuchThing",
        "none",
        "the end of what was printed",
        "expected",
        "maxmemory-policy",
        "POST hooks",
        "nothing was printed before it",
        "its language is ''",
        "reasons are",
        "there is no bench none",
        "notes are",
    ]
    for example, said in zip(parsed("wrong.md", wrong), why, strict=True):
        session.printed = []
        with pytest.raises((AssertionError, yaml.YAMLError), match=said):
            test_the_example_is_right(example, session)
        if session.has_ended():
            session.close()
            (tmp_path / str(example.line)).mkdir()
            session = Session(tmp_path / str(example.line))
    session.close()
    assert is_shown("a … c 2026-01-01", "a b c 2026-02-02") and not is_shown("a … d", "a b c")
