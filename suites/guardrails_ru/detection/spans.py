"""What a finder yields, and how overlapping findings become one list of spans.

The rule, in order:

1. Overlapping findings of the *same* label found by names and language (persons, places,
   organisations) are united: the union of their extents, the higher of their scores.
2. Of two findings that still overlap, the lower tier wins. ``STRUCTURED`` (e-mail, URL, IP
   address) is before ``NUMBERED`` (identifiers, phones, dates, street addresses), which is before
   ``NAMED`` (persons, places, organisations).
3. Inside a tier the higher score wins, then the longer extent, then the earlier start, then the
   label's name: no two different findings compare equal, so the result has one possible value.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[int, int, str, float]

LABELS: frozenset[str] = frozenset(
    {
        "PERSON",
        "LOCATION",
        "ORGANIZATION",
        "PHONE",
        "EMAIL",
        "URL",
        "IP_ADDRESS",
        "DATE",
        "PASSPORT",
        "SNILS",
        "INN",
        "BANK_CARD",
    }
)

STRUCTURED, NUMBERED, NAMED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One candidate span with the tier that decides between overlapping ones."""

    start: int
    end: int
    label: str
    score: float
    tier: int = NUMBERED


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that survive the rule above, in order of their starts."""
    ranked = sorted(
        _unite(findings),
        key=lambda f: (f.tier, -f.score, f.start - f.end, f.start, f.label),
    )
    taken: list[tuple[int, int]] = []
    kept: list[Finding] = []
    for finding in ranked:
        place = bisect_left(taken, (finding.start, finding.start))
        if place < len(taken) and taken[place][0] < finding.end:
            continue
        if place > 0 and taken[place - 1][1] > finding.start:
            continue
        insort(taken, (finding.start, finding.end))
        kept.append(finding)
    kept.sort(key=lambda f: f.start)
    return kept


def _unite(findings: Iterable[Finding]) -> list[Finding]:
    """Unite overlapping findings of one label; identifiers and addresses pass through."""
    result: list[Finding] = []
    by_label: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.start >= finding.end:
            continue
        if finding.tier == NAMED:
            by_label.setdefault(finding.label, []).append(finding)
        else:
            result.append(finding)
    for group in by_label.values():
        group.sort(key=lambda f: (f.start, f.end, f.score))
        current = group[0]
        for finding in group[1:]:
            if finding.start < current.end:
                current = Finding(
                    current.start,
                    max(current.end, finding.end),
                    current.label,
                    max(current.score, finding.score),
                    NAMED,
                )
            else:
                result.append(current)
                current = finding
        result.append(current)
    return result
