"""Files of a run come here: what changed, from where it stopped, nothing that is hostile, and nothing before its hash is right."""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached import fetch as fetching
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.incoming import Entry, problem, wanted
from pytest_gpueval.hosts.host import Done
from pytest_gpueval.hosts.local import LocalHost
from tests.detached_runs import ended, runs_in, what
from tests.waiting import wait_for

SHA = "0" * 64


class Link(LocalHost):
    """This machine behind a link: it counts what comes, and breaks after so many bytes of a `get`."""

    def __init__(self):
        super().__init__()
        self.got, self.breaks_after = [], None

    def get(self, source, target, *, offset=0, **more):
        if self.breaks_after is None:
            came = super().get(source, target, offset=offset, **more)
            self.got.append((Path(source).name, offset, came))
            return came
        data = Path(source).read_bytes()[offset : offset + self.breaks_after]
        with target.open("ab") as file:
            file.write(data)
        self.got.append((Path(source).name, offset, len(data)))
        raise Unreachable("the link broke")


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with runs_in(tmp_path / "runs", Link()) as agent:
        agent.submit(what("mkdir -p sub; true", directory=str(tmp_path)), {}, tmux=False)
        ended(agent)
        yield agent


@pytest.fixture
def there(agent):
    """The run's directory."""
    return Path(agent.root) / "one"


def fetch(agent, to, **more):
    return fetching.fetch(agent, "one", to, **{"most_bytes": 1 << 30, "most_files": 100, **more})


def names(done):
    return {entry.name for entry in done.files}


def test_what_changed_comes_and_nothing_else(agent, there, tmp_path):
    (there / "sub dir/deep").mkdir(parents=True)
    (there / "sub dir/deep/it's.bin").write_bytes(os.urandom(300_000))
    first = fetch(agent, tmp_path / "here")
    assert names(first) == {"command.sh", "log.md", "stdout.log", "sub dir/deep/it's.bin"}
    assert (tmp_path / "here/one/sub dir/deep/it's.bin").read_bytes() == (there / "sub dir/deep/it's.bin").read_bytes()
    assert not (tmp_path / "here/one/.gpueval").exists()
    agent.host.got.clear()
    again = fetch(agent, tmp_path / "here")
    assert (names(again), len(again.unchanged), agent.host.got) == (set(), 4, [])
    (there / "log.md").write_text("other")
    assert names(fetch(agent, tmp_path / "here")) == {"log.md"}
    (tmp_path / "here/one/command.sh").write_text("touched here")
    assert names(fetch(agent, tmp_path / "here")) == {"command.sh"}


def test_a_log_that_has_grown_is_continued(agent, there, tmp_path):
    (there / "stdout.log").write_bytes(b"a" * 1000)
    fetch(agent, tmp_path)
    with (there / "stdout.log").open("ab") as file:
        file.write(b"b" * 10)
    agent.host.got.clear()
    assert names(fetch(agent, tmp_path)) == {"stdout.log"}
    assert agent.host.got == [("stdout.log", 1000, 10)]
    assert (tmp_path / "one/stdout.log").read_bytes() == b"a" * 1000 + b"b" * 10


def test_a_file_that_grows_meanwhile_is_what_was_listed(agent, there, tmp_path):
    (there / "stdout.log").write_bytes(b"a" * 1000)
    get = agent.host.get

    def growing(source, target, **more):
        with (there / "stdout.log").open("ab") as file:
            file.write(b"later")
        return get(source, target, **more)

    agent.host.get = growing
    assert "stdout.log" in names(fetch(agent, tmp_path))
    assert (tmp_path / "one/stdout.log").read_bytes().startswith(b"a" * 1000)
    assert (tmp_path / "one/stdout.log").stat().st_size in {entry.size for entry in fetching.Place(tmp_path, "one").verified().values()}


def test_a_link_that_breaks_again_and_again(agent, there, tmp_path):
    content = os.urandom(100_000)
    for name in ("command.sh", "log.md", "stdout.log"):
        (there / name).unlink()
    (there / "model.bin").write_bytes(content)
    agent.host.breaks_after = 10_000
    for _ in range(9):
        with pytest.raises(Unreachable):
            fetch(agent, tmp_path)
        assert not (tmp_path / "one/model.bin").exists(), "nothing is in place before it is whole"
    agent.host.breaks_after = None
    assert names(fetch(agent, tmp_path)) == {"model.bin"}
    assert (tmp_path / "one/model.bin").read_bytes() == content
    assert [offset for _, offset, _ in agent.host.got] == list(range(0, 100_000, 10_000)), "no byte came twice"


def test_what_is_rewritten_while_it_is_read_stays_in_quarantine(agent, there, tmp_path):
    (there / "state.bin").write_bytes(b"a" * 1000)
    get = agent.host.get

    def rewriting(source, target, **more):
        if source.endswith("state.bin"):
            (there / "state.bin").write_bytes(os.urandom(1000))
        return get(source, target, **more)

    agent.host.get = rewriting
    done = fetch(agent, tmp_path)
    assert done.changing == ("state.bin",) and names(done) == {"command.sh", "log.md", "stdout.log"}
    assert not (tmp_path / "one/state.bin").exists()
    with pytest.raises(GpuevalError, match=r"state\.bin: changed while being read; fetch again"):
        fetching.explain(done)


def test_links_and_pipes_stay_there(agent, there, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (there / "link").symlink_to(tmp_path / "secret")
    (there / "folder").symlink_to("/etc")
    os.mkfifo(there / "pipe")
    (there / "new\nline").write_text("x")
    done = fetch(agent, tmp_path / "here")
    assert {name: why.partition(",")[0] for name, why in done.refused.items()} == {
        "link": "no regular file",
        "folder": "no regular file",
        "pipe": "no regular file",
        "new\nline": "its name has characters that show nothing",
    }
    assert {path.name for path in (tmp_path / "here/one").iterdir()} == {"command.sh", "log.md", "stdout.log"}


def test_a_link_here_leads_nowhere(agent, there, tmp_path):
    (there / "sub").mkdir()
    (there / "sub/file").write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "here/one").mkdir(parents=True)
    (tmp_path / "here/one/sub").symlink_to(tmp_path / "outside")
    with pytest.raises(GpuevalError, match="a link leads out of"):
        fetch(agent, tmp_path / "here")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "said"), [({"most_bytes": 10}, "more than 10; allow more with --max-mib"), ({"most_files": 2}, "more than 2 files; take more with --max-files")]
)
def test_caps(agent, tmp_path, limit, said):
    with pytest.raises(UsageProblem, match=said):
        fetch(agent, tmp_path, **limit)
    assert list((tmp_path / "one").iterdir()) == []


def test_two_fetches_at_once(agent, tmp_path):
    with fetching.Place(tmp_path, "one").alone(), pytest.raises(Conflict, match="another fetch"):
        fetch(agent, tmp_path)
    assert fetch(agent, tmp_path).files


# Archiving


def test_what_is_archived_and_what_is_not(agent, there, tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (there / "archived").mkdir()
    (there / "archived/b").write_text("old")
    (tmp_path / "b").write_text("new")
    for path, error, said in [
        (tmp_path / "link", UsageProblem, "is a link or no file"),
        (tmp_path / "nothing", UsageProblem, "nothing on the host is called so"),
        (tmp_path, UsageProblem, "holds the run's directory"),
        (there / "log.md", UsageProblem, "or lies in it"),
        ("a", UsageProblem, "give an absolute path"),
        (tmp_path / "b", Conflict, "is there already"),
    ]:
        with pytest.raises(error, match=said):
            agent.archive("one", [str(tmp_path / "a"), str(path)])
    assert (tmp_path / "a").exists(), "nothing is moved where one cannot be"
    assert agent.archive("one", [str(tmp_path / "a")]) == [(str(tmp_path / "a"), str(there / "archived/a"))]
    agent.submit(what("exec sleep 600", "live"), {}, tmux=False)
    with pytest.raises(Conflict, match="live still runs"):
        agent.archive("live", [str(tmp_path / "b")])


def test_archiving_between_file_systems(agent, there):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == there.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=elsewhere) as place:
        folder = Path(place, "eval_1")
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/x").write_text("x")
        (folder / "link").symlink_to("sub/x")
        Path(place, "eval_2").write_text("y")
        agent.archive("one", [f"{place}/eval_*"])
        assert list(Path(place).iterdir()) == []
    assert (there / "archived/eval_1/link").readlink() == Path("sub/x") and (there / "archived/eval_2").read_text() == "y"
    assert sorted(path.name for path in (there / "archived").iterdir()) == ["eval_1", "eval_2"]


# A host that lies


class Liar(LocalHost):
    """Lists what it likes, and sends what it likes."""

    def __init__(self, *files):
        super().__init__()
        self.files = files

    def run(self, *_, **__):
        return Done(0, json.dumps({"directory": "/x", "files": self.files, "skipped": []}).encode(), "")

    def get(self, source, target, *, offset=0, **_):
        with target.open("ab") as file:
            return file.write(b"evil")


def listed(name, size=4):
    return {"name": name, "size": size, "mtime_ns": 0, "sha256": SHA}


HOSTILE = ["../x", "/etc/x", "a/../../x", "a//b", "./a", "", "a\x1b[2Jb", "a\\b", "\u202egpj.exe", "x" * 300, "/".join("abc" * 20), "\udcff"]


def test_hostile_names_and_wrong_bytes_never_get_a_place(tmp_path):
    host = Liar(*map(listed, HOSTILE), listed("plain"))
    done = fetch(Agent(host, "/x"), tmp_path / "here")
    assert set(done.refused) == set(HOSTILE)
    assert done.changing == ("plain",), "its hash is not what was listed"
    assert list((tmp_path / "here/one").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


@pytest.mark.parametrize("record", [{}, listed("a", -1), listed("a", "4"), {**listed("a"), "sha256": "../x"}])
def test_a_list_that_is_none(tmp_path, record):
    with pytest.raises(GpuevalError, match="the host's list of files is not one"):
        fetch(Agent(Liar(record), "/x"), tmp_path)


def test_a_name_that_is_two_things():
    plan = wanted([listed("a"), listed("a/b"), listed("c"), listed("c")], [], {})
    assert [entry.name for entry in plan.files] == ["a/b", "c"]
    assert plan.refused == {"a": "listed as a file and as a directory", "c": "listed twice"}


@given(st.text(alphabet="ab./\\\n\u202e", max_size=12))
def test_a_name_that_may_come_stays_below(name):
    if problem(name) is None:
        assert os.path.normpath(f"/base/{name}") == f"/base/{name}"
        assert name.isprintable()


def test_what_is_here_already():
    entry = Entry("a", 4, 0, SHA)
    assert wanted([listed("a")], [], {"a": entry}).unchanged == ("a",)
    assert wanted([listed("a")], [], {"a": Entry("a", 4, 0, "1" * 64)}).unchanged == ()


def test_how_far_it_is_comes_at_its_end(agent, tmp_path):
    """Of what is written anew all the time nobody would get what was listed."""
    writes = 'echo "{\\"done\\": $n}" > .progress.json.new; mv .progress.json.new progress.json'
    agent.submit(what(f"cd $GPUEVAL_RUN_DIR; n=0; while [ ! -e {tmp_path}/go ]; do n=$((n+1)); {writes}; done", "two"), {})
    wait_for((Path(agent.root) / "two/progress.json").exists)
    for _ in range(3):
        done = fetching.fetch(agent, "two", tmp_path, most_bytes=1 << 20, most_files=100)
        assert done.changing == () and not {"progress.json", ".progress.json.new"} & {*names(done), *done.unchanged}
    (tmp_path / "go").touch()
    ended(agent, "two")
    assert "progress.json" in names(fetching.fetch(agent, "two", tmp_path, most_bytes=1 << 20, most_files=100))
