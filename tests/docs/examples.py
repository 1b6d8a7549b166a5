"""The fenced blocks of the documents, and what the HTML comments above them say of how they are run."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LANGUAGES = {"console", "sh", "text", "toml", "json", "yaml", "promql", "python", "js", "conf", "http"}

# Why a block is not run. Each is a reason of this machine's, but for the last two.
REASONS = {
    "docker": "there is no Docker where the tests run",
    "cluster": "there is no Kubernetes",
    "host": "it changes the machine",
    "minutes": "it takes minutes",
    "itself": "it is what runs this",
    "drawing": "it is to be looked at",
}

# What a comment may say: `before` and `then` are shell commands that are run and not shown, `file` keeps the block under that name, `answer` is the
# command whose answer it shows, `into` the one that takes it, `not run` one of the reasons.
NOTES = {"before", "then", "file", "answer", "into", "not run"}

NOTE = re.compile(r"^<!-- ([a-z ]+):\s(.*?)\s?-->$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    document: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.document}:{self.line} {self.language}"


def documents() -> list[str]:
    """Those for people, by their paths from the root."""
    return ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(document: str) -> list[Block]:
    return parsed(document, (ROOT / document).read_text())


def parsed(document: str, text: str) -> list[Block]:
    """All blocks, each with the comments between what stands before it and itself."""
    found, end = [], 0
    for fence in FENCE.finditer(text):
        above, end = text[end : fence.start()], fence.end()
        indent = len(fence["indent"])
        lines = "".join(line[indent:] if line.strip() else line for line in fence["text"].splitlines(keepends=True))
        found.append(Block(document, text.count("\n", 0, fence.start()) + 1, fence["language"], lines, notes(above)))
    return found


def notes(above: str) -> dict[str, str]:
    """The comments that stand at the end of a text."""
    found = {}
    while last := re.search(r"<!-- ((?!-->).)*-->\s*\Z", above, re.DOTALL):
        note = NOTE.fullmatch(last[0].strip())
        if note:
            assert note[1] not in found, f"two notes of {note[1]!r}"
            found[note[1]] = note[2].strip("\n")
        above = above[: last.start()]
    return found
