"""Whatever is wrong with a suite file is one message that says where, what, and what would be right."""

import builtins
import inspect
import os
import textwrap
from typing import get_args

import pytest

from pytest_gpueval.errors import MissingExtra, SuiteError, UsageProblem
from pytest_gpueval.scoring.classification import classification
from pytest_gpueval.scoring.generation import MATCHES as MATCH_NAMES
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.suites import load
from pytest_gpueval.suites.schema import TASK_OPTIONS, SuiteFile

ID = "a name of letters, digits and . _ -, starting with a letter or digit, 100 at most"
GOOD = """
task = "classification"
labels = ["negative", "positive"]
split = "fast"
runtime = "cpu"
policy = "sure"

[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"

[policies.sure]
threshold = 0.5
thresholds = { positive = 0.7 }
disabled = ["negative"]

[[gates]]
metric = "accuracy"
min = 0.5

[datasets.reviews]
splits.fast = { rows = 10 }
splits.full = {}
label_map = { good = "positive" }

[[datasets.reviews.gates]]
metric = "f1"
label = "positive"
min = 0.4
max = 1
"""


@pytest.fixture
def suite(tmp_path):
    """Writes a suite file, the good one with replacements, and returns its path."""

    def write(*replacements, text=GOOD):
        directory = tmp_path / "suites" / "mine"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.py").write_text("class Model: ...\n")
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (directory / "suite.toml").write_text(text)
        return directory / "suite.toml"

    return write


def problems(path):
    """The lines of the error, without the name of the file that each must begin with."""
    with pytest.raises(SuiteError) as caught:
        load.read(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines), lines
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_a_good_file(suite):
    found = load.read(suite())
    assert found.name == "mine"
    assert [case.id for case in found.cases()] == ["reviews-fast"]
    assert [(gate.metric, gate.label) for gate in found.cases()[0].gates] == [("accuracy", None), ("f1", "positive")]


def test_another_process_takes_over_the_same(suite):
    options = 'options = { device = "cpu", sizes = [1, 2.5], deep = { on = true } }\n'
    found = load.read(suite(('target = "model.py:Model"\n', f'target = "model.py:Model"\n{options}')))
    text = load.handed_over(found)
    assert text is not None
    assert load.taken_over(found.path, text) == found


@pytest.mark.parametrize("option", ["2024-05-01", "nan", "-inf", "[1, { when = 07:30:00 }]", f"{2**70}"])
def test_what_json_cannot_hold_is_read_again(suite, option):
    found = load.read(suite(('target = "model.py:Model"\n', f'target = "model.py:Model"\noptions = {{ value = {option} }}\n')))
    assert load.handed_over(found) is None


@pytest.mark.parametrize(
    ("replacement", "line"),
    [
        pytest.param(('split = "fast"', 'split = "fats"'), "split: unknown 'fats'. Did you mean 'fast'? Valid splits: fast, full.", id="default split"),
        pytest.param(('runtime = "cpu"', 'runtime = "gpu"'), "runtime: unknown 'gpu'. Did you mean 'cpu'? Valid runtimes: cpu.", id="default runtime"),
        pytest.param(('policy = "sure"', 'policy = "shure"'), "policy: unknown 'shure'. Did you mean 'sure'? Valid policies: sure.", id="default policy"),
        pytest.param(
            ("{ positive = 0.7 }", "{ postive = 0.7 }"),
            "policies.sure.thresholds.postive: unknown 'postive'. Did you mean 'positive'? Valid labels: negative, positive.",
            id="threshold's label",
        ),
        pytest.param(
            ('disabled = ["negative"]', 'disabled = ["neg"]'),
            "policies.sure.disabled[0]: unknown 'neg'. Valid labels: negative, positive.",
            id="disabled label",
        ),
        pytest.param(
            ('good = "positive"', 'good = "Positive"'),
            "datasets.reviews.label_map.good: unknown 'Positive'. Did you mean 'positive'? Valid labels: negative, positive.",
            id="label map",
        ),
        pytest.param(
            ('label = "positive"', 'label = "pos"'), "datasets.reviews.gates[0].label: unknown 'pos'. Valid labels: negative, positive.", id="gate's label"
        ),
        pytest.param(('["negative", "positive"]', '["negative", "positive", "positive"]'), "labels: 'positive' is given twice", id="label twice"),
        pytest.param(("model.py:Model", "modle.py:Model"), "runtimes.cpu.target: 'modle.py': no such file in {directory}", id="model's file"),
        pytest.param(
            ("[runtimes.cpu]", '[data]\ngenerator = "gen.py"\n[runtimes.cpu]'), "data.generator: 'gen.py': no such file in {directory}", id="generator's file"
        ),
        pytest.param(("rows = 10", 'rows = "10"'), "datasets.reviews.splits.fast.rows: expected a whole number, found '10'", id="string for int"),
        pytest.param(("rows = 10", "rows = 0"), "datasets.reviews.splits.fast.rows: expected greater than 0, found 0", id="no rows"),
        pytest.param(("rows = 10", "rows = true"), "datasets.reviews.splits.fast.rows: expected a whole number, found true", id="bool for int"),
        pytest.param(
            ("rows = 10", "rowz = 10"),
            "datasets.reviews.splits.fast.rowz: unknown key. Did you mean 'rows'? Valid keys here: rows.",
            id="key of a table in a dict in a dict",
        ),
        pytest.param(
            ("min = 0.4", "mim = 0.4"),
            "datasets.reviews.gates[0].mim: unknown key. Did you mean 'min'? Valid keys here: judge, label, max, max_drop, max_rise, metric, min, relative.",
            id="key in a list in a dict",
        ),
        pytest.param(
            ("min = 0.5", "min = 0.5\nmox = 1.0"),
            "gates[0].mox: unknown key. Did you mean 'max'? Valid keys here: judge, label, max, max_drop, max_rise, metric, min, relative.",
            id="key in a list",
        ),
        pytest.param(
            ("threshold = 0.5", "treshold = 0.5"),
            "policies.sure.treshold: unknown key. Did you mean 'threshold'? Valid keys here: disabled, gates, threshold, thresholds.",
            id="key of a model in a dict",
        ),
        pytest.param(('kind = "inprocess"\n', ""), "runtimes.cpu.kind: missing; this key is required", id="missing key"),
        pytest.param(
            ("[[gates]]\n", '[[gates]]\njudge = "intervall"\n'),
            "gates[0].judge: unknown 'intervall'. Did you mean 'interval'? Valid values: interval, value.",
            id="choice",
        ),
        pytest.param(
            ('metric = "accuracy"\nmin = 0.5', 'metric = "samples_per_s"\nmax_rise = 0.5'),
            "gates[0]: of 'samples_per_s' more is better: write 'max_drop' instead of 'max_rise'",
            id="rise of a rate",
        ),
        pytest.param(
            ('metric = "accuracy"\nmin = 0.5', 'metric = "latency_p95_ms"\nmax_drop = 0.5'),
            "gates[0]: of 'latency_p95_ms' less is better: write 'max_rise' instead of 'max_drop'",
            id="drop of a latency",
        ),
        pytest.param(
            ('metric = "accuracy"\nmin = 0.5', 'metric = "gpu_peak_memory_mib"\nlabel = "positive"\nmax = 5'),
            "gates[0]: 'gpu_peak_memory_mib' is of the whole run; leave out 'label'",
            id="memory of a label",
        ),
        pytest.param(("min = 0.5\n", ""), "gates[0]: a gate needs 'min', 'max', 'max_drop' or 'max_rise'", id="gate without bounds"),
        pytest.param(("min = 0.4", "min = 4"), "datasets.reviews.gates[0]: 'min' 4 is above 'max' 1", id="min above max"),
        pytest.param(("min = 0.5\n", "min = nan\n"), "gates[0].min: expected a finite number, found nan", id="bound that nothing can reach"),
        pytest.param(("threshold = 0.5", "threshold = 1.5"), "policies.sure.threshold: expected less than or equal to 1, found 1.5", id="share"),
        pytest.param(
            ("[datasets.reviews]", '[datasets."../x"]\nsplits.fast = {}\n[datasets.reviews]'), "datasets.../x: expected {id}, found '../x'", id="dataset id"
        ),
        pytest.param(("splits.full", 'splits."full\\n"'), "datasets.reviews.splits.'full\\n': expected {id}, found 'full\\n'", id="newline in an id"),
        pytest.param(('["negative", "positive"]', '"negative"'), "labels: expected an array, found 'negative'", id="string for array"),
        pytest.param(("[runtimes.cpu]", "[data]\ndirectory = 3\n[runtimes.cpu]"), "data.directory: expected a string, found 3", id="int for string"),
    ],
)
def test_one_problem_is_one_line(suite, replacement, line):
    path = suite(replacement)
    assert problems(path) == [line.replace("{directory}", str(path.parent)).replace("{id}", ID)]


def test_several_problems_are_listed_together(suite):
    assert problems(suite(("rows = 10", "rows = -1"), ('task = "classification"\n', "taks = 1\n"), ("min = 0.5", "min = true"))) == [
        "task: missing; this key is required",
        "gates[0].min: expected a number, found true",
        "datasets.reviews.splits.fast.rows: expected greater than 0, found -1",
        f"taks: unknown key. Did you mean 'task'? Valid keys here: {', '.join(sorted(SuiteFile.model_fields))}.",
    ]
    assert len(problems(suite(('split = "fast"', 'split = "x"'), ('runtime = "cpu"', 'runtime = "x"')))) == 2


@pytest.mark.parametrize(
    ("datasets", "line"),
    [
        ("[datasets]", "datasets: expected at least one entry, found {}"),
        ("[datasets.a]\nsplits = {}", "datasets.a.splits: expected at least one entry, found {}"),
        ("datasets.a = 3", "datasets.a: expected a table, found 3"),
        ("[[datasets]]\nname = 'a'", "datasets: expected a table, found [{'name': 'a'}]"),
        ("", "datasets: missing; this key is required"),
    ],
)
def test_datasets_that_are_none(suite, datasets, line):
    text = 'task = "t"\nsplit = "fast"\nruntime = "cpu"\nruntimes.cpu.kind = "other"\n' + datasets
    assert problems(suite(text=text)) == [line]


def test_a_long_value_is_cut(suite):
    (line,) = problems(suite(("rows = 10", f'rows = "{"9" * 5000}"')))
    assert line.endswith("...")
    assert len(line) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'task = "x"\nlabels = [\n', "not valid TOML: Invalid value (at end of document)", id="unfinished"),
        pytest.param(b'task = "x"\nsplit = fast\n', "not valid TOML: Invalid value (at line 2, column 9)", id="no quotes"),
        pytest.param(b'task = "x"\n\n# \xff\n', "not UTF-8 in line 3, at byte 14", id="not UTF-8"),
        pytest.param(b"rows = " + b"9" * 5000, "not valid TOML: Exceeds the limit", id="a number too long for Python"),
        pytest.param(b"x = " + b"[" * 100_000, "not valid TOML: ", id="too deep"),
    ],
)
def test_not_toml(tmp_path, content, message):
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        load.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_content(suite):
    path = suite()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load.read(path).file.task == "classification"


def test_no_such_file_and_a_directory(tmp_path):
    with pytest.raises(SuiteError, match=r"suite\.toml: no such file$"):
        load.read(tmp_path / "suite.toml")
    (tmp_path / "suite.toml").mkdir()
    with pytest.raises(SuiteError, match=r"suite\.toml: cannot be read: Is a directory$"):
        load.read(tmp_path / "suite.toml")


# Options of the task.

MATCHES = "choice, exact, judge, normalized, numeric, regex"
GENERATION = """
task = "generation"
split = "fast"
runtime = "cpu"
runtimes.cpu.kind = "other"
[task_options]
match = "regex"
pattern = "(x)"
[datasets.one]
splits.fast = {}
[datasets.two]
splits.fast = {}
task_options = { match = "numeric", tolerance = 0.1 }
"""


def test_options_reach_the_cases_and_datasets_override_them(suite):
    one, two = load.read(suite(text=GENERATION)).cases()
    assert one.task_options == {"match": "regex", "pattern": "(x)"}
    assert two.task_options == {"match": "numeric", "pattern": "(x)", "tolerance": 0.1}
    assert load.read(suite()).cases()[0].task_options == {}


@pytest.mark.parametrize(
    ("replacement", "line"),
    [
        (('match = "regex"', 'mach = "regex"'), "task_options.mach: unknown key. Did you mean 'match'? Valid keys here: k, match, pattern, tolerance."),
        (('match = "regex"', 'match = "regexp"'), f"task_options.match: unknown 'regexp'. Did you mean 'regex'? Valid values: {MATCHES}."),
        (('pattern = "(x)"', 'pattern = "(x"'), "task_options.pattern: not a regular expression: missing ), unterminated subpattern at position 0; found '(x'"),
        (('pattern = "(x)"', "pattern = 3"), "task_options.pattern: expected a string, found 3"),
        (('pattern = "(x)"', ""), "task_options: match 'regex' needs 'pattern'"),
        (('pattern = "(x)"', 'pattern = "(x)"\nk = [0]'), "task_options.k[0]: expected greater than or equal to 1, found 0"),
        (('pattern = "(x)"', 'pattern = "(x)"\nk = 5'), "task_options.k: expected an array, found 5"),
        (("tolerance = 0.1", "tolerance = -1"), "datasets.two.task_options.tolerance: expected greater than or equal to 0, found -1"),
        (
            ("tolerance = 0.1", "tolerence = 0.1"),
            "datasets.two.task_options.tolerence: unknown key. Did you mean 'tolerance'? Valid keys here: k, match, pattern, tolerance.",
        ),
        (('match = "numeric"', 'match = "choice"'), "datasets.two.task_options: 'tolerance' is of match = \"numeric\" alone"),
        (
            ('match = "numeric", tolerance = 0.1', 'match = "exact"'),
            "datasets.two.task_options: match 'exact' takes no 'pattern': match = \"regex\" compares what it finds",
        ),
        (('task = "generation"', 'task = "generation"\nlabels = ["a"]'), "labels: task 'generation' has no labels; leave the key out"),
        (
            ("[datasets.one]", "[policies.sure]\nthreshold = 0.5\n[datasets.one]"),
            "policies.sure.threshold: task 'generation' has no labels, so nothing has a score; leave the key out",
        ),
        (('task = "generation"', 'task_options = 3\ntask = "generation"'), None),
    ],
)
def test_a_wrong_option_is_one_line(suite, replacement, line):
    if line is None:  # a table given twice is TOML's business
        with pytest.raises(SuiteError, match="not valid TOML"):
            load.read(suite(replacement, text=GENERATION))
    else:
        assert problems(suite(replacement, text=GENERATION)) == [line]


JUDGED = """
task = "generation"
split = "fast"
runtime = "cpu"
task_options = { match = "judge" }
runtimes.cpu.kind = "other"
[runtimes.big]
kind = "openai"
url = "http://127.0.0.1:1/v1"
[judge]
runtime = "big"
[datasets.one]
splits.fast = {}
[datasets.two]
splits.fast = {}
task_options = { match = "exact" }
"""


def test_a_judge_reaches_the_cases_that_it_judges(suite):
    one, two = load.read(suite(text=JUDGED)).cases()
    assert one.judge is not None and two.judge is None
    assert (one.judge.runtime_name, one.judge.runtime.url) == ("big", "http://127.0.0.1:1/v1")
    own = 'runtime = "big"\ntemplate = "{prediction}?"\npattern = "[AB]"\nright = ["A"]'
    found = load.read(suite(('runtime = "big"', own), text=JUDGED))
    assert load.taken_over(found.path, load.handed_over(found)) == found
    entry = found.cases()[0].judge.entry
    assert (entry.template, entry.pattern, entry.right) == ("{prediction}?", "[AB]", ["A"])


FIELDS = "answer, prediction, prompt"


@pytest.mark.parametrize(
    ("replacement", "line"),
    [
        (('runtime = "big"', 'runtime = "bgi"'), "judge.runtime: unknown 'bgi'. Did you mean 'big'? Valid runtimes: big, cpu."),
        (('runtime = "big"', ""), "judge.runtime: missing; this key is required"),
        (
            ('runtime = "big"', 'runtime = "cpu"'),
            "judge.runtime: 'cpu' is of kind 'other'; a judge is a language model, of kind 'openai'. Valid runtimes of kind 'openai': big.",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\nmodel = "x"'),
            "judge.model: unknown key. Valid keys here: pattern, right, runtime, template.",
        ),
        (
            ('task_options = { match = "judge" }', ""),
            "judge: nothing asks it. Datasets of task 'generation' do with match = \"judge\" in their task_options, or in the suite's; or leave the table out",
        ),
        (
            ('[judge]\nruntime = "big"', ""),
            "task_options.match: 'judge' needs a judge: a table [judge] with runtime = \"NAME\", one of the runtimes of this suite",
        ),
        (
            ('{ match = "exact" }', '{ match = "judge", pattern = "x" }'),
            "datasets.two.task_options: match 'judge' takes no 'pattern': the judge reads the whole text; [judge] has a pattern for its verdict",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\npattern = "(right"'),
            "judge.pattern: not a regular expression: missing ), unterminated subpattern at position 0; found '(right'",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\npattern = "correct|incorrect"'),
            "judge: which of the verdicts that 'pattern' finds mean right? Say it in 'right', as in right = [\"correct\"]",
        ),
        (('runtime = "big"', 'runtime = "big"\nright = []'), "judge.right: expected at least one entry, found []"),
        (('runtime = "big"', 'runtime = "big"\nright = "yes"'), "judge.right: expected an array, found 'yes'"),
        (('runtime = "big"', 'runtime = "big"\nright = ["right", " "]'), "judge.right[1]: expected a string that is not empty, found ' '"),
        (
            ('runtime = "big"', 'runtime = "big"\ntemplate = "{prediction} {anser}"'),
            f"judge.template: unknown field {{anser}}. Did you mean 'answer'? Valid fields: {FIELDS}.",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\ntemplate = "{prediction.__class__}"'),
            "judge.template: {prediction.__class__} with attributes, indices, conversions or formats is not allowed; only names, as in {prompt}",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\ntemplate = "{prediction"'),
            "judge.template: expected '}' before end of string. Braces that are text are written twice: {{ and }}.",
        ),
        (
            ('runtime = "big"', 'runtime = "big"\ntemplate = "Is it {answer}?"'),
            "judge.template: has no field {prediction}: the judge would not see what it is to judge",
        ),
    ],
)
def test_a_wrong_judge_is_one_line(suite, replacement, line):
    assert problems(suite(replacement, text=JUDGED)) == [line]


def test_a_dataset_that_wants_a_judge_is_named(suite):
    text = JUDGED.replace('task_options = { match = "judge" }\n', "").replace('[judge]\nruntime = "big"\n', "")
    (line,) = problems(suite(('{ match = "exact" }', '{ match = "judge" }'), text=text))
    assert line.startswith("datasets.two.task_options.match: 'judge' needs a judge: a table [judge]")


def test_a_judge_of_a_task_that_has_none(suite):
    (line,) = problems(suite(("[runtimes.cpu]", '[runtimes.big]\nkind = "openai"\n[judge]\nruntime = "big"\n[runtimes.cpu]')))
    assert line.startswith("judge: nothing asks it. Datasets of task 'generation' do")


@pytest.mark.parametrize(
    ("task", "option", "line"),
    [
        ("classification", "multilabel = 1", "task_options.multilabel: expected true or false, found 1"),
        ("classification", "multilable = true", "task_options.multilable: unknown key. Did you mean 'multilabel'? Valid keys here: multilabel."),
        ("span_detection", "match = true", "task_options.match: unknown key. There are no keys here."),
    ],
)
def test_options_of_the_other_tasks(suite, task, option, line):
    assert problems(suite(('task = "classification"', f'task = "{task}"'), ("[runtimes.cpu]", f"[task_options]\n{option}\n[runtimes.cpu]"))) == [line]


def test_options_of_a_task_from_conftest_are_its_own(suite):
    load.read(suite(('task = "classification"', 'task = "mine"'), ("[runtimes.cpu]", "[task_options]\nanything = 1\n[runtimes.cpu]")))


def test_the_tasks_take_the_options_that_suite_files_may_give():
    factories = {"span_detection": SpanDetection, "classification": classification, "generation": Generation}
    assert set(factories) == set(TASK_OPTIONS)
    for name, factory in factories.items():
        parameters = {key: parameter for key, parameter in inspect.signature(factory).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
        fields = TASK_OPTIONS[name].model_fields
        assert set(parameters) == set(fields), name
        assert [list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters.values()] == [fields[key].default for key in parameters]
    assert get_args(TASK_OPTIONS["generation"].model_fields["match"].annotation) == MATCH_NAMES


# Finding suites.


def test_the_users_suites_come_before_the_shipped_ones(suite, tmp_path):
    shipped = load.available(tmp_path / "elsewhere")
    assert "guardrails_ru" in shipped
    mine = suite()
    own = tmp_path / "suites" / "guardrails_ru" / "suite.toml"
    own.parent.mkdir()
    own.write_text(GOOD)
    (tmp_path / "suites" / "no-suite").mkdir()
    found = load.available(tmp_path)
    assert found["mine"] == mine
    assert found["guardrails_ru"] == own
    assert set(found) == {"mine", *shipped}
    assert load.find("guardrails_ru", tmp_path) == own
    assert load.find("guardrails_ru", tmp_path / "elsewhere") == shipped["guardrails_ru"]


@pytest.mark.parametrize("name", ["guardrails_rus", "../suites/mine", "mine/", "", "."])
def test_an_unknown_suite(suite, tmp_path, name):
    suite()
    with pytest.raises(UsageProblem) as caught:
        load.find(name, tmp_path)
    assert str(caught.value).startswith(f"there is no suite {name!r}. ")
    assert "Valid suites: fineweb10B, guardrails_ru, llm_smoke, mine, pendulum." in str(caught.value)
    assert f"Looked in: {tmp_path / 'suites'}, " in str(caught.value)


# Policies.


@pytest.fixture
def policy(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", "[strict]\nthreshold = 0.9\n"),
        ("p.toml", "[policies.strict]\nthreshold = 0.9\n"),
        ("p.yaml", "strict: {threshold: 0.9}\n"),
        ("p.yml", "\ufeffpolicies:\n  strict:\n    threshold: 0.9\n"),
        (r"C:\p.toml", "[strict]\nthreshold = 0.9\n"),
    ],
)
def test_a_policy_of_the_users_own(policy, name, text):
    assert load.read_policy(policy(name, text) + ":strict") == ("strict", load.PolicyEntry(threshold=0.9))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.toml", "[strict]\n", r"p\.toml: there is no policy 'strikt'\. Did you mean 'strict'\? Valid policies: strict\.$"),
        ("p.yaml", "1: {}\nstrict: {}\n", r"there is no policy 'strikt'\. Did you mean 'strict'\? Valid policies: 1, strict\.$"),
        ("p.yaml", "policies: 3\n", r"there is no policy 'strikt'\. There are no policies\.$"),
        ("p.yaml", "", r"p\.yaml: expected a table of policies, found nothing$"),
        ("p.yaml", "[a]\n", r"p\.yaml: expected a table of policies, found \['a'\]$"),
        ("p.yaml", "a: [\n", r"p\.yaml: not valid YAML: .* line 2"),
        ("p.yaml", "a: 2020-13-45\n", r"p\.yaml: not valid YAML: month must be in 1\.\.12"),
        ("p.yaml", "[" * 5000, r"p\.yaml: not valid YAML: "),
        ("p.toml", "strikt = 3\n", r"p\.toml: strikt: expected a table, found 3$"),
        ("p.toml", "strikt.threshold = '0.9'\n", r"p\.toml: strikt: threshold: expected a number, found '0\.9'$"),
        ("p.toml", "strikt.treshold = 0.9\n", r"p\.toml: strikt: treshold: unknown key\. Did you mean 'threshold'\?"),
        ("p.yaml", "strikt: {1: 2}\n", r"p\.yaml: strikt: \[1\]: expected a key that is a string, found 1$"),
        ("p.toml", "a = \n", r"p\.toml: not valid TOML: Invalid value \(at line 1"),
        ("p.json", "{}", r"expected FILE:NAME, where FILE ends in \.toml, \.yaml or \.yml$"),
    ],
)
def test_a_wrong_policy_file(policy, name, text, message):
    with pytest.raises(UsageProblem, match=message) as caught:
        load.read_policy(policy(name, text) + ":strikt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["strict", r"C:\p.toml", "p.toml:", ":strict"])
def test_a_policy_reference_without_file_or_name(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageProblem, match=r"expected FILE:NAME|no such file"):
        load.read_policy(reference)


def test_policy_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageProblem, match=r"^--gpueval-policy \S+: \S+p\.toml: no such file$"):
        load.read_policy(f"{tmp_path}/p.toml:x")
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(UsageProblem, match=r"d\.toml: cannot be read: Is a directory$"):
        load.read_policy(f"{tmp_path}/d.toml:x")
    (tmp_path / "b.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UsageProblem, match=r"b\.yaml: not UTF-8 at byte 3$"):
        load.read_policy(f"{tmp_path}/b.yaml:x")


def test_yaml_starts_nothing(policy, tmp_path):
    mark = tmp_path / "was-here"
    file = policy("evil.yaml", f"strict: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(UsageProblem, match="not valid YAML: could not determine a constructor"):
        load.read_policy(file + ":strict")
    assert not os.path.lexists(mark)


def test_yaml_without_pyyaml_names_the_extra(policy, monkeypatch):
    file = policy("p.yaml", "strict: {}\n")
    plain = builtins.__import__

    def no_yaml(name, *args, **kwargs):
        if name == "yaml":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_yaml)
    with pytest.raises(MissingExtra, match=r"policy file .*p\.yaml needs the package 'pyyaml'(.|\n)*pip install 'pytest-gpueval\[policy\]'"):
        load.read_policy(file + ":strict")
