"""Words that arrive as they are, by every shell that is here."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts import shell

MARK = "0123456789abcdef"
SHELLS = [[found] for name in ("sh", "dash", "bash", "zsh", "fish", "csh", "tcsh", "ksh", "mksh", "busybox") if (found := shutil.which(name))]
SHELLS = [[*words, "sh"] if words[0].endswith("busybox") else words for words in SHELLS]
# Prints its arguments, a variable and its directory, separated by what no word can hold.
TELL = ["perl", "-e", 'print join("\\0", @ARGV, $ENV{IT} // "", `pwd -P`)']
NASTY = ["", "a b", "it's", '"', "\\", "$HOME", "`id`", "$(id)", "!!", "*", "~", "-n", "--", "a\nb\n", "#", "a;b", "&", "|", "é кот", "\udcff", "%s", "{a,b}"]
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def run(shell_words, argv, home="/", **more):
    line = shell.command(shell.script(argv, mark=MARK, **more))
    return subprocess.run([*shell_words, "-c", line], capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(home), "PERL_BADLANG": "0"}, cwd="/")


def told(done, count):
    begun = shell.begun(done.stdout, MARK)
    assert begun is not None, done
    parts = begun.output.split(b"\0")
    return [os.fsdecode(part) for part in parts[:count]], os.fsdecode(parts[count]), os.fsdecode(parts[count + 1]).removesuffix("\n")


@pytest.mark.parametrize("shell_words", SHELLS, ids=lambda words: Path(words[0]).name)
def test_nasty_words_arrive_by_every_shell(shell_words, tmp_path):
    place = tmp_path / 'it\'s a "dir" $x'
    place.mkdir()
    done = run(shell_words, [*TELL, *NASTY], environment={"IT": "".join(NASTY)}, directory=str(place), home=tmp_path)
    assert told(done, len(NASTY)) == (NASTY, "".join(NASTY), str(place.resolve()))
    assert (shell.said(done.stderr, MARK), done.returncode) == (("", True), 0)


@settings(max_examples=40)
@given(st.lists(words, max_size=5), words)
@example(["\udc80\udcff"], "\\'")
def test_any_words_arrive(argv, value):
    for shell_words in SHELLS[:2]:
        assert told(run(shell_words, [*TELL, *argv], environment={"IT": value}), len(argv)) == (argv, value, "/")


@given(words, words)
def test_the_line_is_one_that_all_shells_read_alike(argument, value):
    line = shell.command(shell.script(["x", argument], mark=MARK, environment={"A": value}))
    head, text, tail = line.split("'")
    assert (head, tail) == ("exec /bin/sh -c ", "")
    assert not set(text) & set("\\!\n'") and text.isascii()


@pytest.mark.parametrize("shell_words", [["sh"], ["bash", "--posix"], ["dash"]], ids=" ".join)
@pytest.mark.parametrize(("argv", "directory"), [(["/nothing/here"], None), (["nothing-here"], None), (["/"], None), (["true"], "/nothing/here")])
def test_what_cannot_be_started_is_no_exit_code(shell_words, argv, directory):
    text = shell.script(argv, mark=MARK, directory=directory)
    done = subprocess.run([*shell_words, "-c", text], capture_output=True)
    said, started = shell.said(done.stderr, MARK)
    assert not started and MARK not in said and said.strip()


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_exit_codes_are_the_programs_own(code):
    done = run(["sh"], ["sh", "-c", f"echo said >&2; exit {code}"])
    assert (done.returncode, shell.said(done.stderr, MARK)) == (code, ("said\n", True))


def test_the_mark_begins_what_is_read():
    assert shell.begun(b"chatty\n", MARK) is None
    assert shell.begun(f"{MARK} 12".encode(), MARK) is None, "the rest of the number may follow"
    assert shell.begun(f"chatty{MARK} 12\nout {MARK} 1\n".encode(), MARK) == shell.Begun(12, f"out {MARK} 1\n".encode())
    assert shell.said(f"chatty\n{MARK}\nown".encode(), MARK) == ("own", True)
    assert shell.said(b"chatty", MARK) == ("chatty", True), "a shell that never came so far is quoted"


def test_the_pid_is_the_programs():
    done = run(["sh"], ["sh", "-c", "echo $$"])
    begun = shell.begun(done.stdout, MARK)
    assert begun is not None and begun.pid == int(begun.output)


@pytest.mark.parametrize(
    ("argv", "environment"), [(["a\0b"], {}), (["a"], {"A": "\0"}), (["a"], {"1A": "x"}), (["a"], {"A-B": "x"}), (["a"], {"A\n": "x"}), (["a"], {"": "x"})]
)
def test_what_no_shell_can_pass_on_is_refused(argv, environment):
    with pytest.raises(UsageProblem):
        shell.script(argv, mark=MARK, environment=environment)


def test_a_line_that_no_system_takes_is_refused():
    longest = "x" * 98_000
    assert run(["sh"], ["echo", longest]).stdout.endswith(longest.encode() + b"\n")
    with pytest.raises(UsageProblem, match=r"too long for a remote shell.* through stdin"):
        shell.command("x" * 98_300)


def test_paths_of_the_home_directory():
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {shell.place('~')} {shell.place('~/a b')} {shell.place('-')} {shell.place('~x')}"],
        capture_output=True,
        env={"HOME": "/h h"},
    )
    assert done.stdout.decode().splitlines() == ["/h h", "/h h/a b", "./-", "./~x"]


# Reports


@given(st.binary(max_size=30), st.binary(max_size=60), st.integers(0, 255), st.binary(max_size=30), st.lists(st.integers(0, 200), max_size=6), st.booleans())
@example(b"", MARK[:5].encode(), 0, b"", [], False)
def test_a_report_is_read_however_it_is_cut(before, own, code, after, cuts, failed):
    said = own + (b"sh: no such program" + MARK.encode() + b"!" if failed else b"")
    whole = before + f"{MARK}\n".encode() + said + f"{MARK}={code}\n".encode() + after
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    report = shell.Report(MARK)
    found = b"".join([report.feed(whole[first:last]) for first, last in itertools.pairwise(places)]) + report.end()
    assert (found, report.code, report.failed, report.talk) == (said.removesuffix(MARK.encode() + b"!"), code, failed, before + after)


@given(st.binary(max_size=60))
def test_a_report_that_is_cut_off_has_no_code(own):
    report = shell.Report(MARK)
    assert report.feed(f"{MARK}\n".encode() + own) + report.end() == own and report.code is None
    report = shell.Report(MARK)
    assert report.feed(own) + report.end() == b"" and (report.talk, report.begun) == (own, False)


@pytest.mark.parametrize("words", [words for words in SHELLS if Path(words[0]).name not in {"fish", "csh", "tcsh"}], ids=lambda words: Path(words[0]).name)
def test_a_shell_that_reports(words):
    for command, code in (("exit 3", 3), ("kill -KILL $$", -9), ("kill -TERM $$", -15), ("exit 255", 255)):
        text = shell.reporting(["sh", "-c", f"echo own >&2; echo out; {command}"], mark=MARK)
        done = subprocess.run([*words, "-c", text], capture_output=True)
        report = shell.Report(MARK)
        assert report.feed(done.stderr) + report.end() == b"own\n" and shell.code_of(report.code) == code and not report.failed
        assert shell.begun(done.stdout, MARK).output == b"out\n" and done.returncode == 0
    done = subprocess.run([*words, "-c", shell.reporting(["no-such-program"], mark=MARK)], capture_output=True)
    report = shell.Report(MARK)
    assert b"no-such-program" in report.feed(done.stderr) and report.failed
