"""What reaches a terminal, and what reaches the host."""

import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.detached.agent.files import tail_offset
from pytest_gpueval.hosts.detached.agent.runner import Blotter
from pytest_gpueval.hosts.detached.submission import new_id, root_of, submission
from pytest_gpueval.hosts.detached.text import Harmless, harmless

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ACTIVE = re.compile("[^\n\t\x20-\x7e\u00a0-\U0010ffff]|[\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def pieces(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(
    st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\t", b"\x1b[31m", b"\xff", "ж".encode(), "\u202e".encode(), b"\x9b", b"\x00"])).map(b"".join),
    st.lists(st.integers(0)),
)
def test_whatever_is_printed_and_however_it_comes(data, cuts):
    text, whole = Harmless(), harmless(data)
    assert "".join([*map(text.feed, pieces(data, cuts)), text.feed(b"", last=True)]) == whole
    assert not ACTIVE.search(whole)


def test_how_it_looks():
    assert harmless(b"\x1b]0;title\x07 10%\r 20%\r\ntab\tend \xc2\x9b") == "\\x1b]0;title\\x07 10%\n 20%\ntab\tend \\x9b"
    assert harmless("привет \u202e x".encode()) == harmless("привет \u202e x") == "привет \\u202e x"
    assert harmless("\ud800 of JSON") == "\\ud800 of JSON"


SECRETS = ["canary-1234", "1234-other", "line one\nline two!", "pässwörd/+"]


@given(st.lists(st.sampled_from([*SECRETS, "canary-", "1234", "-other", " plain ", "line "])).map("".join), st.lists(st.integers(0)))
def test_secrets_are_blotted_out_however_they_come(text, cuts):
    data = text.encode()
    whole = Blotter(SECRETS).feed(data, last=True)
    blotter = Blotter(SECRETS)
    assert b"".join([*map(blotter.feed, pieces(data, cuts)), blotter.feed(b"", last=True)]) == whole
    assert not any(secret.encode() in whole for secret in SECRETS)
    if not any(line in text for secret in SECRETS for line in secret.splitlines()):
        assert whole == data


def test_other_ways_to_write_a_secret():
    shown = Blotter(["a b/c'd\"e"]).feed(b'a%20b/c%27d%22e a%20b%2Fc%27d%22e "a b/c\'d\\"e" YSBiL2MnZCJl.', last=True)
    assert shown == b'<redacted> <redacted> "<redacted>" <redacted>.'


def test_what_cannot_be_a_secret_any_more_is_shown_at_once():
    blotter = Blotter(["canary-1234"])
    assert blotter.feed(b"name: can") == b"name: "
    assert blotter.feed(b"vas") == b"canvas"


@pytest.mark.parametrize(
    ("text", "lines", "tail"), [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb", 1, "b"), ("a\n", 5, "a\n"), ("", 3, ""), ("a\nb\n", 0, ""), ("\n\n\n", 2, "\n\n")]
)
def test_the_last_lines(tmp_path, text, lines, tail):
    path = tmp_path / "log"
    path.write_text(text)
    assert text[tail_offset(str(path), lines) :] == tail


def submit(*command, **more):
    given = {"directory": "/repo", "run_id": "one", "variables": [], "secrets": [], "own": {"HF_TOKEN": "hf-secret-value"}, "now": NOON, **more}
    return submission(command, **given)


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ((), {}, "there is no command"),
        (("a",), {"directory": "repo"}, "--remote-repo repo: give an absolute path"),
        (("a",), {"run_id": "../x"}, "--run-id '../x': use letters"),
        (("a",), {"run_id": ".gpueval"}, "use letters"),
        (("a",), {"variables": ["A"]}, "--env A: give NAME=VALUE"),
        (("a",), {"variables": ["HF_TOKEN=x"]}, "--env HF_TOKEN: that is a secret; say --secret HF_TOKEN"),
        (("a",), {"secrets": ["NOTHING"]}, "--secret NOTHING: give the name of a variable of your environment"),
        (("a", "--token", "abc"), {}, "word 3 of the command looks like a secret"),
        (("a", "x=hf-secret-value"), {}, "word 2 of the command looks like a secret"),
        (("a",), {"variables": ["A=hf-secret-value"]}, "a value of --env looks like a secret"),
        (("a", "plain-value"), {"secrets": ["PLAIN"], "own": {"PLAIN": "plain-value"}}, "word 2 of the command looks like a secret"),
    ],
)
def test_what_is_refused_before_anything_is_sent(command, more, said):
    with pytest.raises(UsageProblem) as refused:
        submit(*command, **more)
    assert said in str(refused.value)
    assert "hf-secret-value" not in str(refused.value)


def test_a_request_has_names_of_secrets_alone():
    request = submit("pytest", "-x", variables=["A=b=c"], secrets=["HF_TOKEN"]).request("gpu")
    assert request["environment"] == {"A": "b=c"} and request["secrets"] == ["HF_TOKEN"] and request["label"] == "gpu"
    assert "hf-secret-value" not in str(request)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["pytest", "--gpueval-suite", "guardrails_ru"], "guardrails_ru-20260131-120000"),
        (["pytest", "--gpueval-suite=a.b"], "a-b-20260131-120000"),
        (["/usr/bin/python3.11", "x"], "python3-11-20260131-120000"),
        (["./_"], "run-20260131-120000"),
        (["привет"], "run-20260131-120000"),
    ],
)
def test_names_of_runs(command, name):
    assert submit(*command, run_id=None).run_id == new_id(command, NOON) == name


def test_where_runs_are():
    assert (root_of(None), root_of("~/x"), root_of("/mnt/y")) == ("~/gpueval-runs", "~/x", "/mnt/y")
    with pytest.raises(UsageProblem, match="--remote-outputs-dir runs: give an absolute path"):
        root_of("runs")
