"""known_hosts files, beside OpenSSH's own reading of them."""

import subprocess

import pytest

from pytest_gpueval.hosts.host_keys import objection, preferred
from pytest_gpueval.hosts.known_hosts import Key, Known, entry_name, looked_up
from pytest_gpueval.hosts.ssh_config import Settings
from tests.sshd import key

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIE5wMc9mX0ExYiNyJyNR0uU4B3pbWmyMYRzo7Vc2pXbZ"
KEY = f"ssh-ed25519 {BLOB}"


@pytest.mark.parametrize(
    ("line", "name", "found"),
    [
        (f"gpu {KEY} a comment", "gpu", True),
        (f"GPU {KEY}", "gpu", True),
        (f"gpu {KEY}", "gpu.example.org", False),
        (f"gpu-?,*.example.org {KEY}", "gpu-1", True),
        (f"gpu-?,*.example.org {KEY}", "gpu-12", False),
        (f"*.example.org,!bad.example.org {KEY}", "good.example.org", True),
        (f"*.example.org,!bad.example.org {KEY}", "bad.example.org", False),
        (f"[gpu]:2222 {KEY}", "[gpu]:2222", True),
        (f"gpu {KEY}", "[gpu]:2222", False),
        (f"[10.0.0.*]:* {KEY}", "[10.0.0.7]:22022", True),
        (f"a.c {KEY}", "abc", False),
        (f"# gpu {KEY}", "gpu", False),
        ("gpu ssh-ed25519", "gpu", False),
        ("gpu ssh-ed25519 not-base64!", "gpu", False),
        (f"@cert-authority gpu {KEY}", "gpu", False),
        (f"|1|damaged {KEY}", "gpu", False),
        (f"|1|AAAA|AAAA {KEY}", "gpu", False),
    ],
)
def test_lines(line, name, found, tmp_path):
    assert (looked_up([f"\n{line}\n"], name).trusted != frozenset()) is found
    if not line.startswith(("@", "|")) and "not-base64" not in line and line != "gpu ssh-ed25519":
        (tmp_path / "known").write_text(f"{line}\n")
        done = subprocess.run(["ssh-keygen", "-F", name, "-f", tmp_path / "known"], capture_output=True)
        assert (done.returncode == 0) is found, "as OpenSSH"


def test_hashed_names_are_found(tmp_path):
    file = tmp_path / "known"
    file.write_text(f"gpu,[gpu]:2222 {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "gpu" not in file.read_text()
    assert [len(looked_up([file.read_text()], name).trusted) for name in ("gpu", "[gpu]:2222", "gpv")] == [1, 1, 0]


def test_a_fingerprint_is_openssh_s(tmp_path):
    path = key(tmp_path / "key")
    kind, blob, *_ = path.with_suffix(".pub").read_text().split()
    (shown,) = looked_up([f"x {kind} {blob}"], "x").trusted
    assert shown.fingerprint == subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout.split()[1]


def test_how_a_key_stands():
    mine, other, rsa = Key("ssh-ed25519", b"1"), Key("ssh-ed25519", b"2"), Key("ssh-rsa", b"3")
    assert Known().standing(mine) == "unknown"
    assert Known(frozenset({mine})).standing(mine) == "known"
    assert Known(frozenset({mine})).standing(other) == "changed"
    assert Known(frozenset({rsa})).standing(mine) == "changed", "a server that hides the key that is known is not trusted for another one"
    assert Known(frozenset({mine}), frozenset({mine})).standing(mine) == "revoked"
    text = f"gpu {KEY}\n@revoked * {KEY}\n"
    assert looked_up([text], "gpu").standing(*looked_up([text], "gpu").trusted) == "revoked"


def test_keys_that_are_known_are_asked_for_first():
    offered = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    assert preferred(offered, Known()) == offered
    assert preferred(offered, Known(frozenset({Key("ssh-rsa", b"")})))[:2] == ("rsa-sha2-512", "rsa-sha2-256")


def test_names():
    assert (entry_name("GPU", 22), entry_name("::1", 22), entry_name("::1", 23)) == ("gpu", "::1", "[::1]:23")


def test_an_alias_is_what_is_looked_up():
    settings = Settings("10.0.0.1", 22, "me", alias="gpu")
    said = objection("gpu", settings, Key("ssh-ed25519", b"2"), Known(frozenset({Key("ssh-ed25519", b"1")})), None)
    assert said is not None and "ssh-keygen -R 'gpu'" in said
