"""What hosts.toml and the command line may ask of Slurm."""

import re

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts import slurm_options
from pytest_gpueval.hosts.declared import named, opened
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.slurm_options import JobOptions
from pytest_gpueval.hosts.ssh import SshHost


def test_words():
    full = JobOptions("gpu", "lab", "gpu:a100:2", "1-00:00:00", ("--mem=32G",))
    assert full.words() == ["--nodes=1", "--ntasks=1", "--partition=gpu", "--account=lab", "--gres=gpu:a100:2", "--time=1-00:00:00", "--mem=32G"]
    assert JobOptions(gres=None).words() == ["--nodes=1", "--ntasks=1"]


def test_another_size_keeps_the_kind():
    options = JobOptions(gres="gpu:a100:2")
    assert (options.gpus, options.sized(4).gres, options.sized(0).gres, options.sized(0).sized(1).gres) == (2, "gpu:a100:4", None, "gpu:1")
    assert options.sized(time_limit="30").time_limit == "30" and options.sized() == options
    with pytest.raises(UsageProblem, match="a job has 0 GPUs or more"):
        options.sized(-1)


@pytest.mark.parametrize("text", ["90", "90:00", "08:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_times(text):
    assert slurm_options.time(text) == text


@pytest.mark.parametrize("text", ["", "8h", "1:2", "1-", "-1", "1:00:00:00", "90\n", "90 --wrap=x"])
def test_what_is_no_time(text):
    with pytest.raises(UsageProblem, match="is no time limit"):
        slurm_options.time(text)


@pytest.mark.parametrize("text", ["gpu", "gpu:0", "gpu:x:0", "gpu:1,shard:2", "2", "gpu:1\n"])
def test_what_asks_for_no_gpus(text):
    with pytest.raises(UsageProblem, match="asks for no GPUs"):
        slurm_options.gres(text)
    assert slurm_options.gres("none") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wrap=id"], "'--wrap=id' cannot be passed on."),
        (["--job-name=x"], "cannot be passed on"),
        (["--memm=1G"], "Did you mean 'mem'?"),
        (["--mem 1G"], "is no option"),
        (["mem=1G"], "is no option"),
        (["-p", "gpu"], "is no option"),
        (["--mem=$(id)"], "is no option"),
        (["--mem=1G;x"], "is no option"),
        (["--partition=x"], "does not belong here: the address says it"),
        (["--time=1"], "does not belong here: it is `time_limit`"),
        (["--mem=1G", "--mem=2G"], "--mem is there twice"),
    ],
)
def test_what_is_not_passed_on(words, said):
    with pytest.raises(UsageProblem, match=re.escape(said)):
        slurm_options.options(words)


def test_hosts_are_opened_as_they_are_declared(tmp_path):
    (tmp_path / "hosts.toml").write_text(
        '[hosts.a]\naddress = "slurm://gpu?account=lab&login=ssh://me@login"\nworkdir = "/shared/x"\ngres = "gpu:2"\ntime_limit = "08:00:00"\n'
        'slurm = ["--mem=32G", "--exclusive"]\nhost_key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"\n'
        '[hosts.b]\naddress = "slurm://"\ngres = "none"\n[hosts.c]\naddress = "slurm://cpu"\n'
    )
    hosts = {name: opened(named(name, tmp_path)) for name in "abc"}
    assert hosts["a"].options == JobOptions("gpu", "lab", "gpu:2", "08:00:00", ("--mem=32G", "--exclusive")) and isinstance(hosts["a"].login, SshHost)
    assert hosts["b"].options == JobOptions(gres=None) and isinstance(hosts["b"].login, LocalHost)
    assert hosts["c"].options == JobOptions("cpu", gres="gpu:1")
    assert opened(named("slurm://gpu", tmp_path)).options == JobOptions("gpu")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('gres = "2"', "hosts.a.gres: '2' asks for no GPUs"),
        ('time_limit = "8h"', "hosts.a.time_limit: '8h' is no time limit"),
        ('slurm = ["--wrap=x"]', "hosts.a.slurm: '--wrap=x' cannot be passed on"),
        ("slurm = [1]", "hosts.a.slurm"),
    ],
)
def test_what_is_wrong_is_one_message(tmp_path, line, said):
    (tmp_path / "hosts.toml").write_text(f'[hosts.a]\naddress = "slurm://gpu"\n{line}\n')
    with pytest.raises(UsageProblem) as problem:
        named("a", tmp_path)
    assert said in str(problem.value)
    (tmp_path / "hosts.toml").write_text(f'[hosts.a]\naddress = "ssh://gpu"\n{line}\n')
    with pytest.raises(UsageProblem) as problem:
        named("a", tmp_path)
    assert "slurm:// only" in str(problem.value) or line == "slurm = [1]"
