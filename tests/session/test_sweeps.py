"""Sweeps as sessions, with real programs: outcomes, the contract, again, retries, gates, early stop."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.runs import validate
from pytest_gpueval.session.failures import INFRASTRUCTURE_EXIT
from tests import memory_group
from tests.waiting import SESSION_S, alive, wait_for

SUITE = """
kind = "sweep"
command = ["{python}", "train.py", "{parameters}"]
metric = "toy.loss"
[series]
pattern = '^step (?P<step>\\S+) loss (?P<loss>\\S+)$'
"""

# Writes down that it ran, prints three steps and a result, and does what its parameter `do` says before.
PROGRAM = """
import argparse, json, os, pathlib, signal, subprocess, sys, time
here, attempt = pathlib.Path(os.environ["GPUEVAL_RUN_DIR"]), int(os.environ["GPUEVAL_ATTEMPT"])
parser = argparse.ArgumentParser()
parser.add_argument("--loss", type=float, default=1.0)
parser.add_argument("--do", default="")
arguments = parser.parse_args()
with open("ran.jsonl", "a") as file:
    file.write(json.dumps({"id": os.environ["GPUEVAL_RUN_ID"], "attempt": attempt, "pid": os.getpid(), "argv": sys.argv[1:]}) + "\\n")
for step in range(3):
    print(f"step {step} loss {arguments.loss + 2 - step}", flush=True)
exec(arguments.do)
print(f"RESULT_TOY loss={arguments.loss} steps=3")
"""


class Sweep:
    """A repository with one sweep."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeini("[pytest]\n")
        self.directory = pytester.path / "suites/toy"
        self.directory.mkdir(parents=True)
        self.output = pytester.path / "reports/evaluations"
        self.session = self.output / "toy"
        (self.directory / "train.py").write_text(PROGRAM)

    def make(self, rows: dict[str, dict], more: str = "", suite: str = SUITE) -> None:
        """Rows by their ids; `more` goes to the top of the suite, and to its end from its first table on."""
        head, bracket, tail = f"\n{textwrap.dedent(more)}".partition("\n[")
        body, series, rest = suite.partition("[series]")
        listed = "rows = [\n" + "".join(f"  {{ {toml({'run_id': id_, **row})} }},\n" for id_, row in rows.items()) + "]\n"
        (self.directory / "suite.toml").write_text(body + head + listed + series + rest + bracket + tail)

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "--gpueval-suite", "toy", *args)

    def start(self, *args: str, **more) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        heeding = "import signal, sys, pytest; signal.signal(2, signal.default_int_handler); sys.exit(pytest.main(sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-c", heeding, "-p", "no:cacheprovider", "--gpueval-suite", "toy", *args],
            cwd=self.pytester.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **more,
        )

    def ran(self) -> list[dict]:
        file = self.directory / "ran.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def summary(self, id_: str) -> dict:
        return json.loads((self.session / f"toy-{id_}/summary.json").read_text())

    def path(self, id_: str) -> Path:
        return self.session / f"toy-{id_}"


def toml(row: dict) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in row.items())


@pytest.fixture
def sweep(pytester):
    return Sweep(pytester)


def test_every_row_is_an_item_with_a_run_directory(sweep):
    sweep.make({"a": {"loss": 0.5}, "b": {"loss": 0.25}})
    found = sweep.run("-v")
    found.assert_outcomes(passed=2)
    found.stdout.fnmatch_lines(["gpueval: toy · sweep (2 rows over loss) · one process", "suites/toy/suite.toml::test_sweep?a? PASSED*"])
    summary = sweep.summary("a")
    assert (summary["ok"], summary["status"], summary["attempts"], summary["headline"]) == (True, "passed", 1, "toy.loss")
    assert {name: figure["value"] for name, figure in summary["metrics"].items()} == {"toy.loss": 0.5, "toy.steps": 3.0}
    lines = [json.loads(line) for line in (sweep.path("a") / "results.jsonl").read_text().splitlines()]
    assert lines == [{"id": str(step), "score": {"loss": 2.5 - step}} for step in range(3)]
    assert (sweep.path("a") / "stdout.log").read_text() == "step 0 loss 2.5\nstep 1 loss 1.5\nstep 2 loss 0.5\nRESULT_TOY loss=0.5 steps=3\n"
    metadata = json.loads((sweep.path("a") / "run_metadata.json").read_text())
    assert (metadata["task"], metadata["parameters"], metadata["attempt"]) == ("sweep", {"loss": 0.5}, 1)
    assert validate.problems(sweep.session) == []
    assert {"report.md", "report.html", "sweep-toy.html", "junit.xml", "session.json"} <= {path.name for path in sweep.session.iterdir()}
    assert "| b | 3 | toy.loss | 0.250 |" in (sweep.session / "report.md").read_text()
    assert 'name="gpueval.param.loss" value="0.5"' in (sweep.session / "junit.xml").read_text()


ENDS = {
    "good": ("pass", "passed", "passed", None),
    "exit": ("sys.exit(3)", "failed", "exit", "exit code 3; its last line: step 2 loss 1.0"),
    "cuda": ("raise RuntimeError('CUDA out of memory. Tried 2 GiB')", "oom", "cuda_oom", "RuntimeError: CUDA out of memory. Tried 2 GiB"),
    "host": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28)); bytearray(1 << 30)", "oom", "host_oom", "MemoryError"),
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "signal", "died of SIGSEGV"),
    "timeout": ("time.sleep(1000)", "timeout", "timeout", "not done after 3 s (timeout_s)"),
    "nan": ("print('step 3 loss nan', flush=True); time.sleep(1000)", "failed", "diverged", "diverged: loss nan at step 3"),
    "missing": ("(here / 'model.bin').unlink()", "failed", "missing_file", "exit code 0, but expected files are missing: model.bin"),
    "own": ('(here / \'summary.json\').write_text(\'{"ok": false, "error": "bad data"}\')', "failed", "exit", "its summary.json says ok: false: bad data"),
    "torn": ("(here / 'summary.json').write_text('{\"ok\": tr')", "failed", "exit", "its summary.json is not JSON"),
}


def test_how_a_program_ends_is_told_apart(sweep):
    first = "(here / 'model.bin').touch(); "
    rows, more = {name: {"do": first + do} for name, (do, *_) in ENDS.items()}, 'grace_s = 1\nexpected = ["model.bin"]\n'
    sweep.make(rows, f"timeout_s = 120\n{more}")
    sweep.run("-k", "not timeout").assert_outcomes(passed=1, failed=len(ENDS) - 2, deselected=1)
    sweep.make(rows, f"timeout_s = 3\n{more}")
    sweep.run("-k", "timeout").assert_outcomes(failed=1, deselected=len(ENDS) - 1)
    found = {name: sweep.summary(name) for name in ENDS}
    assert {name: (summary["status"], summary["ends"][0]["outcome"]) for name, summary in found.items()} == {
        name: (status, outcome) for name, (_, status, outcome, _) in ENDS.items()
    }
    for name, (_, _, _, reason) in ENDS.items():
        assert reason is None or reason in found[name]["reason"], name
    assert validate.problems(sweep.session) == []
    assert not any(alive(line["pid"]) for line in sweep.ran())


if memory_group.possible():  # elsewhere the kernel's own count is read from files alone, in tests/sweeps

    def test_what_the_kernel_kills_for_memory_is_told_apart_and_the_others_go_on(sweep):
        hungry = "held = [bytearray(b'x' * (1 << 24)) for _ in range(200)]"
        sweep.make({"a": {"do": hungry}, "b": {}, "c": {"do": "os.kill(os.getpid(), signal.SIGKILL)"}})
        with memory_group.group(f"gpueval-test-{os.getpid()}", mib=700) as place:
            joined = sweep.start("-p", "no:xdist", preexec_fn=lambda: (place / "cgroup.procs").write_text(str(os.getpid())))
            told, _ = joined.communicate(timeout=SESSION_S)
        assert joined.returncode == INFRASTRUCTURE_EXIT, told
        found = {name: sweep.summary(name) for name in "abc"}
        assert {name: (found[name]["status"], found[name]["ends"][0]["outcome"]) for name in found} == {
            "a": ("oom", "host_oom"),
            "b": ("passed", "passed"),
            "c": ("crashed", "signal"),  # by another hand than the kernel's
        }
        assert "memory limit" in found["a"]["reason"] and "memory limit" in told


@pytest.mark.parametrize(
    ("style", "flag", "argv"),
    [
        ("python-literal", False, ["--loss=0.5", "--wandb_log=False", "--name='$(touch pwned)'"]),
        ("python-literal", True, ["--loss=0.5", "--wandb_log=True", "--name='$(touch pwned)'"]),
        ("argparse", True, ["--loss=0.5", "--wandb_log", "--name=$(touch pwned)"]),
        ("argparse", False, ["--loss=0.5", "--name=$(touch pwned)"]),
        ("json", False, ['{"loss":0.5,"wandb_log":false,"name":"$(touch pwned)"}']),
    ],
)
def test_values_reach_a_program_as_what_they_are_and_meet_no_shell(sweep, style, flag, argv):
    (sweep.directory / "train.py").write_text("import json, sys; open('argv', 'w').write(json.dumps(sys.argv[1:]))")
    (sweep.directory / "sweep.csv").write_text(f"run_id,loss,wandb_log,name\none,0.5,{str(flag).lower()},$(touch pwned)\n")
    (sweep.directory / "suite.toml").write_text(f'kind = "sweep"\nstyle = "{style}"\ncommand = ["{{python}}", "train.py", "{{parameters}}"]\n')
    sweep.run().assert_outcomes(passed=1)
    found = json.loads((sweep.directory / "argv").read_text())
    assert [json.loads(word) for word in found] == [json.loads(word) for word in argv] if style == "json" else found == argv
    assert not list(sweep.pytester.path.rglob("pwned"))


def test_a_summary_that_a_program_writes_is_kept_and_its_numbers_count(sweep):
    sweep.make({"a": {"do": "(here / 'summary.json').write_text(json.dumps({'ok': True, 'val_loss': 0.125, 'metrics': {'acc': 0.5}}))"}})
    sweep.run().assert_outcomes(passed=1)
    assert sweep.summary("a")["metrics"]["val_loss"]["value"] == 0.125
    assert json.loads((sweep.path("a") / "summary.program.json").read_text())["metrics"] == {"acc": 0.5}


def test_declared_metrics_come_from_files_and_output(sweep):
    do = "print('accuracy: 0.75'); (here / 'eval.json').write_text('{\"best\": [{\"f1\": 0.5}]}')"
    sweep.make({"a": {"do": do}}, "[metrics.acc]\npattern = 'accuracy: (?P<acc>\\S+)'\n[metrics.f1]\nfile = 'eval.json'\npath = 'best.0.f1'\n")
    sweep.run().assert_outcomes(passed=1)
    found = sweep.summary("a")["metrics"]
    assert (found["acc"]["value"], found["f1"]["value"]) == (0.75, 0.5)


def test_finished_rows_are_reused_and_failed_ones_stop_the_operator(sweep):
    sweep.make({"a": {}, "b": {"do": "len(open('ran.jsonl').readlines()) < 4 and sys.exit(1)"}})
    sweep.run().assert_outcomes(passed=1, failed=1)
    again = sweep.run()
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    text = "\n".join(again.outlines + again.errlines)
    assert "toy-b: failed: " in text and "--gpueval-force" in text and "--lf" in text and "delete" in text
    assert len(sweep.ran()) == 2
    forced = sweep.run("--gpueval-force", "-k", "b")
    forced.assert_outcomes(failed=1, deselected=1)
    sweep.run("--gpueval-force", "-k", "b").assert_outcomes(passed=1, deselected=1)
    for name in ("summary.json", "stdout.log", "results.jsonl"):  # three runs, two of them put aside, perhaps within one second
        assert len(list(sweep.path("b").glob(f"{name}.bak-*"))) == 2
    sweep.run().assert_outcomes(passed=2)
    assert [line["id"] for line in sweep.ran()] == ["toy-a", "toy-b", "toy-b", "toy-b"]


def test_a_row_with_other_parameters_is_not_taken_for_the_old_one(sweep):
    sweep.make({"a": {"loss": 0.5}})
    sweep.run().assert_outcomes(passed=1)
    sweep.make({"a": {"loss": 0.25}})
    found = sweep.run()
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*holds an earlier run with another parameters*", "*0.5*0.25*"])


def test_ends_that_the_suite_names_are_tried_again(sweep):
    sweep.make({"a": {"do": "attempt < 3 and os.kill(os.getpid(), 11)"}}, "retries = { times = 3, on = ['signal'], wait_s = 0.01 }\n")
    sweep.run().assert_outcomes(passed=1)
    summary = sweep.summary("a")
    assert summary["attempts"] == 3
    assert [end["outcome"] for end in summary["ends"]] == ["signal", "signal", "passed"]
    assert [line["attempt"] for line in sweep.ran()] == [1, 2, 3]
    assert len((sweep.path("a") / "results.jsonl").read_text().splitlines()) == 3
    assert validate.problems(sweep.session) == []


@pytest.mark.parametrize("resume", [False, True], ids=["anew", "continued"])
def test_a_row_whose_session_was_killed_goes_on(sweep, resume):
    do = "(here / 'checkpoint').touch(); (here / 'up').touch(); attempt == 1 and time.sleep(1000)"
    sweep.make({"a": {"do": do}}, f"resume = {str(resume).lower()}\n")
    process = sweep.start("-p", "no:xdist")
    results = sweep.path("a") / "results.jsonl"
    wait_for(lambda: (sweep.path("a") / "up").exists() and results.exists() and len(results.read_text().splitlines()) == 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (first,) = sweep.ran()
    wait_for(lambda: not alive(first["pid"]))  # its supervisor has heard
    sweep.run().assert_outcomes(passed=1)
    assert [line["attempt"] for line in sweep.ran()] == [1, 2]
    assert (sweep.path("a") / "checkpoint").exists()
    assert len((sweep.path("a") / "results.jsonl").read_text().splitlines()) == (6 if resume else 3)
    assert bool(list(sweep.path("a").glob("results.jsonl.bak-*"))) == (not resume)
    assert validate.problems(sweep.session) == []


def test_a_session_killed_after_the_program_wrote_its_summary_is_not_finished(sweep):
    do = "(here / 'summary.json').write_text('{\"ok\": tru'); (here / 'up').touch(); attempt == 1 and time.sleep(1000); (here / 'summary.json').unlink()"
    sweep.make({"a": {"do": do}})
    process = sweep.start("-p", "no:xdist")
    wait_for((sweep.path("a") / "up").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    sweep.run().assert_outcomes(passed=1)
    assert sweep.summary("a")["attempts"] == 2


def test_ctrl_c_ends_the_tree_and_says_interrupted(sweep):
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], start_new_session=True).pid"
    sweep.make({"a": {"do": f"(here / 'child').write_text(str({child})); (here / 'up').touch(); time.sleep(1000)"}}, "grace_s = 2\n")
    process = sweep.start("-p", "no:xdist")
    wait_for((sweep.path("a") / "up").exists)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert sweep.summary("a")["status"] == "interrupted"
    assert not alive(int((sweep.path("a") / "child").read_text()))
    assert not alive(sweep.ran()[0]["pid"])


def test_gates_over_all_rows_fail_the_session(sweep):
    rows = {"base": {"loss": 0.5}, "one": {"loss": 0.75}, "two": {"loss": 0.25}}
    more = '[[gates]]\nmetric = "toy.loss"\nof = "best"\nmax = 0.1\n[[gates]]\nmetric = "toy.loss"\nbeats = "base"\n'
    sweep.make(rows, more)
    found = sweep.run()
    found.assert_outcomes(passed=3, failed=1)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert 'name="test_sweep_gates"' in (sweep.session / "junit.xml").read_text()
    found.stdout.fnmatch_lines(
        [
            "toy: 2 of the sweep's gates failed",
            "  best toy.loss: 0.25 (row two), bound <= 0.1",
            "  toy.loss: 0.75 (row one) does not beat 0.5 (row base)",
        ]
    )
    sweep.make(rows, '[[gates]]\nmetric = "toy.loss"\nof = "best"\nbeats = "base"\n[[gates]]\nmetric = "toy.loss"\nmax = 1.0\n')
    assert sweep.run("--gpueval-force").ret == pytest.ExitCode.OK


def test_loggers_hear_of_gates_over_all_rows(sweep):
    gates = (
        'metric = "toy.loss"\nof = "best"\nmax = 0.1',
        'metric = "toy.loss"\nbeats = "base"',
        'metric = "toy.loss"\nof = "best"\nbeats = "base"',
        ('metric = "none"\nof = "best"\nmin = 1'),
    )
    sweep.make({"base": {"loss": 0.5}, "one": {"loss": 0.75}, "two": {"loss": 0.25}}, "".join(f"[[gates]]\n{gate}\n" for gate in gates))
    sweep.pytester.makeconftest(
        "import dataclasses, json\ndef pytest_gpueval_verdict(verdict, config):\n"
        "    open('heard.jsonl', 'a').write(json.dumps(dataclasses.asdict(verdict)) + '\\n')\n"
    )
    sweep.run().assert_outcomes(passed=3, failed=1)
    found = [json.loads(line) for line in (sweep.pytester.path / "heard.jsonl").read_text().splitlines()]
    assert [(one["metric"], one["bound"], one["outcome"], one["value"], one["run_id"]) for one in found] == [
        ("toy.loss", "best <= 0.1", "fail", 0.25, "toy-two"),
        ("toy.loss", "each beats base", "fail", 0.75, "toy-one"),
        ("toy.loss", "best beats base", "pass", 0.25, "toy-two"),
        ("none", "best >= 1", "unscored", None, ""),
    ]
    assert {(one["suite"], one["case"], one["session"]) for one in found} == {("toy", "test_sweep_gates", "toy")}
    assert found[0]["details"]["words"] == ["best toy.loss: 0.25 (row two), bound <= 0.1"] and found[2]["details"]["words"] == []


def test_gates_over_all_rows_wait_until_all_are_there(sweep):
    sweep.make({"a": {"loss": 0.5}, "b": {"loss": 0.25}}, '[[gates]]\nmetric = "toy.loss"\nof = "best"\nmax = 0.1\n')
    part = sweep.run("-k", "a")
    assert part.ret == pytest.ExitCode.OK
    part.stdout.fnmatch_lines(["WARNING: toy: no verdict of the gates over all rows: 1 of 2 have not run in this session (b)"])
    assert sweep.run("-k", "b").ret == pytest.ExitCode.TESTS_FAILED


def test_a_gate_on_a_row_fails_its_item(sweep):
    sweep.make({"a": {"loss": 0.5}, "b": {"loss": 0.25}}, '[[gates]]\nmetric = "toy.loss"\nmax = 0.3\n')
    found = sweep.run()
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines(["*toy a: 1 of 1 gates failed*", "FAIL*toy.loss*0.5*<= 0.3*"])
    assert (sweep.summary("a")["status"], sweep.summary("b")["status"]) == ("failed", "passed")


def test_a_metric_that_no_row_reports_is_said_with_those_there_are(sweep):
    sweep.make({"a": {}}, '[[gates]]\nmetric = "los"\nmax = 0.3\n')
    found = sweep.run()
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*metric 'los' is in no RESULT_... line*Metrics found: toy.loss, toy.steps*"])


def test_hopeless_rows_are_stopped_early_and_say_so(sweep):
    (sweep.directory / "train.py").write_text(
        "import os, sys, time\nloss = float(sys.argv[1].partition('=')[2])\n"
        "for step in range(1, 2000):\n    print(f'step {step} loss {loss}', flush=True)\n    time.sleep((loss > 5) / 50)\nprint(f'RESULT_TOY loss={loss}')\n"
    )
    rows = {**{f"good{number}": {"loss": 1.0 + number / 10} for number in range(3)}, "bad": {"loss": 9.0}}
    sweep.make(rows, '[early_stop]\nrule = "median"\nmin_rows = 3\nwarmup_steps = 10\n')
    sweep.run().assert_outcomes(passed=3, skipped=1)
    summary = sweep.summary("bad")
    assert (summary["status"], summary["ends"][0]["outcome"]) == ("skipped", "stopped")
    assert "median" in summary["reason"]
    assert summary["rows"]["scored"] < 1999


def test_what_programs_print_is_shown_on_request(sweep):
    sweep.make({"a": {}})
    assert "main | step 2 loss 1.0" not in sweep.run().stdout.str()
    sweep.run("-s", "--gpueval-force").stdout.fnmatch_lines(["main | step 0 loss 3.0", "main | RESULT_TOY loss=1.0 steps=3"])


def test_secrets_of_the_environment_do_not_reach_the_log(sweep, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k3yk3yk3yk3yk3yk3y")
    sweep.make({"a": {"do": "print('key', os.environ['WANDB_API_KEY'])"}})
    sweep.run().assert_outcomes(passed=1)
    for file in sweep.session.rglob("*"):
        assert not file.is_file() or "k3yk3yk3yk3yk3yk3y" not in file.read_text(errors="replace"), file


def test_two_lanes_run_rows_side_by_side(sweep):
    meet = "[time.sleep(0.01) for _ in range(6000) if len(set(line.split('\"pid\": ')[1] for line in open('ran.jsonl'))) < 2]"
    sweep.make({"a": {"do": meet}, "b": {"do": meet}})
    process = sweep.start("--gpus", "none", "-n", "2")
    output, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == 0, output
    assert "plan: 2 rows, predicted 1:00" in output
    record = json.loads((sweep.session / "session.json").read_text())
    assert {run["worker"] for run in record["runs"]} == {"cpu0", "cpu1"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (('kind = "sweep"', 'kind = "sweeps"'), "kind: unknown 'sweeps'. Did you mean 'sweep'? Valid values: evaluation, sweep."),
        (("{parameters}", "--loss={lss}"), "command: "),
        (('"train.py"', '"train.py", "{nope}"'), "nope"),
        (('"a"', '"../../a"'), "../../a"),
        (('"a"', '"-rf"'), "-rf"),
        (('"a"', '"a-1of2"'), "an id that ends like '1of2' is taken for a shard"),
        (("(?P<step>", "(?P<stop>"), "series: 'pattern' has no group (?P<step>...)"),
        (('metric = "toy.loss"', 'metric = "toy.loss"\nexpected = ["../x"]'), "expected[0]: expected a path below the run's directory, found '../x'"),
        (('metric = "toy.loss"', 'metric = "toy.loss"\ndirectory = "gone"'), "directory: 'gone': no such folder"),
        (('metric = "toy.loss"', 'metric = "toy.loss"\ngpus = "width"'), "gpus: 'width' is no parameter. Valid parameters: loss."),
        (('metric = "toy.loss"', 'metric = "toy.loss"\ncsv = "x.csv"'), "csv and rows both say which rows there are"),
        (('metric = "toy.loss"', 'metrc = "toy.loss"'), "metrc: unknown key. Did you mean 'metric'?"),
    ],
)
def test_a_suite_that_cannot_be_is_one_message(sweep, edit, message):
    sweep.make({"a": {"loss": 0.5}})
    file = sweep.directory / "suite.toml"
    assert edit[0] in file.read_text()
    file.write_text(file.read_text().replace(*edit))
    found = sweep.run()
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    text = "\n".join(found.outlines + found.errlines)
    assert message in text
    assert "Traceback" not in text
    assert not sweep.ran()


def test_a_program_that_is_not_there(sweep):
    sweep.make({"a": {}}, suite=SUITE.replace('"{python}"', '"no-such-program-anywhere"'))
    found = sweep.run()
    found.assert_outcomes(failed=1)
    assert sweep.summary("a")["status"] == "error"
    found.stdout.fnmatch_lines(["*'no-such-program-anywhere': no such program on PATH*"])


def test_a_full_disk_ends_the_row_and_says_where(sweep):
    sweep.make({"a": {"do": "[print('x' * 1000) for _ in range(5000)]; time.sleep(1000)"}})
    process = sweep.start("-p", "no:xdist", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    output, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == 10, output
    assert f"{sweep.path('a') / 'stdout.log'}: cannot be written: " in output
    assert "--gpueval-output-dir" in output
    assert "Traceback" not in output
    assert sweep.summary("a")["status"] == "error"
    assert not alive(sweep.ran()[0]["pid"])


GPU_PROGRAM = """
import json, os, time
print("RESULT_TOY gpus=%d" % len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")))
with open(os.path.join(os.environ["GPUEVAL_RUN_DIR"], "gpus"), "w") as file:
    file.write(os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_every_row_sees_the_gpus_that_it_asks_for_and_no_others(toy):
    (toy.root / "suites/toy/train.py").write_text(GPU_PROGRAM)
    (toy.root / "suites/toy/sweep.csv").write_text("run_id,width\n" + "".join(f"r{number},{1 + number % 2}\n" for number in range(4)))
    (toy.root / "suites/toy/suite.toml").write_text('kind = "sweep"\ncommand = ["{python}", "train.py", "{width}"]\ngpus = "width"\n')
    environment = toy.on_gpus(2)
    toy.finish(environment, "--gpus", "0-1")
    for number in range(4):
        seen = (toy.session("it") / f"toy-r{number}/gpus").read_text().split(",")
        assert len(set(seen)) == 1 + number % 2
        assert all(uuid.startswith("GPU-") for uuid in seen)


def test_rows_on_several_workers_are_compared_with_each_other(sweep):
    (sweep.directory / "train.py").write_text(
        "import sys, time\nloss = float(sys.argv[1].partition('=')[2])\n"
        "for step in range(1, 400):\n    print(f'step {step} loss {loss}', flush=True)\n    time.sleep((loss > 5) / 50)\nprint(f'RESULT_TOY loss={loss}')\n"
    )
    rows = {**{f"good{number}": {"loss": 1.0 + number / 10} for number in range(3)}, "bad": {"loss": 9.0}}
    sweep.make(rows, '[early_stop]\nrule = "median"\nmin_rows = 3\nwarmup_steps = 10\n')
    output, _ = sweep.start("--gpus", "none", "-n", "2").communicate(timeout=SESSION_S)
    assert "3 passed, 1 skipped" in output
    assert sweep.summary("bad")["ends"][0]["outcome"] == "stopped"


def test_rows_of_two_sessions_become_one_sweep(sweep):
    """As two machines would have run them: the joined session has the page, the section and the ranking of all rows."""
    sweep.make({"a": {"loss": 0.5}, "b": {"loss": 0.25}, "c": {"loss": 0.75}}, 'goal = "min"\n')
    sweep.run("-k", "a or b", "--gpueval-session", "here").assert_outcomes(passed=2, deselected=1)
    sweep.run("-k", "c", "--gpueval-session", "there").assert_outcomes(passed=1, deselected=2)
    target = sweep.output / "toy"
    done = CliRunner().invoke(app, ["runs", "merge", str(target), str(sweep.output / "here"), str(sweep.output / "there")])
    assert done.exit_code == 0, done.output
    for name in ("sweep-toy.html", "report.html"):
        text = (target / name).read_text()
        assert all(f"toy-{row}" in text for row in "abc"), name
    ranking = (target / "report.md").read_text().partition("## ")[2]
    assert ranking.index("toy-b") < ranking.index("toy-a") < ranking.index("toy-c")
    again = CliRunner().invoke(app, ["runs", "merge", str(target), str(sweep.output / "here"), str(sweep.output / "there")])
    assert "already there, nothing to do" in again.stdout
    sweep.run("--gpueval-session", "toy").assert_outcomes(passed=3)
    assert len(sweep.ran()) == 3, "all were reused"


def test_what_is_probably_not_meant_is_said(sweep):
    """A parameter that the command hands to nobody: the seed of a sweep over seeds that all train alike."""
    suite = SUITE.replace('"{parameters}"', '"--loss", "{loss}"')
    sweep.make({"a": {"loss": 0.5}}, "seeds = [1, 2]\n", suite)
    found = sweep.run()
    found.assert_outcomes(passed=2)
    assert "WARNING: toy: seed: the program never sees it: the command names {parameters} nowhere" in found.stdout.str()
    space = '[space]\nmethod = "random"\nsamples = 5\nseed = 1\n[space.parameters.loss]\nvalues = [0.25, 0.5]\n'
    (sweep.directory / "suite.toml").write_text(SUITE + space)
    found = sweep.run("--gpueval-session", "drawn")
    found.assert_outcomes(passed=2)
    assert "WARNING: toy: the space gives 2 points and not 5: the space has no more that differ" in found.stdout.str()
