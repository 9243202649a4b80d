"""A Python class as a model: what it may be, and what happens when it misbehaves."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pytest_gpueval.errors import MissingExtra, RuntimeFault, UsageProblem
from pytest_gpueval.runtimes import inprocess
from pytest_gpueval.runtimes.inprocess import InProcess, load_file, load_object


@pytest.fixture(autouse=True)
def _leave_no_imports(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(inprocess, "_DIRECTORIES", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Writes a file of the suite `mine` and returns the suite's folder."""

    def write(source, name="model.py", suite="mine"):
        path = tmp_path / suite / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return tmp_path / suite

    return write


def samples(count):
    return [SimpleNamespace(id=f"r{i}", inputs={"id": f"r{i}", "n": i}) for i in range(count)]


def running(predict, batch_size=4):
    """A started runtime around a function."""
    runtime = InProcess("model.py:Model", {}, None, batch_size)
    runtime._model = SimpleNamespace(predict=predict)
    return runtime


# Targets.


@pytest.mark.parametrize("target", ["", "model.py", ":Model", "model.py:", "Model"])
def test_a_target_that_is_none(write, target):
    with pytest.raises(UsageProblem, match=r"is not of the form 'file.py:Class' or 'package.module:Class'"):
        load_object(target, write(""))


def test_a_file_and_a_module(write, monkeypatch):
    directory = write("class Model: ...\n")
    assert load_object("model.py:Model", directory).__name__ == "Model"
    assert load_object("collections:OrderedDict", directory).__name__ == "OrderedDict"
    write("class Model: ...\n", "module_in_the_working_directory.py")
    monkeypatch.chdir(directory)
    assert load_object("module_in_the_working_directory:Model", directory).__name__ == "Model"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("modle.py:Model", r"/mine/modle\.py: no such file$"),
        ("model.py:Modle", r"model\.py has no 'Modle'\. Did you mean 'Model'\? Valid names: Model\.$"),
        ("no_such_package_x:Model", r"target 'no_such_package_x:Model': cannot import no_such_package_x: No module named 'no_such_package_x'"),
        ("json.no_such_module:Model", r"cannot import json\.no_such_module: No module named 'json\.no_such_module'"),
        ("collections:Modle", r"collections has no 'Modle'"),
    ],
)
def test_a_target_that_is_not_there(write, target, message):
    runtime = InProcess(target, {}, write("class Model: ...\n"), 4, extra="some")
    with pytest.raises(UsageProblem, match=message) as caught:
        runtime.start()
    assert not isinstance(caught.value, MissingExtra)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Model:\n    def predict(self:\n", r"model\.py: cannot be imported: SyntaxError: .*\(model\.py, line 2\)$"),
        ("\n\n1 / 0\n", r"model\.py: cannot be imported: ZeroDivisionError: division by zero \(line 3\)$"),
    ],
)
def test_a_file_that_cannot_be_imported_is_imported_anew_once_mended(write, source, message):
    directory = write(source)
    for _ in range(2):
        with pytest.raises(UsageProblem, match=message):
            load_object("model.py:Model", directory)
    write("class Model: ...\n# mended, and longer than it was before\n")
    assert load_object("model.py:Model", directory).__name__ == "Model"


def test_an_interrupt_while_importing_leaves_no_half_module(write):
    directory = write("value = 1\nraise KeyboardInterrupt\n")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            load_file(directory / "model.py")


def test_a_broken_module_by_its_name(write, monkeypatch):
    monkeypatch.chdir(write("1 / 0\n", "broken_module_x.py"))
    with pytest.raises(UsageProblem, match="cannot import broken_module_x: ZeroDivisionError: division by zero"):
        load_object("broken_module_x:Model", None)


@pytest.mark.parametrize("target", ["model.py:Model", "named_model_x:Model"])
def test_a_missing_package_names_the_extra(write, monkeypatch, target):
    source = "import no_such_package_y\nclass Model: ...\n"
    directory = write(source)
    write(source, "named_model_x.py")
    monkeypatch.chdir(directory)
    with pytest.raises(MissingExtra, match=r"(?s)needs the package 'no_such_package_y'.*pytest-gpueval\[some\]"):
        InProcess(target, {}, directory, 4, extra="some").start()
    with pytest.raises(RuntimeFault, match=r"did not start: ModuleNotFoundError: No module named 'no_such_package_y'$"):
        InProcess(target, {}, directory, 4).start()


def test_a_missing_package_met_late_names_the_extra(write):
    directory = write("class Model:\n    def predict(self, batch): ...\n    def warm_up(self):\n        import no_such_package_y.part\n")
    with pytest.raises(MissingExtra, match="no_such_package_y"):
        InProcess("model.py:Model", {}, directory, 4, extra="some").start()


# Files of one suite and of another.


def test_two_suites_with_files_of_the_same_names(write):
    for suite in ("one", "two"):
        write("import rows\nfrom parts.deep import NAME\nVALUE = (rows.NAME, NAME)\n", suite=suite)
        write(f"NAME = 'rows of {suite}'\n", "rows.py", suite)
        write("", "parts/__init__.py", suite)
        last = write(f"NAME = 'parts of {suite}'\n", "parts/deep.py", suite)
    found = {suite: load_file(last.parent / suite / "model.py") for suite in ("one", "two")}
    assert {suite: module.VALUE for suite, module in found.items()} == {suite: (f"rows of {suite}", f"parts of {suite}") for suite in ("one", "two")}
    assert load_file(last.parent / "one" / "model.py") is found["one"]
    assert sys.modules["parts"].__file__ == str(last.parent / "one" / "parts" / "__init__.py")
    assert sys.modules["parts.deep"].NAME == "parts of one"


def test_two_suites_of_the_same_name_in_two_places(write, tmp_path):
    one, two = write("NAME = 1\n", suite="a/mine"), write("NAME = 2\n", suite="b/mine")
    assert (load_file(one / "model.py").NAME, load_file(two / "model.py").NAME) == (1, 2)
    link = tmp_path / "link"
    link.symlink_to(one)
    assert load_file(link / "model.py") is load_file(one / "model.py")


def test_relative_imports_in_a_suite_whose_name_has_dots(write):
    write("NAME = 'beside'\n", "rows.py", suite="v1.2-beta")
    directory = write("from .rows import NAME\n", suite="v1.2-beta")
    assert load_file(directory / "model.py").NAME == "beside"


def test_a_suites_file_does_not_replace_what_is_imported_already(write):
    write("dumps = None\n", "json.py", suite="one")
    write("dumps = None\n", "json.py", suite="two")
    write("import json\n", suite="one")
    directory = write("import json\n", suite="two")
    assert load_file(directory.parent / "one" / "model.py").json.dumps is not None
    assert load_file(directory / "model.py").json.dumps is not None


# Starting and closing.

MODEL = """
class Model:
    log = []
    def __init__(self, **options):
        self.options = options
        self.log.append("made")
    def warm_up(self):
        self.log.append("warm")
        {warm_up}
    def predict(self, batch):
        return [row["n"] * self.options.get("factor", 1) for row in batch]
    def close(self):
        self.log.append("closed")
        {close}
"""


def test_the_life_of_a_model(write):
    directory = write(MODEL.format(warm_up="", close=""))
    runtime = InProcess("model.py:Model", {"factor": 3}, directory, 2)
    runtime.start()
    assert [answer.value for answer in runtime.answers(samples(5))] == [0, 3, 6, 9, 12]
    runtime.close()
    runtime.close()
    assert load_object("model.py:Model", directory).log == ["made", "warm", "closed"]
    with pytest.raises(RuntimeFault, match="is asked before it was started"):
        next(runtime.answers(samples(1)))


def test_a_model_that_does_not_start_is_closed_and_says_why(write):
    directory = write(MODEL.format(warm_up="raise ValueError('no weights')", close="raise OSError('nor this')"))
    with pytest.raises(RuntimeFault, match=r"(?s)^model model\.py:Model did not start: ValueError: no weights\nTraceback .*model\.py"):
        InProcess("model.py:Model", {}, directory, 2).start()
    assert load_object("model.py:Model", directory).log == ["made", "warm", "closed"]


def test_an_exception_that_is_for_the_user_is_its_text_alone(write):
    directory = write(
        "class Missing(OSError):\n    for_user = True\nclass Model:\n    def __init__(self):\n        raise Missing('there is no GPU.\\nTake the CPU.')\n"
    )
    with pytest.raises(UsageProblem, match=r"^model model\.py:Model: there is no GPU\.\nTake the CPU\.$"):
        InProcess("model.py:Model", {}, directory, 2).start()


def test_options_that_the_model_does_not_know(write):
    directory = write("class Model:\n    def predict(self, batch): ...\n")
    with pytest.raises(RuntimeFault, match=r"did not start: TypeError: .*takes no arguments"):
        InProcess("model.py:Model", {"x": 1}, directory, 2).start()


@pytest.mark.parametrize("body", ["pass", "predict = None"])
def test_a_model_without_predict(write, body):
    with pytest.raises(UsageProblem, match=r"^model model\.py:Model has no method predict\(batch\)$"):
        InProcess("model.py:Model", {}, write(f"class Model:\n    {body}\n"), 2).start()


def test_an_interrupt_passes_through_start(write):
    directory = write(MODEL.format(warm_up="raise KeyboardInterrupt", close=""))
    with pytest.raises(KeyboardInterrupt):
        InProcess("model.py:Model", {}, directory, 2).start()
    assert load_object("model.py:Model", directory).log[-1] == "closed"


# Answers.


@pytest.mark.parametrize("bad", [0, 2, 3, 5])
def test_one_bad_row_is_one_error(bad):
    def predict(batch):
        if any(row["n"] == bad for row in batch):
            raise ValueError(f"cannot\n read {bad}")
        return [row["n"] * 10 for row in batch]

    answers = list(running(predict).answers(samples(6)))
    assert [answer.sample.id for answer in answers] == [f"r{i}" for i in range(6)]
    assert [answer.value for answer in answers] == [None if i == bad else i * 10 for i in range(6)]
    assert [answer.error for answer in answers] == [f"ValueError: cannot read {bad}" if i == bad else None for i in range(6)]
    assert all(answer.latency_ms >= 0 for answer in answers)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


def test_an_error_that_cannot_say_what_it_is():
    def predict(_batch):
        raise Unspeakable

    (answer,) = running(predict).answers(samples(1))
    assert answer.error == "Unspeakable: (its text raises RuntimeError)"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([1, 2], "2 predictions"),
        ([1] * 4, "4 predictions"),
        ([], "0 predictions"),
        (None, "a NoneType"),
        ((i for i in range(3)), "a generator"),
        ("abc", "a str"),
        (b"abc", "a bytes"),
        ({"a": 1, "b": 2, "c": 3}, "a dict"),
        ({1, 2, 3}, "a set"),
        (np.array(3), "a ndarray"),
        (np.zeros((2, 3)), "2 predictions"),
    ],
)
def test_what_is_not_one_prediction_for_each_row(returned, words):
    with pytest.raises(RuntimeFault, match=rf"returned {words} for a batch of 3 \(first row: 'r0'\)\.\npredict\(batch\) must return a list"):
        list(running(lambda _: returned).answers(samples(3)))


@pytest.mark.parametrize("returned", [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3])])
def test_what_is_one_prediction_for_each_row(returned):
    assert [answer.value for answer in running(lambda _: returned).answers(samples(3))] == [1, 2, 3]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_answer(stop):
    def predict(_batch):
        raise stop

    with pytest.raises(stop):
        next(running(predict).answers(samples(3)))


def test_a_model_that_rewrites_its_input_does_not_change_the_order():
    def predict(batch):
        batch.reverse()
        return [row["n"] for row in reversed(batch)]

    assert [(answer.sample.id, answer.value) for answer in running(predict).answers(samples(5))] == [(f"r{i}", i) for i in range(5)]


# More rows than the memory holds.


def small(most, sizes, error=None):
    """A model that has room for so many rows."""

    def predict(batch):
        sizes.append(len(batch))
        if len(batch) > most:
            raise error or RuntimeError("CUDA out of memory")
        return [row["n"] for row in batch]

    return predict


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(), type("OutOfMemoryError", (Exception,), {})()])
def test_a_batch_that_is_too_much_is_halved_and_so_are_those_after_it(error):
    sizes = []
    found = list(running(small(4, sizes, error), 16).answers(samples(40)))
    assert [answer.value for answer in found] == list(range(40)) and not any(answer.error for answer in found)
    assert sizes[:4] == [16, 8, 4, 4] and set(sizes[2:]) == {4}
    assert [answer.note for answer in found if answer.note] == [
        "out of memory with 16 rows; 8 at a time from here on; out of memory with 8 rows; 4 at a time from here on"
    ]


def test_a_row_that_is_too_much_alone_is_that_rows_error():
    found = list(running(small(0, []), 4).answers(samples(6)))
    assert {answer.error for answer in found} == {"RuntimeError: CUDA out of memory"} and len(found) == 6
    sizes = []
    assert list(running(small(0, sizes, ValueError("no")), 4).answers(samples(4)))
    assert sizes == [4, 1, 1, 1, 1], "another error has its rows asked one by one"
