"""What can be wrong with a machine that is reached through SSH, with a real sshd."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_gpueval.errors import AccessDenied, StorageError, Unreachable
from pytest_gpueval.hosts.address import Ssh
from pytest_gpueval.hosts.link import Patience
from pytest_gpueval.hosts.ssh import SshHost
from tests.bad_links import SHORT
from tests.sshd import key, running
from tests.waiting import alive, wait_for


def config_of(sshd, path, **changes):
    values = {
        "IdentityFile": f'"{sshd.identity}"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{sshd.known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "HostName": "127.0.0.1",
        "Port": str(sshd.port),
        "User": sshd.users["bash"],
        **changes,
    }
    path.write_text("Host box\n" + "".join(f"  {name} {value}\n" for name, value in values.items() if value))
    return path


def refused(host, error=AccessDenied):
    with host, pytest.raises(error) as problem:
        host.run(["true"])
    return str(problem.value)


def logins(sshd):
    return (sshd.place / "sshd.log").read_text().count("Accepted publickey")


def test_one_connection_serves_all(sshd, link):
    with sshd.host(port=link.port) as host:
        for _ in range(5):
            assert host.run(["true"]).code == 0
    assert link.connections == 1


def test_an_unknown_key_is_refused_before_anything_is_sent(sshd, link, tmp_path):
    before, known = logins(sshd), tmp_path / "known_hosts"
    known.write_text("# nobody\n")
    config = config_of(sshd, tmp_path / "config", UserKnownHostsFile=str(known), Port=str(link.port), StrictHostKeyChecking="no")
    said = refused(SshHost("box", Ssh("box"), config=config))
    assert f"the server shows the ED25519 key {sshd.fingerprint()}, which known_hosts ({known}) does not have. Nothing was sent." in said
    assert "connect once with ssh" in said and f'host_key = "{sshd.fingerprint()}"' in said
    assert known.read_text() == "# nobody\n", "nothing is learned by itself"
    assert logins(sshd) == before


def test_a_pin_is_the_first_contact(sshd, tmp_path):
    config = config_of(sshd, tmp_path / "config", UserKnownHostsFile=str(tmp_path / "none"))
    with SshHost("box", Ssh("box"), config=config, host_key=sshd.fingerprint()) as host:
        assert host.run(["true"]).code == 0
    said = refused(SshHost("box", Ssh("box"), config=config, host_key="SHA256:" + "A" * 43))
    assert f"but the server shows the ED25519 key {sshd.fingerprint()}. Nothing was sent." in said
    assert not (tmp_path / "none").exists()


def test_a_changed_key_is_refused(sshd, tmp_path):
    known = tmp_path / "known_hosts"
    other = key(tmp_path / "other").with_suffix(".pub").read_text()
    known.write_text(f"[127.0.0.1]:{sshd.port} {other}")
    said = refused(SshHost("box", Ssh("box"), config=config_of(sshd, tmp_path / "config", UserKnownHostsFile=str(known))))
    assert f"known_hosts ({known}) has another one. Nothing was sent." in said and f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in said


def test_a_revoked_key_is_refused_even_if_pinned(sshd, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text(f"@revoked * {sshd.host_key.with_suffix('.pub').read_text()}")
    config = config_of(sshd, tmp_path / "config", UserKnownHostsFile=str(known))
    assert "is marked @revoked" in refused(SshHost("box", Ssh("box"), config=config, host_key=sshd.fingerprint()))


def test_the_key_that_is_known_is_asked_for(tmp_path):
    """A server with several keys, of which known_hosts has the one that would not come first; hashed, as many systems write them."""
    with running(tmp_path / "server", f'HostKey "{key(tmp_path / "rsa", "rsa")}"') as server:
        kind, blob, *_ = (tmp_path / "rsa.pub").read_text().split()
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {blob}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
        assert "127.0.0.1" not in server.known_hosts.read_text()
        with server.host() as host:
            assert host.run(["true"]).code == 0


def test_a_wrong_key_is_refused(sshd, tmp_path):
    wrong = key(tmp_path / "wrong")
    said = refused(SshHost("box", Ssh("box"), config=config_of(sshd, tmp_path / "config", IdentityFile=str(wrong))))
    assert f"box ({sshd.users['bash']}@127.0.0.1:{sshd.port}): the server knows none of our keys. Tried:\n    {wrong}: refused" in said
    said = refused(SshHost("box", Ssh("box"), config=config_of(sshd, tmp_path / "config", IdentityFile="/no/file")))
    assert "no key: no agent has one, and no file of ssh_config's IdentityFile is there" in said


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A real agent, with what `ssh-add` puts in."""
    place = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    wait_for(place.exists)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
    yield lambda file: subprocess.run(["ssh-add", "-q", file], check=True, capture_output=True)
    process.terminate()
    process.wait()


def test_an_encrypted_key_is_the_agents(sshd, tmp_path, agent):
    locked = tmp_path / "locked"
    shutil.copy(sshd.identity, locked)
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", locked], check=True, capture_output=True)
    config = config_of(sshd, tmp_path / "config", IdentityFile=str(locked))
    assert f"{locked}: encrypted; give it to an agent: ssh-add {locked}" in refused(SshHost("box", Ssh("box"), config=config))
    agent(sshd.identity)
    assert "encrypted" in refused(SshHost("box", Ssh("box"), config=config)), "IdentitiesOnly: the agent's key is not one of ssh_config's"
    shutil.copy(sshd.identity.with_suffix(".pub"), tmp_path / "locked.pub")
    with SshHost("box", Ssh("box"), config=config) as host:
        assert host.run(["true"]).code == 0
    config = config_of(sshd, tmp_path / "config", IdentityFile="/no/file", IdentitiesOnly="no")
    with SshHost("box", Ssh("box"), config=config) as host:
        assert host.run(["true"]).code == 0


def test_a_host_behind_another_one(sshd, tmp_path):
    config = config_of(sshd, tmp_path / "config")
    config.write_text(config.read_text() + "Host inner\n  ProxyJump box\n" + "".join(config.read_text().partition("\n")[2:]))
    with SshHost("inner", Ssh("inner"), config=config) as host:
        assert host.run(["sh", "-c", "echo $SSH_CONNECTION"]).code == 0
        (tmp_path / "source").write_bytes(os.urandom(1_000_000))
        host.put(tmp_path / "source", str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "source").read_bytes()


def test_the_host_on_the_way_is_checked_too(sshd, tmp_path):
    config = config_of(sshd, tmp_path / "config")
    other = tmp_path / "known"
    other.touch()
    text = config.read_text().partition("\n")[2]
    config.write_text(f"Host inner\n  ProxyJump jump\n{text}Host jump\n" + text.replace(str(sshd.known_hosts), str(other)))
    assert "inner, by jump" in refused(SshHost("inner", Ssh("inner"), config=config))


def test_a_proxy_command(sshd, tmp_path):
    relay = tmp_path / "connect.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def out():\n    while data := sock.recv(65536): os.write(1, data)\n    os._exit(0)\n"
        "threading.Thread(target=out, daemon=True).start()\n"
        "while data := os.read(0, 65536): sock.sendall(data)\n"
    )
    config = config_of(sshd, tmp_path / "config", ProxyCommand=f"python3 {relay} %h %p")
    with SshHost("box", Ssh("box"), config=config) as host:
        assert host.run(["echo", "x"]).output == b"x\n"
    wait_for(lambda: str(relay) not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout)


def answer_like_a_web_server(listener):
    connection, _ = listener.accept()
    with connection, suppress(OSError):  # the other side hangs up
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
        while connection.recv(4096):
            pass


@pytest.mark.parametrize("what", ["nobody", "no name", "no ssh", "silence"])
def test_who_does_not_answer_is_unreachable(what, tmp_path):
    config = tmp_path / "config"
    config.touch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if what == "nobody":
            listener.close()
        thread = threading.Thread(target=answer_like_a_web_server, args=(listener,))
        if what == "no ssh":
            thread.start()
        host = "no-such-host.invalid" if what == "no name" else "127.0.0.1"
        said = refused(SshHost("gpu", Ssh(host, "me", port), config=config, patience=Patience(connect_s=2)), Unreachable)
        if what == "no ssh":
            thread.join()
    assert said.startswith(f"gpu (me@{host}:{port}): ")


def test_an_account_without_a_shell(sshd, tmp_path):
    with running(tmp_path / "server", "ForceCommand echo this account is closed") as server:
        assert "does not run /bin/sh. It said: " in (said := refused(server.host())) and "this account is closed" in said


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_link_that_breaks_is_no_exit_code(sshd, link, tmp_path, how):
    with sshd.host(port=link.port, patience=SHORT) as host:
        started = tmp_path / "started"
        problems = []

        def ask():
            try:
                problems.append(host.run(["sh", "-c", f"touch '{started}'; while [ -e '{started}' ]; do sleep 0.1; done"], timeout_s=900))
            except Unreachable as problem:
                problems.append(problem)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for(started.exists)
        getattr(link, how)()
        thread.join(90)
        started.unlink()
        assert isinstance(problems[0], Unreachable), problems
        link.flow()
        assert host.run(["echo", "again"]).output == b"again\n", "the next command has a new connection"


def test_a_command_of_seconds_outlasts_the_patience(sshd, link):
    """Silence of the program is not silence of the server."""
    with sshd.host(port=link.port, patience=Patience(connect_s=60, keepalive_s=0.5, dead_s=2)) as host:
        assert host.run(["sh", "-c", "sleep 3; echo x"]).output == b"x\n"


def test_a_stalled_connection_cannot_block_the_start_of_a_command(sshd, link):
    with sshd.host(port=link.port, patience=SHORT) as host:
        assert host.run(["true"]).code == 0
        link.stall()
        with pytest.raises(Unreachable):
            host.run(["true"], timeout_s=900)


def test_a_link_that_is_cut_before_all_has_come_is_no_exit_code(sshd, link):
    """What a pipe holds is written at once: the program has ended, and its exit code overtakes the rest of its output."""
    for count in range(5_000, 60_000, 2_500):
        with sshd.host(port=link.port, patience=SHORT) as host:
            assert host.run(["true"]).code == 0
            link.cut_after(count)
            with pytest.raises(Unreachable):
                host.run(["head", "-c", "60000", "/dev/zero"])


def test_a_stalled_put_leaves_nothing(sshd, link, tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(30_000_000))
    place = tmp_path / "there"
    with sshd.host(port=link.port, patience=SHORT) as host:
        assert host.run(["true"]).code == 0
        before = link.sent
        thread = threading.Thread(target=lambda: (wait_for(lambda: link.sent - before > 2_000_000), link.stall()))
        thread.start()
        with pytest.raises(Unreachable):
            host.put(tmp_path / "source", str(place / "file"))
        thread.join()
        link.cut()
        link.flow()
    wait_for(lambda: list(place.iterdir()) == [])


def test_a_get_that_was_cut_goes_on_where_it_stopped(sshd, link, tmp_path):
    data = os.urandom(8_000_000)
    (tmp_path / "source").write_bytes(data)
    target, attempts = tmp_path / "target", 0
    with sshd.host(port=link.port) as host:
        while attempts < 20:
            attempts += 1
            link.cut_after(2_000_000)
            try:
                host.get(str(tmp_path / "source"), target, offset=target.stat().st_size if target.exists() else 0)
                break
            except Unreachable:
                assert target.read_bytes() == data[: target.stat().st_size], "what came is what is there"
    assert target.read_bytes() == data
    assert 3 < attempts < 20, "each new attempt has a new connection"


def test_a_full_disk_there_is_said(sshd, tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    with sshd.host() as host, pytest.raises(StorageError, match="source cannot be copied to /proc/nothing/x: "):
        host.put(tmp_path / "source", "/proc/nothing/x")


def test_relative_paths_count_from_the_directory(sshd, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with sshd.host(directory=str(tmp_path), environment={"A": "1", "B": "1"}) as host:
        host.put(tmp_path / "file", "below/it")
        assert (tmp_path / "below" / "it").read_bytes() == b"x"
        assert host.get("below/it", tmp_path / "back") == 1
        assert host.run(["sh", "-c", "pwd; echo $A $B"], directory="below", environment={"B": "2"}).output.decode() == f"{tmp_path}/below\n1 2\n"
    with sshd.host() as host:
        assert host.run(["sh", "-c", 'test "$PWD" = "$HOME"']).code == 0, "a profile that changes the directory changes nothing"


def test_a_host_told_to_another_process_is_the_same(sshd, tmp_path):
    host = sshd.host("bash", directory="~", environment={"A": "é"}, host_key=sshd.fingerprint(), patience=SHORT)
    again = SshHost.of(host.described())
    assert again.described() == host.described()
    with again:
        assert again.run(["printenv", "A"]).output.decode() == "é\n"


def test_a_process_that_was_stopped_does_not_blame_the_server(sshd):
    """Our own pause, longer than all patience: a laptop that slept, a debugger."""
    script = (
        "import sys; from pathlib import Path; from tests.sshd import *; from pytest_gpueval.hosts.link import Patience\n"
        f"host = SshHost.of({sshd.host(patience=Patience(60, 0.3, 1)).described()!r})\n"
        "print(host.run(['true']).code, flush=True)\n"
        "print(host.run(['sh', '-c', 'sleep 2; echo x']).output.decode(), flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # the time itself is what it is about
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[0] == "x\n\n" and process.returncode == 0 and not alive(process.pid)


def test_a_file_of_512_mib_comes_to_its_end(sshd, tmp_path):
    """paramiko would ask for new keys half a MiB before the end of it, and then meet the end of the channel where it can only wait for itself."""
    source = tmp_path / "holes"
    with source.open("wb") as file:
        file.truncate(512 << 20)
    with sshd.host() as host:
        assert host.run(["true"]).code == 0
        before = logins(sshd)
        assert host.get(str(source), Path("/dev/null")) == 512 << 20
        assert host.run(["true"]).code == 0
    assert logins(sshd) == before, "the connection lived on"


def test_a_server_of_few_sessions(tmp_path, monkeypatch):
    """One that has just ended may count there for a moment: what comes next waits for that, and not for one that goes on."""
    monkeypatch.setattr("pytest_gpueval.hosts.link._LET_GO_S", 1.0)
    with running(tmp_path / "server", "MaxSessions 1") as server, server.host() as host:
        with ThreadPoolExecutor(1) as pool:
            going_on = pool.submit(host.run, ["sh", "-c", f"echo >{tmp_path}/on; while [ -e {tmp_path}/on ]; do sleep 0.1; done"])
            wait_for((tmp_path / "on").exists)
            with pytest.raises(Unreachable, match=r"opens no more sessions on one connection: .*MaxSessions may be too small"):
                host.run(["true"])
            (tmp_path / "on").unlink()
            assert going_on.result().code == 0
        monkeypatch.undo()
        assert [host.run(["true"]).code for _ in range(20)] == [0] * 20
