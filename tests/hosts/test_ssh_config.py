"""What ssh_config says of a host."""

from pathlib import Path

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts import ssh_config
from pytest_gpueval.hosts.address import Ssh
from pytest_gpueval.hosts.ssh_config import Settings, jump_address, read, settings

FILE = """
Match host gpu exec true
  Compression yes
Host gpu
  HostName %h.example.org
  Port 2222
  User me
  IdentityFile "~/my keys/%n_%r"
  IdentityFile ${TOP}/second
  IdentitiesOnly yes
  UserKnownHostsFile "/k h/one" ~/.ssh/two
  HostKeyAlias alias
Host behind
  ProxyJump a@jump:2200,last
Host through
  ProxyCommand nc -X %% %h %p %r
  ProxyJump none
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("TOP", "/top")
    (tmp_path / "config").write_text(FILE)
    return tmp_path / "config"


def without_ssh(monkeypatch):
    monkeypatch.setattr(ssh_config.shutil, "which", lambda _: None)


@pytest.mark.parametrize("ssh", [True, False], ids=["ssh", "no ssh"])
def test_a_host_of_the_file(file, ssh, monkeypatch):
    if not ssh:
        without_ssh(monkeypatch)
        file.write_text(file.read_text().replace("Match host gpu exec true", "Match host gpu").replace('"/k h/one" ~/.ssh/two', "/one"))
    found = read(Ssh("gpu"), file)
    assert (found.host, found.port, found.user, found.alias, found.identities_only) == ("gpu.example.org", 2222, "me", "alias", True)
    assert [path for path in found.identities if path.parent.name == "my keys" or path == Path("/top/second")] == [
        Path.home() / "my keys" / "gpu_me",
        Path("/top/second"),
    ]
    assert found.known_hosts[:2] == (Path("/k h/one"), Path.home() / ".ssh" / "two") if ssh else found.known_hosts[0] == Path("/one")


def test_the_address_goes_first(file):
    found = read(Ssh("gpu", "other", 3), file)
    assert (found.host, found.port, found.user) == ("gpu.example.org", 3, "other")


def test_ways_to_a_host(file):
    assert read(Ssh("behind"), file).jumps == ("a@jump:2200", "last") and read(Ssh("behind"), file).proxy_command is None
    found = read(Ssh("through", "me", 7), file)
    assert (found.proxy_command, found.jumps) == ("nc -X % through 7 me", ())
    assert read(Ssh("gpu"), file).proxy_command is None


def test_a_host_of_which_nothing_is_said():
    home = Path("/h")
    found = settings(Ssh("x", "me"), {}, home, {})
    assert found == Settings("x", 22, "me", known_hosts=(home / ".ssh" / "known_hosts",))


@pytest.mark.parametrize(
    ("text", "address"),
    [("a", Ssh("a")), ("me@a:3", Ssh("a", "me", 3)), ("ssh://me@a:3", Ssh("a", "me", 3)), ("[::1]:3", Ssh("::1", None, 3)), ("me@corp@a", Ssh("a", "me@corp"))],
)
def test_jumps(text, address):
    assert jump_address(text) == address


def test_a_file_that_ssh_does_not_understand(tmp_path):
    with pytest.raises(UsageProblem, match="there is no such ssh_config"):
        read(Ssh("x"), tmp_path / "none")
    (tmp_path / "config").write_text("Nonsense yes\n")
    with pytest.raises(UsageProblem, match=r"ssh://x: ssh does not understand its configuration: .*nonsense"):
        read(Ssh("x"), tmp_path / "config")


def test_an_include_that_includes_itself_ends(tmp_path):
    (tmp_path / "config").write_text(f"Include {tmp_path}/config\nHost a b* !c *\nhost=d\n")
    assert ssh_config.names(tmp_path / "config") == ["a", "b*", "d"]
