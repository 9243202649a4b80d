"""hosts.toml, and which host a name means."""

import subprocess
import sys

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts import ssh_config
from pytest_gpueval.hosts.address import Kubernetes, KubernetesJobs, Local, Ssh
from pytest_gpueval.hosts.declared import HostEntry, default_name, jobs, named, opened, read
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.slurm import SlurmHost

FULL = """
[hosts.gpu-a]
address = "ssh://me@10.0.0.1:2222"
workdir = "~/gpueval"
python = "/opt/python3.12/bin/python3"
uv = "~/.local/bin/uv"
gpus = "0-3,6,GPU-0000-11"
env = { HF_HOME = "/mnt/hf" }
volume = "/mnt"
data = "/mnt/data"
models = "/mnt/models"
internet = false
host_key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
ssh_config = "box_config"
[hosts.gpu-b]
address = "ssh://gpu-b"
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project, and a user whose ssh_config includes another file."""
    (tmp_path / "home" / ".ssh" / "config.d").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "config").write_text('Include config.d/*\nHost lium "two words" !not-this *\n  User me\nMatch host x\n')
    (tmp_path / "home" / ".ssh" / "config.d" / "more").write_text("host=node-* login\n  Hostname 10.0.0.9\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ssh_config, "SYSTEM", tmp_path / "etc" / "none")
    return tmp_path


def test_every_key_of_the_file(root):
    (root / "hosts.toml").write_text(FULL)
    host = named("gpu-a", root)
    assert host.address == Ssh("10.0.0.1", "me", 2222) and host.file == root / "hosts.toml"
    assert (host.entry.gpus, host.entry.internet, host.entry.env) == ("0-3,6,GPU-0000-11", False, {"HF_HOME": "/mnt/hf"})
    assert named("gpu-b", root).entry.internet and named("gpu-b", root).entry.python == "python3"


def test_names_are_the_files_then_addresses_then_ssh_configs(root):
    (root / "hosts.toml").write_text('[hosts.lium]\naddress = "ssh://other"\n')
    assert named("lium", root).address == Ssh("other")
    assert named("login", root).address == Ssh("login") and named("node-7", root).address == Ssh("node-7")
    assert named("local", root).address == Local() and named("ssh://a@b:1", root).address == Ssh("b", "a", 1)
    assert named("k8s://n/p", root).address == Kubernetes("n", "p")
    (root / "hosts.toml").unlink()
    assert named("lium", root).address == Ssh("lium")


def test_a_name_that_nobody_has(root):
    (root / "hosts.toml").write_text(FULL)
    with pytest.raises(UsageProblem) as problem:
        named("gpu-c", root)
    said = str(problem.value)
    assert f"there is no host 'gpu-c' in {root / 'hosts.toml'} and ssh_config. Did you mean 'gpu-" in said
    assert "Valid hosts: gpu-a, gpu-b, lium, local, login, two words." in said and "ssh://[USER@]HOST[:PORT]" in said
    with pytest.raises(UsageProblem, match="there is no host 'not-this'"):
        named("not-this", root)
    with pytest.raises(UsageProblem, match="there is no host '-oProxyCommand=x'"):
        named("-oProxyCommand=x", root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hosts.a]\n", "hosts.a.address: missing"),
        ('[hosts.a]\naddress = "gpu"\n', "hosts.a.address: 'gpu' is not an address"),
        ('[hosts.a]\naddress = "shh://gpu"\n', "unknown kind 'shh'. Did you mean 'ssh'?"),
        ('[hosts.a]\naddress = "local"\nworkdr = "/x"\n', "hosts.a.workdr: unknown key. Did you mean 'workdir'?"),
        ('[hosts.a]\naddress = "local"\nworkdir = "x"\n', "hosts.a.workdir: 'x' is not a path from / or ~/ on"),
        ('[hosts.a]\naddress = "local"\ninternet = "no"\n', "hosts.a.internet: expected true or false, found 'no'"),
        ('[hosts.a]\naddress = "local"\ngpus = "0-"\n', "hosts.a.gpus: '0-' names no GPUs"),
        ('[hosts.a]\naddress = "local"\nenv = { HF_TOKEN = "hf_x" }\n', "hosts.a.env: 'HF_TOKEN' looks like a secret"),
        ('[hosts.a]\naddress = "local"\nenv = { "A-B" = "x" }\n', "hosts.a.env: 'A-B' is not the name of an environment variable"),
        ('[hosts.a]\naddress = "local"\nenv = { A = 1 }\n', "hosts.a.env.A: expected a string, found 1"),
        ('[hosts.a]\naddress = "ssh://a"\nhost_key = "SHA256:short"\n', "hosts.a.host_key: 'SHA256:short' is not a fingerprint"),
        (f'[hosts.a]\naddress = "local"\nhost_key = "SHA256:{"A" * 43}"\n', "hosts.a.host_key: means something for ssh:// only"),
        ('[hosts.local]\naddress = "local"\n', "hosts: 'local' cannot name a host"),
        ('[host.a]\naddress = "local"\n', "host: unknown key. Did you mean 'hosts'?"),
        ("[hosts\n", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_one_message(root, text, said):
    (root / "hosts.toml").write_text(text)
    with pytest.raises(UsageProblem) as problem:
        named("a", root)
    assert str(problem.value).startswith(f"{root / 'hosts.toml'}: ") and said in str(problem.value)
    assert "hf_x" not in str(problem.value)


def test_a_file_that_cannot_be_read(root):
    (root / "hosts.toml").mkdir()
    with pytest.raises(UsageProblem, match=r"hosts\.toml: cannot be read: Is a directory"):
        read(root / "hosts.toml")


def test_the_default_host():
    assert default_name({}) == default_name({"OPS_DEFAULT_HOST": ""}) == "local"
    assert default_name({"OPS_DEFAULT_HOST": "lium"}) == "lium"


def test_hosts_are_opened_as_they_are_declared(root, sshd):
    (root / "hosts.toml").write_text(
        f'[hosts.box]\naddress = "ssh://{sshd.users["bash"]}@127.0.0.1:{sshd.port}"\nworkdir = "{root}"\nssh_config = "box_config"\nenv = {{ A = "1" }}\n'
        f'[hosts.here]\naddress = "local"\nworkdir = "{root}"\nenv = {{ A = "1" }}\n'
    )
    (root / "box_config").write_bytes(sshd.config.read_bytes())
    for name in ("box", "here"):
        with opened(named(name, root)) as host:
            assert host.name == name and host.run(["sh", "-c", "pwd; echo $A"]).output.decode() == f"{root}\n1\n"
    assert isinstance(opened(named("local", root)), LocalHost)
    assert isinstance(opened(named("slurm://p", root)), SlurmHost)


def test_a_pod_is_opened_as_it_is_declared(root, kube):
    (root / "hosts.toml").write_text(f'[hosts.pod]\naddress = "k8s://evals/box?context=test&container=main"\nworkdir = "{root}"\nenv = {{ A = "1" }}\n')
    with opened(named("pod", root)) as host:
        assert host.name == "pod" and host.run(["sh", "-c", "pwd; echo $A"]).output.decode() == f"{root}\n1\n"


@pytest.mark.parametrize(("there", "said"), [(True, "3 True"), (False, "an SSH host needs the package 'paramiko', which is not installed.")])
def test_paramiko_is_imported_when_an_ssh_host_is_asked_for_something(there, said, tmp_path):
    (tmp_path / "config").touch()
    script = f"""
import sys
from pytest_gpueval.errors import GpuevalError
from pytest_gpueval.hosts.declared import Declared, HostEntry, opened
from pytest_gpueval.hosts.address import Ssh
host = opened(Declared("x", Ssh("127.0.0.1", "me", 1), HostEntry(address="ssh://me@127.0.0.1:1", ssh_config="{tmp_path}/config")))
assert "paramiko" not in sys.modules
if not {there}:
    sys.modules["paramiko"] = None
try:
    host.run(["true"])
except GpuevalError as error:
    print(error if not {there} else f"{{error.exit_code}} {{'paramiko' in sys.modules}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith(said), done


JOBS = """
[hosts.cluster]
address = "k8s://evals?context=test"
image = "eval:1"
job = "job.yaml"
volume = "/data"
volume_claim = "disk"
gpus_per_pod = 2
shards = 4
env = { A = "1" }
"""


def test_a_host_whose_runs_are_jobs(root):
    (root / "hosts.toml").write_text(JOBS)
    (root / "job.yaml").write_text("spec:\n  ttlSecondsAfterFinished: 60\n")
    host = named("cluster", root)
    settings = jobs(host, None).settings
    assert host.address == KubernetesJobs("evals", "test")
    assert (settings.image, settings.shards, settings.gpus_per_pod, settings.claim, settings.volume) == ("eval:1", 4, 2, "disk", "/data")
    assert settings.environment == {"A": "1"} and settings.template == {"spec": {"ttlSecondsAfterFinished": 60}}
    with pytest.raises(UsageProblem, match="nothing is run there directly, its runs are Jobs: gpueval runs submit"):
        opened(host)
    assert jobs(named("local", root), None) is None


@pytest.mark.parametrize("key", ['image = "x"', 'job = "x.yaml"', 'volume_claim = "x"', "gpus_per_pod = 1", "shards = 2"])
def test_keys_of_jobs_mean_nothing_elsewhere(root, key):
    (root / "hosts.toml").write_text(f'[hosts.a]\naddress = "k8s://evals/pod"\n{key}\n')
    with pytest.raises(UsageProblem, match=r"means something for k8s://NAMESPACE only, whose runs are Jobs, and this host is k8s://evals/pod"):
        named("a", root)


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("a: [", "not valid YAML"), ("- a", "not a Job"), ("kind: Pod", "not a Job")])
def test_a_template_that_is_none_says_so(root, text, said):
    (root / "hosts.toml").write_text(JOBS)
    if text is not None:
        (root / "job.yaml").write_text(text)
    with pytest.raises(UsageProblem, match=rf"job\.yaml: {said}"):
        jobs(named("cluster", root), None)


def test_what_is_installed_holds_no_password():
    words = ["-e", ".[eval]", "-c", "constraints.txt", "--extra-index-url", "https://packages.example.org/simple"]
    assert HostEntry(address="local", install=words).install == words
    with pytest.raises(ValueError, match="looks like a secret"):
        HostEntry(address="local", install=["--extra-index-url", "https://me:hunter22@packages.example.org/simple"])
