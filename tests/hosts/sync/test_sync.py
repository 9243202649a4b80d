"""Code on a host is as it is here: all of it, nothing else, and never half of it."""

import ast
import functools
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_gpueval.errors import Conflict, GpuevalError, StorageError, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.host import Done
from pytest_gpueval.hosts.link import Patience
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.sync import client
from pytest_gpueval.hosts.sync.client import sync
from pytest_gpueval.hosts.sync.request import CODE, HOST, ask
from pytest_gpueval.hosts.sync.rules import CodeEntry, Rules
from tests.bad_links import bad_link
from tests.code import CANARY, NAMES, git, repository, shape, stepping
from tests.waiting import wait_for

HOSTS = Path(bundle.__file__).parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "repo").mkdir()
    return repository(tmp_path / "repo")


@pytest.fixture
def base(tmp_path):
    return str(tmp_path / "there" / "code-1")


@pytest.fixture(params=["local", "ssh"])
def host(request):
    if request.param == "local":
        yield LocalHost()
        return
    with request.getfixturevalue("sshd").host() as made:
        yield made


@pytest.fixture
def requests(monkeypatch):
    """What is asked of hosts, as it is asked."""
    asked = []

    def noted(host, python, message, *rest, **more):
        asked.append(message)
        return ask(host, python, message, *rest, **more)

    monkeypatch.setattr(client, "ask", noted)
    return asked


@contextmanager
def asking(source):
    """With another agent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "ask", functools.partial(ask, source=source))
        yield


def names_in(place):
    return {path.name for path in Path(place).iterdir()}


def expected(root):
    left = (".git", ".env", ".env.eval", "sub", "ignored", "x.log", ".venv", "key.pem", ".netrc")
    return {name: seen for name, seen in shape(root).items() if name.split("/")[0] not in left}


def test_the_modules_of_an_agent_make_one_text():
    """They share one namespace there: a name that two of them define would be the later one's for both."""
    for modules in (CODE, HOST):
        names = []
        for name in modules:
            for node in ast.parse((HOSTS / name).read_text()).body:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
                names += [target.id for target in targets] + ([node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else [])
        assert sorted(set(names)) == sorted(names)
        compile(bundle.joined(*modules), "agent", "exec")


def test_it_is_there_as_it_is_here_and_no_secret(host, root, base, tmp_path):
    done = sync(host, root, base)
    assert set(NAMES) < set(expected(root))
    assert shape(done.directory) == expected(root)
    assert os.path.realpath(done.current) == done.directory
    assert {".env", ".env.eval", "sub/.envrc", ".venv/", "key.pem", ".netrc"} == set(done.tree.left_out)
    assert done.tree.left_out["key.pem"] == "may hold secrets, which stay here" and done.tree.left_out[".venv/"] == "a virtual environment"
    assert subprocess.run(["grep", "-rqa", CANARY, tmp_path / "there"]).returncode == 1
    assert subprocess.run([f"{done.directory}/run.sh"], capture_output=True).stdout == b"hello\n"


def test_the_second_time_is_one_request_and_sends_nothing(host, root, base, requests):
    first = sync(host, root, base)
    before = len(requests)
    second = sync(host, root, base)
    assert len(requests) == before + 1
    assert (second.directory, second.again, second.sent, second.notes) == (first.directory, True, (), ())
    assert not first.again


def test_only_what_changed_is_sent_and_what_is_deleted_here_is_there_no_more(host, root, base):
    first = sync(host, root, base)
    (root / "untracked.py").write_text("x = 2\n")
    (root / "twice.py").unlink()
    (root / "deep/er/than/that.py").rename(root / "moved.py")
    done = sync(host, root, base)
    assert [item.path for item in done.sent] == ["untracked.py"] and done.sent_bytes == 6
    assert shape(done.directory) == expected(root) and "twice.py" not in shape(done.directory)
    assert (shape(first.directory)["untracked.py"], os.path.realpath(done.current)) == (("f", b"x = 1\n"), done.directory)
    (root / "run.sh").chmod(0o644)
    assert sync(host, root, base).sent == () and shape(done.current)["run.sh"][0] == "f", "the bit alone"


def test_a_change_that_hides_behind_its_time_is_seen(root, base, monkeypatch):
    monkeypatch.setattr("pytest_gpueval.hosts.sync.tree._FRESH_NS", 0)
    sync(LocalHost(), root, base)
    about = (root / "twice.py").stat()
    (root / "twice.py").write_text("emas")
    os.utime(root / "twice.py", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (root / "twice.py").stat().st_mtime_ns == about.st_mtime_ns
    assert shape(sync(LocalHost(), root, base).directory)["twice.py"] == ("f", b"emas")


def test_what_somebody_changed_there_stays_and_is_said(root, base):
    first = sync(LocalHost(), root, base)
    about = Path(first.directory, "run.sh").stat()
    with Path(first.directory, "run.sh").open("r+") as file:
        file.write("#!/bin/xx")
    os.utime(f"{first.directory}/run.sh", ns=(about.st_atime_ns, about.st_mtime_ns))
    second = sync(LocalHost(), root, base)
    assert second.directory == f"{first.directory}-2" and shape(second.directory) == expected(root)
    assert second.notes == (f"1 file(s) were changed or removed there, and stay in {first.directory}: run.sh",)
    assert Path(first.directory, "run.sh").read_text().startswith("#!/bin/xx")
    Path(second.directory, "made there").write_text("results")
    (root / "untracked.py").write_text("other")
    assert sync(LocalHost(), root, base).notes == (f"1 file(s) were made there, and stay in {second.directory}: 'made there'",)


def test_a_dry_run_writes_nothing(host, root, base, tmp_path):
    done = sync(host, root, base, dry_run=True)
    assert len(done.sent) == len([item for item in done.tree.items if item.kind != "l"]) and done.directory is None
    assert not (tmp_path / "there").exists()
    sync(host, root, base)
    (root / "untracked.py").write_text("other")
    before = shape(tmp_path / "there")
    assert [item.path for item in sync(host, root, base, dry_run=True).sent] == ["untracked.py"]
    assert shape(tmp_path / "there") == before


@pytest.mark.parametrize("name", ["received", "built", "placed", "chosen"])
def test_killed_at_any_step_the_old_tree_stays_or_the_next_sync_finishes(root, base, name):
    first = sync(LocalHost(), root, base)
    (root / "new.py").write_text("new")
    (root / "newer.py").write_text("newer")
    killing = stepping(f"    if name == {name!r}: os.kill(os.getpid(), 9)")
    with asking(killing), pytest.raises(GpuevalError, match="sync again"):
        sync(LocalHost(), root, base)
    now = os.path.realpath(first.current)
    assert shape(now) == (expected(root) if name == "chosen" else shape(first.directory))
    done = sync(LocalHost(), root, base)
    assert shape(done.directory) == expected(root) and os.path.realpath(done.current) == done.directory
    assert [item.path for item in done.sent] == (["newer.py"] if name == "received" else []), "what came is not sent again"


def test_a_link_cut_in_the_middle(sshd, root, base):
    big = os.urandom(3_000_000)
    for number in range(20):
        (root / f"random {number}").write_bytes(big[number * 1000 : number * 1000 + 500_000])
    with bad_link(sshd.port) as link, sshd.host(port=link.port, name="cut", config=known(sshd, link.port), patience=Patience(60, 5, 20)) as host:
        host.run(["true"])
        before = link.sent
        cutter = threading.Thread(target=lambda: (wait_for(lambda: link.sent > before + 4_000_000), link.cut()))
        cutter.start()
        with pytest.raises(Unreachable):
            sync(host, root, base)
        cutter.join()
        assert not os.path.lexists(f"{base}/current")
        done = sync(host, root, base)
    assert shape(done.directory) == expected(root)
    assert 0 < len(done.sent) < len(done.tree.items) - 4, "what came whole is not sent again"


def known(sshd, port):
    """An ssh_config that knows the server under another port, too."""
    kind, key, *_ = sshd.host_key.with_suffix(".pub").read_text().split()
    hosts = sshd.place / f"known_hosts_{port}"
    hosts.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    config = sshd.place / f"config_{port}"
    config.write_text(sshd.config.read_text().replace(str(sshd.known_hosts), str(hosts)))
    return config


def test_two_at_once_and_one_of_another_state(root, base):
    answers, errors = [], []

    def go():
        try:
            answers.append(sync(LocalHost(), root, base))
        except GpuevalError as error:
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len({done.directory for done in answers}) == 1
    assert shape(answers[0].directory) == expected(root) and names_in(f"{base}/snapshots") == {Path(answers[0].directory).name}


def test_five_thousand_files(root, base):
    for number in range(5000):
        place = root / f"many/{number % 70}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.py").write_text(f"x = {number}\n" * 20)
    done = sync(LocalHost(), root, base)
    assert shape(done.directory) == expected(root) and len(done.sent) > 5000
    (root / "many/3/3.py").write_text("changed")
    assert len(sync(LocalHost(), root, base).sent) == 1


def test_larger_than_one_batch(root, base, monkeypatch, requests):
    monkeypatch.setattr(client, "_BATCH_BYTES", 1000)
    done = sync(LocalHost(), root, base)
    assert [message["do"] for message in requests].count("put") > 3 and [m["last"] for m in requests if m["do"] == "put"].count(True) == 1
    assert shape(done.directory) == expected(root)


def test_a_file_that_changes_while_it_is_sent(root, base, monkeypatch):
    real, turns = client.content, []

    def changing(place, item):
        data = real(place, item)
        if item.path == "twice.py" and not turns:
            turns.append(item)
            (root / "twice.py").write_text("emas")
            return b"emas"
        return data

    monkeypatch.setattr(client, "content", changing)
    (root / "again.py").write_text("other")
    done = sync(LocalHost(), root, base)
    assert turns and shape(done.directory) == expected(root) and shape(done.directory)["twice.py"] == ("f", b"emas")


def test_a_full_disk_is_said_and_the_old_tree_stays(root, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", place], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        first = sync(LocalHost(), root, str(place / "code"))
        for number in range(3):
            (root / f"big {number}").write_bytes(os.urandom(9_000_000))
        with pytest.raises(StorageError, match=r"MB are needed, and .* MB are free"):
            sync(LocalHost(), root, str(place / "code"))
        careless = stepping("    pass").replace("SPARE = 16 << 20", "SPARE = -(1 << 40)")
        (place / "filler").write_bytes(bytes(25_000_000))
        with asking(careless), pytest.raises(StorageError, match=r"No space left on device. Free some space there, or give another workdir"):
            sync(LocalHost(), root, str(place / "code"))
        assert os.path.realpath(first.current) == first.directory and shape(first.directory) == {k: v for k, v in expected(root).items() if "big" not in k}
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_directory_that_cannot_be_written_is_said(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Not a directory. Free some space there, or give another workdir in hosts.toml"):
        sync(LocalHost(), root, str(tmp_path / "file" / "code"))


def test_a_python_that_is_not_there_is_said(host, root, base):
    with pytest.raises(UsageProblem, match="no-such-python cannot be run there"):
        sync(host, root, base, python="no-such-python")


def test_old_snapshots_go_but_those_in_use_changed_or_recent(root, base, monkeypatch):
    made = []
    for number in range(9):
        (root / "untracked.py").write_text(f"x = {number}")
        made.append(sync(LocalHost(), root, base))
    assert len(names_in(f"{base}/snapshots")) == 9, "all are recent"
    for done in made:
        name = Path(done.directory).name
        os.utime(f"{base}/index/{name}.json", (0, made.index(done)))
    Path(made[1].directory, "kept by hand").touch()
    sleeper = subprocess.Popen(["sleep", "600"], cwd=f"{made[2].directory}/deep")
    try:
        (root / "untracked.py").write_text("last")
        last = sync(LocalHost(), root, base)
    finally:
        sleeper.kill()
        sleeper.wait()
    left = {Path(done.directory).name for done in (made[1], made[2], *made[5:], last)}
    assert names_in(f"{base}/snapshots") == left
    assert any("old, but they hold what no sync brought" in note and Path(made[1].directory).name in note for note in last.notes)


def test_somebody_holds_the_lock(root, base):
    sync(LocalHost(), root, base)
    impatient = stepping("    pass").replace("SYNC_LOCK_S = 120.0", "SYNC_LOCK_S = 0.1")
    with subprocess.Popen(["flock", f"{base}/lock", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"held\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"held\n"
        with asking(impatient), pytest.raises(Conflict, match="somebody else sends code there right now"):
            sync(LocalHost(), root, base)
        holder.stdin.close()


def test_without_git_the_rules_alone_decide(tmp_path, base):
    root = tmp_path / "plain"
    root.mkdir()
    for name in ("a.py", "data/x.parquet", ".git/config", ".venv/pyvenv.cfg", ".venv/x.py", "__pycache__/a.pyc", ".env"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(CANARY)
    done = sync(LocalHost(), root, base)
    assert set(shape(done.directory)) == {"a.py", "data/x.parquet"}
    assert set(done.tree.left_out) == {".git/", ".venv/", "__pycache__/", ".env"}
    assert "is in no git repository" in done.tree.notes[0]


def test_links_that_lead_out_are_left_out_with_words(root, base, tmp_path):
    (tmp_path / "outside").write_text(CANARY)
    (root / "out").symlink_to("../outside")
    (root / "absolute").symlink_to(root / "run.sh")
    (root / "hop").symlink_to("link/../../../outside")
    os.mkfifo(root / "pipe")
    done = sync(LocalHost(), root, base)
    assert {"out", "absolute", "hop"} < set(done.tree.left_out) and not {"out", "absolute", "hop", "pipe"} & set(shape(done.directory))
    assert "leads out of the tree" in done.tree.left_out["out"] and "a path of this machine" in done.tree.left_out["absolute"]


def test_submodules_come_and_repositories_that_are_none_do_not(root, base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mod.py").write_text("m")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub module")
    subprocess.run(["git", "clone", "-q", other, root / "stray"], check=True)
    done = sync(LocalHost(), root, base)
    assert shape(done.directory)["sub module/mod.py"] == ("f", b"m")
    assert done.tree.left_out["stray/"] == "a git repository of its own, and no submodule" and "stray/mod.py" not in shape(done.directory)


def test_too_much_code_is_refused_with_the_largest_folders(root, base):
    (root / "huge").mkdir()
    (root / "huge/file").write_bytes(os.urandom(3_000_000))
    with pytest.raises(UsageProblem, match=r"3 MiB of code are more than max_total_mib = 1. The largest: 'huge' 3 MiB"):
        sync(LocalHost(), root, base, rules=Rules(CodeEntry(max_total_mib=1)))


def test_a_link_that_falls_silent_does_not_hold_the_lock_for_ever(root, base):
    impatient = stepping("    pass").replace("IDLE_S = 60", "IDLE_S = 1")

    class Silent(LocalHost):
        """Sends half of a request, and then nothing, and does not say that it is the end."""

        def run(self, argv, *, stdin, **more):
            stdin = b"".join(stdin)
            if len(stdin) < 200_000:
                return super().run(argv, stdin=stdin, **more)
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                process.stdin.write(stdin[: len(stdin) // 2])
                process.stdin.flush()
                return Done(0, process.stdout.read(), "")

    (root / "random").write_bytes(os.urandom(500_000))
    with asking(impatient), pytest.raises(GpuevalError, match="nothing came for 1 s"):
        sync(Silent(), root, base)
    assert shape(sync(LocalHost(), root, base).directory) == expected(root)
