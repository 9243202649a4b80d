"""gpueval pods, with the real lium against a server of ours that speaks its API."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.errors import Conflict, UsageProblem
from pytest_gpueval.hosts.address import Ssh
from pytest_gpueval.hosts.lium import Pod, address_of, volumes
from pytest_gpueval.hosts.pods import entry, named, save, saved
from tests import lium_api, sshd
from tests.detached_runs import ROOT


@pytest.fixture
def api(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIUM_DEFAULT_VOLUME", raising=False)
    with lium_api.serving(lium_api.Api()) as api:
        for name, value in lium_api.environment(api, home, sshd.key(tmp_path / "id_ed25519")).items():
            monkeypatch.setenv(name, value)
        yield api


def pods(*words, answer=None):
    done = CliRunner().invoke(app, ["pods", *map(str, words)], input=answer)
    assert "7f3a91" not in done.output and "Traceback" not in done.output
    return done


def test_a_pod_from_up_to_rm(api, tmp_path):
    with sshd.running(tmp_path / "sshd") as server:
        api.ssh = f"ssh root@127.0.0.1 -p {server.port}"
        done = pods("up", "--gpu", "H100", "--count", 8, "--volume", "my_volume", "--name", "train", "--save", "gpu-a", "--yes")
        assert done.exit_code == 0, done.output
        again = json.loads(pods("up", "--gpu", "H100", "--volume", "my_volume", "--name", "train", "--yes", "--save", "gpu-a", "--json").stdout)
        fingerprint = server.fingerprint()
    (rent,) = api.rents()
    assert (rent["pod_name"], rent["gpu_count"], rent["volume_id"]) == ("train", 8, lium_api.VOLUMES[0]["id"])
    assert api.posts[-1][0].endswith("/schedule-removal") and list(api.ends) == [api.pods[0]["id"]], "it has an end"
    assert api.posts[-2][0] == f"/executors/{api.nodes[1]['id']}/rent", "the cheapest"
    entry = tomllib.loads((tmp_path / "hosts.toml").read_text())["hosts"]["gpu-a"]
    assert entry == {"address": f"ssh://root@127.0.0.1:{server.port}", "volume": "/mnt", "workdir": "/mnt/gpueval", "host_key": fingerprint}
    assert re.search(r"^train \([a-z]+-[a-z]+-\w\w\): 8×H100, \$16\.00 an hour, ends 20", done.stdout)
    assert again["again"] and again["host_key"] == fingerprint and len(api.rents()) == 1, "the same pod"
    (row,) = json.loads(pods("ps", "--json").stdout)
    assert (row["name"], row["price_per_hour"], row["ssh"]) == ("train", 16.0, f"ssh://root@127.0.0.1:{server.port}")
    assert re.search(r"^train .* RUNNING .* 16\.00 ", pods("ps").stdout, re.MULTILINE)
    assert pods("rm", "train").exit_code == 2, "nobody is there to ask"
    assert "dry run, nothing ended: train (" in pods("rm", "train", "--dry-run").stdout and len(api.pods) == 1
    assert "gpueval: ended train (" in pods("rm", "train", "--yes").stderr
    assert api.pods == []


def test_what_can_be_rented_is_listed_with_prices(api):
    table = pods("ls").stdout
    assert table.splitlines()[0].split()[:2] == ["node", "GPUs"] and "1 x H100" in table.splitlines()[1] and "$/h" in table
    assert [node["price_per_hour"] for node in json.loads(pods("ls", "--gpu", "H100", "--count", 8, "--json").stdout)] == [16.0, 20.0]


def test_a_dry_run_rents_nothing_and_says_the_price(api):
    done = pods("up", "--gpu", "H100", "--count", 1, "--no-volume", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "gpueval: 1 x H100 on " in done.stdout and "at $1.00 an hour, without a volume, ending after 6h\ncommand: lium up " in done.stdout
    assert "--ttl=6h" in done.stdout and api.posts == []


def test_an_answer_that_is_lost_is_looked_for(api):
    """lium asks once more with the same key of idempotency; what it cannot tell then, we do not ask a third time."""
    api.rent = "dead"
    done = pods("up", "--gpu", "H100", "--count", 1, "--no-volume", "--name", "train", "--yes")
    assert done.exit_code == 1
    assert "looking whether 'train' is there ..." in done.stderr and "gpueval pods up --name train takes it on" in done.stderr
    assert re.search(r"The pod 'train' \(\S+\) is there, RUNNING, at \$1\.00 an hour, and HAS NO END", done.stderr)
    assert len(api.rents()) == 2


def test_what_was_refused_is_not_rented(api, monkeypatch):
    words = ("up", "--gpu", "H100", "--no-volume", "--yes")
    api.rent = "poor"
    poor = pods(*words)
    assert poor.exit_code == 4 and "balance" in poor.stderr and len(api.rents()) == 1
    monkeypatch.setenv("LIUM_API_KEY", "another-key-that-is-wrong")
    denied = pods("ps")
    assert denied.exit_code == 4 and "Invalid API key (key from env:LIUM_API_KEY)" in denied.stderr
    monkeypatch.setenv("LIUM_BASE_URL", "http://127.0.0.1:9/api")
    assert pods("rm", "x", "--yes").exit_code == 3


def test_a_host_is_saved_once_and_another_key_is_told(tmp_path):
    address = Ssh("203.0.113.7", "root", 20022)
    keys = [f"SHA256:{letter * 43}" for letter in "AB"]
    (tmp_path / "hosts.toml").write_text('# mine\n[hosts.b]\naddress = "local"\n')
    assert not saved("a", tmp_path, address, keys[0])
    save(entry("a", address, keys[0], volume=True), tmp_path)
    assert (tmp_path / "hosts.toml").read_text().startswith('# mine\n[hosts.b]\naddress = "local"\n\n[hosts.a]\n')
    assert saved("a", tmp_path, address, keys[0])
    with pytest.raises(Conflict, match="another machine"):
        saved("a", tmp_path, address, keys[1])
    with pytest.raises(Conflict, match="there is a host 'a' already"):
        saved("a", tmp_path, Ssh("203.0.113.8", "root"), keys[0])


@pytest.mark.parametrize("pattern", ["*", "1", "train,other", "all", "tr", "", "TRAIN"])
def test_patterns_name_no_pod(pattern):
    there = [Pod(id=str(number), huid=f"calm-owl-{number}1", name=name) for number, name in enumerate(("train", "other", "other"), start=100)]
    with pytest.raises(UsageProblem, match="there is no pod"):
        named(there, pattern)
    assert named(there, "train") is named(there, "calm-owl-1001") is there[0]
    with pytest.raises(UsageProblem, match="2 pods are called so; give the HUID: calm-owl-1011, calm-owl-1021"):
        named(there, "other")


def test_one_wrong_word_ends_nothing(api):
    api.pods = [api.pod("train", api.nodes[0])]
    done = pods("rm", "train", "trai*", "--yes")
    assert done.exit_code == 2 and "there is no pod 'trai*'. Patterns, lists and row numbers are not taken" in done.stderr
    assert len(api.pods) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "H100"), "which volume? Give --volume NAME"),
        (("--gpu", "H100", "--no-volume", "--ttl", "0h"), "--ttl '0h': write 45m, 6h or 2d"),
        (("--gpu", "H100", "--no-volume", "--name", "a b"), "--name 'a b'"),
        (("--gpu", "H100", "--no-volume", "--save", "local"), "--save local"),
        (("--gpu", "H100", "--volume", "my_volum"), "Did you mean 'my_volume'?"),
        (("--no-volume",), "say which node"),
        (("nope", "--no-volume"), "node 'nope': there is none that is free"),
        (("--gpu", "H100", "--no-volume"), "Nobody is there to ask: say --yes."),
    ],
)
def test_what_the_user_got_wrong(api, words, said):
    done = pods("up", *words)
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert api.rents() == []


def test_a_host_of_that_name_is_not_written_over(api, tmp_path):
    (tmp_path / "hosts.toml").write_text('[hosts.gpu-a]\naddress = "local"\n')
    done = pods("up", "--gpu", "H100", "--no-volume", "--save", "gpu-a", "--yes")
    assert done.exit_code == 5 and "there is a host 'gpu-a' already" in done.stderr
    assert api.rents() == []


def test_lium_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = pods("ps")
    assert (done.exit_code, done.stderr) == (
        2,
        "gpueval: There is no program lium, which rents the pods.\nInstall it with:  pipx install lium.io   (then: lium init, or set LIUM_API_KEY)\n",
    )


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("ssh root@1.2.3.4 -p 20022", Ssh("1.2.3.4", "root", 20022)),
        ("ssh -p 22 root@gpu.example", Ssh("gpu.example", "root", 22)),
        ("ssh -oProxyCommand=x root@1.2.3.4", None),
        ("ssh root@-oProxyCommand=x", None),
        ("ssh root@1.2.3.4 -p 99999", None),
        ("ssh root@1.2.3.4; rm x", None),
        ("ssh 'root", None),
        (None, None),
    ],
)
def test_addresses_that_come_from_elsewhere(command, address):
    assert address_of(command) == address


def test_volumes_are_read_from_the_table():
    table = "Volumes  (2 total)\n     ID             Name         Size\n 1   brave-fox-3a   my_volume    0\n 2   calm-owl-01    two words    1 GB\nTip: x\n"
    assert volumes(table) == [("brave-fox-3a", "my_volume"), ("calm-owl-01", "two words")]


def test_the_commands_of_the_readme_are_understood(api):
    block = re.search(r"## Pods\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line, comments=True)[2:] for line in block[1].splitlines()]
    assert {words[0] for words in commands} == {"ls", "up", "ps", "rm"}
    for words in commands:
        done = pods(*words, *(["--dry-run"] if words[0] in ("up", "rm") else []))
        assert done.exit_code == 0 or "there is no pod" in done.stderr, done.output
    assert not Path("hosts.toml").exists()
