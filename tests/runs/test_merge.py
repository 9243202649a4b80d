"""What a merge decides, on sessions that are only thought of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, UsageProblem
from pytest_gpueval.runs import merge
from pytest_gpueval.runs.merge import Found, Session
from pytest_gpueval.runs.records import RunMetadata, SessionRecord, SessionRun, Summary

TARGET = Path("/out/all")


def metadata(run_id, **changes):
    case = run_id.partition("-")[2]
    fields = {
        "run_id": run_id, "nodeid": f"suites/toy/suite.toml::test_eval[{case}]", "suite": "toy", "case": case, "task": "t",
        "dataset": {"name": case, "split": "fast", "sha256": "0"}, "runtime": {"name": "cpu"}, "model": {"code_sha256": "1"}, "scoring": {},
        "policy": {"name": None}, "gates": [], "code": {}, "environment": {}, "packages": {}, "python": "3", "host": "h", "platform": "p", "worker": "w",
        "gpus": [], "started_at": "now", "plugin_version": "0",
    }  # fmt: skip
    return RunMetadata(**{**fields, **changes})


def found(session, run_id, status="passed", *, size=1, listed=None, about=(), **summary):
    ended = None if status is None else Summary(run_id=run_id, ok=status == "passed", status=status, **summary)
    return Found(session, Path("/in", session, run_id), metadata(run_id, **dict(about)), ended, listed, size)


def session(name, *runs, **changes):
    """A session with runs: ids of passed ones, or Found."""
    made = [run if isinstance(run, Found) else found(name, run) for run in runs]
    fields = {
        "session": name, "argv": ["pytest"], "suites": ["toy"], "data": "embedded", "lanes": [{"name": "cpu0"}], "host": f"host-{name}",
        "code": {"commit": "c", "dirty": False, "diff_sha256": None}, "plugin_version": "0", "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T01:00:00+00:00", "exit_status": 0,
    }  # fmt: skip
    return Session(name, Path("/in", name), SessionRecord(**{**fields, **changes}), {run.path.name: run for run in made})


def plan(*sessions, **options):
    return merge.plan(TARGET, sessions, ["gpueval"], **options)


def test_the_record_of_all():
    a = session("a", "toy-x10", "toy-x9", started_at="2026-01-01T02:00:00+02:00", ended_at="2026-01-01T03:30:00+00:00", exit_status=5)
    listed = SessionRun(run_id="toy-b", nodeid="n", suite="toy", case="b", worker="gpu7", status=None, ok=None, begin_s=5.0, reused=True)
    b = session("b", found("b", "toy-b", listed=listed), started_at="2026-01-01T00:30:00+00:00", exit_status=1, suites=["toy", "more"])
    record = plan(a, b).record
    assert (record.session, record.suites, record.data, record.host) == ("all", ["toy", "more"], "embedded", "host-a, host-b")
    assert (record.started_at, record.ended_at, record.exit_status) == ("2026-01-01T02:00:00+02:00", "2026-01-01T03:30:00+00:00", 1)
    assert [run.run_id for run in record.runs] == ["toy-b", "toy-x9", "toy-x10"], "as people count"
    assert record.lanes == [{"name": "cpu0", "host": "host-a"}, {"name": "cpu0", "host": "host-b"}]
    assert (record.runs[0].status, record.runs[0].worker, record.runs[0].begin_s) == ("passed", "gpu7", 1805.0)
    assert (record.merged_from, record.differences) == (["a", "b"], [])
    assert record.code == {"commit": "c", "dirty": False, "diff_sha256": None}


@pytest.mark.parametrize(("statuses", "worst"), [((0, 0), 0), ((0, 5), 5), ((5, 1), 1), ((1, 2), 2), ((0, None), 2), ((2, 4), 4), ((4, 3), 3), ((3, 99), 99)])
def test_the_worst_exit_status(statuses, worst):
    made = [session(f"s{number}", f"toy-{number}", exit_status=status) for number, status in enumerate(statuses)]
    assert plan(*made).record.exit_status == worst


def test_sessions_that_did_not_end_leave_the_end_open():
    assert plan(session("a", "toy-a", ended_at=None), session("b", "toy-b")).record.ended_at is None
    assert plan(session("a", "toy-a", started_at="some time", ended_at="2026-01-01"), session("b", "toy-b")).record.started_at == "some time"


@pytest.mark.parametrize(
    ("one", "other", "taken"),
    [
        ({"status": "passed"}, {"status": "failed"}, 0),
        ({"status": "failed"}, {"status": "passed"}, 1),
        ({"status": "passed", "complete": False}, {"status": "passed"}, 1),
        ({"status": "interrupted", "size": 99}, {"status": "failed"}, 1),
        ({"status": None, "size": 99}, {"status": "passed"}, 1),
        ({"status": None, "size": 5}, {"status": "interrupted", "size": 4}, 0),
        ({"status": None, "size": 4}, {"status": "interrupted", "size": 5}, 1),
        ({"status": "error"}, {"status": "crashed"}, 0),
        ({"status": "skipped"}, {"status": "oom", "size": 2}, 1),
    ],
)
def test_which_of_two_runs_is_taken(one, other, taken):
    made = plan(session("a", found("a", "toy-x", **one)), session("b", found("b", "toy-x", **other)))
    assert made.taken["toy-x"].session == "ab"[taken]
    assert made.kept() == {"toy-x": taken}
    (note,) = made.notes
    assert note.endswith(f"taken from {'ab'[taken]}")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"rows": {"scored": 1}}, {"rows": {"scored": 2}}, "rows"),
        ({"metrics": {"f": {"value": 1, "low": None, "high": None, "n": 1}}}, {}, "metrics"),
        ({"status": "failed"}, {"status": "failed", "headline": "f"}, "headline"),
        ({"about": {"scoring": {"labels": ["a"]}}}, {"about": {"scoring": {"labels": ["b"]}}}, "scoring"),
    ],
)
def test_two_that_ended_must_agree(one, other, words):
    with pytest.raises(Conflict, match=f"toy-x: /in/a/toy-x and /in/b/toy-x differ in {words}") as refused:
        plan(session("a", found("a", "toy-x", **one)), session("b", found("b", "toy-x", **other)), allow_differences=True)
    assert refused.value.exit_code == 5


def test_times_and_machines_are_no_differences():
    one, other = found("a", "toy-x", seconds=1), found("b", "toy-x", seconds=2, samples_per_s=3, about={"host": "other", "worker": "gpu1"})
    made = plan(session("a", one), session("b", other))
    assert made.notes == ["toy-x: the same in a and b; taken from a"]


def test_every_contradiction_is_named_at_once():
    a = session("a", *(found("a", f"toy-{name}", rows={"scored": 1}) for name in "xyz"))
    b = session("b", *(found("b", f"toy-{name}") for name in "xyz"))
    with pytest.raises(Conflict) as refused:
        plan(a, b)
    assert str(refused.value).count("differ in rows") == 3


@pytest.mark.parametrize(
    ("changes", "about", "line"),
    [
        ({"code": {"commit": "d"}}, {}, 'commit: "c" in a; "d" in b'),
        ({"code": {"commit": "c", "diff_sha256": "9"}}, {}, 'uncommitted changes: null in a; "9" in b'),
        ({"plugin_version": "1"}, {}, 'plugin version: "0" in a; "1" in b'),
        ({"data": "hub"}, {}, 'data: "embedded" in a; "hub" in b'),
        ({}, {"limit": 5}, "toy limit: null in a; 5 in b"),
        ({}, {"policy": {"name": "open"}}, 'toy policy.name: null in a; "open" in b'),
        ({}, {"model": {"code_sha256": "2"}}, 'toy model.code_sha256: "1" in a; "2" in b'),
        ({}, {"dataset": {"name": "x", "split": "fast", "sha256": "7"}}, 'toy x/fast sha256: "0" in a; "7" in b'),
    ],
)
def test_what_differs_is_refused_or_recorded(changes, about, line):
    sessions = session("a", "toy-x"), session("b", found("b", "toy-y", about=about), **changes)
    with pytest.raises(Conflict, match="--allow-differences") as refused:
        plan(*sessions)
    assert f"\n  {line}\n" in str(refused.value)
    assert plan(*sessions, allow_differences=True).record.differences == [line]


def test_another_judge_differs_and_a_dataset_that_nobody_judges_does_not():
    judged = {"judge": {"template": "a", "model": "m"}}
    one = session("a", found("a", "toy-x", about=judged), "toy-z")
    plan(one, session("b", found("b", "toy-y", about=judged)))
    with pytest.raises(Conflict, match=r'toy judge\.template: "a" in a; "b" in b'):
        plan(one, session("b", found("b", "toy-y", about={"judge": {"template": "b", "model": "m"}})))


def test_different_suites_and_untracked_files_are_no_difference():
    other = found("b", "more-y", about={"suite": "more", "limit": 5})
    made = plan(session("a", "toy-x"), session("b", other, code={"commit": "c", "dirty": True, "diff_sha256": None}))
    assert made.record.code["dirty"] is True


@pytest.mark.parametrize(
    ("shards", "missing", "notes"),
    [
        ([(0, 2), (1, 2)], [], []),
        ([(0, 3), (1, 3)], ["shard 2 of 3 is missing: there are 0 and 1 of 3"], []),
        ([(1, 3), (2, 3)], ["shard 0 of 3 is missing: there are 1 and 2 of 3"], []),
        ([(0, 4)], ["shards 1, 2 and 3 of 4 are missing: there is 0 of 4"], []),
        ([(1, 4), (2, 4)], ["shards 0 and 3 of 4 are missing: there are 1 and 2 of 4"], []),
        ([(0, 2), (0, 2)], ["shard 1 of 2 is missing: there is 0 of 2"], ["shard 0 of 2 is in 2 sessions"]),
        ([(0, 10**9)], ["999999999 of 1000000000 shards are missing: there is 0 of 1000000000"], []),
        ([(0, 1), (0, 2), (1, 2)], [], ["the sessions were cut into different numbers of shards: 0 of 1, 0 of 2, 1 of 2"]),
    ],
)
def test_shards(shards, missing, notes):
    made = plan(*(session(f"s{n}", f"toy-{n}", shard={"index": index, "count": count}) for n, (index, count) in enumerate(shards)))
    assert (made.missing, made.notes) == (missing, notes)
    assert [(shard.index, shard.count) for shard in made.record.shards] == shards
    again = plan(Session("m", Path("/in/m"), made.record, {run_id: found("m", run_id) for run_id in made.taken}))
    assert again.missing == missing, "a merged session remembers what it was made of"


@given(st.integers(1, 12), st.data())
def test_shards_that_are_all_there_or_not(count, data):
    there = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    missing, twice = merge._shards([(index, count) for index in there])
    assert bool(missing) == (len(there) < count)
    assert twice == []


def shard(name, whole, number, count):
    text = f"{number}of{count}"
    return found(name, f"{whole}-{text}", about={"shard": text})


def test_shards_of_rows_that_nobody_has_judged_yet():
    argv = ["pytest", "--gpueval-suite", "toy", "--gpueval-policy", "my file:open", "--gpueval-limit=5", "-k", "x"]
    a = session("a", shard("a", "toy-x-fast", 1, 2), argv=argv)
    b = session("b", shard("b", "toy-x-fast", 2, 2), "toy-y-fast")
    made = plan(a, b)
    assert made.missing == []
    place = "--gpueval-output-dir=/out --gpueval-session all"
    assert made.commands == [f"pytest --gpueval-suite toy {place} '--gpueval-policy=my file:open' --gpueval-limit=5"]
    whole = plan(a, b, session("c", "toy-x-fast"))
    assert (whole.missing, whole.commands) == ([], [])


def test_shards_of_rows_that_are_missing():
    made = plan(session("a", shard("a", "toy-x-fast", 2, 4), shard("a", "toy-z-fast", 1, 10**9)))
    assert made.commands == []
    assert made.missing == [
        "toy x-fast: of the shards of its rows, 1of4, 3of4 and 4of4 are missing",
        "toy z-fast: 999999999 of 1000000000 shards of its rows are missing",
    ]


def test_runs_that_did_not_end_or_left_no_directory_are_missing():
    lost = SessionRun(run_id="toy-z", nodeid="n", suite="toy", case="z", worker="w", status="passed", ok=True)
    made = plan(session("a", found("a", "toy-x", None), found("a", "toy-y", "interrupted"), runs=[lost]))
    assert made.missing == ["toy-z: a lists it, but has no directory of it", "toy-x: unfinished in a", "toy-y: interrupted in a"]


@pytest.mark.parametrize("name", ["..", "a b", "-x", "a\nb", "x" * 151, "/"])
def test_a_target_that_pytest_would_not_take(name):
    with pytest.raises(UsageProblem, match="the name of a session is made of letters"):
        merge.plan(Path("/out") / name, [session("a", "toy-x")], [])


def test_nothing_to_join():
    with pytest.raises(UsageProblem, match="there is no run in a and b"):
        plan(session("a"), session("b"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["toy-x", "toy-y"]), st.sampled_from(["passed", "failed", "interrupted", None]))))
def test_a_taken_run_is_never_worse_than_another(parts):
    runs = {(name, run_id): status for name, run_id, status in parts}
    sessions = [session(name, *(found(name, run_id, status) for (of, run_id), status in runs.items() if of == name)) for name in "abc"]
    if not runs:
        return
    made = plan(*sessions)
    assert set(made.taken) == {run_id for _, run_id in runs}
    for one in sessions:
        for run_id, run in one.runs.items():
            assert made.taken[run_id].rank >= run.rank
