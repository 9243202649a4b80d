"""The plan as text: the header, and a table that stays readable however long the plan is."""

import pytest

from pytest_gpueval.reports import schedule
from pytest_gpueval.reports.schedule import clock, header, label, plan_lines


def item(case, slot, start_s, seconds, **changes):
    base = f"suites/toy/suite.toml::test_eval[{case}]"
    fields = {
        "id": base,
        "group": base,
        "slot": slot,
        "start_s": start_s,
        "seconds": seconds,
        "startup_s": 0.0,
        "source": "measured",
        "merge": False,
        **changes,
    }
    return {**fields, "end_s": start_s + seconds + fields["startup_s"]}


def plan(assignments, *, gpus=True, **changes):
    names = list(dict.fromkeys([one["slot"] for one in assignments]))
    slots = [
        {
            "name": name,
            "gpus": [f"GPU-{part}" for part in name.split("+")] if gpus else [],
            "finish_s": max(one["end_s"] for one in assignments if one["slot"] == name),
        }
        for name in names
    ]
    makespan_s = max((slot["finish_s"] for slot in slots), default=0.0)
    base = {"makespan_s": makespan_s, "bound_s": makespan_s, "total_s": 0.0, "budget_s": None, "over_budget": [], "too_wide": [], "slots": slots}
    return {**base, "assignments": assignments, **changes}


def test_a_whole_plan():
    cut = {"group": "meddies"}
    text = plan_lines(
        plan(
            [
                item("meddies-fast-1of2", "gpu0", 0, 12.3, startup_s=60.0, **cut),
                item("meddies-fast-2of2", "gpu1", 0, 12.3, startup_s=60.0, **cut),
                item("kaggle-fast", "gpu0", 72.3, 4.2, source="default"),
                item("meddies-fast", "gpu1", 72.3, 0.2, merge=True, source="default", **cut),
            ],
            budget_s=600,
            bound_s=72.3,
        )
    )
    assert text == (
        "plan: 3 shards of 2 datasets, predicted 1:16 (bound 1:12) on 2 GPUs · budget 10:00\n"
        "  gpu0  1:16  meddies-fast-1of2 0:12 (1:00 start-up) · kaggle-fast 4.2 s (default)\n"
        "  gpu1  1:12  meddies-fast-2of2 0:12 (1:00 start-up) · join meddies-fast\n"
        "  lengths are measured by earlier sessions; others say so\n"
    )


def test_header():
    one = plan([item("a-fast", "cpu0", 0, 5)], gpus=False)
    assert header(one) == "plan: 1 dataset, predicted 5.0 s (bound 5.0 s) on 1 CPU lane"
    wide = plan([item("a-fast", "gpu0", 0, 5), item("b-fast", "gpu0+gpu1", 5, 5)])
    assert header(wide).endswith("on 2 GPUs")
    over = plan([item("a-fast", "gpu0", 0, 730)], budget_s=600, over_budget=[f"x::test_eval[d{number}-fast]" for number in range(5)])
    assert header(over).endswith("· budget 10:00 · exceeds the budget by 2:10: d0-fast, d1-fast, d2-fast … 2 more")
    assert header({**one, "too_wide": ["x::test_eval[big-fast]"]}).endswith("on 1 CPU lane · too few GPUs for big-fast")
    assert header(plan([])) == "plan: 0 datasets, predicted 0.0 s (bound 0.0 s) on 0 CPU lanes"
    assert plan_lines(plan([])) == header(plan([])) + "\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "0:10"), (59.6, "1:00"), (74, "1:14"), (3599.7, "1:00:00"), (36610, "10:10:10")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("id_", "text"), [("s/suite.toml::test_eval[a-fast-2of4]", "a-fast-2of4"), ("t.py::test_mine", "test_mine"), ("t.py::test[a[0]]", "a[0]")]
)
def test_label(id_, text):
    assert label(id_) == text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("count", [1, 3, 30, 900])
def test_a_long_plan_is_shortened(count, width):
    items = [item(f"dataset-{number}-fast", f"gpu{number % 3}", number * 10.0, 10.0) for number in range(count)]
    lines = plan_lines(plan(items), width).splitlines()[1:-1]
    assert len(lines) <= 9
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    shown = text.count("dataset-")
    left_out = [int(part.split()[1]) for part in text.split(" · ") for part in [part.strip()] if part.startswith("…")]
    assert shown + sum(left_out) == count
    if count == 900 and width == 120:
        assert "more, " in lines[2]


def test_names_longer_than_the_line():
    items = [item("x" * 300, "gpu0", 0, 10), item("y" * 300, "gpu0", 10, 10), item("z" * 300, "gpu0", 20, 10), item("w" * 300, "gpu0", 30, 10)]
    lines = plan_lines(plan(items), 80).splitlines()
    assert len(lines) <= 5


def test_hostile_names():
    text = plan_lines(plan([item("\x1b[31mred\x1b[0m\u202e", "gpu0", 0, 1)], too_wide=["\x1b]0;t\x07x"]))
    assert not set("\x1b\u202e\x07") & set(text)


def test_every_source_has_words():
    for source in ("measured", "suite", "default"):
        assert schedule._SOURCES[source] in plan_lines(plan([item("a", "gpu0", 0, 1, source=source)]))
