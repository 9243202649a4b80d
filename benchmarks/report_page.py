"""report.html of many samples: `python -m benchmarks.report_page [--rows 100000] [--keep DIR]`.

Texts are those of guardrails_ru, again and again: chunks are compressed one by one, so that what repeats far away does not help. Building is what a session
does at its end: read results.jsonl and the split, redact, pack, write. Chromium opens the file three times, with an empty profile each; the best counts.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.reports import session_page
from pytest_gpueval.reports.table import Figure, Row
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.alignment import compare
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.session import page_samples
from pytest_gpueval.session.page_cases import page_of

from .measure import Figure as Promise
from .measure import print_table, run

BUILD_S, MIB, PAINT_S = 5.0, 25.0, 1.0
_DATA = Path(__file__).resolve().parent.parent / "suites" / "guardrails_ru" / "data"
_OPENS = 3


def main(argv: list[str] | None = None) -> list[Promise]:
    """Measure and print. Raises RunFailed without Chromium."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_page", description="report.html of many samples")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="10,000 rows")
    parser.add_argument("--keep", type=Path, help="leave report.html here")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if options.build:
        print(json.dumps(_built(options.build)))
        return []
    rows = 10_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        _session(directory, rows)
        root = Path(__file__).resolve().parent.parent
        # In a process of its own, whose memory is the page's alone.
        built = json.loads(run([sys.executable, "-m", "benchmarks.report_page", "--build", str(directory)], root).output)
        file = directory / "report.html"
        mib = file.stat().st_size / 2**20
        opened = min((_opened(file) for _ in range(_OPENS)), key=lambda times: times["paint_s"])
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / file.name).write_bytes(file.read_bytes())
    figures = [
        Promise(f"report.html of {rows:,} samples: built", f"{BUILD_S:g} s", f"{built['seconds']:.2f} s", built["seconds"] <= BUILD_S),
        Promise("its size", f"{MIB:g} MB", f"{mib * 2**20 / 1e6:.1f} MB", mib * 2**20 / 1e6 < MIB),
        Promise("samples whose text is in it, the first of them", "", f"{built['texts']:,}", None),
        Promise("peak memory of the process / of the largest beside it", "", f"{built['mib']:.0f} / {built['mib_aside']:.0f} MiB", None),
        Promise(
            "first contentful paint in Chromium, from the start of the navigation", f"{PAINT_S:g} s", f"{opened['paint_s']:.2f} s", opened["paint_s"] < PAINT_S
        ),
        Promise("until the whole file is read", "", f"{opened['load_s']:.2f} s", None),
        Promise("from a click on the case to its list of samples", "", f"{opened['list_s']:.2f} s", None),
        Promise("search through all texts, the first / the second time", "", f"{opened['search_s']:.2f} / {opened['again_s']:.2f} s", None),
    ]
    print_table("report.html", ("figure", "target", "measured", ""), [figure.cells() for figure in figures])
    return figures


def _session(directory: Path, count: int) -> None:
    """A run and its split: texts of guardrails_ru; predictions are its gold, some moved, some missing, with scores."""
    known: list[dict[str, Any]] = [row for file in sorted(_DATA.glob("*/fast.parquet")) for row in pq.read_table(file, columns=["text", "spans"]).to_pylist()]
    labels = sorted({span["label"] for row in known for span in row["spans"] or ()})
    chance = random.Random(7)  # noqa: S311 - no secret
    rows = [{**known[number % len(known)], "id": f"sample-{number:07}"} for number in range(count)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(next(_DATA.glob("*/fast.parquet")))), directory / "fast.parquet")
    path = directory / "toy-one-fast"
    path.mkdir()
    metadata = {"task": "span_detection", "suite": "toy", "case": "one-fast", "scoring": {"labels": labels}, "policy": {"threshold": 0.5}}
    (path / "run_metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    with (path / "results.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            gold = [(span["start"], span["end"], span["label"]) for span in row["spans"] or ()]
            found = [
                (start, end - (end - start > 1 and chance.random() < 0.2), label, round(0.5 + chance.random() / 2, 4))
                for start, end, label in gold
                if chance.random() < 0.9
            ]
            entries, cross = compare(gold, [(start, end, label) for start, end, label, _ in found])
            record = {"id": row["id"], "prediction": found, "score": {"labels": entries, "cross": cross}, "latency_ms": round(5 + 20 * chance.random(), 3)}
            file.write(json.dumps(record, separators=(",", ":")) + "\n")


def _built(directory: Path) -> dict[str, float]:
    """Build the page as a session does; seconds, and peak memory."""
    redactor = Redactor(["hush-hush-0123456789", "another-secret-value"])
    labels = json.loads((directory / "toy-one-fast" / "run_metadata.json").read_text(encoding="utf-8"))["scoring"]["labels"]
    begin = time.perf_counter()
    samples = page_samples.of_run(
        directory / "toy-one-fast",
        lambda: (ParquetSplit(directory / "fast.parquet", ""), SpanDetection(labels)),
        texts="yes",
        redactor=redactor,
        budget=session_page.Budget(),
    )
    assert samples is not None  # noqa: S101 - for the type checker
    row = Row(
        "toy",
        "one-fast",
        "toy-one-fast",
        "cpu0",
        False,
        True,
        "passed",
        None,
        "strict.f1",
        {"strict.f1": Figure(0.7, 0.69, 0.71)},
        {},
        samples.seen,
        0,
        0,
        1.0,
        1.0,
    )
    record = {"session": "benchmark", "suites": ["toy"], "data": "embedded", "code": {}, "host": "h", "started_at": ""}
    text = session_page.page(record, [page_of(directory / "toy-one-fast", row, samples)], redact=redactor.text)
    (directory / "report.html").write_text(text, encoding="utf-8")
    seconds = time.perf_counter() - begin
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": seconds, "texts": samples.texts, "mib": peaks[0], "mib_aside": peaks[1]}


def _opened(file: Path) -> dict[str, float]:
    """What Chromium needs, in seconds."""
    from tests.chromium import chromium  # noqa: PLC0415 - selenium is the tests'

    with chromium() as browser:
        browser.get(file.as_uri())
        browser.set_script_timeout(120)
        paint: float = browser.execute_async_script(_PAINT)
        load: float = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        listed: float = browser.execute_async_script(_LIST)
        first: float = browser.execute_async_script(_SEARCH, "карта")
        again: float = browser.execute_async_script(_SEARCH, "договор")
    return {name: ms / 1000 for name, ms in (("paint_s", paint), ("load_s", load), ("list_s", listed), ("search_s", first), ("again_s", again))}


_PAINT = """
const done = arguments[0];
const look = () => {
  const entry = performance.getEntriesByName("first-contentful-paint")[0];
  entry ? done(entry.startTime) : setTimeout(look, 5);
};
look();
"""
_LIST = """
const done = arguments[0], begin = performance.now();
location.hash = "case-0";
const look = () => document.querySelector(".view.here .item") ? done(performance.now() - begin) : setTimeout(look, 2);
look();
"""
_SEARCH = """
const [text, done] = arguments, begin = performance.now(), view = document.querySelector(".view.here");
const input = view.querySelector("input[type=search]"), told = view.querySelector("output");
told.textContent = "";
input.value = text;
input.dispatchEvent(new Event("input"));
const look = () => / of /.test(told.textContent) ? done(performance.now() - begin) : setTimeout(look, 2);
look();
"""

if __name__ == "__main__":
    main()
