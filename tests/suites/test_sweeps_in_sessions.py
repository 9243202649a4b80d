"""The sweeps that come along, as sessions."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.trainers import SUITES, environment, losses


def session(tmp_path, *arguments):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--gpus",
        "none",
        f"--gpueval-output-dir={tmp_path}",
        "--gpueval-session=s",
        *arguments,
    ]
    own = {name: value for name, value in environment(tmp_path).items() if not name.startswith(("GPUEVAL_", "PYTEST_"))}
    return subprocess.run(command, cwd=SUITES.parent, env=own, capture_output=True, text=True, timeout=300)


def summary(tmp_path, row):
    return json.loads((tmp_path / "s" / row / "summary.json").read_text())


def test_the_pendulum_swings_and_its_hopeless_row_is_expected_to_diverge(tmp_path):
    done = session(tmp_path, "-n", "2", "-rx", "--gpueval-suite", "pendulum")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "19 passed, 1 xfailed" in done.stdout  # the gate over all rows is one of them
    assert "a learning rate of a million: diverges" in done.stdout
    best = summary(tmp_path, "pendulum-nesterov-lr2.0-s2")
    assert best["ok"] is True
    run_dir = tmp_path / "s" / "pendulum-nesterov-lr2.0-s2"
    lines = [json.loads(line) for line in (run_dir / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 60 == len(losses((run_dir / "stdout.log").read_text()))
    assert summary(tmp_path, "pendulum-hopeless-lr1e6")["ok"] is False
    (suite,) = ET.parse(tmp_path / "s" / "junit.xml").getroot().iter("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("20", "0", "0", "1")


@pytest.mark.parametrize("quiet", [(), ("-q",), ("-v",)])
def test_a_row_that_is_expected_to_fail_counts_as_such_however_much_is_shown(tmp_path, quiet):
    done = session(tmp_path, "-n", "0", "-rA", "-k", "hopeless or momentum-lr1.0-s2", *quiet, "--gpueval-suite", "pendulum")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 17 deselected, 1 xfailed" in done.stdout


def test_a_small_language_model_as_a_row(tmp_path):
    done = session(tmp_path, "-n", "0", "-k", "base-1l-smoke", "--gpueval-suite", "fineweb10B")
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir = tmp_path / "s" / "fineweb10B-base-1l-smoke"
    assert {
        "command.sh",
        "run_metadata.json",
        "summary.json",
        "stdout.log",
        "results.jsonl",
        "config_effective.json",
        "dataset_manifest.json",
        "checkpoint.npz",
    } <= {path.name for path in run_dir.iterdir()}
    assert json.loads((run_dir / "config_effective.json").read_text())["config"]["wandb_log"] is False  # `false` in the CSV file
    metrics = json.loads((run_dir / "summary.json").read_text())["metrics"]
    assert metrics["fineweb10b.val_loss"]["value"] < 3.8


def test_a_full_row_without_a_gpu_fails_and_says_why(tmp_path):
    done = session(tmp_path, "-n", "0", "-k", "hc-6l-s1339", "--gpueval-suite", "fineweb10B")
    if "device 'gpu', and JAX finds only cpu" not in done.stdout:
        pytest.skip("this machine has a GPU that JAX can use")
    assert done.returncode == 1
    assert summary(tmp_path, "fineweb10B-hc-6l-s1339")["ok"] is False
