"""A page whose samples several processes packed is the page that one would have made, to the byte."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.processes import aside
from pytest_gpueval.reports import session_page
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.classification import Classification
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.session import page_samples

SECRET = "hush-hush-0123456789"
COUNT = 4500
LABELS = ["A", "B"]


def spans(number):
    """A row and its result: every third is wrong, every eleventh failed, every thirteenth was skipped."""
    row = {"id": f"s-{number}", "text": f"text {number * 7919 % 10007} of it", "spans": [{"start": 0, "end": 4, "label": "AB"[number % 2]}]}
    hit = int(number % 3 > 0)
    found = [[0, 4, "AB"[number % 2], round(number % 97 / 97, 4)]] * hit
    score = {"labels": {"AB"[number % 2]: [hit, 0, 1, hit, 4 * hit, 0, 4 - 4 * hit]}, "cross": [0, 0]}
    return row, {"id": row["id"], "prediction": found, "score": score}


def labels(number):
    row = {"id": f"s-{number}", "text": f"text {number}", "label": "AB"[number % 2]}
    score = {"gold": row["label"], "predicted": "AB"[number % 5 == 0], "confidence": number % 89 / 89}
    return row, {"id": row["id"], "prediction": [score["predicted"], score["confidence"]], "score": score}


KINDS = {"span_detection": (spans, SpanDetection(LABELS)), "classification": (labels, Classification(LABELS))}


@pytest.fixture
def run(tmp_path):
    """Writes a run and its split; what is changed of both."""

    def made(kind="span_detection", line=lambda _number, line: line, row=lambda _number, row: row, limit=None):
        pairs = [KINDS[kind][0](number) for number in range(COUNT)]
        pq.write_table(pa.Table.from_pylist([row(number, given) for number, (given, _) in enumerate(pairs)]), tmp_path / "fast.parquet")
        path = tmp_path / "run"
        path.mkdir()
        said = {"task": kind, "suite": "toy", "case": "one-fast", "scoring": {"labels": LABELS}, "policy": {"threshold": 0.2}, "limit": limit}
        (path / "run_metadata.json").write_text(json.dumps(said))
        odd = {3: {"error": f"boom {SECRET}"}, 5: {"skipped": "no"}}
        records = [{**record, "latency_ms": 1 + number % 41} for number, (_, record) in enumerate(pairs)]
        records = [{"id": record["id"], **odd[number % 200]} if number % 200 in odd else record for number, record in enumerate(records)]
        (path / "results.jsonl").write_text("".join(f"{line(number, json.dumps(record))}\n" for number, record in enumerate(records[:limit])))
        return path, lambda: (ParquetSplit(tmp_path / "fast.parquet", ""), KINDS[kind][1])

    return made


@pytest.fixture
def both(monkeypatch):
    """The samples as one process and as three pack them, how many stretches came from others and were taken, and what is left of the budget."""
    monkeypatch.setattr(page_samples, "_WORTH_IT", 1000)
    taken = []
    join = session_page.Collector.join
    monkeypatch.setattr(session_page.Collector, "join", lambda self, part: taken.append(join(self, part)) or taken[-1])

    def made(path, split, left=10**7, texts="yes"):
        found = []
        for cores in (1, 3):
            taken.clear()
            monkeypatch.setattr(aside, "cores", lambda cores=cores: cores)
            budget = session_page.Budget(left)
            found.append((page_samples.of_run(path, split, texts=texts, redactor=Redactor([SECRET]), budget=budget), budget.left))
        return (*found, taken.count(True))

    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", ["yes", "errors", "no"])
def test_three_processes_pack_as_one(run, both, kind, texts):
    one, three, taken = both(*run(kind), texts=texts)
    assert one == three and taken == 2
    assert one[0].seen == COUNT and (one[0].texts > 0) == (texts != "no")


def test_room_that_runs_out_leaves_out_the_same_texts(run, both):
    path, split = run()
    (whole, _), _, _ = both(path, split)
    size = sum(map(len, whole.blocks[1:]))
    seen = set()
    for share in (0.02, 0.3, 0.5, 0.7, 0.9, 0.99):
        one, three, taken = both(path, split, left=int(size * share))
        assert one == three, share
        assert one[0].texts < whole.texts and "too large" in one[0].note
        seen.add(taken)
    assert seen >= {2}


def test_secrets_are_redacted_there_too(run, both):
    path, split = run(row=lambda number, row: {**row, "text": f"{row['text']} {SECRET}"} if number % 1000 == 999 else row)
    one, three, taken = both(path, split)
    assert one == three and taken == 2 and SECRET not in json.dumps([*map(str, session_texts(three[0]))])


def session_texts(samples):
    import gzip
    from base64 import b64decode

    return [gzip.decompress(b64decode(block)).decode() for block in samples.blocks]


@pytest.mark.parametrize("number", [700, 2300, 2000, 4400])
def test_what_is_odd_is_noted_where_it_was(run, both, number):
    """In another's stretch, at its border, or in our own: what follows is gone through here, one by one."""
    other = run(row=lambda at, row: {**row, "id": "another"} if at == number else row)
    one, three, _ = both(*other)
    assert one == three and "first difference" in one[0].note and one[0].texts < number + 1


@pytest.mark.parametrize("number", [700, 2300, 4400])
def test_a_line_that_is_no_result_ends_it(run, both, number):
    one, three, _ = both(*run(line=lambda at, line: "no" if at == number else line))
    assert one == three and one[0].seen == number and f"results.jsonl:{number + 1}:" in one[0].note


def test_a_limit_and_results_that_end_early(run, both):
    path, split = run(limit=3100)
    one, three, _ = both(path, split)
    assert one == three and one[0].seen == 3100
    lines = (path / "results.jsonl").read_text().splitlines(keepends=True)
    (path / "results.jsonl").write_text("".join(lines[:1700]))
    one, three, _ = both(path, split)
    assert one == three and one[0].seen == 1700


def test_a_label_that_the_suite_does_not_name_gets_the_same_number(run, both):
    path, split = run("classification", line=lambda at, line: line.replace('"predicted": "A"', '"predicted": "C"') if at > 2500 else line)
    one, three, _ = both(path, split)
    assert one == three and '"labels":["A","B","C"]' in session_texts(three[0])[0]


def test_without_other_processes_this_one_packs_all(run, both, monkeypatch):
    path, split = run()
    monkeypatch.setattr(aside.sys, "executable", "/no/such/python")
    one, three, taken = both(path, split)
    assert one == three and taken == 0
