"""Which series an expression asks for, and which labels it may have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as promql
from promql_parser import AggModifierType, MatchOp, VectorSelector

# What Prometheus adds to every series that it scrapes, and the series that it makes itself.
SCRAPED = {"job", "instance"}
MADE = {"up": [{}]}

Series = dict[str, list[dict[str, str]]]


def scraped(text: str) -> Series:
    """The label sets of each series of a scrape, by its name."""
    series: Series = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels = re.fullmatch(r"([a-zA-Z_:]+)(?:\{(.*)\})? \S+", line).groups()
            series.setdefault(name, []).append(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))
    return series


@dataclass
class Asked:
    """What an expression names."""

    selectors: list[VectorSelector]
    grouped: set[str]


def asked(expression: str) -> Asked:
    """Takes an expression apart."""
    parts = list(_parts(promql.parse(expression)))
    selectors = [part for part in parts if isinstance(part, VectorSelector)]
    grouped: set[str] = set()
    for part in parts:
        modifier = getattr(part, "modifier", None)
        labels = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
        grouped |= set(labels or ())
    return Asked(selectors, grouped)


def _parts(part: object) -> Iterator[object]:
    yield part
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        inner = getattr(part, name, None)
        if inner is not None:
            yield from _parts(inner)
    for inner in getattr(part, "args", None) or ():
        yield from _parts(inner)


def faults(expression: str, series: Series, recorded: dict[str, str]) -> list[str]:
    """What an expression asks for that there is not."""
    found, known = [], set(SCRAPED)
    parts = asked(expression)
    assert parts.selectors, f"{expression} asks for no series"
    for selector in parts.selectors:
        if selector.name in recorded:
            labels = kept(recorded[selector.name])
            candidates = [dict.fromkeys(labels, None)]
        else:
            candidates = {**MADE, **series}.get(selector.name, [])
            labels = {label for candidate in candidates for label in candidate} | SCRAPED
        if not candidates:
            found.append(f"no series {selector.name}")
        found += [f"{selector.name} has no label {m.name}" for m in selector.matchers.matchers if m.name not in labels]
        for matcher in selector.matchers.matchers:
            values = {candidate.get(matcher.name) for candidate in candidates}
            if matcher.op == MatchOp.Re and re.fullmatch(r"[\w|]+", matcher.value) and None not in values:
                words = set(matcher.value.split("|"))
                found += [f"{selector.name} is never {matcher.name}={word}" for word in words - values]
        if candidates and not any(_matches(selector, candidate) for candidate in candidates):
            found.append(f"no series of {selector.name} is {selector.matchers}")
        known |= labels
    return found + [f"no series of it has the label {label}" for label in parts.grouped - known]


def kept(expression: str) -> set[str]:
    """The labels that the outcome of an expression has, where it is grouped; else nothing is known of them."""
    part = promql.parse(expression)
    while not isinstance(part, promql.AggregateExpr):
        inner = [getattr(part, name, None) for name in ("expr", "lhs")] + list(getattr(part, "args", None) or ())
        inner = [candidate for candidate in inner if not isinstance(candidate, promql.NumberLiteral | None)]
        if not inner:
            return set(SCRAPED)
        part = inner[0]
    if part.modifier is None:
        return set()
    assert part.modifier.type == AggModifierType.By, expression
    return set(part.modifier.labels)


def _matches(selector: VectorSelector, labels: dict[str, str | None]) -> bool:
    return all(m.name in SCRAPED or labels.get(m.name) is None or _agrees(m, labels[m.name]) for m in selector.matchers.matchers)


def _agrees(matcher: promql.Matcher, value: str) -> bool:
    match matcher.op:
        case MatchOp.Equal:
            return value == matcher.value
        case MatchOp.NotEqual:
            return value != matcher.value
        case MatchOp.Re:
            return re.fullmatch(matcher.value, value) is not None
        case _:
            return re.fullmatch(matcher.value, value) is None
