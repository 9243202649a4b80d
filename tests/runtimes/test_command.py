"""A program on the other end of two pipes: whatever it does, no row is lost or doubled."""

import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import RuntimeFault
from pytest_gpueval.runtimes.command import Command
from tests.waiting import alive, gone, wait_for

# Does what a row says after its "!", then answers with the length of the text.
PROGRAM = """
import json, os, signal, sys, time
print("warming up", file=sys.stderr, flush=True)
def say(**told):
    print(json.dumps({"id": row["id"], **told}), flush=True)
for line in sys.stdin:
    row = json.loads(line)
    with open(os.environ["ASKED"], "a") as file:
        file.write(row["id"] + "\\n")
    exec(row["text"].partition("!")[2])
    say(prediction=len(row["text"]))
"""


def rows(*texts):
    return [SimpleNamespace(id=f"r{number}", inputs={"id": f"r{number}", "text": text}) for number, text in enumerate(texts)]


@pytest.fixture
def program(tmp_path):
    """Starts it; `program.asked()` are the ids it was asked for."""
    started = []

    def make(source=PROGRAM, argv=None, **options):
        (tmp_path / "program.py").write_text(textwrap.dedent(source))
        environment = {**os.environ, "ASKED": str(tmp_path / "asked"), "MARK": str(tmp_path / "mark")}
        runtime = Command(argv or [sys.executable, "program.py"], tmp_path, in_flight=options.pop("in_flight", 4), environment=environment, **options)
        started.append(runtime)
        runtime.start()
        return runtime

    make.asked = lambda: (tmp_path / "asked").read_text().split()
    yield make
    for runtime in started:
        runtime.close()


def told(answers):
    return [answer.value if answer.error is None else answer.error for answer in answers]


def test_text_of_any_kind_arrives_whole(program):
    texts = ["", "ж" * 1000, "line\nbreak\r\u2028", "\ud800 lone", '"quotes"\\', "x" * 1_000_000]
    assert told(program().answers(rows(*texts))) == [len(text) for text in texts]


def test_it_is_started_once_for_all_cases(program):
    runtime = program()
    assert told(runtime.answers(rows("a"))) + told(runtime.answers(rows("bb"))) == [1, 2]
    assert runtime.generation == 1


def test_one_that_is_killed_loses_and_doubles_nothing(program):
    once = "!import pathlib; mark = pathlib.Path(os.environ['MARK']); fresh = not mark.exists(); mark.touch(); fresh and os.kill(os.getpid(), signal.SIGKILL)"
    runtime = program()
    texts = ["x" * number for number in range(20)]
    texts[9] = once
    assert told(runtime.answers(rows(*texts))) == [len(text) for text in texts]
    assert runtime.generation == 2


@pytest.mark.parametrize("place", [0, 5, 19])
def test_a_row_that_ends_it_is_the_one_error(program, place):
    texts = ["x"] * 20
    texts[place] = "!os._exit(3)"
    found = told(program().answers(rows(*texts)))
    assert found.pop(place) == f"{sys.executable} does not survive this row: it ended with exit code 3"
    assert found == [1] * 19


def test_the_first_of_many_rows_ends_it(program):
    """However many starts it takes to find that row: the program answers the others."""
    found = told(program(in_flight=64).answers(rows("!os._exit(3)", *["x"] * 80)))
    assert found == [f"{sys.executable} does not survive this row: it ended with exit code 3", *[1] * 80]


def test_a_row_that_hangs_is_the_one_error(program):
    texts = ["x"] * 6
    texts[2] = "!time.sleep(1000)"
    found = told(program(deadline_s=3.0).answers(rows(*texts)))  # its starts count, too
    assert found.pop(2) == f"{sys.executable} does not survive this row: no answer within 3 s"
    assert found == [1] * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!print('Loading model', flush=True)", r"wrote b'Loading model\\n' to stdout\.\nEach line of its stdout must answer one row"),
        ("!print('[1]', flush=True)", r"wrote b'\[1\]\\n'"),
        ("!say(answer=1)", r"must answer one row"),
        ("!say(prediction=1, error='both')", r"must answer one row"),
        ("!print('{\"prediction\": 1}', flush=True)", r"must answer one row"),
        ("!say(id='other', prediction=1)", r"answered row 'other' where row 'r0' was next; answers come in the order of the rows"),
    ],
)
def test_output_that_is_no_answer_ends_the_case(program, text, message):
    with pytest.raises(RuntimeFault, match=message):
        told(program().answers(rows(text, "x")))


def test_more_answers_than_rows_end_the_case(program):
    with pytest.raises(RuntimeFault, match=r"(answered row 'r0' where row 'r1' was next|more answers to stdout than it was given rows)"):
        told(program().answers(rows("!say(prediction=1)", "x", "x")))


def test_a_program_that_never_answers_is_given_up_with_its_last_words(program):
    with pytest.raises(RuntimeFault, match=r"(?s)answers nothing: it ended with exit code 9\nLast lines of its stderr:\n.*  no weights"):
        told(program("import sys; print('no weights', file=sys.stderr); sys.exit(9)").answers(rows(*["x"] * 10)))


def test_a_program_that_is_not_there(program):
    with pytest.raises(RuntimeFault, match=r"(?s)/no/program answers nothing: .*No such file or directory"):
        told(program(argv=["/no/program"]).answers(rows("x")))


def test_what_it_says_on_stderr_is_passed_on(program, capfd):
    told(program().answers(rows("!print('thinking', file=sys.stderr, flush=True)")))
    assert capfd.readouterr().err == "warming up\nthinking\n"


def test_close_ends_it_and_all_that_it_started(program):
    source = PROGRAM.replace("for line in", "import subprocess\nchild = subprocess.Popen(['sleep', '1000'], start_new_session=True)\nfor line in", 1)
    source = source.replace("len(row", "[os.getpid(), child.pid] or len(row")
    runtime = program(source)
    (pids,) = told(runtime.answers(rows("x")))
    runtime.close()
    assert gone(pids)


def test_one_that_ends_when_its_rows_end_is_let_finish(program, tmp_path):
    source = PROGRAM + "\nopen(os.environ['MARK'], 'w').write('finished')\n"
    runtime = program(source)
    told(runtime.answers(rows("x")))
    runtime.close()
    assert (tmp_path / "mark").read_text() == "finished"


def test_a_killed_session_leaves_no_program(tmp_path):
    source = f"""
        import sys
        from pathlib import Path
        from types import SimpleNamespace
        from pytest_gpueval.runtimes.command import Command
        program = "import json, os, sys\\nfor line in sys.stdin: print(json.dumps({{'id': 'r', 'prediction': os.getpid()}}), flush=True)"
        runtime = Command([sys.executable, "-c", program], Path({str(tmp_path)!r}))
        runtime.start()
        (answer,) = runtime.answers([SimpleNamespace(id="r", inputs={{"id": "r"}})])
        print(answer.value, flush=True)
        import time; time.sleep(1000)
    """

    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True) as session:
        pid = int(session.stdout.readline())
        session.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(pid))
