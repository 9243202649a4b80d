"""Files between a worker on another host and home, without a host between them."""

import hashlib
import threading
from queue import SimpleQueue

import pytest

from pytest_gpueval.errors import RuntimeFault
from pytest_gpueval.session import courier, servers
from pytest_gpueval.session.courier import FILES, Receiver, Sender


class Pair:
    """A session's directory at home and one there; what is sent arrives at once."""

    def __init__(self, place):
        self.home, self.there = place / "home", place / "there"
        self.home.mkdir()
        self.there.mkdir()
        self.failures, self.kept, self.messages = [], [], []
        self.receiver = Receiver(self.home, self.failures.append)
        self.sender = Sender(self.there, self._hear, self.kept.append)

    def _hear(self, message):
        self.messages.append(message)
        self.receiver.hear(message, "a", self.sender.hear)

    def write(self, name, data):
        path = self.there / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def sent(self):
        """Bytes since the last time."""
        found, self.messages = self.messages, []
        return sum(len(piece[2]) for message in found for piece in message.get("pieces", ()))

    def same(self):
        trees = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in (self.home, self.there)]
        assert trees[0] == trees[1] and self.failures == []


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def test_what_was_added_is_sent_and_nothing_twice(pair):
    pair.write("run/results.jsonl", b"1\n")
    pair.write("run/deep/er/empty", b"")
    pair.sender.whole("run")
    pair.same()
    assert pair.sent() == 2
    pair.write("run/results.jsonl", b"1\n2\n")
    pair.write("run/summary.json", b"{}")
    pair.sender.whole("run")
    assert [piece[0] for piece in pair.messages[-1]["pieces"]] == ["run/results.jsonl", "run/summary.json"], "the summary comes last"
    assert pair.sent() == 4
    pair.sender.whole("run")
    assert pair.sent() == 0
    pair.same()


def test_a_file_that_was_written_anew_comes_whole(pair):
    for before, after in ((b"1\n2\n3\n", b"1\n"), (b"1\n2\n", b"x\ny\nz\n"), (b"1\n2\n", b"3\n4\n")):
        for file in ("results.jsonl", "other"):
            pair.write(f"run/{file}", before)
            pair.sender.whole("run")
            pair.write(f"run/{file}", after)
            pair.sender.whole("run")
            pair.same()


def test_many_pieces(pair):
    pair.write("run/large", bytes(range(256)) * 20_000)
    pair.write("run/exact", b"x" * (1 << 20))
    pair.sender.whole("run")
    pair.same()


def test_links_locks_and_halves_stay_there_and_so_does_what_is_too_large(pair, monkeypatch):
    monkeypatch.setattr("pytest_gpueval.session.courier.MOST_BYTES", 10)
    pair.write("run/.lock", b"")
    pair.write("run/.cache/x", b"x")
    pair.write("run/model.bin", b"x" * 11)
    (pair.there / "run/link").symlink_to("/etc/passwd")
    pair.sender.whole("run")
    assert not (pair.home / "run").exists() and pair.failures == []
    assert len(pair.kept) == 1 and "model.bin" in pair.kept[0] and (pair.there / ".kept").exists()


def test_what_is_at_home_is_brought_and_need_not_go_back(pair):
    (pair.home / "run").mkdir()
    (pair.home / "run/results.jsonl").write_bytes(b"1\n" * 700_000)
    (pair.home / "run/run_metadata.json").write_bytes(b"{}")
    pair.write("run/summary.json", b"of an attempt that home has put aside")
    pair.sender.bring(["run", ".attempts/run.json"])
    pair.same()
    pair.sent()
    with (pair.there / "run/results.jsonl").open("ab") as file:
        file.write(b"2\n")
    pair.sender.whole("run")
    assert pair.sent() == 2
    pair.same()


def test_who_wrote_a_run_last_has_it_until_home_changes_it(pair):
    pair.write("run/results.jsonl", b"1\n")
    pair.sender.whole("run")
    pair.write("run/results.jsonl", b"1\n2\n")  # not at home yet
    pair.sender.bring(["run"])
    assert (pair.there / "run/results.jsonl").read_bytes() == b"1\n2\n"
    pair.receiver.changed("run")
    pair.sender.bring(["run"])
    assert (pair.there / "run/results.jsonl").read_bytes() == b"1\n"


@pytest.fixture
def compared(pair):
    """What a session is compared with, at home: files of several pieces and of none."""
    files = {"suite/case.json": b"{}", "suite/case.parquet": b"x" * (3 << 20), "suite/none": b"", "suite/exact": b"y" * (1 << 20)}
    for name, data in files.items():
        path = pair.home / "compared" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return pair


def test_two_workers_of_a_host_ask_for_the_same(compared):
    """The first one's answer is still under way when the second has its own: each has all of it when it goes on."""
    pair, slow = compared, SimpleQueue()
    first = Sender(pair.there, lambda message: pair.receiver.hear(message, "a", slow.put), pair.kept.append)
    waiting = threading.Thread(target=first.bring, args=(["compared"],), daemon=True)
    waiting.start()
    answers = [slow.get(timeout=10)]
    while not answers[-1]["last"]:
        answers.append(slow.get(timeout=10))
    pair.sender.bring(["compared"])
    pair.same()
    for answer in answers:
        first.hear(answer)
    waiting.join(10)
    pair.same()


def test_what_another_worker_reads_stays_whole(compared, monkeypatch):
    pair = compared
    pair.sender.bring(["compared"])
    read = []
    write = courier._write

    def writing(path, offset, data):
        write(path, offset, data)
        read.append((pair.there / "compared/suite/case.parquet").read_bytes() == b"x" * (3 << 20))

    monkeypatch.setattr(courier, "_write", writing)
    second = Sender(pair.there, lambda message: pair.receiver.hear(message, "a", second.hear), pair.kept.append)
    second.bring(["compared"])
    assert len(read) > 4 and all(read)
    pair.same()


def test_what_was_brought_does_not_go_back(compared):
    pair = compared
    pair.sender.bring(["compared"])
    pair.sent()
    pair.sender.whole("compared")
    assert pair.sent() == 0
    pair.same()


def test_each_worker_sends_the_logs_of_its_own_servers(pair):
    """Those of a neighbour are being written: it sends them itself."""
    for name in ("gpu1@[a]-triton.log", "gpu1@[a]-openai.log", "gpu10@[a]-triton.log", "gpu1@a-triton.log"):
        pair.write(f"servers/{name}", b"1\n")
    assert servers.logs(pair.there, "gpu1@[a]") == ["servers/gpu1@[a]-openai.log", "servers/gpu1@[a]-triton.log"]
    assert servers.logs(pair.there / "none", "gpu1") == []
    for log in servers.logs(pair.there, "gpu1@[a]"):
        pair.sender.whole(log)
    assert sorted(path.name for path in (pair.home / "servers").iterdir()) == ["gpu1@[a]-openai.log", "gpu1@[a]-triton.log"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "run/../../x", "", ".lock", ".owner.json", "run/a\nb", "run\\x", "a/" * 40 + "x", 7, "linked/x"])
def test_names_that_lead_elsewhere_are_refused(pair, name, tmp_path):
    (tmp_path / "outside").mkdir()
    (pair.home / "linked").symlink_to(tmp_path / "outside")
    pair.receiver.hear({"event": FILES, "pieces": [(name, 0, b"x", True)], "whole": {}}, "a", pair.sender.hear)
    (failure,) = pair.failures
    assert isinstance(failure, RuntimeFault) and "may not come here" in str(failure)
    assert [path.name for path in pair.home.rglob("*")] == ["linked"] and not list((tmp_path / "outside").iterdir())


def test_a_file_that_did_not_come_whole_is_noticed(pair):
    wrong = hashlib.sha256(b"y").hexdigest()
    pair.receiver.hear({"event": FILES, "pieces": [("run/x", 0, b"x", True)], "whole": {"run/x": (1, wrong)}}, "a", pair.sender.hear)
    assert "run/x did not come home whole" in str(pair.failures[0])


def test_a_home_that_cannot_read_says_so_on_both_sides(pair):
    (pair.home / "run/results.jsonl").mkdir(parents=True)
    (pair.home / "run").chmod(0o700)
    with pytest.raises(RuntimeFault, match="cannot be brought here"):
        pair.sender.bring(["../run"])
    assert len(pair.failures) == 1
