"""The model that Triton runs, looked at without Triton: what a batch becomes when the class behind it misbehaves."""

import sys

import pytest

from pytest_gpueval.servers.triton_model import BadTarget, Rows

MODEL = """
from . import beside
class Model:
    def __init__(self, most=99):
        self.most, self.calls = most, []
    def predict(self, batch):
        self.calls.append(len(batch))
        if len(batch) > self.most:
            raise RuntimeError("CUDA out of memory")
        if any(row["n"] == 3 for row in batch):
            raise ValueError("three")
        return [row["n"] * beside.TWO for row in batch]
    def close(self):
        self.calls.append("closed")
class Cold(Model):
    def warm_up(self):
        raise OSError("cold")
class Count(Model):
    def predict(self, batch):
        return {row["n"] for row in batch}
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "beside.py").write_text("TWO = 2\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def batch(*numbers):
    return [{"id": f"r{number}", "n": number} for number in numbers]


def rows(directory, name="Model", **options):
    return Rows(f"model.py:{name}", directory, options, str(directory))


def test_one_call_and_one_bad_row(directory):
    one = rows(directory)
    assert one.answers(batch(1, 2)) == [{"value": 2}, {"value": 4}] and one._model.calls == [2]
    assert one.answers(batch(1, 3, 5)) == [{"value": 2}, {"error": "ValueError: three"}, {"value": 10}]
    model = one._model
    one.close()
    one.close()
    assert model.calls[-1] == "closed" and model.calls.count("closed") == 1


def test_out_of_memory_is_met_once(directory, capsys):
    one = rows(directory, most=2)
    expected = [{"value": 2 * number} for number in range(10, 20)]
    found = one.answers(batch(*range(10, 20)))
    assert found[0].pop("note") == "out of memory with 10 rows; 5 at a time from here on; out of memory with 5 rows; 2 at a time from here on"
    assert found == expected
    tried = len(one._model.calls)
    assert one.answers(batch(*range(10, 20))) == expected and max(one._model.calls[tried:]) <= 2
    assert capsys.readouterr().err.startswith("gpueval: out of memory with 10 rows; 5 at a time from here on\n")
    assert [answer["error"] for answer in rows(directory, most=0).answers(batch(1, 2))] == ["RuntimeError: CUDA out of memory"] * 2


def test_a_set_is_no_list_of_answers(directory):
    (first, second) = rows(directory, "Count").answers(batch(1, 2))
    assert first == second and first["fault"].startswith("model model.py:Count returned a set for a batch of 2 (first row: 'r1').\n")


def test_a_model_that_does_not_warm_up_is_closed(directory):
    with pytest.raises(OSError, match="cold"):
        rows(directory, "Cold")


@pytest.mark.parametrize("target", ["", "model.py", ":Model", "model.py:", "Model", "model.py:Nobody", "nothing.py:Model", "no_such_module:Model"])
def test_targets_that_are_none(directory, target):
    with pytest.raises(BadTarget):
        Rows(target, directory, {}, str(directory))
