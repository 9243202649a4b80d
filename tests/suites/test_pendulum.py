"""The sweep of the pendulum: its trainer by itself."""

from __future__ import annotations

import csv
import json
import math

import pytest

from suites.pendulum.train import DT_S, HELD_OUT, POINTS, TRUE, Trajectory, held_out_error, loss, observed, swing
from tests.trainers import PENDULUM, SUITES, losses, refusal, result, train, train_until

ARGUMENTS = ("--learning_rate=1.0", "--momentum=0.8", "--nesterov", "--seed=7")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("pendulum") / "run"
    return run_dir, train(PENDULUM, run_dir, *ARGUMENTS)


@pytest.mark.parametrize("parameters", [(6.0, 0.0), (9.0, 0.5)])
def test_gradients_are_those_of_finite_differences(parameters):
    data, width = observed(3, 0.02), 1e-6
    _, gradient = loss(parameters, data)
    for place in (0, 1):
        above, below = list(parameters), list(parameters)
        above[place] += width
        below[place] -= width
        assert gradient[place] == pytest.approx((loss(tuple(above), data)[0] - loss(tuple(below), data)[0]) / (2 * width), rel=1e-5)


def test_a_small_swing_has_the_period_of_the_textbook():
    angles = [angle for angle, _, _ in swing(0.01, (TRUE[0], 0.0))]
    lowest = min(range(POINTS), key=angles.__getitem__)
    assert (lowest + 1) * DT_S == pytest.approx(math.pi / math.sqrt(TRUE[0]), abs=2 * DT_S)


def test_the_truth_has_no_error():
    assert held_out_error(TRUE) == 0.0
    assert loss(TRUE, [Trajectory(HELD_OUT, [angle for angle, _, _ in swing(HELD_OUT, TRUE)])]) == (0.0, (0.0, 0.0))


def test_it_finds_the_pendulum(undisturbed):
    _, done = undisturbed
    assert done.returncode == 0, done.stderr
    found = result(done.stdout, "PENDULUM")
    assert found["error_mrad"] < 10
    assert found["length_m"] == pytest.approx(1.0, abs=0.02)
    assert found["damping_per_s"] == pytest.approx(0.3, abs=0.05)
    steps = losses(done.stdout)
    assert len(steps) == found["steps"] == 60
    assert steps[-1] < steps[0] / 100


def test_it_leaves_what_the_suite_expects(undisturbed):
    run_dir, _ = undisturbed
    assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoint.json", "config_effective.json", "dataset_manifest.json"]
    config = json.loads((run_dir / "config_effective.json").read_text())
    assert (config["learning_rate"], config["nesterov"], config["seed"]) == (1.0, True, 7)
    manifest = json.loads((run_dir / "dataset_manifest.json").read_text())
    assert manifest["angles"] == 300 and len(manifest["sha256"]) == 64


def test_a_killed_run_continues_to_the_same_end(undisturbed, tmp_path):
    run_dir, whole = undisturbed
    train_until("step 30 ", PENDULUM, tmp_path / "run", *ARGUMENTS)
    kept = json.loads((tmp_path / "run" / "checkpoint.json").read_text())["step"]  # it may have got further before the signal came
    done = train(PENDULUM, tmp_path / "run", *ARGUMENTS, GPUEVAL_ATTEMPT="2")
    assert kept >= 20
    assert losses(done.stdout) == losses(whole.stdout)[kept:]
    assert result(done.stdout, "PENDULUM") == result(whole.stdout, "PENDULUM")
    assert (tmp_path / "run" / "checkpoint.json").read_bytes() == (run_dir / "checkpoint.json").read_bytes()


def test_a_first_attempt_does_not_continue_an_earlier_run(tmp_path):
    train(PENDULUM, tmp_path / "run", *ARGUMENTS)
    done = train(PENDULUM, tmp_path / "run", *ARGUMENTS, "--checkpoint_every=100", GPUEVAL_ATTEMPT="1")
    assert len(losses(done.stdout)) == 60


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(PENDULUM, tmp_path / "run", *ARGUMENTS)
    assert "Delete it, or choose another --out_dir" in refusal(train(PENDULUM, tmp_path / "run", "--seed=8", GPUEVAL_ATTEMPT="2"))
    (tmp_path / "run" / "checkpoint.json").write_text('{"step": 20')
    assert "cannot be read" in refusal(train(PENDULUM, tmp_path / "run", *ARGUMENTS, GPUEVAL_ATTEMPT="2"))


def test_the_hopeless_row_diverges(tmp_path):
    rows = {row.pop("run_id"): row for row in csv.DictReader((SUITES / "pendulum" / "sweep.csv").read_text().splitlines())}
    row = rows["hopeless-lr1e6"]
    done = train(PENDULUM, tmp_path / "run", f"--learning_rate={row['learning_rate']}", f"--momentum={row['momentum']}", f"--seed={row['seed']}")
    assert done.returncode == 3
    assert math.isnan(losses(done.stdout)[-1])
    assert done.stdout.splitlines()[-1].startswith("DIVERGED step 2: loss nan.")
    assert "RESULT_" not in done.stdout
    assert not (tmp_path / "run" / "checkpoint.json").exists()


@pytest.mark.parametrize("argument", ["--learning_rate=nan", "--learning_rate=fast", "--momentum=-1", "--steps=0", "--nesterov=false", "--learning=1"])
def test_arguments_that_cannot_be(argument, tmp_path):
    done = train(PENDULUM, tmp_path / "run", argument)
    assert done.returncode == 2
    assert argument.partition("=")[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_out_dir_wins_over_the_environment(tmp_path):
    assert train(PENDULUM, tmp_path / "run", "--steps=1", f"--out_dir={tmp_path / 'mine'}").returncode == 0
    assert (tmp_path / "mine" / "checkpoint.json").exists()
    assert not (tmp_path / "run").exists()
