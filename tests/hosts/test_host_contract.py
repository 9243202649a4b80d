"""What every host does, whatever it is and whatever login shell it has."""

import os
import subprocess
import threading

import pytest

from pytest_gpueval.errors import StorageError, Unreachable
from pytest_gpueval.hosts.host import Done
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.shell import MOST_COMMAND
from pytest_gpueval.hosts.slurm import SlurmHost
from pytest_gpueval.hosts.slurm_options import JobOptions
from tests.kube.fixtures import host_of
from tests.waiting import DEADLINE_S, alive, wait_for

NASTY = ["", "a b", "it's", '"', "\\", "$HOME", "`id`", "!!", "*", "~", "-n", "a\nb\n", "#", "é кот", "\udcff"]
HOSTS = ("local", "ssh-bash", "slurm", "slurm-ssh", "pod")
# What the login shell reads, or could get in the way of.
ALL_SHELLS = pytest.mark.parametrize("host", [*HOSTS, "ssh-zsh", "ssh-fish"], indirect=True)


@pytest.fixture(params=HOSTS)
def host(request):
    kind, _, shell = request.param.partition("-")
    if kind == "local":
        yield LocalHost()
        return
    if kind == "slurm":
        cluster = request.getfixturevalue("slurm")
        login = request.getfixturevalue("sshd").host(environment=cluster.environment) if shell else LocalHost("box", environment=cluster.environment)
        with SlurmHost("box", login, JobOptions("gpu"), environment=cluster.environment) as made:
            yield made
        return
    if kind == "pod":
        request.getfixturevalue("kube")
        yield host_of(container="main")
        return
    server = request.getfixturevalue("sshd")
    if shell not in server.users:
        pytest.skip("accounts with other login shells need root and a mount namespace")
    with server.host(shell) as made:
        yield made


@ALL_SHELLS
def test_words_arrive_as_they_are(host):
    done = host.run(["printf", "%s|", *NASTY])
    assert done == Done(0, b"".join(os.fsencode(word) + b"|" for word in NASTY), "")


@ALL_SHELLS
def test_a_program_ends_as_it_ends(host):
    assert host.run(["sh", "-c", "printf out; printf said >&2; exit 3"]) == Done(3, b"out", "said")
    assert host.run(["sh", "-c", "exit 255"]).code == 255
    assert host.run(["sh", "-c", "printf x; kill -KILL $$"]) == Done(-9, b"x", "")


@ALL_SHELLS
def test_what_cannot_be_started_has_no_code(host):
    for done in (host.run(["no-such-program"]), host.run(["/etc/passwd"]), host.run(["true"], directory="/no such place")):
        assert done.code is None and done.output == b"", done
    assert "no-such-program" in host.run(["no-such-program"]).said
    assert "/no such place" in host.run(["true"], directory="/no such place").said


@ALL_SHELLS
def test_stdin_environment_and_directory(host, tmp_path):
    place = tmp_path / "a 'b' \"c\" $d"
    place.mkdir()
    data = os.urandom(300_000) + b"\0\r\n"
    assert host.run(["cat"], stdin=data).output == data
    assert host.run(["cat"]).output == b"", "stdin is at its end, not open"
    assert host.run(["true"], stdin=data).code == 0, "who does not read is not waited for"
    assert host.run(["printenv", "A_B"], environment={"A_B": "x 'y'\n$z"}).output == b"x 'y'\n$z\n"
    assert host.run(["pwd"], directory=str(place)).output.decode() == f"{place}\n"


def test_much_is_written_on_both_sides_at_a_time(host):
    done = host.run(["sh", "-c", "head -c 5000000 /dev/zero >&2 & head -c 5000000 /dev/zero; wait"])
    assert (done.code, len(done.output), len(done.said)) == (0, 5_000_000, 5_000_000)


def test_a_program_whose_time_is_over_is_gone(host, tmp_path):
    pid_file = tmp_path / "pid"
    for timeout_s in (1, 10, 60):  # the first one that lets it begin at all
        done = host.run(["sh", "-c", f"echo $$ > '{pid_file}'; exec sleep 1000"], timeout_s=timeout_s)
        assert done == Done(None, b"", f"sh took longer than {timeout_s} s")
        if pid_file.exists() and pid_file.read_text().strip():
            break
    wait_for(lambda: not alive(int(pid_file.read_text())))


def test_what_another_thread_runs_ends_when_we_are_interrupted(host, tmp_path):
    pid_file, found = tmp_path / "pid", []

    def ask():
        try:
            host.run(["sh", "-c", f"sleep 1000 & echo $! >'{pid_file}'; wait"], timeout_s=600)
        except Unreachable as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    host.interrupt()
    thread.join(DEADLINE_S)
    assert found, "it is told"
    wait_for(lambda: not alive(int(pid_file.read_text())))
    with pytest.raises(Unreachable, match="interrupted"):
        host.run(["true"])
    host.interrupt()


@ALL_SHELLS
def test_files_there_and_back(host, tmp_path):
    source, there, back = tmp_path / 'it\'s a "file"', tmp_path / "new" / "-x $y" / "there", tmp_path / "back"
    source.write_bytes(os.urandom(3_000_001))
    source.chmod(0o640)
    host.put(source, str(there))
    assert there.read_bytes() == source.read_bytes() and there.stat().st_mode & 0o777 == 0o640
    source.write_bytes(b"shorter\0\r\n")
    host.put(source, str(there))
    assert there.read_bytes() == b"shorter\0\r\n"
    assert [path.name for path in there.parent.iterdir()] == ["there"], "nothing is left beside it"
    assert host.get(str(there), back) == 10 and back.read_bytes() == b"shorter\0\r\n"
    assert host.get(str(there), back, offset=7) == 3 and back.read_bytes() == b"shorter\0\r\n\0\r\n", "appended, from the offset on"
    assert host.get(str(there), back, offset=10) == 0 == host.get(str(there), back, offset=99)


def test_an_empty_file_is_a_file(host, tmp_path):
    (tmp_path / "empty").touch()
    host.put(tmp_path / "empty", str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == b"" and host.get(str(tmp_path / "there"), tmp_path / "back") == 0 and (tmp_path / "back").exists()


def test_files_that_cannot_be_copied_say_why(host, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for source in ("nothing", "directory", "pipe"):
        with pytest.raises(StorageError, match=f"{host.name}: .*{source} cannot be copied to .*: "):
            host.get(str(tmp_path / source), tmp_path / "back")
    with pytest.raises(StorageError, match="nothing cannot be copied"):
        host.put(tmp_path / "nothing", str(tmp_path / "there"))
    for target in ("directory", "file/below"):
        with pytest.raises(StorageError, match=f"file cannot be copied to .*{target}: "):
            host.put(tmp_path / "file", str(tmp_path / target))
    assert list((tmp_path / "directory").iterdir()) == [] and (tmp_path / "file").read_bytes() == b"x"


def test_many_at_a_time(host):
    found = {}

    def ask(number):
        found[number] = host.run(["sh", "-c", f"sleep 0.2; echo {number}"]).output

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: b"%d\n" % number for number in range(14)}


def test_a_worker_command_is_that_program(host):
    script = 'import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]); sys.stderr.write("said"); sys.exit(7)'
    data = os.urandom(500_000) + b"\r\n\0"
    command = host.worker_command(["python3", "-c", script, "a b"])
    done = subprocess.run(command, input=data, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, data[::-1], b"said")


def test_close_is_no_end(host):
    assert host.run(["true"]).code == 0
    host.close()
    host.close()
    assert host.run(["true"]).code == 0


def test_long_commands(host):
    word = "x" * (MOST_COMMAND // 2)
    assert host.run(["printf", "%s", word]).output.decode() == word
