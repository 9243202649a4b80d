"""What goes wrong on purpose: rules that requests are matched against, each for so many times or for ever."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Rule:
    """`kind` is fail, cut, hold, drop, corrupt or stall. `method` None is any; `times` None is for ever. The pattern is searched in path and query, decoded."""

    kind: str
    path: str
    method: str | None = None
    times: int | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    after_bytes: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.pattern = re.compile(self.path)

    def meets(self, method: str, path: str) -> bool:
        return self.times != 0 and self.method in (None, method) and self.pattern.search(path) is not None


class Faults:
    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def take(self, kind: str, method: str, path: str, *, length: int | None = None) -> Rule | None:
        """The first rule that applies, one time of it used up. A body of no more than `after_bytes` is not cut, and uses nothing up."""
        with self._lock:
            for rule in self._rules:
                if rule.kind == kind and rule.meets(method, path) and (length is None or length > rule.after_bytes):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None
