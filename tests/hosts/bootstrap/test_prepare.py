"""A host is made ready once, wholly, and without a network where nothing is to be fetched."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import execnet
import pytest

import pytest_gpueval
from pytest_gpueval.errors import DataError, GpuevalError, RuntimeFault, StorageError, UsageProblem
from pytest_gpueval.hosts.bootstrap import netrc, prepare
from pytest_gpueval.hosts.declared import Declared, HostEntry
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.sync.request import HOST, ask
from pytest_gpueval.hosts.workers import spec_python
from tests.code import git
from tests.pythons import BACKEND, PROJECT, bare, packages, wheel_of
from tests.waiting import DEADLINE_S

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
_STEP = 'def step(name: str) -> None:\n    """Where tests cut the work off."""\n'


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    return packages(tmp_path_factory.mktemp("packages") / "all")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "theirs"
    root.mkdir()
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "theirs.py").write_text("WHO = 'first'\n")
    (root / ".env").write_text("TOKEN=canary-77")
    git(root, "init", "-q")
    return root


def entry(tmp_path, **more):
    given = {"address": "local", "workdir": str(tmp_path / "work"), "python": sys.executable, "install": False, **more}
    return Declared("box", None, HostEntry(**given))


def ready(declared, root, **more):
    (Path(declared.entry.workdir)).mkdir(exist_ok=True)
    return prepare.prepare(declared, LocalHost("box"), root, **more)


def run(prepared, code):
    """What the interpreter of a host prints."""
    done = subprocess.run([*prepared.python, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


VERSION = "import importlib.metadata as m, theirs; print(m.version('pytest-gpueval'), theirs.WHO, theirs.__file__)"


def test_an_interpreter_that_has_all_is_used_as_it_is(root, tmp_path):
    done = ready(entry(tmp_path), root)
    assert run(done, VERSION) == f"{pytest_gpueval.__version__} first {done.directory}/theirs.py"
    assert not list(Path(done.synced.base, "envs").iterdir())
    assert run(done, "import sys; print(sys.executable)") == sys.executable


def test_this_package_comes_along_where_it_is_missing_and_is_a_plugin_there(root, tmp_path, everything):
    python = bare(tmp_path / "bare", everything)
    assert subprocess.run([python, "-c", "import pytest_gpueval"], capture_output=True, cwd="/").returncode == 1
    done = ready(entry(tmp_path, python=str(python)), root)
    assert run(done, VERSION).split()[:2] == [pytest_gpueval.__version__, "first"]
    said = subprocess.run([*done.python, "-m", "pytest", "--help"], capture_output=True, text=True, cwd=done.directory).stdout
    assert "--gpueval-suite" in said
    suites = run(done, "from pathlib import Path; from pytest_gpueval.suites.load import available; print(*available(Path('/nowhere')))")
    assert "guardrails_ru" in suites.split(), "the suites that it ships with are there too"


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_an_environment_is_made_once_and_runs_the_code_as_sent(root, tmp_path, everything, monkeypatch, tool):
    assert UV, "the tests need uv; install it: pip install --group test"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr("pytest_gpueval.hosts.bootstrap.agent.facts.UV_PLACES", ())
    wheel = wheel_of(everything, tmp_path)
    install = ["--no-deps", "-e", ".", str(wheel)]
    if tool == "pip":
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        install.insert(1, "--no-build-isolation")
    declared = entry(tmp_path, install=install, uv=UV if tool == "uv" else None)
    first = ready(declared, root)
    assert (first.again, first.notes[-1]) == (False, f"environment made by {'uv' if tool == 'uv' else 'venv and pip'}")
    assert run(first, VERSION) == f"{pytest_gpueval.__version__} first {first.directory}/theirs.py"
    (root / "theirs.py").write_text("WHO = 'second'\n")
    second = ready(declared, root)
    assert second.again and second.python[-1] == first.python[-1]
    assert run(second, VERSION).split()[1] == "second" and run(first, VERSION).split()[1] == "first", "each has the code as it was sent"
    if tool == "pip":
        return  # it takes its time
    (root / "pyproject.toml").write_text(PROJECT + "# other\n")
    third = ready(declared, root)
    assert not third.again and third.python[-1] != first.python[-1]


def test_cut_off_while_it_is_made_the_next_one_makes_it(root, tmp_path, everything, monkeypatch):
    text = bundle.joined(*HOST).replace(_STEP, "def step(name):\n    if name == 'called': os.kill(os.getpid(), 9)\n")
    wheel = wheel_of(everything, tmp_path)
    declared = entry(tmp_path, install=["--no-deps", "--no-index", str(wheel)], uv=UV)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "ask", functools.partial(ask, source=text))
        with pytest.raises(GpuevalError, match="what is complete there is not done twice"):
            ready(declared, root)
    (env,) = [path for path in Path(tmp_path).glob("work/gpueval-code/*/envs/*") if path.is_dir()]
    assert not (env / ".complete").exists()
    done = ready(declared, root)
    assert (env / ".complete").exists() and run(done, VERSION).split()[1] == "first"


def test_two_bootstraps_at_once_make_one_environment(root, tmp_path, everything):
    wheel = wheel_of(everything, tmp_path)
    declared = entry(tmp_path, install=["--no-deps", "--no-index", str(wheel)], uv=UV)
    done = []
    threads = [threading.Thread(target=lambda: done.append(ready(declared, root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.again for each in done) == [False, True]


def test_what_an_installer_says_is_told(root, tmp_path):
    with pytest.raises(GpuevalError, match=r"(?s)uv pip install .* ended with .*\.log, at its end:.*no-such-wheel"):
        ready(entry(tmp_path, install=["--no-index", "./no-such-wheel.whl"], uv=UV), root)


def test_packages_that_are_missing_are_named(root, tmp_path):
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", empty], check=True)
    with pytest.raises(UsageProblem, match=r"cannot import pytest \(ModuleNotFoundError.*; xdist .*Install it there, or let install"):
        ready(entry(tmp_path, python=str(empty / "bin/python")), root)


def test_an_ssh_host_has_workers_that_import_the_code_as_sent(root, tmp_path, sshd):
    with sshd.host() as host:
        done = prepare.prepare(entry(tmp_path, workdir=str(tmp_path / "a b")), host, root)
        command = spec_python(host.worker_command(done.python))
        group = execnet.Group()
        try:
            channel = group.makegateway(f"popen//python={command}").remote_exec("import theirs; channel.send((theirs.WHO, theirs.__file__))")
            assert channel.receive(timeout=DEADLINE_S) == ("first", f"{done.directory}/theirs.py")
        finally:
            group.terminate(timeout=30)


def test_a_dry_run_says_and_does_nothing(root, tmp_path):
    done = ready(entry(tmp_path, install=True), root, dry_run=True)
    assert len(done.todo) == 2 and done.todo[0].startswith("send 3 file(s)") and "install -e . WHEEL" in done.todo[1]
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(("version", "words"), [([3, 14, 0], "requires-python stops there"), ([3, 10, 9], "it is too old"), ([3, 8, 1], "it is too old")])
def test_pythons_that_do_not_do(root, tmp_path, monkeypatch, version, words):
    real = prepare.ask
    monkeypatch.setattr(prepare, "ask", lambda *rest, **more: {**(answer := real(*rest, **more)), "python": {**answer["python"], "version": version}})
    with pytest.raises(UsageProblem, match=rf"box: python = .* is Python 3\.{version[1]}\.{version[2]} there: .*{words}.* Name a Python 3.11, 3.12 or 3.13"):
        ready(entry(tmp_path), root)


def test_a_volume_that_is_not_mounted(root, tmp_path):
    with pytest.raises(StorageError, match="box: volume = '/no/such' is not mounted there"):
        ready(entry(tmp_path, volume="/no/such"), root)
    ready(entry(tmp_path, volume="/proc/sys"), root)


def test_gpus_that_are_asked_for(root, tmp_path, monkeypatch):
    with pytest.raises(RuntimeFault, match="gpus = 'all', and no GPU can be used there"):
        ready(entry(tmp_path, gpus="all"), root)
    (tmp_path / "bin").mkdir()
    smi = tmp_path / "bin/nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncase $1 in *compute-apps*) echo '77, GPU-aaaa, 500';; *) printf '{SMI}';; esac\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for gpus in ("all", "0-1", "1", "GPU-aaaa", "auto", "none"):
        ready(entry(tmp_path, gpus=gpus), root)
    with pytest.raises(RuntimeFault, match=r"gpus = '0-7': 0-7 not there. It has: 0 \(GPU-aaaa\), 1 \(GPU-bbbb\)"):
        ready(entry(tmp_path, gpus="0-7"), root)


SMI = "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 512, 81559, 550.54, 3\\n1, GPU-bbbb, NVIDIA H100 80GB HBM3, 0, 81559, 550.54, 0\\n"


def test_without_internet_data_and_models_must_be_there(root, tmp_path):
    with pytest.raises(UsageProblem, match=r"internet = false, so data = \.\.\. must say"):
        ready(entry(tmp_path, internet=False), root)
    assets = tmp_path / "assets"
    assets.mkdir()
    offline = entry(tmp_path, internet=False, data=str(assets), models=str(assets))
    with pytest.raises(DataError, match=r"manifest.json: No such file"):
        ready(offline, root)
    (assets / "x.parquet").write_bytes(b"rows")
    file = {"file": "x.parquet", "bytes": 4, "sha256": hashlib.sha256(b"rows").hexdigest()}
    (assets / "manifest.json").write_text(json.dumps({"version": 1, "datasets": [{**file, "dataset": "x", "split": "fast"}], "models": []}))
    ready(offline, root)
    (assets / "x.parquet").write_bytes(b"r0ws")
    with pytest.raises(DataError, match=r"x.parquet: was damaged or replaced"):
        ready(offline, root)
    assert not list((tmp_path / "work").glob("*/*/incoming/*"))


def test_what_pytest_gpueval_installs_is_itself(tmp_path):
    from pytest_gpueval.hosts.bootstrap import plan
    from pytest_gpueval.hosts.sync.tree import Item, Tree

    tree = Tree(tmp_path, tuple(Item(name, "f", "0", 1) for name in ("pyproject.toml", "requirements.txt", "constraints.txt")), {})
    assert plan.words(tree, '[project]\nname = "PyTest_GPUeval"', True) == ["-e", ".", "-c", "constraints.txt"]
    assert plan.words(tree, '[project]\nname = "x"', True) == ["-e", ".", "WHEEL", "-c", "constraints.txt"]
    assert plan.words(tree, "", True) == ["-r", "requirements.txt", "WHEEL", "-c", "constraints.txt"]
    assert plan.words(tree, "", ["x[y]"]) == ["x[y]", "WHEEL"] and plan.words(tree, "", False) == []


class TestNetrc:
    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        return home

    def login(self, tmp_path, key):
        return netrc.login(entry(tmp_path), LocalHost("box"), {"WANDB_API_KEY": key})

    def test_others_stay_and_nobody_else_reads(self, tmp_path, home):
        first, old = "# mine\nmachine github.com login me password x\n", "machine api.wandb.ai\n  login user\n  password old\n"
        before = f"{first}{old}\nmacdef init\nmachine api.wandb.ai\n\ndefault login a password b\n"
        (home / ".netrc").write_text(before)
        assert "api.wandb.ai written" in self.login(tmp_path, "new-key")
        text = (home / ".netrc").read_text()
        assert text == before.replace(old, "", 1).replace("default login", "machine api.wandb.ai\n  login user\n  password new-key\ndefault login")
        assert (home / ".netrc").stat().st_mode & 0o777 == 0o600
        assert "was there already" in self.login(tmp_path, "new-key")
        assert sorted(path.name for path in home.iterdir()) == [".netrc"]

    def test_it_never_is_an_argument(self, tmp_path, home, monkeypatch):
        seen = []
        host = LocalHost("box")
        real = host.run
        monkeypatch.setattr(host, "run", lambda argv, **more: (seen.append((argv, more.get("environment"))), real(argv, **more))[1])
        netrc.login(entry(tmp_path), host, {"WANDB_API_KEY": "canary-key-1"})
        assert "canary-key-1" not in repr(seen) and "password canary-key-1" in (home / ".netrc").read_text()

    def test_what_cannot_be_written(self, tmp_path, home):
        with pytest.raises(UsageProblem, match="WANDB_API_KEY is not set here"):
            self.login(tmp_path, "")
        with pytest.raises(UsageProblem, match="a space or a control character"):
            self.login(tmp_path, "a\nmachine evil")
        (home / ".netrc").mkdir()
        with pytest.raises(StorageError, match="netrc"):
            self.login(tmp_path, "key")
