"""A job of Slurm as a process of ours: it ends with us, whoever is killed, whether it runs or waits."""

import os
import shutil
import signal
import subprocess
import sys

import execnet
import pytest

from pytest_gpueval.hosts.host import NOTHING
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.slurm import SlurmHost
from pytest_gpueval.hosts.slurm_options import JobOptions
from pytest_gpueval.hosts.slurm_step import UNKNOWN, Said, own_environment
from pytest_gpueval.hosts.workers import spec_python
from pytest_gpueval.processes.command import supervised
from tests.bad_links import bad_link
from tests.slurm import GPUS
from tests.sshd import Patience
from tests.waiting import alive, gone, wait_for

# Says who it is and starts a child in a session of its own; neither hears that its stdin ends, or a signal.
DEAF = """
import os, signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(os.getpid(), child.pid, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def quiet(slurm):
    """No job before and after."""
    wait_for(lambda: not slurm.jobs())
    yield slurm
    for job in slurm.jobs():
        slurm("scancel", f"--name={job}")
    wait_for(lambda: not slurm.jobs())


PLAIN = JobOptions("gpu")


def host(slurm, options=PLAIN, login=None, **more):
    return SlurmHost("cluster", login or LocalHost("cluster"), options, environment=slurm.environment, **more)


def start(machine, *argv, around=lambda command: command):
    pipe = subprocess.PIPE
    return subprocess.Popen(around(machine.worker_command(argv)), stdin=pipe, stdout=pipe, stderr=pipe)


def deaf(machine, **more):
    process = start(machine, sys.executable, "-c", DEAF, **more)
    words = process.stdout.readline().split()
    return process, [int(word) for word in words[:2]]


def finish(process):
    with process:
        process.stdin.close()
        said = process.stderr.read().decode()
    return process.returncode, said


def busy(slurm):
    """A job that has all GPUs."""
    job = slurm("sbatch", "--parsable", f"--gres=gpu:{len(GPUS)}", "--job-name=busy", "--output=/dev/null", "--wrap=exec sleep 1000")
    wait_for(lambda: slurm.state(job) == "RUNNING")


def test_a_gateway_of_execnet_goes_through_it(quiet, tmp_path):
    group = execnet.Group()
    try:
        command = host(quiet, directory=str(tmp_path)).worker_command([sys.executable])
        gateway = group.makegateway(f"popen//python={spec_python(command)}")
        channel = gateway.remote_exec("import os; channel.send((os.getpid(), os.getcwd(), dict(os.environ)))\nfor item in channel: channel.send(item[::-1])")
        pid, place, environment = channel.receive()
        assert alive(pid) and place == str(tmp_path) and "SLURM_JOB_ID" in environment
        data = os.urandom(1_000_000)
        for size in (0, 1, 5_000, 1_000_000):
            channel.send(data[:size])
            assert channel.receive() == data[:size][::-1]
    finally:
        group.terminate(timeout=60)
    wait_for(lambda: not quiet.jobs() and not alive(pid))


def test_it_has_the_gpus_that_were_asked_for(quiet):
    machine = host(quiet)
    for asked, seen in ((machine, 1), (machine.sized(3), 3), (machine.sized(0), 0)):
        done = subprocess.run(asked.worker_command(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]), capture_output=True, stdin=subprocess.PIPE)
        assert len(done.stdout.decode().replace(",", " ").split()) == seen, (asked.options, done)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_it_ends_by_the_signal_that_ended_the_program(quiet, name):
    assert finish(start(host(quiet), "sh", "-c", f"kill -{name} $$")) == (-signal.Signals[f"SIG{name}"], "")


def test_it_ends_when_the_program_ends_though_stdin_is_open(quiet):
    process = start(host(quiet), "sh", "-c", "echo out; echo said >&2; exit 5")
    assert (process.wait(), process.stdout.read(), *finish(process)) == (5, b"out\n", 5, "said\n")


def test_codes_above_128_are_codes(quiet):
    assert finish(start(host(quiet), "sh", "-c", "exit 200")) == (200, "")


@pytest.mark.parametrize("how", ["stdin", "KILL", "TERM", "INT"])
def test_a_job_that_runs_ends_with_us(quiet, how):
    process, there = deaf(host(quiet))
    assert len(quiet.jobs()) == 1 and not gone(there)
    if how != "stdin":
        process.send_signal(signal.Signals[f"SIG{how}"])
    finish(process)
    wait_for(lambda: gone(there) and not quiet.jobs())


def test_a_killed_supervisor_takes_its_job_along(quiet):
    """As sessions start it: a supervisor around all, whose children the kernel kills with it; the guard is none of them."""
    process, there = deaf(host(quiet), around=supervised)
    process.kill()
    finish(process)
    wait_for(lambda: gone(there) and not quiet.jobs())


def test_a_killed_srun_takes_its_job_along(quiet):
    process, there = deaf(host(quiet))
    (job,) = quiet.jobs()
    srun = quiet.sruns(job)
    assert srun
    for pid in srun:
        os.kill(pid, signal.SIGKILL)
    assert finish(process)[0] == UNKNOWN
    wait_for(lambda: gone(there) and not quiet.jobs())


@pytest.mark.parametrize("how", ["stdin", "KILL", "TERM"])
def test_a_job_that_waits_ends_with_us(quiet, tmp_path, how):
    busy(quiet)
    process = start(host(quiet), "touch", str(tmp_path / "begun"))
    (job,) = wait_for(lambda: [name for name in quiet.jobs() if name != "busy"])
    assert quiet.state(job) == "PENDING"
    if how != "stdin":
        process.send_signal(signal.Signals[f"SIG{how}"])
    finish(process)
    wait_for(lambda: quiet.jobs() == ["busy"])
    assert not (tmp_path / "begun").exists()


def test_who_is_killed_before_the_job_was_asked_for_leaves_none(quiet, tmp_path):
    """srun is slow to begin."""
    slow = tmp_path / "bin/srun"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\ntouch '{tmp_path}/here'\nwhile [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done\nexec {shutil.which('srun')} \"$@\"\n")
    slow.chmod(0o755)
    machine = host(quiet)
    process = start(machine, "sleep", "1000", around=lambda command: ["/usr/bin/env", f"PATH={slow.parent}:{os.environ['PATH']}", *command])
    wait_for((tmp_path / "here").exists)
    process.kill()
    (tmp_path / "go").touch()
    finish(process)
    assert quiet.jobs() == []


def test_a_job_that_somebody_else_cancels_is_an_end(quiet):
    process, there = deaf(host(quiet))
    (job,) = quiet.jobs()
    quiet("scancel", f"--name={job}")
    code, said = finish(process)
    assert code != 0 and "CANCELLED" in said, (code, said)
    wait_for(lambda: gone(there) and not quiet.jobs())


def test_through_ssh_a_killed_relay_and_a_cut_link_leave_no_job(quiet, sshd):
    login = sshd.host(environment=quiet.environment)
    process, there = deaf(host(quiet, login=login))
    process.kill()
    finish(process)
    wait_for(lambda: gone(there) and not quiet.jobs())
    with bad_link(sshd.port) as link:
        sshd.know(sshd.port, link.port)
        login = sshd.host(port=link.port, patience=Patience(60, 1, 4), environment=quiet.environment)
        process, there = deaf(host(quiet, login=login))
        link.cut()
        assert finish(process)[0] == UNKNOWN
        wait_for(lambda: gone(there) and not quiet.jobs())


def test_a_job_is_cancelled_as_soon_as_its_controller_is_back(quiet):
    process, there = deaf(host(quiet.hasty()))
    quiet.stop("slurmctld")
    try:
        process.kill()
        process.stdin.close()
    finally:
        quiet.start("slurmctld")
        wait_for(quiet.ready)
    wait_for(lambda: gone(there) and not quiet.jobs())
    finish(process)


def test_what_slurm_refuses_is_said_in_its_words(quiet):
    assert finish(start(host(quiet, JobOptions("nope")), "true"))[1].startswith("srun: error: invalid partition specified: nope\n")
    assert "Requested node configuration is not available" in finish(start(host(quiet, JobOptions("gpu", gres="gpu:99")), "true"))[1]
    code, said = finish(start(host(quiet), "true", around=lambda command: ["/usr/bin/env", "PATH=/nowhere", *command]))
    assert (code, said) == (127, "gpueval: srun: No such file or directory: Slurm's client programs are needed on the login node\n")


def test_what_is_called_wrongly():
    command = SlurmHost("x", LocalHost(), JobOptions(), environment=NOTHING).worker_command(["true"])
    done = subprocess.run(command[: command.index("--")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (64, "usage: slurm_step.py NAME -- srun COMMAND...\n")


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_what_srun_adds_is_taken_out_wherever_it_is_cut(size):
    data = b"saidsrun: error: node-1: task 0: Killed\nsrun: error: Unable to allocate\nmore srun: err"
    said = Said()
    shown = b"".join(said.feed(data[at : at + size]) for at in range(0, len(data), size)) + said.feed(b"", last=True)
    assert shown == b"saidsrun: error: Unable to allocate\nmore srun: err"
    assert said.ended == "Killed"


def test_within_a_job_it_is_a_job_of_its_own():
    inside = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_CONF": "/x", "PATH": "/bin"}
    assert own_environment(inside) == {"SLURM_CONF": "/x", "PATH": "/bin"}
    assert own_environment({"SLURM_PARTITION": "gpu"}) == {"SLURM_PARTITION": "gpu"}, "a default of the user's"
