"""Runs on a host whose link is bad: a real sshd behind a proxy that cuts and stalls."""

import threading
import time
from pathlib import Path

import pytest

from pytest_gpueval.errors import Unreachable
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached import fetch as fetching
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from tests.bad_links import SHORT
from tests.detached_runs import NO_STEP, carriers, ended, nonce_of, what
from tests.waiting import wait_for

# An agent that has started the run, and takes its time to say so.
SLOW = """def step(name):
    if name == "started":
        open({answering!r}, "w").close()
        while os.path.exists({answering!r}):
            time.sleep(0.01)
"""


@pytest.fixture
def far(sshd, link, agent):
    """The agent of the same runs, over the link."""
    with sshd.host(port=link.port, patience=SHORT) as host:
        yield Agent(host, agent.root)


def test_a_black_hole_during_status_harms_no_run(agent, far, link, tmp_path):
    (tmp_path / "go").touch()
    far.submit(what("echo beat; while [ -e go ]; do sleep 0.05; done; echo end", directory=str(tmp_path)), {})
    link.stall()
    with pytest.raises(Unreachable) as silence:
        far.status(["one"])
    assert silence.value.exit_code == 3 and "try again" in str(silence.value)
    assert agent.status(["one"])[0].state is State.RUNNING
    link.cut()
    link.flow()
    assert far.status(["one"])[0].state is State.RUNNING
    (tmp_path / "go").unlink()
    run = ended(far)
    assert run.state is State.PASSED and run.tail == "beat\nend\n"


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_link_that_breaks_between_launch_and_answer(agent, sshd, link, tmp_path, how):
    (tmp_path / "go").touch()
    request = what("echo started >> starts; while [ -e go ]; do sleep 0.05; done", directory=str(tmp_path))
    answering = tmp_path / "answering"
    slow = SLOW.format(answering=str(answering))
    with sshd.host(port=link.port, patience=SHORT) as host:
        breaking = threading.Thread(target=lambda: (wait_for(answering.exists), link.cut() if how == "cut" else link.stall(), answering.unlink()))
        breaking.start()
        with pytest.raises(Unreachable, match=r"nobody knows whether it was started\. Submit it again with --run-id one: it starts once"):
            Agent(host, agent.root, source=bundle.source().replace(NO_STEP, slow)).submit(request, {}, tmux=False)
        breaking.join()
        link.cut()
        link.flow()
        far = Agent(host, agent.root)
        again = far.submit(request, {}, tmux=False)
        assert again.again and again.run.state is State.RUNNING
        (tmp_path / "go").unlink()
        assert ended(far).state is State.PASSED
    assert (tmp_path / "starts").read_text() == "started\n" and not carriers(nonce_of(agent))


def test_a_fetch_that_is_cut_at_every_tenth(agent, far, link, tmp_path):
    size = 2_000_000
    far.submit(what(["sh", "-c", f'head -c {size} /dev/urandom >"$1"', "sh", "{run_dir}/model.bin"]), {}, tmux=False)
    assert ended(far).state is State.PASSED
    cuts = 0
    for _ in range(60):
        link.cut_after(size // 10)
        try:
            done = fetching.fetch(far, "one", tmp_path / "to", most_bytes=1 << 30, most_files=100)
        except Unreachable:
            cuts += 1
            assert not (tmp_path / "to/one/model.bin").exists(), "nothing is in place before it is whole"
            continue
        break
    assert cuts >= 9 and "model.bin" in {entry.name for entry in done.files}
    assert (tmp_path / "to/one/model.bin").read_bytes() == Path(agent.root, "one/model.bin").read_bytes()


# Bytes a second of a link of 1 Mbit/s.
SLOW_LINK = 125_000
# What comes by a connection besides the file: the handshake, and the agent's answer.
HANDSHAKE = 8_000
# SSH's largest packet: a part of one proves nothing, so what has come of it when the link is cut comes again.
PACKET = 32_768


def test_a_slow_link_that_is_cut_at_every_tenth_brings_each_byte_once(agent, far, link, tmp_path, monkeypatch):
    size = 400_000
    far.submit(what(["sh", "-c", f'head -c {size} /dev/urandom >"$1"', "sh", "{run_dir}/model.bin"]), {}, tmux=False)
    assert ended(far).state is State.PASSED
    far.host.close()
    link.slow(SLOW_LINK)
    link.came, before, begun = 0, link.connections, time.monotonic()
    get, model = far.host.get, []

    def counted(source, target, *, offset, **more):
        try:
            return get(source, target, offset=offset, **more)
        finally:
            if source.endswith("/model.bin"):
                model.append((offset, target.stat().st_size))

    monkeypatch.setattr(far.host, "get", counted)
    for _ in range(40):
        link.cut_after(size // 10 + HANDSHAKE)
        try:
            done = fetching.fetch(far, "one", tmp_path / "to", most_bytes=1 << 30, most_files=100)
        except Unreachable:
            continue
        break
    connections = link.connections - before
    assert connections > 9 and "model.bin" in {entry.name for entry in done.files}
    assert (tmp_path / "to/one/model.bin").read_bytes() == Path(agent.root, "one/model.bin").read_bytes()
    assert [begin for begin, _ in model] == [0, *(end for _, end in model[:-1])] and model[-1][1] == size, "it goes on where it stopped"
    assert link.came <= size + connections * (HANDSHAKE + PACKET), f"{link.came:,} bytes came by {connections} connections"
    assert time.monotonic() - begun > size / SLOW_LINK, "the link was slow"


def test_status_over_a_slow_link(far, link):
    far.submit(what("echo beat"), {})
    far.host.close()  # not a cut, which the host may not have noticed when it asks again
    link.slow(SLOW_LINK)
    link.sent = link.came = 0
    run = ended(far)
    assert run.state is State.PASSED and run.tail == "beat\n"
    assert link.sent > 20_000, "all of the agent went over it"
