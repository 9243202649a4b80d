"""Configurations of the language models' trainer: what is understood, and how what is not is refused."""

from __future__ import annotations

import csv

import pytest

from suites.fineweb10B.nanogpt import tracking
from suites.fineweb10B.nanogpt.settings import DEFAULTS, TrainingError, read_file, settings
from tests.trainers import FINEWEB10B, SUITES, refusal, train


def test_files_come_before_arguments(tmp_path):
    (tmp_path / "mine.py").write_text('"""Mine."""\nsteps = 7\nlearning_rate = 1  # an integer will do\nmodel = "hc"\n')
    found = settings([str(tmp_path / "mine.py"), "--steps=8", "--n_streams=2"])
    assert (found.steps, found.learning_rate, found.model, found.n_streams) == (8, 1.0, "hc", 2)
    assert isinstance(found.learning_rate, float)
    assert found.seed == read_file(DEFAULTS)["seed"]


@pytest.mark.parametrize("argument", ["--model=hc", "--model='hc'", '--model="hc"'])
def test_a_text_needs_no_quotes(argument):
    assert settings([argument]).model == "hc"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--wandb_log=false", "--wandb_log=false: not a Python literal. wandb_log is True or False"),
        ("--wandb_log='False'", "wandb_log is True or False, found the str 'False'"),
        ("--wandb_log=0", "wandb_log is True or False, found the int 0"),
        ("--steps=1e3", "steps is an integer, found the float 1000.0"),
        ("--steps=True", "steps is an integer, found the bool True"),
        ("--learning_rate=True", "learning_rate is a number, found the bool True"),
        ("--learning_rate=1e999", "learning_rate is a number, found the float inf"),
        ("--learning_rate=nan", "not a Python literal. learning_rate is a number"),
        ("--out_dir=1", "out_dir is a string, found the int 1"),
        ("--model=gpt", "model is 'base' or 'hc', found 'gpt'"),
        ("--n_layers=6", "unknown key 'n_layers'. Did you mean n_layer?"),
        ("--n_head=3", "n_embd = 256 is no multiple of n_head = 3"),
        ("--n_streams=4", "n_streams = 4 with model 'base'"),
        ("--steps=0", "steps = 0: at least 1"),
        ("--beta2=1.5", "beta2 = 1.5: between 0 and 1"),
        ("--warmup_steps=-1", "warmup_steps = -1: at least 0"),
        ("--seed", "'--seed': arguments are --key=value"),
        ("-seed=1", "'-seed=1': arguments are --key=value"),
        ("missing.py", "missing.py: No such file or directory"),
        ("--steps=__import__('os').getpid()", "not a Python literal. steps is an integer"),
    ],
)
def test_what_cannot_be_is_one_message(argument, message):
    with pytest.raises(TrainingError) as caught:
        settings([argument])
    assert message in str(caught.value)


def test_an_argument_given_twice():
    with pytest.raises(TrainingError, match=r"--steps is given twice: 5 and 6"):
        settings(["--steps=5", "--steps=6"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n", "file.py:1: only lines like `steps = 600`"),
        ("steps = 5 * 5\n", "file.py:1: '5 * 5' is no literal. steps is an integer"),
        ("\nsteps = '5'\n", "file.py:2: steps is an integer, found the str '5'"),
        ("stepps = 5\n", "file.py:1: unknown key 'stepps'. Did you mean steps?"),
        ("steps = \n", "file.py: not Python"),
        ("steps = 1\0", "file.py: not Python"),
    ],
)
def test_a_file_is_read_and_never_executed(tmp_path, text, message):
    (tmp_path / "file.py").write_text(text)
    with pytest.raises(TrainingError) as caught:
        settings([str(tmp_path / "file.py")])
    assert message in str(caught.value)


def test_the_program_refuses_in_one_line_before_it_starts(tmp_path):
    done = train(FINEWEB10B, tmp_path / "run", "--wandb_log=false")
    assert refusal(done) == "train.py: --wandb_log=false: not a Python literal. wandb_log is True or False"
    assert not (tmp_path / "run").exists()
    assert "GPUEVAL_ATTEMPT is 'two'" in refusal(train(FINEWEB10B, tmp_path / "run", GPUEVAL_ATTEMPT="two"))


def test_every_row_of_the_sweep_is_a_configuration():
    rows = list(csv.DictReader((SUITES / "fineweb10B" / "sweep.csv").read_text().splitlines()))
    assert [row["run_id"] for row in rows[:6]] == [f"{model}-6l-s{seed}" for model in ("base", "hc") for seed in (1337, 1338, 1339)]
    for row in rows:
        assert row.pop("wandb_log") == "false"  # as people write it; the suite's style makes it False
        smoke = row.pop("run_id").endswith("-smoke")
        found = settings([f"--{key}={value}" for key, value in row.items()])
        assert (found.device == "gpu") is not smoke


def test_off_means_that_the_package_is_not_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking.importlib, "import_module", lambda name: pytest.fail(f"imports {name}"))
    assert isinstance(tracking.tracker(settings([]), tmp_path), tracking.Silent)
