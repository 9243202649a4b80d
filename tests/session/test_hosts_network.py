"""One session on two machines, each with a network, a name, an address and a host key of its own: namespaces, joined by cables."""

from __future__ import annotations

import json

import pytest

from pytest_gpueval.runs import validate
from tests import networks
from tests.sshd import running
from tests.waiting import SESSION_S, wait_for

from .test_hosts import Hosts

NAMES = ("gpu-a", "gpu-b")
# A server that ends what nobody is connected to any more, as a cable that is pulled leaves it.
LIVELY = ("ClientAliveInterval 1", "ClientAliveCountMax 15")

if not networks.possible():
    pytest.skip("the kernel, or the container, allows no networks of our own", allow_module_level=True)


@pytest.fixture
def star():
    with networks.star(*NAMES) as made:
        yield made


@pytest.fixture
def hosts(toy, star, tmp_path):
    """Their hosts.toml; sessions run on the machine in the middle."""
    middle, around = star
    toy.launcher = middle.command()
    with running(tmp_path / NAMES[0], *LIVELY, on=around[NAMES[0]]) as one, running(tmp_path / NAMES[1], *LIVELY, on=around[NAMES[1]]) as other:
        made = Hosts(toy, one, tmp_path / "hosts")
        for name, server in zip(NAMES, (one, other), strict=True):
            made.add(name, address=f"ssh://{server.users['bash']}@{server.address}:{server.port}", ssh_config=str(server.config))
        assert one.fingerprint() != other.fingerprint()
        yield made


def where(toy, number):
    """The machine that ran an item, by its own name for itself."""
    return json.loads((toy.session("it") / f"toy-d{number}-fast/run_metadata.json").read_text())["host"]


def test_one_session_on_two_machines(hosts):
    toy = hosts.toy
    toy.datasets({f"d{number}": ["meet(2)", "pass"] for number in range(4)})
    said = hosts.finish(",".join(NAMES), "--gpus", "none", "-n", "1")
    assert "2 CPU lanes on gpu-a, gpu-b" in said and "4 passed" in said, said
    assert {where(toy, number) for number in range(4)} == set(NAMES) and toy.record()["host"] == "laptop"
    assert validate.problems(toy.session("it")) == []


def test_a_machine_whose_cable_is_pulled_costs_what_ran_there_and_the_other_runs_it(hosts, star):
    toy, (middle, around) = hosts.toy, star
    hang = "recorded('begin')[-1]; os.environ['TOY_HOST'] == 'gpu-a' and wait_for(lambda: False, 'the cable', 600)"
    toy.datasets(dict.fromkeys(["d0", "d1", "d2", "d3"], hang))
    process = toy.start(hosts.here, "--gpueval-hosts", ",".join(NAMES), "--gpus", "none", "-n", "1")
    wait_for(lambda: any(line["worker"].endswith("@gpu-a") for line in toy.events("begin")))
    networks.pull(middle, around["gpu-a"][0])
    said, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == 0 and "the host of cpu0@gpu-a vanished" in said and "4 passed" in said, said
    assert {where(toy, number) for number in range(4)} == {"gpu-b"}
    hosts.nothing_is_left()
