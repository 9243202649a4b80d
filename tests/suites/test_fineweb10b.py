"""The sweep of small language models: its trainer as a program, in configurations that take seconds."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainers import FINEWEB10B, SUITES, environment, losses, refusal, result, train, train_until

ROOT = SUITES.parent
TINY = ("--n_layer=1", "--n_embd=32", "--block_size=32", "--batch_size=8", "--learning_rate=0.01", "--warmup_steps=5")
HYPER = (*TINY, "--model='hc'", "--n_streams=2", "--steps=30", "--checkpoint_every=10", "--eval_every=15", "--eval_batches=2")


@pytest.fixture(scope="module")
def wandb_that_must_not_be_imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    (folder / "wandb.py").write_text("raise RuntimeError('imported although wandb_log is False')\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, wandb_that_must_not_be_imported):
    run_dir = tmp_path_factory.mktemp("fineweb10b") / "run"
    done = train(FINEWEB10B, run_dir, "--wandb_log=False", *HYPER, PYTHONPATH=str(wandb_that_must_not_be_imported))
    return run_dir, done


def test_the_loss_falls_on_real_text(undisturbed):
    _, done = undisturbed
    assert done.returncode == 0, done.stdout + done.stderr
    steps = losses(done.stdout)
    assert len(steps) == 30
    assert steps[0] == pytest.approx(math.log(256), abs=0.1)  # nothing is known of 256 bytes
    assert np.mean(steps[-5:]) < 3.8
    found = result(done.stdout, "FINEWEB10B")
    assert found["steps"] == 30 and found["tokens"] == 30 * 8 * 32
    assert found["val_loss"] < 3.8
    assert re.search(r"^eval 15 val_loss \d\.\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^step 30 loss \d\.\d+ tokens_per_s \d+$", done.stdout, re.MULTILINE)


def test_it_leaves_what_the_suite_expects(undisturbed):
    run_dir, _ = undisturbed
    assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoint.npz", "config_effective.json", "dataset_manifest.json"]
    effective = json.loads((run_dir / "config_effective.json").read_text())
    assert effective["device"] == "cpu"
    wanted = {"model": "hc", "n_streams": 2, "wandb_log": False, "n_head": 4}
    assert effective["config"] | wanted == effective["config"]
    manifest = json.loads((run_dir / "dataset_manifest.json").read_text())
    assert manifest["dataset"] == "topics"
    for part in ("train", "held_out"):
        assert manifest[part]["bytes"] > 10_000 and re.fullmatch(r"[0-9a-f]{64}", manifest[part]["sha256"])


def test_a_killed_run_continues_to_the_very_same_end(undisturbed, tmp_path):
    run_dir, whole = undisturbed
    train_until("step 15 ", FINEWEB10B, tmp_path / "run", *HYPER)
    done = train(FINEWEB10B, tmp_path / "run", *HYPER, GPUEVAL_ATTEMPT="2")
    assert done.returncode == 0, done.stderr
    kept = int(re.search(r"continues after step (\d+)", done.stdout)[1])  # it may have got further before the signal came
    assert kept >= 10
    assert losses(done.stdout) == losses(whole.stdout)[kept:]
    assert result(done.stdout, "FINEWEB10B") == result(whole.stdout, "FINEWEB10B")
    with np.load(run_dir / "checkpoint.npz") as undisturbed_state, np.load(tmp_path / "run" / "checkpoint.npz") as state:
        assert state.files == undisturbed_state.files
        for name in state.files:
            assert state[name].tobytes() == undisturbed_state[name].tobytes(), name
    other = train(FINEWEB10B, tmp_path / "run", *HYPER, "--seed=1", GPUEVAL_ATTEMPT="2")
    assert other.returncode == 2
    assert "of another run: seed 1337 there and 1 now" in other.stderr


def test_a_run_that_diverges_says_so_and_keeps_nothing_of_it(tmp_path):
    done = train(FINEWEB10B, tmp_path / "run", *TINY, "--weight_decay=1e30", "--steps=20", "--checkpoint_every=1")
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.match(r"DIVERGED step \d+: loss \S+, norm of the gradients \S+\. A lower learning_rate", done.stdout.splitlines()[-1])
    assert "RESULT_" not in done.stdout
    with np.load(tmp_path / "run" / "checkpoint.npz") as state:
        assert json.loads(str(state["about"]))["step"] < len(losses(done.stdout))


def test_gradients_and_formulas():
    done = subprocess.run(
        [sys.executable, "-m", "tests.suites.fineweb10b_gradients"],
        cwd=ROOT,
        env=environment(ROOT, JAX_ENABLE_X64="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("OK ") == 5


def test_weights_and_biases_that_are_asked_for_and_not_there(tmp_path):
    done = train(FINEWEB10B, tmp_path / "run", "--wandb_log=True")
    assert "wandb_log=True, and wandb is not installed: pip install wandb, or --wandb_log=False" in refusal(done)


def test_weights_and_biases_get_what_is_printed(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "wandb.py").write_text(
        "def init(project, name, config):\n"
        "    print('wandb init', project, name, config['n_layer'])\n"
        "    class Run:\n"
        "        def log(self, figures, step): print('wandb', step, *sorted(figures))\n"
        "        def finish(self): print('wandb finish')\n"
        "    return Run()\n"
    )
    done = train(FINEWEB10B, tmp_path / "run", *TINY, "--steps=2", "--eval_batches=1", "--wandb_log=True", PYTHONPATH=str(packages))
    said = [line for line in done.stdout.splitlines() if line.startswith("wandb")]
    assert said == ["wandb init fineweb10B run 1", "wandb 1 loss tokens_per_s", "wandb 2 loss tokens_per_s", "wandb 2 val_loss", "wandb finish"]


def test_a_gpu_that_is_not_there(tmp_path):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    done = train(FINEWEB10B, tmp_path / "run", "--device='gpu'")
    assert "device 'gpu', and JAX finds only cpu: pip install 'jax[cuda12]'" in refusal(done)
