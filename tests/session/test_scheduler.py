"""Who gets which item, and when: the scheduler alone, with workers that only write down what they are told."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
from xdist.scheduler.protocol import Scheduling

from pytest_gpueval.planning.dispatch import Job, Slot
from pytest_gpueval.session.scheduler import Scheduler, Session
from pytest_gpueval.session.xdist_seam import RELEASE


class Node:
    """A worker; `told` is what it was sent."""

    def __init__(self, lane: str, name: str | None = None) -> None:
        self.lane = lane
        self.gateway = SimpleNamespace(id=name or lane)
        self.told: list[int] = []
        self.shutting_down = False
        self.dead = False

    def send_runtest_some(self, indices):
        if self.dead:
            raise OSError("cannot send (already closed?)")
        self.told += indices

    def shutdown(self):
        self.shutting_down = True


class World:
    """A scheduler over lanes `g0`, `g1`... of one GPU each, and one for each group such as `g0+g1`; items such as `a`, and `w:2` for two GPUs."""

    def __init__(self, items: list[str], lanes: list[str]) -> None:
        self.items = items
        self.retiring: set[str] = set()
        self.differing: list[Node] = []
        self.begun: list[list[str]] = []
        self.finished = 0
        self.now = 0.0
        session = Session(
            lane=lambda node: node.lane,
            jobs=lambda ids: [Job(id_, id_, 10.0, gpus=int(id_.partition(":")[2] or 1)) for id_ in ids],
            begun=lambda jobs: self.begun.append([job.id for job in jobs]),
            serving_s=lambda _, seconds: seconds,
            differs=lambda node, _first, _found: self.differing.append(node),
            finished=self.count,
            retiring=self.retiring,
        )
        self.scheduler = Scheduler({lane: Slot(lane, frozenset(lane.split("+"))) for lane in lanes}, session, clock=lambda: self.now)

    def count(self):
        self.finished += 1

    def join(self, lane: str, name: str | None = None, items: list[str] | None = None) -> Node:
        node = Node(lane, name)
        self.scheduler.add_node(node)
        self.scheduler.add_node_collection(node, self.items if items is None else items)
        self.scheduler.schedule()
        return node

    def done(self, node: Node) -> None:
        self.scheduler.mark_test_complete(node, node.told[-1], 10.0)


def test_it_has_all_that_xdist_asks_for():
    for name, wanted in vars(Scheduling).items():
        if name.startswith("_"):
            continue
        ours = inspect.getattr_static(Scheduler, name)
        assert isinstance(ours, property) == isinstance(wanted, property), name
        if not isinstance(wanted, property):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(wanted).parameters), name


def test_what_takes_time_comes_after_the_first_start():
    world = World(["a", "b"], ["g0", "g1"])
    node = Node("g0", None)
    world.scheduler.add_node(node)
    world.scheduler.add_node_collection(node, world.items)
    assert (node.told, world.begun) == ([], [])
    world.scheduler.schedule()
    assert (node.told, world.begun) == ([0], [["a", "b"]])
    world.join("g1")
    world.scheduler.tick()
    assert len(world.begun) == 1


def test_a_worker_has_one_item_at_a_time_and_may_come_late():
    world = World(["a", "b", "c"], ["g0", "g1"])
    assert (world.scheduler.collection_is_completed, world.scheduler.has_pending, world.scheduler.tests_finished) == (False, True, False)
    first = world.join("g0")
    assert (world.scheduler.collection_is_completed, first.told) == (True, [0])
    late = world.join("g1")
    assert (first.told, late.told) == ([0], [1])
    world.done(late)
    assert (late.told, world.scheduler.left) == ([1, 2], 0)
    world.done(first)
    assert first.told == [0]
    assert (world.scheduler.has_pending, world.scheduler.tests_finished, world.finished) == (True, False, 0)
    world.done(late)
    assert (world.scheduler.tests_finished, world.finished) == (True, 1)
    assert world.scheduler.nodes == [first, late]


def test_a_crash_loses_one_item_and_its_replacement_goes_on():
    world = World(["a", "b", "c"], ["g0"])
    node = world.join("g0")
    assert world.scheduler.remove_node(node) == "a"
    assert world.scheduler.left == 2
    after = world.join("g0", "g0-2")
    assert after.told == [1]
    world.scheduler.mark_test_pending("a")  # another plugin wants it again
    world.done(after)
    world.done(after)
    assert sorted(after.told) == [0, 1, 2]
    world.done(after)
    assert world.scheduler.tests_finished
    assert world.scheduler.remove_node(after) is None
    with pytest.raises(KeyError):
        world.scheduler.remove_node(after)


def test_a_worker_that_dies_before_it_collects():
    world = World(["a"], ["g0"])
    node = Node("g0")
    world.scheduler.add_node(node)
    assert world.scheduler.remove_node(node) is None
    assert not world.scheduler.tests_finished


def test_a_worker_that_is_dead_already_loses_nothing():
    """It died between two items; xdist has not said so yet. Its next item is not lost: it never began."""
    world = World(["a", "b"], ["g0", "g1"])
    node = world.join("g0")
    node.dead = True
    world.done(node)
    assert world.scheduler.remove_node(node) is None
    assert world.join("g0", "g0-2").told == [1]


def test_a_retiring_worker_gets_nothing_more():
    world = World(["a", "b"], ["g0"])
    node = world.join("g0")
    world.retiring.add("g0")
    world.done(node)
    assert node.told == [0]
    assert world.scheduler.remove_node(node) is None
    assert world.join("g0", "g0-2").told == [1]


def test_a_worker_that_collected_other_items_takes_no_part():
    world = World(["a", "b"], ["g0", "g1"])
    first = world.join("g0")
    other = world.join("g1", items=["b", "a"])
    assert (world.differing, other.told) == ([other], [])
    world.done(first)
    world.done(first)
    assert (first.told, world.scheduler.tests_finished) == ([0, 1], True)


def test_gpus_are_lent_only_when_their_workers_have_let_go():
    world = World(["w:2", "a", "b", "c", "d"], ["g0", "g1", "g0+g1"])
    left, right = world.join("g0"), world.join("g1")
    wide = world.join("g0+g1")
    world.now = 10.0  # both are about to end: nothing fits in before the wide item
    world.done(left)
    world.done(right)
    assert (left.told[1:], right.told[1:], wide.told) == ([RELEASE], [RELEASE], [])
    world.scheduler.remove_pending_tests_from_node(left, [])
    assert wide.told == []
    world.scheduler.tick()
    world.scheduler.remove_pending_tests_from_node(right, [])
    assert wide.told == [0]
    world.done(wide)
    assert wide.told == [0, RELEASE], "and back"
    assert len(left.told) == len(right.told) == 2
    world.scheduler.remove_pending_tests_from_node(wide, [])
    assert left.told[2:] + right.told[2:] == [3, 4]


@pytest.mark.parametrize("who", ["a holder", "the waiting one"])
def test_a_death_while_gpus_are_lent(who):
    world = World(["w:2", "a", "b"], ["g0", "g1", "g0+g1"])
    left, right = world.join("g0"), world.join("g1")
    wide = world.join("g0+g1")
    world.now = 10.0  # both are about to end: nothing fits in before the wide item
    world.done(left)
    world.done(right)
    world.scheduler.remove_pending_tests_from_node(left, [])
    if who == "a holder":
        assert world.scheduler.remove_node(right) is None
        assert wide.told == [0], "a dead worker holds nothing"
        return
    assert world.scheduler.remove_node(wide) is None, "its item had not begun"
    wide = world.join("g0+g1", "g0+g1-2")
    assert (wide.told, right.told.count(RELEASE)) == ([], 1), "the other one has not let go yet, and was asked"
    world.scheduler.remove_pending_tests_from_node(right, [])
    assert wide.told == [0]
