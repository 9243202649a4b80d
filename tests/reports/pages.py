"""A session of four cases whose ids, labels and texts are hostile, as the page shows it."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from typing import Any

from pytest_gpueval.reports.session_page import Budget, CasePage, Change, Collector, Comparison, Gate, Given
from pytest_gpueval.reports.table import Figure, Row
from pytest_gpueval.scoring.alignment import compare

EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>{{ 7*7 }} ${7*7} &lt;b&gt; \u202edesrever\u2066 \x1b[31m \x00"
SECRET = "hush-hush-0123456789"
LABELS = ["PERSON", f"EVIL {EVIL}", "DATE"]


def redact(text: str) -> str:
    return text.replace(SECRET, "<redacted>")


def unpacked(source: str) -> dict[tuple[int, int], Any]:
    """The packed data of a page: number of the case and of the block -> what is in it. Block 0 has the columns, the others have rows."""
    found = re.findall(r'<script type="text/plain" id="data-(\d+)-(\d+)">([^<]*)</script>', source)
    return {(int(case), int(block)): json.loads(gzip.decompress(b64decode(text))) for case, block, text in found}


def row(case: str, **changes) -> Row:
    fields = {
        "suite": "toy", "case": case, "run_id": f"toy-{case}", "worker": "gpu0", "reused": False, "ok": True, "status": "passed", "reason": None,
        "headline": "strict.f1", "metrics": {"strict.f1": Figure(0.91, 0.9, 0.92)}, "labels": {}, "scored": 10, "errors": 1, "skipped": 1, "samples_per_s": 56.4,
        "seconds": 3.2, "gates": 1,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def collector(task, *, texts="yes", labels=LABELS, budget=None):
    return Collector(task, labels, texts=texts, redact=redact, budget=budget or Budget(), threshold="scores below 0.5")


def span_record(name, gold, predicted, ms=5.0):
    entries, cross = compare(gold, [span[:3] for span in predicted])
    return {"id": name, "prediction": [list(span) for span in predicted], "score": {"labels": entries, "cross": cross}, "latency_ms": ms}


def spans(count=3000, **options):
    """Every tenth is wrong; sample 5 is an error, sample 6 was skipped, sample 7 holds a secret; the eleventh's text is hostile, and so is its id."""
    found = collector("span_detection", **options)
    for number in range(count):
        name, text, gold = f"doc-{number:05}", f"Ada Lovelace 🙂 came in {1800 + number % 97}, row {number}.", [(0, 12, "PERSON"), (23, 27, "DATE")]
        predicted = [(0, 12, "PERSON", 0.9), (23, 27, "DATE", 0.6)] if number % 10 else [(0, 3, "PERSON", 0.55), (23, 27, "DATE", 0.8)]
        if number == 5:
            found.add({"id": name, "error": f"no answer {EVIL}", "latency_ms": 900.0}, Given(text, gold))
            continue
        if number == 6:
            found.add({"id": name, "skipped": "a bad row"}, None)
            continue
        if number == 7:
            text = f"Ada Lovelace {SECRET}"
        if number == 10:
            name, text = f"doc-{EVIL}", f"Ada Lovelace {EVIL} and more"
            gold, predicted = [(0, 12, LABELS[1])], [(4, 12, LABELS[1], 0.7)]
        found.add(span_record(name, gold, predicted, 5 + number % 50), Given(text, gold))
    return found.done()


def classes():
    found = collector("classification", labels=["bad", "good", f"odd {EVIL}"])
    for number in range(40):
        gold, predicted = ("good" if number % 2 else "bad"), ("good" if number % 4 else f"odd {EVIL}")
        scores = {predicted: 0.5 + number / 100, "bad": 0.2}
        parts = {"gold": gold, "predicted": predicted, "confidence": scores[predicted]}
        found.add({"id": f"review-{number}", "prediction": scores, "score": parts, "latency_ms": 1.5}, Given(f"Review {number} {EVIL}", gold))
    return found.done()


def answers():
    found = collector("generation", labels=[])
    for number in range(12):
        right = int(number % 3 > 0)
        record = {"id": f"q{number}", "prediction": [f"It is {number}. {EVIL}", "No"], "score": {"n": 2, "right": right}, "latency_ms": 20.0, "tokens": [12, 5]}
        found.add(record, Given([("user", f"What is {number}? {EVIL}")], [str(number)]))
    return found.done()


def cases() -> list[CasePage]:
    confusion = {"bad": {"bad": 5, "good": 5, f"odd {EVIL}": 10}, "good": {"good": 20}}
    labels = {label: {"strict.precision": Figure(0.8, 0.7, 0.9), "strict.recall": Figure(0.9, 0.85, 0.95), "strict.f1": Figure(0.85, 0.8, 0.9)} for label in LABELS}
    gate = Gate("strict.f1", None, ">= 0.8", Figure(0.91, 0.9, 0.92), 3000, "pass")
    change = Change("strict.f1", None, Figure(0.95, 0.94, 0.96), Figure(0.91, 0.9, 0.92), Figure(-0.04, -0.05, -0.03), 0.001, 0.014, 3000, "fail")
    spanned = CasePage(row("spans-fast", labels=labels), latency={"p50_ms": 5.0, "p95_ms": 50.0, "p99_ms": 900.0}, gates=[gate], samples=spans())
    return [
        replace(spanned, comparison=Comparison(f"main {EVIL}", [change], ["doc-00020", f"doc-{EVIL}"])),
        CasePage(row("classes-fast", headline="accuracy", metrics={}, tables={"confusion": confusion}), samples=classes()),
        CasePage(row(f"answers {EVIL}", ok=False, status="failed", reason=f"gates failed {EVIL}"), samples=answers(), provenance=[(EVIL, EVIL)]),
        CasePage(row("none-fast", ok=False, status="crashed", metrics={}, headline=None)),
    ]


def record() -> dict:
    lanes = [{"name": "gpu0", "gpus": ["GPU-a"], "gpu_name": "H100"}]
    series = {"t_s": [0.0, 5.0, 10.0], "utilization": [0, 100, 20], "memory_mib": [10, 2048, 2048], "power_w": [60.0, 300.0, 100.0]}
    runs = [
        {"suite": "toy", "case": f"answers {EVIL}", "worker": "gpu0", "status": "failed", "begin_s": 1.0, "seconds": 4.0, "rows": 10, "reused": False},
        {"suite": "toy", "case": "spans-fast", "worker": "gpu0", "status": "passed", "begin_s": 7.0, "seconds": 2.0, "rows": 3000, "reused": False},
    ]
    code = {"commit": "0123456789abcdef", "dirty": False}
    argv = ["pytest", f"--x={EVIL}"]
    return {
        "session": f"night {EVIL}", "suites": ["toy"], "data": "embedded", "code": code, "host": "h", "started_at": "2026-01-02T03:04:05+00:00", "lanes": lanes,
        "gpus": {"GPU-a": series}, "runs": runs, "argv": argv,
    }  # fmt: skip
