"""A program on another host as a process of ours; execnet's gateways go through it."""

import os
import signal
import subprocess
import sys

import execnet
import pytest

from pytest_gpueval.hosts.relay import UNKNOWN
from pytest_gpueval.hosts.workers import spec_python
from pytest_gpueval.processes.command import supervised_there
from tests.bad_links import bad_link
from tests.sshd import Patience
from tests.waiting import alive, gone, wait_for

# Says who it is and starts a child in a session of its own, which an end of the program alone would leave.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
sys.stdin.read()
"""


def start(host, *argv):
    return subprocess.Popen(host.worker_command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def pids(process):
    return [int(word) for word in process.stdout.readline().split()]


def finish(process):
    with process:
        process.stdin.close()
        said = process.stderr.read().decode()
    return process.returncode, said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_gateway_of_execnet_goes_through_it(sshd, shell):
    if shell not in sshd.users:
        pytest.skip("accounts with other login shells need root and a mount namespace")
    group = execnet.Group()
    try:
        gateway = group.makegateway(f"popen//python={spec_python(sshd.host(shell).worker_command([sys.executable]))}")
        channel = gateway.remote_exec("import os; channel.send((os.getpid(), os.getcwd()))\nfor item in channel: channel.send(item[::-1])")
        pid, place = channel.receive()
        assert alive(pid) and place == str(sshd.home(shell))
        data = os.urandom(1_000_000)
        for size in (0, 1, 5_000, 1_000_000):
            channel.send(data[:size])
            assert channel.receive() == data[:size][::-1]
    finally:
        group.terminate(timeout=60)
    wait_for(lambda: not alive(pid))


def test_it_ends_when_the_program_ends_though_stdin_is_open(sshd):
    process = start(sshd.host(), "sh", "-c", "echo out; echo said >&2; exit 5")
    assert (process.wait(), process.stdout.read(), *finish(process)) == (5, b"out\n", 5, "said\n")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_it_ends_by_the_signal_that_ended_the_program(sshd, name):
    process = start(sshd.host(), "sh", "-c", f"kill -{name} $$")
    assert finish(process)[0] == -signal.Signals[f"SIG{name}"]


def test_the_program_ends_when_its_stdin_does(sshd):
    process = start(sshd.host(), "python3", "-c", PARENT)
    there = pids(process)
    assert finish(process) == (0, "")
    assert gone(there), "the child too, before the end is told"


def test_a_killed_relay_leaves_nothing_there(sshd):
    process = start(sshd.host(), "python3", "-c", PARENT)
    there = pids(process)
    assert len(there) == 2 and not gone(there)
    process.kill()
    finish(process)
    wait_for(lambda: gone(there))


def test_a_cut_link_is_not_an_end_of_the_program(sshd):
    with bad_link(sshd.port) as link:
        sshd.know(sshd.port, link.port)
        process = start(sshd.host(port=link.port, patience=Patience(60, 1, 4)), "python3", "-c", PARENT)
        there = pids(process)
        link.cut()
        assert process.wait() == UNKNOWN
        assert "gpueval relay: box (" in finish(process)[1]
        wait_for(lambda: gone(there))


def test_who_reads_its_stdout_may_go(sshd):
    process = start(sshd.host(), "sh", "-c", "while echo x; do :; done")
    process.stdout.close()
    assert process.wait() == UNKNOWN
    finish(process)


def test_what_cannot_be_started_or_reached_is_said(sshd, tmp_path):
    code, said = finish(start(sshd.host(), "no-such-program"))
    assert (code, said) == (127, "gpueval supervisor: no-such-program: No such file or directory\n")
    code, said = finish(start(sshd.host(python="no-such-python"), "true"))
    assert code == UNKNOWN and "no-such-python: not found" in said and "!" not in said
    sshd.know(1)
    try:
        code, said = finish(start(sshd.host(), "true"))
    finally:
        sshd.know()
    assert code == UNKNOWN and said.startswith("gpueval relay: box (") and "Nothing was sent" in said and "Traceback" not in said


@pytest.mark.parametrize("words", [[], ["x"], ["x", "y", "z"], ["x", "--", "y"]])
def test_what_it_is_called_with_is_checked(words):
    done = subprocess.run([sys.executable, "-P", "-m", "pytest_gpueval.hosts.relay", *words], capture_output=True, text=True)
    assert done.returncode in {2, UNKNOWN} and done.stderr.count("\n") == 1 and ("usage: " in done.stderr or "does not describe a host" in done.stderr)


def test_the_supervisor_goes_along():
    done = subprocess.run([*supervised_there(sys.executable, ["sh", "-c", "echo $GPUEVAL_SUPERVISOR; exit 3"])], stdin=subprocess.PIPE, capture_output=True)
    assert done.returncode == 3 and done.stdout.count(b":") == 2
