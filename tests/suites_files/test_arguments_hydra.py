"""Style `hydra` against what Hydra's own parser and configuration made of its words (`hydra_cases`)."""

import json
import re

import pytest

from pytest_gpueval.suites.arguments import render
from tests.suites_files.hydra_cases import CHOSEN, FILE

RECORD = json.loads(FILE.read_text(encoding="utf-8"))


def test_hydra_reads_each_word_as_the_value_that_it_was_written_for():
    """Every word of today's renderer is one that Hydra has read, and read back as the value."""
    assert len(RECORD["cases"]) > 300
    for case in RECORD["cases"]:
        assert render(["{parameters}"], {"+a": case["read"]}, "hydra", {}) == [case["word"]]


def test_what_was_chosen_is_what_hydra_read():
    assert [repr(case["read"]) for case in RECORD["cases"][: len(CHOSEN)]] == [repr(value) for value in CHOSEN]


@pytest.mark.parametrize("case", RECORD["keys"], ids=lambda case: case["key"])
def test_keys_that_hydra_knows(case):
    assert render(["{parameters}"], {case["key"]: 1}, "hydra", {}) == [f"{case['key']}=1"]
    assert case["read"] == case["key"]


@pytest.mark.parametrize("key", ["", "0", "a.", ".a", "a b", "a=b", "~a", "+++a", "a@0", "a//b", "a[0]", "--a", "a,b"])
def test_keys_that_hydra_does_not_know(key):
    with pytest.raises(ValueError, match=f"parameter {re.escape(repr(key))}: Hydra knows no such key"):
        render(["{parameters}"], {key: 1}, "hydra", {})
