"""Baselines: written small and the same, read with words for what is wrong, aligned by id and row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, DataError, StorageError, UsageProblem
from pytest_gpueval.runs import baselines
from pytest_gpueval.runs.baselines import Baseline, align, differences, reading, records, samples
from pytest_gpueval.runs.baselines.baseline import no_verdict, read_metadata
from pytest_gpueval.runs.records import Summary

METADATA = {
    "schema_version": 1,
    "run_id": "toy-one-fast",
    "nodeid": "suites/toy/suite.toml::test_eval[one-fast]",
    "suite": "toy",
    "case": "one-fast",
    "task": "classification",
    "dataset": {"repo": None, "revision": "abc", "name": "one", "split": "fast", "origin": "embedded", "rows": 3, "sha256": "d" * 64},
    "runtime": {"name": "cpu", "kind": "inprocess"},
    "model": {"code_sha256": "c" * 64, "options_sha256": "e" * 64},
    "scoring": {"labels": ["no", "yes"], "label_map": {}, "task_options": {}, "max_error_share": 0.0, "on_bad_row": "fail", "metrics": []},
    "policy": {"name": "open", "threshold": None, "thresholds": {}, "disabled": []},
    "gates": [],
    "code": {"commit": "f" * 40, "dirty": False, "diff_sha256": None},
    "environment": {},
    "packages": {},
    "python": "3.11",
    "host": "here",
    "platform": "linux",
    "worker": "main",
    "gpus": [],
    "started_at": "2026-01-01T00:00:00+00:00",
    "plugin_version": "0",
}
FIGURE = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 3}
SUMMARY = {
    "run_id": "toy-one-fast",
    "ok": True,
    "status": "passed",
    "headline": "accuracy",
    "metrics": {"accuracy": FIGURE},
    "labels": {"yes": {"f1": FIGURE}},
    "rows": {"total": 3, "scored": 2, "errors": 1, "skipped": 0},
    "seconds": 12.5,
}
LINES = [
    {"id": "a", "prediction": "yes", "score": {"right": 1, "at": {"b": 1, "a": 2}}, "latency_ms": 1.0},
    {"id": "b", "prediction": "no", "score": {"right": 0}, "latency_ms": 2.0},
    {"id": "c", "error": "boom"},
]
ROWS = [{"id": name, "text": f"text {name}", "label": "yes"} for name in "abc"]


def run(directory: Path, lines=LINES, metadata=None, summary=None) -> Path:
    """A run directory below a session."""
    directory.mkdir(parents=True)
    (directory / "run_metadata.json").write_text(json.dumps({**METADATA, **(metadata or {})}))
    (directory / "summary.json").write_text(json.dumps({**SUMMARY, **(summary or {})}))
    (directory / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return directory


def hashed(found: Baseline, rows=ROWS) -> Baseline:
    with_hashes = found.samples.with_hashes(baselines.text_hashes(rows))
    return replace(found, _read=lambda: with_hashes)


@pytest.fixture
def baseline(tmp_path):
    return hashed(baselines.from_run(run(tmp_path / "session" / "toy-one-fast")))


@pytest.fixture
def written(tmp_path, baseline):
    """The folder of a baseline."""
    assert baselines.write(tmp_path / "baselines", baseline)
    return tmp_path / "baselines"


def test_what_is_written_is_read(written, baseline):
    found = baselines.read(written, "toy", "one-fast")
    assert (found.suite, found.case) == ("toy", "one-fast")
    assert found.record.metrics["accuracy"].low == 0.5
    assert found.record.label_metrics["yes"]["f1"].value == 0.75
    assert found.record.dataset.sha256 == "d" * 64 and found.record.dataset.revision == "abc"
    assert found.samples.ids.to_pylist() == ["a", "b", "c"]
    assert list(found.samples.parts()) == [{"right": 1, "at": {"a": 2, "b": 1}}, {"right": 0}, None]
    assert list(found.samples.parts([2, 0])) == [None, {"right": 1, "at": {"a": 2, "b": 1}}]
    assert found.samples.hashes.tolist() == [baselines.text_hash(row) for row in ROWS]
    assert found.record.samples == 3


def test_the_document_is_for_people_and_merges(written):
    text = (written / "toy" / "one-fast.json").read_text()
    lines = text.splitlines()
    assert '  "accuracy": {"high": 0.9, "low": 0.5, "n": 3, "value": 0.75}' in lines, "a figure on a line"
    document = json.loads(text)
    assert list(document) == sorted(document)
    for word in ("2026-01-01", '"here"', "12.5", "latency"):
        assert word not in text, "what changes without the results"
    assert text.endswith("}\n")


def test_the_same_results_give_the_same_bytes(tmp_path, written):
    again = {"started_at": "2027-01-01T00:00:00+00:00", "host": "elsewhere"}
    lines = [{**line, "latency_ms": 9.0} for line in LINES]
    baselines.write(tmp_path / "other", hashed(baselines.from_run(run(tmp_path / "later" / "toy-one-fast", lines, again))))
    for name in ("one-fast.json", "one-fast.parquet"):
        assert (tmp_path / "other" / "toy" / name).read_bytes() == (written / "toy" / name).read_bytes()


def test_unchanged_files_are_not_rewritten_though_the_commit_is_another(tmp_path, written):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in written.rglob("*.*")}
    later = hashed(baselines.from_run(run(tmp_path / "later" / "toy-one-fast", metadata={"code": {"commit": "1" * 40, "dirty": True}})))
    assert not baselines.write(written, later)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in written.rglob("*.*")} == before
    assert len(before) == 2, "nothing else is left there"


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_a_damaged_file_is_rewritten(written, baseline, ending):
    path = written / "toy" / f"one-fast.{ending}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert baselines.write(written, baseline)
    assert path.read_bytes() == whole


def test_other_results_are_written(written, baseline, tmp_path):
    lines = [{**LINES[0], "score": {"right": 0}}, *LINES[1:]]
    assert baselines.write(written, hashed(baselines.from_run(run(tmp_path / "later" / "toy-one-fast", lines))))
    assert next(baselines.read(written, "toy", "one-fast").samples.parts()) == {"right": 0}


def test_nothing_is_left_where_nothing_can_be_written(tmp_path, baseline):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="baseline of one-fast cannot be written"):
        baselines.write(tmp_path / "file", baseline)


def test_parquet_says_nothing_of_when_and_where(written):
    data = (written / "toy" / "one-fast.parquet").read_bytes()
    assert b"ARROW:schema" not in data
    metadata = pq.ParquetFile(written / "toy" / "one-fast.parquet").metadata
    assert metadata.metadata is None
    assert {metadata.row_group(0).column(i).compression for i in range(3)} == {"ZSTD"}


def test_one_is_missing(written):
    with pytest.raises(UsageProblem) as told:
        baselines.read(written, "toy", "two-fast")
    assert "no baseline of toy/two-fast. Cases of 'toy' that have one: one-fast." in str(told.value)
    assert "pytest --gpueval-suite toy --gpueval-update-baseline" in str(told.value)
    with pytest.raises(UsageProblem, match="No case of 'nothing' has one"):
        baselines.read(written, "nothing", "x")
    assert baselines.remembered(written, "toy", "two-fast") is None


def change(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "has schema 2; this pytest-gpueval knows schemas up to 1: update it"),
        ({"schema_version": 0}, "has schema 0, which is too old to be read"),
        ({"schema_version": None}, "not a baseline: it has no schema_version"),
        ({"schema_version": True}, "not a baseline"),
        ({"suite": "other"}, "is of other/one-fast, not of toy/one-fast: it was copied or renamed"),
        ({"case": "two-fast"}, "is of toy/two-fast, not of toy/one-fast"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"samples": "many"}, "samples: Input should be a valid integer"),
        ({"metrics": {"accuracy": {**FIGURE, "low": "nan"}}}, "low of metric 'accuracy' is nan, not a finite number"),
        ({"label_metrics": {"yes": {"f1": {**FIGURE, "value": "inf"}}}}, "value of metric 'f1' of label 'yes' is inf"),
    ],
)
def test_documents_that_are_none(written, changes, words):
    change(written / "toy" / "one-fast.json", **changes)
    with pytest.raises(DataError) as told:
        baselines.read(written, "toy", "one-fast")
    assert words in str(told.value)
    assert "one-fast.json" in str(told.value)


@pytest.mark.parametrize("text", ["", "[]", "<<<<<<< HEAD\n{}", '{"schema_version": 1, "samples": NaN}', "\udc80"])
def test_documents_that_are_not_json(written, text):
    (written / "toy" / "one-fast.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"one-fast\.json: not .*\n.*--gpueval-update-baseline"):
        baselines.read(written, "toy", "one-fast")


def test_every_damaged_byte_of_the_table_is_found(written):
    path = written / "toy" / "one-fast.parquet"
    whole = path.read_bytes()
    found = baselines.read(written, "toy", "one-fast").samples
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            again = baselines.read(written, "toy", "one-fast").samples
        except DataError:
            continue
        assert again.table.equals(found.table), "a byte of the footer that says nothing of the samples, such as the library's version"


@pytest.mark.parametrize("cut", [0, 3, 100])
def test_a_table_that_is_not_whole(written, cut):
    path = written / "toy" / "one-fast.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a whole parquet file of a baseline"):
        len(baselines.read(written, "toy", "one-fast").samples)


def test_a_table_of_another_document(written, baseline):
    other = hashed(baseline, [{**row, "text": "other"} for row in ROWS])
    samples.write_parquet(other.samples, written / "toy" / "one-fast.parquet")
    with pytest.raises(DataError, match=r"does not belong to its \.json"):
        len(baselines.read(written, "toy", "one-fast").samples)


def test_a_table_that_is_missing(written):
    (written / "toy" / "one-fast.parquet").unlink()
    with pytest.raises(DataError, match=r"one-fast\.parquet: missing, though its \.json is there"):
        len(baselines.read(written, "toy", "one-fast").samples)


def table(ids, hashes, parts) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "text_hash": pa.array(hashes, pa.uint64()), "parts": pa.array(parts, pa.string())}), sink)
    return sink.getvalue().to_pybytes()


def test_tables_that_hold_something_else():
    with pytest.raises(DataError, match="2 ids occur more than once, such as 'a', 'b'"):
        samples.of_parquet(table(["a", "b", "a", "b", "c"], [1] * 5, [None] * 5), "it")
    with pytest.raises(DataError, match="columns are not those of a baseline"):
        samples.of_parquet(table(["a", None], [1, 2], [None, None]), "it")
    with pytest.raises(DataError, match="pointer of Git LFS"):
        samples.of_parquet(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it")
    for text, word in (('{"x": NaN}', "NaN is not a finite number"), ('{"x": -Infinity}', "-Infinity"), ("{", "not JSON"), ("[1]", "no table")):
        with pytest.raises(DataError, match=word):
            list(samples.of_parquet(table(["a"], [1], [text]), "it").parts())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "a", "score": {"x": NaN}}', "NaN is not a finite number"),
        ('{"id": "a", "score": {"x": Infinity}}', "Infinity is not a finite number"),
        ('{"id": "a", "score": 3}', "'score' a table"),
        ('{"id": 3, "score": {}}', "'id' must be a string"),
        ('{"score": {}}', "KeyError: 'id'"),
        ('{"id": "a", "sco', "JSONDecodeError"),
        ("[]", "TypeError"),
    ],
)
def test_results_that_cannot_be_a_baseline(tmp_path, line, words):
    path = tmp_path / "results.jsonl"
    path.write_text(f'{{"id": "z", "score": {{}}}}\n{line}\n')
    with pytest.raises(DataError) as told:
        samples.of_results(path)
    assert words in str(told.value)
    assert f"{path}:2: " in str(told.value)


@pytest.mark.parametrize("before", [0, 70_000])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xd0"])
def test_bytes_that_are_no_utf8_are_refused_wherever_they_are(tmp_path, before, bad):
    """Within what nobody else looks at: of a line of a later piece too. All else in it is not ASCII, and fine."""
    path = tmp_path / "results.jsonl"
    start = '{"id": "ы", "prediction": "да, '.encode()
    lines = ['{"id": "ы", "prediction": "да", "score": {}}\n'.encode()] * before
    path.write_bytes(b"".join([*lines, start, bad, b'"}\n', *lines]))
    with pytest.raises(DataError) as told:
        for _ in reading.blocks(path):
            pass
    assert str(told.value).startswith(f"{path}:{before + 1}: not UTF-8: byte {len(start) + 1} of the line is 0x{bad[0]:02x} (")
    path.write_bytes(b"".join([*lines, start, "\U0010ffff".encode(), b'"}\n', *lines]))
    assert sum(len(block.ids) for block in reading.blocks(path)) == 2 * before + 1


def test_a_skipped_row_with_the_id_of_another_is_left_out(tmp_path):
    path = tmp_path / "results.jsonl"
    lines = [{"id": "a", "score": {"x": 1}}, {"id": "a", "skipped": "an earlier row has this id"}, {"id": "b", "skipped": "bad"}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = samples.of_results(path)
    assert found.ids.to_pylist() == ["a", "b"]
    assert list(found.parts()) == [{"x": 1}, None]
    path.write_text(path.read_text() + '{"id": "a", "score": {"x": 2}}\n')
    with pytest.raises(DataError, match="'a' has several scores"):
        samples.of_results(path)


def test_an_empty_run(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("")
    found = samples.of_results(path)
    assert (len(found), list(found.parts()), found.hashes is None or len(found.hashes)) == (0, [], 0)
    samples.write_parquet(found, tmp_path / "it.parquet")
    assert samples.of_parquet(tmp_path / "it.parquet", "it").sha256 == found.sha256


# Runs and sessions.


def test_from_a_session(tmp_path):
    session = tmp_path / "session"
    run(session / "toy-one-fast")
    run(session / "toy-one-fast-1of2", metadata={"run_id": "x", "case": "one-fast-1of2", "shard": "1of2"})
    run(session / "toy-one-fast-mine", metadata={"nodeid": "test_mine.py::test_it[one-fast]"}, summary={"status": "failed", "ok": False})
    found = baselines.from_session(session, "toy", "one-fast")
    assert found.samples.ids.to_pylist() == ["a", "b", "c"]
    assert found.samples.hashes is None
    assert found.record.runtime == "cpu"
    with pytest.raises(UsageProblem, match=r"has no run of toy/one-fats\. Did you mean 'one-fast'\? Valid cases of 'toy' there: one-fast\."):
        baselines.from_session(session, "toy", "one-fats")


GATE = {"metric": "accuracy", "label": None, "bound": ">= 0.9", "value": 0.75, "low": None, "high": None, "n": 3, "outcome": "fail"}


@pytest.mark.parametrize(
    ("summary", "why"),
    [
        ({}, None),
        ({"ok": False, "status": "failed", "gates": [GATE]}, None),
        ({"ok": False, "status": "failed", "reason": "an assertion"}, "it ended without a verdict: failed (an assertion)"),
        ({"ok": False, "status": "failed", "gates": [{**GATE, "outcome": "pass"}]}, "it ended without a verdict: failed"),
        ({"ok": False, "status": "error", "reason": "3 of 4 rows\nhave none"}, "it ended without a verdict: error (3 of 4 rows)"),
        ({"ok": False, "status": "crashed"}, "it ended without a verdict: crashed"),
        ({"ok": False, "status": "skipped", "reason": "xfail"}, "it ended without a verdict: skipped (xfail)"),
        ({"complete": False}, "it did not read all rows"),
        ({"ok": False, "status": "failed", "gates": [GATE], "rows": {"total": 4, "scored": 3}}, "it did not read all rows"),
    ],
)
def test_verdicts(tmp_path, summary, why):
    directory = run(tmp_path / "s" / "r", summary=summary)
    assert no_verdict(read_metadata(directory), Summary.model_validate({**SUMMARY, **summary})) == why
    if why:
        with pytest.raises(UsageProblem) as told:
            baselines.from_run(directory)
        assert str(told.value) == f"{directory}: cannot be a baseline: {why}"
    else:
        assert baselines.from_run(directory).record.suite == "toy"


def test_runs_that_say_too_little(tmp_path):
    directory = run(tmp_path / "s" / "r", metadata={"dataset": {**METADATA["dataset"], "sha256": None}})
    with pytest.raises(DataError, match="does not say which data"):
        baselines.from_run(directory)
    with pytest.raises(DataError, match="metric 'accuracy' is nan"):
        baselines.from_run(run(tmp_path / "s" / "nan", summary={"metrics": {"accuracy": {**FIGURE, "value": "nan"}}}))
    (directory / "run_metadata.json").write_text("{}")
    with pytest.raises(Conflict, match=r"run_metadata\.json: run_id: Field required"):
        baselines.from_run(directory)
    (directory / "summary.json").unlink()
    run_without = run(tmp_path / "s" / "killed")
    (run_without / "summary.json").unlink()
    with pytest.raises(UsageProblem, match="it did not run to its end"):
        baselines.from_run(run_without)


def test_the_name_of_a_language_model_is_kept_but_not_its_place(tmp_path):
    def named(runtime):
        return records.of_run(read_metadata(run(tmp_path / str(len(list(tmp_path.iterdir()))), metadata={"runtime": runtime})), Summary(**SUMMARY), "it").model

    assert named({"name": "x", "vllm": {"model": "org/model"}})["name"] == "org/model"
    assert named({"name": "x", "vllm": None, "request": {"model": "/models/mine"}})["name"] == "mine"
    assert "name" not in named({"name": "cpu"})


# Hashes.


def test_the_hash_of_a_row():
    row = {"id": "a", "text": "ё", "spans": [{"start": 0, "end": 1, "label": "X"}]}
    assert baselines.text_hash(row) == baselines.text_hash({**dict(reversed(row.items())), "id": "b"}), "neither order nor id matter"
    assert baselines.text_hash(row) != baselines.text_hash({**row, "text": "е"})
    assert baselines.text_hash(row) != baselines.text_hash({**row, "spans": []}), "what is right is part of it"
    digits = hashlib.sha256(b'{"label":"y","text":"x"}').hexdigest()[:16]
    assert baselines.text_hash({"id": "a", "text": "x", "label": "y"}) == int(digits, 16)
    for odd in ({"text": "\ud800"}, {"n": 1 << 70}, {"raw": b"\xff"}):
        assert baselines.text_hash({"id": "a", **odd}) == baselines.text_hash(odd)


def test_rows_of_another_split_are_noticed(tmp_path):
    found = baselines.from_run(run(tmp_path / "s" / "r"))
    with pytest.raises(DataError, match="1 samples, such as 'c', are not in the split"):
        found.samples.with_hashes(baselines.text_hashes(ROWS[:2]))
    extra = [*ROWS, {"id": "d", "text": "more"}, {"id": "a", "text": "the first row of an id counts"}]
    assert found.samples.with_hashes(baselines.text_hashes(extra)).hashes.tolist() == [baselines.text_hash(row) for row in ROWS]


ROUND = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.integers(0, (1 << 64) - 1),
        st.none()
        | st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=3), st.integers(-3, 3) | st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=3
        ),
    ),
    unique_by=lambda row: row[0],
    max_size=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(ROUND)
def test_tables_come_back_as_they_were(tmp_path, rows):
    (tmp_path / "results.jsonl").write_text(
        "".join(f"{json.dumps({'id': name, 'score': parts} if parts is not None else {'id': name, 'error': 'x'})}\n" for name, _, parts in rows)
    )
    found = samples.of_results(tmp_path / "results.jsonl").with_hashes((name, value) for name, value, _ in rows)
    samples.write_parquet(found, tmp_path / "it.parquet")
    again = samples.of_parquet(tmp_path / "it.parquet", "it")
    assert again.ids.to_pylist() == [name for name, _, _ in rows]
    assert again.hashes is not None and again.hashes.tolist() == [value for _, value, _ in rows]
    assert list(again.parts()) == [parts for _, _, parts in rows]
    assert again.sha256 == found.sha256


def test_the_content_hash_does_not_depend_on_how_the_file_was_written(tmp_path, monkeypatch):
    lines = [{"id": f"{i}", "score": {"x": i % 3}} for i in range(1000)]
    (tmp_path / "r").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    whole = samples.of_results(tmp_path / "r").canonical()
    pieces = samples.Samples(pa.concat_tables([whole.table.slice(0, 7), whole.table.slice(7, 500), whole.table.slice(507)]), "it")
    plain = samples.Samples(whole.table.set_column(2, "parts", whole.table.column(2).cast(pa.string())), "it")
    assert whole.sha256 == pieces.sha256 == plain.sha256
    assert samples.Samples(whole.table.slice(0, 999), "it").sha256 != whole.sha256
    monkeypatch.setattr(samples, "_STEP", 64)
    stepped = samples.of_results(tmp_path / "r")
    samples.write_parquet(stepped, tmp_path / "it.parquet")
    again = samples.of_parquet(tmp_path / "it.parquet", "it")
    assert stepped.sha256 == again.sha256
    assert list(again.parts()) == [line["score"] for line in lines]


@pytest.mark.parametrize("step", [3, 7, 1000])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_samples_at_any_places_in_any_order(step, data):
    scores = data.draw(st.lists(st.sampled_from([None, {"x": 1}, {"x": 2}]), min_size=1, max_size=30))
    places = data.draw(st.lists(st.integers(0, len(scores) - 1), max_size=30) | st.integers(0, len(scores)).map(lambda first: list(range(first, len(scores)))))
    texts = [score and json.dumps(score) for score in scores]
    found = samples.of_parquet(table([str(number) for number in range(len(scores))], range(len(scores)), texts), "it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "_STEP", step)
        assert list(found.parts(places)) == list(found.parts(np.array(places, np.int64))) == [scores[place] for place in places]


# Alignment.

SAME = "d" * 64


def hashes_of(rows):
    return np.array([baselines.text_hash(row) for row in rows], np.uint64)


def refuse_to_hash():
    raise AssertionError("the same data needs no hashes")


def test_the_same_data_needs_no_hashes(baseline):
    found = align(baseline, ["a", "b", "c"], refuse_to_hash, sha256=SAME)
    assert (found.baseline.tolist(), found.current.tolist(), found.words) == ([0, 1, 2], [0, 1, 2], "")


def test_other_bytes_of_the_same_rows_in_another_order(baseline):
    rows = [ROWS[2], ROWS[0], ROWS[1]]
    found = align(baseline, pa.chunked_array([["c", "a"], ["b"]]), hashes_of(rows), sha256="0" * 64)
    assert (found.baseline.tolist(), found.current.tolist(), found.words) == ([2, 0, 1], [0, 1, 2], "")


def test_other_data_is_refused_with_counts_and_examples(baseline):
    rows = [{**ROWS[0], "text": "other"}, ROWS[1], *({"id": f"new{i}", "text": "x", "label": "no"} for i in range(1200))]
    ids = [row["id"] for row in rows]
    with pytest.raises(DataError) as told:
        align(baseline, ids, hashes_of(rows), sha256="0" * 64)
    text = str(told.value)
    assert "1,200 are new here: 'new0', 'new1', 'new2', ..." in text
    assert "1 are not here any more: 'c'\n" in text
    assert "1 have the same id and another row: 'a'\n" in text
    assert "--gpueval-baseline-intersect (1 here)" in text
    found = align(baseline, ids, hashes_of(rows), sha256="0" * 64, intersect=True)
    assert (found.baseline.tolist(), found.current.tolist()) == ([1], [1])
    assert found.words == "1 common samples of 1,202 here and 3 in the baseline"


def test_a_part_of_the_same_data_is_other_data(baseline):
    with pytest.raises(DataError, match="2 are not here any more: 'a', 'c'"):
        align(baseline, ["b"], refuse_to_hash, sha256=SAME)
    assert align(baseline, ["b"], refuse_to_hash, sha256=SAME, intersect=True).common == 1


def test_no_common_sample_is_refused_also_by_intersect(baseline):
    for ids in (["x", "y"], []):
        with pytest.raises(DataError, match="No sample is common: this is another dataset"):
            align(baseline, ids, hashes_of([{"id": name} for name in ids]), sha256="0" * 64, intersect=True)


def test_of_an_id_that_repeats_the_first_counts(baseline):
    found = align(baseline, ["a", "b", "a", "c"], sha256=SAME)
    assert (found.current.tolist(), found.words) == ([0, 1, 3], "")


def test_a_session_of_other_data_cannot_be_aligned(tmp_path, baseline):
    session = baselines.from_run(tmp_path / "session" / "toy-one-fast")
    assert align(session, ["a", "b", "c"], sha256=SAME).common == 3
    for intersect in (False, True):
        with pytest.raises(DataError, match=r"SHA-256 dddddddddddd\.\.\., not 000000000000\.\.\., and the baseline is a session"):
            align(session, ["a", "b", "c"], hashes_of(ROWS), sha256="0" * 64, intersect=intersect)
    with pytest.raises(DataError, match="the rows of this run are not at hand"):
        align(baseline, ["a", "b", "c"], sha256="0" * 64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.tuples(st.integers(0, 9), st.booleans()), unique_by=lambda pair: pair[0]))
def test_common_samples_are_those_of_the_same_id_and_row(tmp_path, there, here):
    def row(number, changed=False):
        return {"id": str(number), "text": "changed" if changed else "same"}

    ids = pa.array([str(number) for number in there], pa.string())
    stored = pa.table({"id": ids, "text_hash": hashes_of(map(row, there)), "parts": pa.nulls(len(there), pa.string())})
    record = baselines.from_run(tmp_path / "r" if (tmp_path / "r").exists() else run(tmp_path / "r")).record
    old = Baseline(record, "it", lambda: samples.Samples(stored, "it"))
    expected = [(there.index(number), place) for place, (number, changed) in enumerate(here) if number in there and not changed]
    names, hashes = [str(number) for number, _ in here], hashes_of([row(*pair) for pair in here])
    if not expected and (there or here):
        with pytest.raises(DataError):
            align(old, names, hashes, intersect=True)
        return
    found = align(old, names, hashes, intersect=True)
    assert list(zip(found.baseline.tolist(), found.current.tolist(), strict=True)) == expected
    if len(expected) == len(there) == len(here):
        assert align(old, names, hashes).words == ""
    else:
        with pytest.raises(DataError):
            align(old, names, hashes)


# What may differ.


def test_another_ruler_is_refused_and_another_policy_is_told(baseline):
    same = {
        key: json.loads(baseline.record.model_dump_json())[key]
        for key in ("task", "labels", "label_map", "task_options", "columns", "judge", "policy", "runtime")
    }
    assert differences(baseline.record, same) == ([], [])
    refused, told = differences(baseline.record, {**same, "labels": ["no"], "runtime": "gpu", "policy": {**same["policy"], "threshold": 0.5}})
    assert refused == ['labels: ["no", "yes"] in the baseline, ["no"] now']
    assert told == ["policy.threshold: null in the baseline, 0.5 now", 'runtime: "cpu" in the baseline, "gpu" now']
    assert differences(baseline.record, {"judge": {"model": "m"}})[0] == ['judge: null in the baseline, {"model": "m"} now']
    assert len(differences(baseline.record, {"task_options": {str(n): n for n in range(9)}})[0][0].split(";")) == 4
