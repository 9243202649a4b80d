"""Requests side by side: in order, bounded, and whole, whatever happens to the server."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.errors import RuntimeFault
from pytest_gpueval.runtimes.base import Answer
from pytest_gpueval.runtimes.suspects import most_ends
from pytest_gpueval.runtimes.window import Batching, Gone, TooMuch, Window

PATIENCE_S = 30


class Row:
    def __init__(self, number):
        self.id = str(number)
        self.number = number
        self.inputs = {"id": self.id}


class Server:
    """Answers twice the row's number, and keeps account of what is asked of it."""

    url = "here"

    def __init__(self, kills=(), refuses=(), most=None, dies_at=(), dies_full=None):
        self.generation = 1
        self.up = True
        self.problems = []
        self.kills, self.refuses, self.most = set(kills), set(refuses), most
        self.dies_at = set(dies_at)
        self.dies_full, self.full = dies_full, asyncio.Event()  # answers nobody until so many are on their way, and dies then
        self.asked = 0
        self.inside = 0
        self.peak = 0
        self.served = []
        self.together = []  # rows that were on their way beside each other, for each time that there were none

    async def serve(self, batch):
        self.asked += 1
        if not self.inside:
            self.together.append([])
        self.together[-1] += [row.number for row in batch]
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        generation, number = self.generation, self.asked
        try:
            if self.dies_full and generation == 1:
                if number == self.dies_full:
                    self.up = False
                    self.full.set()
                await self.full.wait()
            await asyncio.sleep(0)
            if number in self.dies_at or self.kills & {row.number for row in batch}:
                self.up = False
            await asyncio.sleep(0.001)
            if not self.up or generation != self.generation:
                raise Gone("connection reset")
            if self.most is not None and len(batch) > self.most:
                raise TooMuch("out of memory")
            if self.refuses & {row.number for row in batch}:
                raise TooMuch("cannot hold this row")
            self.served += [row.number for row in batch]
            return [Answer(row, 2 * row.number, None, 1.0) for row in batch]
        finally:
            self.inside -= 1

    def recover(self, generation, problem):
        if generation == self.generation:
            self.problems.append(problem)
            self.generation += 1
            self.up = True


@pytest.fixture
def ask():
    windows = []

    def answers(server, rows, in_flight=4, size=3):
        window = Window(server.serve, in_flight, server, "toy")
        windows.append(window)
        return window.answers(Batching(size, 1 << 20, lambda _: 1).cut(rows))

    yield answers
    for window in windows:
        window.close()


def values(answers):
    return [answer.value if answer.error is None else answer.error for answer in answers]


def test_answers_come_in_order(ask):
    server = Server()
    assert values(ask(server, map(Row, range(100)))) == [2 * number for number in range(100)]
    assert 1 < server.peak <= 4


def test_no_more_is_read_than_the_window_holds(ask):
    read = count()
    answers = ask(Server(), (Row(next(read)) for _ in iter(int, 1)), in_flight=4, size=3)
    for _ in range(100):
        next(answers)
    assert next(read) <= 100 + 2 * 4 * 3 + 3
    answers.close()


def test_a_server_that_dies_loses_and_doubles_nothing(ask):
    server = Server(dies_at=[7])
    assert values(ask(server, map(Row, range(60)))) == [2 * number for number in range(60)]
    assert sorted(server.served) == list(range(60))
    assert server.problems == ["connection reset"]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_row_that_ends_the_server_is_found(ask, size):
    server = Server(kills=[17, 30])
    expected = [2 * number if number not in (17, 30) else "toy does not survive this row: connection reset" for number in range(40)]
    assert values(ask(server, map(Row, range(40)), size=size)) == expected
    assert len(server.problems) <= 2 * most_ends(4, size)
    assert sorted(server.served) == [number for number in range(40) if number not in (17, 30)]


def test_what_was_in_flight_when_it_died_is_asked_again_in_two_halves(ask):
    server = Server(dies_full=16)
    assert values(ask(server, map(Row, range(16)), in_flight=16, size=1)) == [2 * number for number in range(16)]
    assert server.together == [list(range(16)), list(range(8)), list(range(8, 16))]
    assert server.generation == 2


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_row_has_its_answer_whatever_rows_end_the_server(data):
    """And none is asked again that was answered, nor blamed for what others do."""
    rows = data.draw(st.integers(1, 50), "rows")
    kills = data.draw(st.sets(st.integers(0, rows - 1), max_size=4), "rows that end the server")
    refuses = data.draw(st.sets(st.integers(0, rows - 1), max_size=2), "rows that no batch can hold")
    in_flight, size = data.draw(st.integers(1, 20), "in flight"), data.draw(st.integers(1, 6), "rows of a batch")
    dies_at = data.draw(st.sets(st.integers(1, 60), max_size=1), "request that meets its end for other reasons")
    server = Server(kills, refuses - kills, data.draw(st.none() | st.integers(1, 6), "most rows of a request"), dies_at)
    window = Window(server.serve, in_flight, server, "toy")
    try:
        found = values(window.answers(Batching(size, 1 << 20, lambda _: 1).cut(map(Row, range(rows)))))
    finally:
        window.close()
    faults = dict.fromkeys(refuses, "cannot hold this row") | dict.fromkeys(kills, "toy does not survive this row: connection reset")
    assert found == [faults.get(number, 2 * number) for number in range(rows)]
    assert sorted(server.served) == [number for number in range(rows) if number not in faults]
    assert len(server.problems) <= len(kills) * most_ends(in_flight, size) + len(dies_at) * (1 + bool(kills) * most_ends(in_flight, size))


def test_too_large_a_batch_is_halved(ask):
    server = Server(most=2)
    assert values(ask(server, map(Row, range(20)), size=8)) == [2 * number for number in range(20)]
    assert not server.problems


def test_a_row_that_no_batch_can_hold_is_its_own_error(ask):
    server = Server(refuses=[5], kills=[11])
    found = values(ask(server, map(Row, range(20)), size=8))
    assert found[5] == "cannot hold this row"
    assert [value for number, value in enumerate(found) if number not in (5, 11)] == [2 * number for number in range(20) if number not in (5, 11)]


def test_a_server_that_cannot_be_brought_back_ends_the_case(ask):
    class Lost(Server):
        def recover(self, generation, problem):
            self.problems.append(problem)
            raise RuntimeFault(f"given up: {problem}")

    server = Lost(dies_at=[3])
    with pytest.raises(RuntimeFault, match="given up: connection reset"):
        list(ask(server, map(Row, range(50))))
    assert server.problems == ["connection reset"], "tried once for all that wait for it"


def test_a_server_that_answers_nothing_is_not_brought_back_for_ever(ask):
    server = Server(kills=range(1000))
    with pytest.raises(RuntimeFault, match=r"toy was brought back \d+ times and has answered nothing: connection reset"):
        list(ask(server, map(Row, range(1000)), in_flight=4, size=3))
    assert len(server.problems) <= 5 * most_ends(4, 3) + 2


def test_no_process_waits_for_a_server_that_is_being_brought_back():
    """Nobody who presses Ctrl-C waits minutes for a server that is away."""
    code = """
        import threading, time
        from tests.runtimes.test_window import Gone, Row, Server, Window
        away = threading.Event()
        class Away(Server):
            async def serve(self, batch):
                raise Gone("away")
            def recover(self, generation, problem):
                away.set()
                time.sleep(1000)
        server = Away()
        window = Window(server.serve, 4, server, "toy")
        threading.Thread(target=lambda: list(window.answers([[Row(0)]])), daemon=True).start()
        away.wait()
        window.close()
        print("closed", flush=True)
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=90, check=True)
    assert said.stdout == "closed\n"


def test_after_a_case_that_failed_the_next_one_begins_anew(ask):
    class Refusing(Server):
        async def serve(self, batch):
            if batch[0].number == 99:
                raise RuntimeFault("not as the protocol says")
            return await super().serve(batch)

    server = Refusing(dies_at=[4])
    window = Window(server.serve, 4, server, "toy")
    try:
        with pytest.raises(RuntimeFault, match="not as the protocol says"):
            list(window.answers([Row(number)] for number in (0, 99, 2, 3)))
        assert values(window.answers([Row(number)] for number in range(8))) == [2 * number for number in range(8)]
    finally:
        window.close()


def test_who_stops_reading_leaves_nothing_running():
    began, cancelled, sent = threading.Event(), threading.Event(), asyncio.Event()

    class Hanging(Server):
        async def serve(self, batch):
            if batch[0].number == 0:
                await sent.wait()  # answered before the others are sent, it would be handed over before them
                return [Answer(row, 0, None, 1.0) for row in batch]
            began.set()
            sent.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    server = Hanging()
    others = set(threading.enumerate())
    window = Window(server.serve, 4, server, "toy")
    own = set(threading.enumerate()) - others
    answers = window.answers([[Row(0)], [Row(1)], [Row(2)]])
    next(answers)
    assert began.wait(PATIENCE_S)
    answers.close()
    assert cancelled.wait(PATIENCE_S)
    window.close()
    window.close()
    assert own and not any(thread.is_alive() for thread in own)


def test_batches_are_cut_by_rows_and_bytes():
    batching = Batching(3, 10, lambda row: row.number)
    sizes = [[row.number for row in batch] for batch in batching.cut(map(Row, [1, 1, 1, 1, 9, 2, 50, 3, 3]))]
    assert sizes == [[1, 1, 1], [1, 9], [2], [50], [3, 3]]
