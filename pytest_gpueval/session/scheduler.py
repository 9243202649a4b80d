"""xdist's scheduler for lanes: every worker has at most one item, and the dispatcher of the plan says which."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_gpueval.planning.dispatch import Dispatcher, Job, Slot

from .xdist_seam import RELEASE, Node


@dataclass(frozen=True)
class Session:
    """What a scheduler asks of the session around it.

    `jobs` makes jobs of node ids, in their order; `begun` hears of them once the first are under way, and may take its time; `serving_s` turns the
    seconds of an item into those that did not go into loading its model, None where they say nothing; `retiring` are the gateways of workers that
    take no more items. `again` are node ids that their workers give back; `tried_again` says whether one is to be run again whose worker died.
    """

    lane: Callable[[Node], str]
    jobs: Callable[[Sequence[str]], list[Job]]
    begun: Callable[[Sequence[Job]], None]
    serving_s: Callable[[str, float], float | None]
    differs: Callable[[Node, Sequence[str], Sequence[str]], None]
    finished: Callable[[], None]
    retiring: Collection[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    tried_again: Callable[[str], bool] = lambda _nodeid: False


class Scheduler:
    """Implements `xdist.scheduler.protocol.Scheduling`. Workers may join at any time; the first one's collection starts the work.

    A worker that has run an item may still hold memory of its GPUs. Before a worker of another lane gets them, it is told to let go, and
    that worker's item waits until it has.
    """

    def __init__(self, slots: Mapping[str, Slot], session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = dict(slots)
        self._session = session
        self._clock = clock
        self._collection: list[str] | None = None
        self._jobs: list[Job] = []
        self._begun = False
        self._index: dict[str, int] = {}
        self._dispatcher: Dispatcher | None = None
        self._running: dict[Node, int | None] = {}
        self._collected: dict[str, Node] = {}
        self._used: set[Node] = set()
        self._letting_go: set[Node] = set()
        self._held: dict[Node, set[Node]] = {}
        self._deaf: set[Node] = set()

    # xdist's protocol.

    @property
    def nodes(self) -> list[Node]:
        """The workers that are there."""
        return list(self._running)

    @property
    def collection_is_completed(self) -> bool:
        """Whether work can begin: as soon as one worker has collected."""
        return self._dispatcher is not None

    @property
    def has_pending(self) -> bool:
        """Whether anything is still to be run or running."""
        return self._dispatcher is None or self._dispatcher.pending > 0 or any(index is not None for index in self._running.values())

    @property
    def left(self) -> int:
        """How many items have not been started."""
        return self._dispatcher.pending if self._dispatcher is not None else 0

    @property
    def tests_finished(self) -> bool:
        """Whether everything was run; xdist asks after each event."""
        finished = self._dispatcher is not None and not self.has_pending
        if finished:
            self._session.finished()
        return finished

    def add_node(self, node: Node) -> None:
        """A worker is up, and collects."""
        self._running[node] = None

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """A worker has collected. One that found other items than the first worker takes no part."""
        if self._collection is None:
            self._collection = list(collection)
            self._jobs = self._session.jobs(self._collection)
            self._index = {job.id: index for index, job in enumerate(self._jobs)}
            self._dispatcher = Dispatcher(self._jobs, list(self._slots.values()))
        elif list(collection) != self._collection:
            self._session.differs(node, self._collection, collection)
            return
        lane = self._session.lane(node)
        self._collected[lane] = node
        self._dispatch.join(lane)

    def schedule(self) -> None:
        """Give idle workers their next items."""
        for node in [node for node in self._collected.values() if self._takes_no_more(node)]:
            self._leave(node)
        for start in self._dispatch.next(self._clock()):
            node, index = self._collected[start.slot.name], self._index[start.job.id]
            self._running[node] = index
            had = self._used | self._letting_go
            holders = {other for other in had if other is not node and self._slots[self._session.lane(other)].needs & start.slot.needs}
            for holder in holders - self._letting_go:
                self._send(holder, RELEASE)
            self._letting_go |= holders
            self._used -= holders
            self._used.add(node)
            if holders:
                self._held[node] = holders
            else:
                self._send(node, index)
        if not self._begun:
            self._begun = True
            self._session.begun(self._jobs)

    def tick(self) -> None:
        """Time has passed: an item that takes longer than predicted may change what a waiting worker should do."""
        if self._dispatcher is not None:
            self.schedule()

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:
        """A worker has run its item."""
        self._running[node] = None
        job = self._jobs[item_index]
        if self._items[item_index] in self._session.again:
            self._session.again.discard(self._items[item_index])
            self._dispatch.back(job.id)
        else:
            self._dispatch.done(job.id, self._session.serving_s(job.id, duration))
        self.schedule()

    def mark_test_pending(self, item: str) -> None:
        """An item is to be run again: other plugins may ask for it."""
        self._dispatch.back(self._jobs[self._items.index(item)].id)
        self.schedule()

    def remove_pending_tests_from_node(self, node: Node, indices: Sequence[int]) -> None:  # noqa: ARG002 - the protocol's
        """A worker has let its GPUs go: whoever waited for that starts."""
        self._letting_go.discard(node)
        for waiting, holders in list(self._held.items()):
            holders.discard(node)
            index = self._running.get(waiting)
            if not holders:
                del self._held[waiting]
                if index is not None:
                    self._send(waiting, index)

    def remove_node(self, node: Node) -> str | None:
        """A worker has ended; the item it was at, if any. Raises KeyError for one that never was here."""
        index = self._running.pop(node)
        crashed = self._items[index] if index is not None else None
        if self._dispatcher is not None:
            self._leave(node)
            if index is not None and (node in self._held or node in self._deaf):  # it had not begun
                self._dispatch.back(self._jobs[index].id)
                crashed = None
            elif index is not None and self._session.tried_again(self._items[index]):
                self._dispatch.back(self._jobs[index].id)
            elif index is not None:
                self._dispatch.lost(self._jobs[index].id)
            self._held.pop(node, None)
            self._used.discard(node)
            self.remove_pending_tests_from_node(node, [])
            self.schedule()
        return crashed

    # Ours.

    def _send(self, node: Node, index: int) -> None:
        try:
            node.send_runtest_some([index])
        except OSError:  # it died just now; xdist will say so, and `remove_node` finds what it never began
            self._deaf.add(node)

    @property
    def _items(self) -> list[str]:
        assert self._collection is not None  # noqa: S101 - asked for after a collection only
        return self._collection

    @property
    def _dispatch(self) -> Dispatcher:
        assert self._dispatcher is not None  # noqa: S101 - asked for after a collection only
        return self._dispatcher

    def _takes_no_more(self, node: Node) -> bool:
        return node.shutting_down or node.gateway.id in self._session.retiring

    def _leave(self, node: Node) -> None:
        lane = self._session.lane(node)
        if self._collected.get(lane) is node:
            del self._collected[lane]
            self._dispatch.leave(lane)
