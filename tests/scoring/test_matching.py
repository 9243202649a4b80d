"""Normalisation as SQuAD's official script has it, and the forms of a choice."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.matching import LONGEST, chosen, extracted, normalized, token_f1

words = st.lists(st.sampled_from(["a", "The", "an", "cat", "Cat's", "dog.", "(x)", "1,5", "-", "well-known", "theatre", "  "]), max_size=8).map(" ".join)


def official(text):
    """normalize_answer of SQuAD's evaluate-v1.1.py."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(found, gold):
    """f1_score of the same."""
    mine, right = official(found).split(), official(gold).split()
    same = sum((Counter(mine) & Counter(right)).values())
    if not mine or not right:
        return float(mine == right)  # as in evaluate-v2.0.py
    precision, recall = same / len(mine), same / len(right)
    return 2 * precision * recall / (precision + recall) if same else 0.0


@given(words | st.text(st.characters(codec="ascii")))
def test_ascii_is_normalised_as_by_the_official_script(text):
    assert normalized(text) == official(text)


@given(words, words)
def test_f1_is_that_of_the_official_script(found, gold):
    assert token_f1(normalized(found), normalized(gold)) == pytest.approx(official_f1(found, gold))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("«Война и мир» — роман.", "война и мир роман"),
        ("А\u00a0а", "а а"),  # Cyrillic, no articles
        ("STRASSE, Straße", "strasse strasse"),
        ("“The” Beatles…", "beatles"),
        ("ｆｕｌｌ　ｗｉｄｔｈ！", "full width"),
        ("$5 + 3", "5 3"),
        ("the", ""),
    ],
)
def test_other_scripts(text, plain):
    assert normalized(text) == plain


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"#### (\S+)", "so #### 42 and #### 43", "42"),
        (r"\d+", "so 42 and 43", "42"),
        (r"(a)|b", "b", None),
        (r"(?:x)(y)(z)", "xyz", "y"),
        (r"z", "xy", None),
        (r"^x", "x" + "y" * LONGEST, None),
    ],
)
def test_what_a_pattern_finds(pattern, text, found):
    assert extracted(re.compile(pattern), text) == found


CHOICES = ("Paris", "London", "Rome", "the Paris of today")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        *((text, 1) for text in ("B", "b", " B\n", "(B)", "B.", "B)", "B:", "b)", "B) London", "(B) London", "B. London is right")),
        *((text, 1) for text in ("London", "london!", "The London")),
        *((text, None) for text in ("", "E", "I think so", "Paris or London", "\u0412", "BB", "Lond", "4")),
        ("Paris", 0),
        ("Paris of today", 3),
    ],
)  # fmt: skip
def test_choices_by_letter_text_or_both(text, index):
    assert chosen(text, CHOICES) == index


def test_the_text_of_a_choice_goes_before_its_letter_and_twins_have_only_letters():
    assert chosen("B", ("C", "A", "B")) == 2
    assert chosen("yes", ("Yes", "yes")) == 1
    assert chosen("YES", ("Yes", "yes")) is None
    assert chosen("A", ("Yes", "yes")) == 0
