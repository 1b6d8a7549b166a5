"""What a document shows of an output, held against that output."""

import difflib
import json
import re

# What differs from one run to the next.
CHANGING = [
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\b\d{4}-\d\d-\d\d\b", "DAY"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "TIME"),
    (r"\brgw_[0-9a-f]{64}\b", "KEY"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b(age|ttl|max-age)(=|: )\d+", r"\1\2SECONDS"),
    (r'"(\w+_s)":-?\d+', r'"\1":SECONDS'),
    (r"content-length: \d+", "content-length: BYTES"),
    (r'"(size_bytes|body_bytes)":\d+', r'"\1":BYTES'),
]

# The documents leave out with it what is long.
LEFT_OUT = "…"


def steady(text: str) -> str:
    """The text with names for what changes, and without blanks at the ends of lines."""
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def is_shown(shown: str, printed: str) -> bool:
    """Whether this is that output, where `…` stands for any text."""
    pattern = ".*?".join(re.escape(part) for part in steady(shown).split(LEFT_OUT))
    return re.fullmatch(pattern, steady(printed), re.DOTALL) is not None


def assert_shown(shown: str, printed: str, what: str, any_order: bool = False) -> None:
    """Two at once may end in either order."""
    if any_order:
        shown, printed = ("\n".join(sorted(text.strip("\n").splitlines())) for text in (shown, printed))
    if not is_shown(shown, printed):
        difference = difflib.unified_diff(steady(shown).splitlines(), steady(printed).splitlines(), "shown", "printed", lineterm="")
        raise AssertionError(f"{what}\n" + "\n".join(difference) + f"\n\nas printed:\n{printed}")


def shape(value: object) -> object:
    """Of JSON: which members there are, of which kinds. A list is what its first item is."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if type(value) in (int, float) else type(value).__name__


def json_in(printed: str) -> object:
    """The JSON that an output ends with."""
    lines = printed.strip("\n").splitlines()
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith(("{", "[")):
            return json.loads("\n".join(lines[at:]))
    raise AssertionError(f"no JSON in what was printed: {printed}")
