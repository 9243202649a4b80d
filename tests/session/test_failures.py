"""Bad input gets one clear message; nothing is lost, and no traceback of ours is shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import rows


def message(result: pytest.RunResult) -> str:
    """All that the session said, checked for tracebacks."""
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert "pytest_gpueval/" not in text
    return text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--gpueval-suite", "toi"), "there is no suite 'toi'. Did you mean 'toy'?"),
        (("--gpueval-suite", "toy", "--gpueval-split", "fats"), "has no split 'fats'. Did you mean 'fast'?"),
        (("--gpueval-suite", "toy", "--gpueval-policy", "opne"), "has no policy 'opne'. Did you mean 'open'?"),
        (("--gpueval-suite", "toy", "--gpueval-runtime", "cup"), "has no runtime 'cup'. Did you mean 'cpu'?"),
        (("--gpueval-suite", "toy", "--gpueval-policy", "mine.toml:open"), "mine.toml: no such file"),
        (("--gpueval-suite", "toy", "--gpueval-workers", "0"), "--gpueval-workers 0: expected a whole number from 1 on"),
        (("--gpueval-suite", "toy", "--gpueval-limit", "-1"), "--gpueval-limit -1: expected a whole number from 1 on"),
        (("--gpueval-suite", "toy", "--gpueval-on-bad-row", "drop"), "Valid values: fail, skip."),
        (("--gpueval-suite", "toy", "--gpueval-session", "../x"), "--gpueval-session '../x'"),
        (("--gpueval-suite", "toy", "--gpueval-data", "nowhere"), "--gpueval-data nowhere: no such directory"),
        (("--gpueval-suite", "toy", "--gpus", "0-7"), "shows no NVIDIA GPU"),
        (("--gpueval-suite", "toy", "--gpus", "3-1"), "write 1-3"),
        (("--gpueval-suite", "toy", "--gpus", "abc"), "'abc' is not understood"),
    ],
)
def test_wrong_options(toy, monkeypatch, args, expected):
    monkeypatch.setattr("pytest_gpueval.gpus.devices.visible", lambda _environment: [])
    result = toy.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert expected in message(result)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('task = "span_detection"', "task = ", "suite.toml: not valid TOML: Invalid value (at line 3"),
        ('split = "fast"', "split = 5", "split: expected a string, found 5"),
        ('kind = "inprocess"', 'kinds = "inprocess"', "runtimes.cpu.kinds: unknown key. Did you mean 'kind'?"),
        ('task = "span_detection"', 'task = "spam_detection"', "unknown task 'spam_detection'. Did you mean 'span_detection'?"),
        ('kind = "inprocess"', 'kind = "in-process"', "unknown kind of runtime 'in-process'. Did you mean 'inprocess'?"),
    ],
    ids=["toml", "type", "key", "task", "kind"],
)
def test_wrong_suite_files(toy, old, new, expected):
    toy.edit(old, new)
    assert expected in message(toy.run("--gpueval-suite", "toy"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("'tow', 'fast'", "has no dataset 'tow'. Did you mean 'two'?"), ("'two', 'fats'", "has no split 'fats'. Did you mean 'fast'?")],
    ids=["dataset", "split"],
)
def test_a_split_that_a_test_asks_for(toy, arguments, expected):
    toy.pytester.makepyfile(f'import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_mine(case, load_split): load_split({arguments})\n')
    result = toy.run("-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    assert expected in message(result)


def data_file(toy):
    return toy.root / "suites/toy/data/one/fast.parquet"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "not a whole parquet file"),
        (lambda path: path.write_text("id,text\n"), "not a whole parquet file"),
    ],
    ids=["missing", "truncated", "csv"],
)
def test_damaged_data(toy, damage, expected):
    damage(data_file(toy))
    result = toy.run("--gpueval-suite", "toy")
    result.assert_outcomes(passed=1, errors=1)
    assert expected in message(result)
    assert toy.summary()["status"] == "error"
    assert expected in toy.summary()["reason"]


def test_a_missing_column(toy):
    toy.split([{"id": "x", "txt": "aaa", "spans": []}])
    assert "column 'text' is missing. Did you mean 'txt'?" in message(toy.run("--gpueval-suite", "toy"))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"start": 0, "end": 99, "label": "A"}, "outside the text of 10 characters"),
        ({"start": 5, "end": 2, "label": "A"}, "is reversed"),
        ({"start": 0, "end": 3, "label": "C"}, "unknown label 'C'"),
    ],
    ids=["outside", "reversed", "label"],
)
def test_a_bad_row_is_named_and_fails_the_case_or_is_counted(toy, span, expected):
    toy.split([*rows(20, "good"), {"id": "bad-1", "text": "aaaaabbbbb", "spans": [span]}])
    text = message(toy.run("--gpueval-suite", "toy", "-k", "one"))
    assert expected in text
    assert "row 21 (id 'bad-1')" in text
    assert "--gpueval-on-bad-row skip" in text

    toy.run("--gpueval-suite", "toy", "-k", "one", "--gpueval-on-bad-row", "skip", "--gpueval-session", "skip").assert_outcomes(passed=1, deselected=1)
    assert toy.summary(session="skip")["rows"] == {"total": 21, "scored": 20, "errors": 0, "skipped": 1}
    assert expected in toy.lines(session="skip")[-1]["skipped"]


def test_a_row_that_the_model_cannot_read(toy):
    table = rows(40)
    table[21]["text"] = "BOOM aaaaa"
    table[22]["text"] = "NAN aaaaaa"
    toy.split(table)
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    text = message(result)
    assert "2 of 40 rows have no prediction; the suite allows 0.00%" in text
    assert "First: r-21: ValueError: cannot read BOOM aaaaa" in text
    assert toy.summary()["rows"] == {"total": 40, "scored": 38, "errors": 2, "skipped": 0}
    lines = toy.lines()
    assert [line["id"] for line in lines] == [f"r-{i}" for i in range(40)], "the others of the batch keep their answers and places"
    assert "error" in lines[21]
    assert "nan" in lines[22]["error"]

    toy.edit('policy = "open"', 'policy = "open"\nmax_error_share = 0.05')
    toy.run("--gpueval-suite", "toy", "-k", "one", "--gpueval-session", "allowed").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [("[[]]", "returned 1 predictions for a batch of 16"), ("None", "returned a NoneType for a batch"), ("5", "returned a int for a batch")],
    ids=["too few", "none", "number"],
)
def test_a_model_that_breaks_its_contract(toy, returned, expected):
    toy.suite("toy", model=f"class Model:\n    def predict(self, batch):\n        return {returned}\n")
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    assert expected in message(result)
    assert toy.summary()["status"] == "error"


def test_a_model_that_does_not_start_shows_where(toy):
    toy.suite("toy", model="class Model:\n    def __init__(self):\n        raise OSError('weights are missing')\n    def predict(self, batch): ...\n")
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*model model.py:Model did not start: OSError: weights are missing*"])


def test_a_model_whose_packages_are_not_installed_names_the_extra(toy):
    toy.suite("toy", model="import not_installed_anywhere\nclass Model: ...\n")
    toy.edit('target = "model.py:Model"', 'target = "model.py:Model"\nextra = "guardrails-ru"')
    text = message(toy.run("--gpueval-suite", "toy", "-k", "one"))
    assert "pip install 'pytest-gpueval[guardrails-ru]'" in text


def test_out_of_memory_is_told_apart(toy):
    toy.suite("toy", model="class Model:\n    def warm_up(self): raise MemoryError('CUDA out of memory')\n    def predict(self, batch): ...\n")
    toy.run("--gpueval-suite", "toy", "-k", "one").assert_outcomes(failed=1, deselected=1)
    assert toy.summary()["status"] == "oom"


def test_gates_speak_in_a_table(toy):
    toy.append(
        """
        [[gates]]
        metric = "strict.f1"
        min = 0.95
        [[gates]]
        metric = "char.recall"
        label = "A"
        min = 0.5
        [[gates]]
        metric = "strict.f1"
        label = "B"
        min = 0.5
        """
    )
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    message(result)
    result.stdout.fnmatch_lines(
        [
            "toy one-fast: 2 of 3 gates failed",
            "*metric*value*95 % interval*bound*documents",
            "FAIL*strict.f1*0.9000*>= 0.95*50",
            "UNSCORED*strict.f1?B?*-*-*>= 0.5*0",
            "PASS*char.recall?A?*0.9*",
        ]
    )


def test_the_output_directory_is_a_file(toy):
    (toy.root / "reports").write_text("")
    result = toy.run("--gpueval-suite", "toy")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--gpueval-output-dir" in message(result)


def mounted(path: Path, options: str) -> None:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "gpueval-test", path], check=True)


@pytest.fixture
def full_disk(toy, tmp_path):
    """A place that is full after 256 KiB, and the system's words for it: a small file system, or without root a limit on the size of files."""
    place = tmp_path / "small"
    if os.geteuid() == 0:
        mounted(place, "size=256k")
        yield place, "No space left on device"
        subprocess.run(["umount", place], check=True)
    else:
        toy.pytester.makeconftest("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))")
        yield place, "File too large"


@pytest.fixture
def read_only_disk(tmp_path):
    """A place where nothing can be written, and the system's words for it."""
    place = tmp_path / "fixed"
    if os.geteuid() == 0:
        mounted(place, "ro")
        yield place, "Read-only file system"
        subprocess.run(["umount", place], check=True)
    else:
        place.mkdir(mode=0o555)
        yield place, "Permission denied"


def test_a_full_disk(toy, full_disk):
    place, words = full_disk
    toy.split(rows(5000))
    result = toy.spawn("--gpueval-suite", "toy", "-k", "one", f"--gpueval-output-dir={place}")
    text = message(result)
    assert result.ret == 10
    assert words in text
    assert "What was written before is kept" in text
    (results,) = place.glob("*/toy-one-fast/results.jsonl")
    assert results.read_bytes().count(b"\n") > 500


def test_a_read_only_disk(toy, read_only_disk):
    place, words = read_only_disk
    result = toy.spawn("--gpueval-suite", "toy", f"--gpueval-output-dir={place}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in message(result)


@pytest.mark.parametrize("sign", [" ", "="])
def test_a_place_that_pytest_would_take_for_a_test(toy, tmp_path_factory, sign):
    """Its root would lie there, and node ids and run directories with it."""
    place = str(tmp_path_factory.mktemp("elsewhere"))
    result = toy.spawn("--gpueval-suite", "toy", *f"--gpueval-output-dir{sign}{place}".split(" "))
    if sign == " ":
        result.stderr.fnmatch_lines([f"ERROR: --gpueval-output-dir {place}: pytest takes this path for a test of its own*Write --gpueval-output-dir={place}"])
    else:
        result.assert_outcomes(passed=2)
    assert result.ret == (4 if sign == " " else 0)
