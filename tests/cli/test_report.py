"""`gpueval report`: many sessions as trends."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.runs.records import Figure, RowCounts, SessionRecord, SessionRun, Summary, VerdictRecord

ROOT = Path("reports/evaluations")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def report(*argv: str):
    return CliRunner().invoke(app, ["report", *argv])


def document(*argv: str) -> dict:
    done = report(*argv, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def session(name: str, started_at: str, commit: str, values: dict[str, float | None], **changes) -> Path:
    """A session as sessions leave it: a run for each case, with this accuracy and an interval of 0.02."""
    suite, speed, gates = changes.get("suite", "toy"), changes.get("speed", 100.0), changes.get("gates", [])
    directory = ROOT / name
    runs = []
    for case, value in values.items():
        figure = Figure(value=value, low=None if value is None else value - 0.01, high=None if value is None else value + 0.01, n=100)
        summary = Summary(
            run_id=re.sub(r"[^\w-]", "", f"{suite}-{case}"),
            ok=not gates,
            status="failed" if gates else "passed",
            failure="gate" if gates else None,
            headline="accuracy",
            metrics={"accuracy": figure},
            gates=gates,
            rows=RowCounts(total=100, scored=100),
            samples_per_s=speed,
            seconds=1.0,
            attempts=changes.get("attempts", 1),
        )
        (directory / summary.run_id).mkdir(parents=True)
        (directory / summary.run_id / "summary.json").write_text(summary.model_dump_json())
        known = {
            "nodeid": f"suites/{suite}/suite.toml::test_eval[{case}]",
            "suite": suite,
            "case": case,
            "worker": "gpu0",
            "status": summary.status,
            "ok": summary.ok,
        }
        runs.append(SessionRun(run_id=summary.run_id, runtime="cpu", reused=changes.get("reused", False), **known))
    record = SessionRecord(
        session=name,
        argv=["pytest"],
        suites=[suite],
        data="embedded",
        lanes=[],
        host="host",
        code={"commit": commit, "dirty": changes.get("dirty", False)},
        plugin_version="0",
        started_at=started_at,
        exit_status=1 if gates else 0,
        runs=runs,
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "session.json").write_text(record.model_dump_json())
    return directory


def three() -> None:
    session("c", "2026-11-03T10:00:00+00:00", "c" * 40, {"one-fast": 0.80, "two-fast": 0.905}, gates=[verdict()], speed=150.0)
    session("a", "2026-11-01T10:00:00+00:00", "a" * 40, {"one-fast": 0.90, "two-fast": 0.90})
    session("b", "2026-11-02T10:00:00+00:00", "b" * 40, {"one-fast": 0.90}, attempts=2, dirty=True)


def verdict() -> VerdictRecord:
    return VerdictRecord(metric="accuracy", label=None, bound=">= 0.85", value=0.8, low=0.79, high=0.81, n=100, outcome="fail")


def section(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    lines = text[text.index(f"{heading}\n") :].splitlines()[2:]
    table = lines[: next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def test_trends_newest_first():
    three()
    text = report().stdout
    assert "3 sessions, 2026-11-01 to 2026-11-03." in text
    one, two = section(text, "## toy")
    assert one == ["one-fast", "accuracy", "0.800 [0.790, 0.810]", "▼ -0.100", "██▁", "3", "150 ▲ 50%", "failed: accuracy \\>= 0.85", "cccccccccc"]
    assert two[3:6] == ["↗ +0.005", "▁█", "2"]
    history = section(text, "### toy: one-fast")
    assert [line[1] for line in history] == ["c", "b", "a"]
    assert [line[4] for line in history] == ["▼ -0.100", "=", "-"]
    assert [line[2] for line in history] == ["cccccccccc", "bbbbbbbbbb+", "aaaaaaaaaa"]
    assert history[1][7] == "passed, 2 attempts"
    assert [line[1] for line in section(text, "## Sessions")] == ["c", "b", "a"]


def test_json_has_all_of_it():
    three()
    found = document()
    assert [entry["session"] for entry in found["sessions"]] == ["c", "b", "a"]
    one, two = found["cases"]
    assert (one["suite"], one["case"], one["runtime"], one["curve"]) == ("toy", "one-fast", "cpu", [0.9, 0.9, 0.8])
    newest = one["points"][0]
    assert newest["gates"][0]["outcome"] == "fail"
    assert newest["change"] == {"session": "b", "commit": "b" * 40, "difference": -0.1, "intervals_apart": True, "speed_ratio": 1.5}
    assert two["points"][0]["change"]["session"] == "a", "the newest before it that has the case"
    assert found["passed_over"] == []


def test_only_what_is_asked_for():
    three()
    session("other", "2026-11-04T10:00:00+00:00", "d" * 40, {"one-fast": 0.5}, suite="other")
    names = lambda *argv: [entry["session"] for entry in document(*argv)["sessions"]]  # noqa: E731
    assert names("--limit", "2") == ["other", "c"]
    assert names("--suite", "toy") == ["c", "b", "a"]
    assert names("--suite", "toy", "--case", "two-*", "--limit", "1") == ["c"]
    assert names("--case", "two-*") == ["c", "a"]
    assert names("--since", "2026-11-02T10:00:00+00:00") == ["other", "c", "b"]
    assert names("--since", "9999d") == ["other", "c", "b", "a"]
    assert names(str(ROOT / "b")) == ["b"]
    assert [case["case"] for case in document("--suite", "toy", "--case", "two-*")["cases"]] == ["two-fast"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--suite", "toi"], "--suite toi: no session in reports/evaluations has it. Did you mean 'toy'? Valid suites: toy."),
        (["--since", "yesterday"], "--since yesterday: expected a time as 2026-11-01"),
        (["nowhere"], "nowhere: no such directory. Name the directory that holds sessions"),
    ],
)
def test_wrong_usage(argv, words):
    three()
    done = report(*argv)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_the_broken_and_the_foreign_are_passed_over_and_counted():
    three()
    (ROOT / "foreign").mkdir()
    (ROOT / ".hidden").mkdir()
    (ROOT / "a file").write_text("")
    for name, text in {"torn": '{"session": "to', "list": "[]", "deep": "[" * 100_000, "odd": '{"started_at": 5}', "binary": "\0"}.items():
        (ROOT / name).mkdir()
        (ROOT / name / "session.json").write_text(text)
    (ROOT / "b/toy-one-fast/summary.json").write_text("{")
    strange = {
        "started_at": "2026-10-01T00:00:00",
        "runs": [5, {}, {"run_id": "../../c/toy-one-fast"}, {"run_id": "x", "suite": [], "seconds": "NaN"}],
        "code": 3,
        "suites": 9,
    }
    (ROOT / "strange").mkdir()
    (ROOT / "strange/session.json").write_text(json.dumps(strange))
    found = document()
    assert [entry["session"] for entry in found["sessions"]] == ["c", "b", "a", "strange"]
    over = {Path(entry["path"]).relative_to(ROOT).as_posix(): entry["why"] for entry in found["passed_over"]}
    assert over.pop("foreign") == "no session.json"
    assert "is no name of a run" in over["strange/../../c/toy-one-fast"]
    assert {"torn", "list", "deep", "odd", "binary", "b/toy-one-fast"} <= set(over)
    assert [point["session"] for case in found["cases"] if case["case"] == "one-fast" for point in case["points"]] == ["c", "a"]
    assert "directories passed over (" in report().stdout


def test_a_run_without_an_end_and_a_metric_without_a_value():
    session("a", "2026-11-01T10:00:00+00:00", "a" * 40, {"one-fast": 0.9, "two-fast": 0.9})
    directory = session("b", "2026-11-02T10:00:00+00:00", "b" * 40, {"one-fast": None, "two-fast": 0.9})
    (directory / "toy-two-fast/summary.json").unlink()
    one, two = document()["cases"]
    assert (one["points"][0]["value"], one["points"][0]["change"], one["curve"]) == (None, None, [0.9])
    assert (two["points"][0]["value"], two["points"][0]["status"]) == (None, "passed")
    assert section(report().stdout, "## toy")[0][2:5] == ["-", "-", "-"]


def test_texts_of_data_cannot_leave_their_cells_or_steer_a_terminal():
    session("s", "2026-11-01T10:00:00+00:00", "<b>|`x`", {"x|<script>alert(1)</script>\x1b[2J\u202e*": 0.9}, suite="[a](http://b)")
    text = report().stdout
    assert "<script>" not in text and "\x1b" not in text and "\u202e" not in text
    assert "x\\|\\<script\\>alert(1)\\</script\\>\\*" in text
    assert "\\[a\\](http://b)" in text
    (cells,) = section(text, "## \\[a\\](http://b)")
    assert len(cells) == 9


def test_nothing_there():
    ROOT.mkdir(parents=True)
    assert report().stdout == "# Sessions in reports/evaluations\n\n0 sessions.\n"
    assert document() == {"root": "reports/evaluations", "sessions": [], "cases": [], "passed_over": []}


def test_a_thousand_sessions():
    """Their cost grows with their number: ten times as many take at most some twenty times as long, whatever this machine is at."""
    values = {f"case{number}-fast": 0.9 for number in range(3)}

    def read() -> float:
        begin = time.process_time()
        found = document()
        assert len(found["cases"][0]["points"]) == len(found["sessions"])
        return time.process_time() - begin

    for number in range(100):
        session(f"s{number:04}", f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00", f"{number:040}", values)
    few = min(read(), read())
    for number in range(100, 1000):
        session(f"s{number:04}", f"2026-01-02T00:{number // 60:02}:{number % 60:02}+00:00", f"{number:040}", values)
    assert read() < 20 * few
    text = report().stdout
    assert "980 earlier ones are in the JSON." in text and text.count("\n") < 200
