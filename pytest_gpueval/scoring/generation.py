"""Generated text, judged against accepted answers: exactly, normalised, by a pattern, as a number, as one of several choices, or by another model.

Accuracy is the share of right completions, with samples as the units of its interval; for one completion a sample that is Wilson's interval. With
several completions, pass@k is the probability that at least one of k of them is right, estimated without bias (Chen et al. 2021, *Evaluating large
language models trained on code*).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from .estimates import Estimate, MeanMoments, ratio
from .matching import LETTERS, LONGEST, chosen, extracted, normalized, token_f1
from .numbers import Number, equal, last_number
from .task import BadPrediction, BadRow, Metrics, Parts, Sample
from .terms import Key, Ratio, means
from .verdicts import Verdicts

MATCHES = ("exact", "normalized", "regex", "numeric", "choice", "judge")

Prediction = str | Sequence[str] | Sequence[float] | Mapping[str, str | list[str]]


class Gold(NamedTuple):
    """What counts as right: accepted texts, in the form that completions are compared in; or, of several choices, the index of one."""

    texts: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    choices: tuple[str, ...] = ()
    choice: int | None = None


class GenerationCounts:
    """How many samples had which counts: exact, mergeable, and small however many samples there are."""

    def __init__(self, k: Sequence[int], *, f1: bool, parsed: bool) -> None:
        self._k = k
        self._parsed = parsed
        self._samples: dict[tuple[int, int, int], int] = {}  # (completions, right ones, those without an answer) -> samples
        self._f1 = MeanMoments() if f1 else None

    def add(self, parts: Parts) -> None:
        """Add one sample's parts (see `Generation.score`)."""
        key = (parts["n"], parts["right"], parts.get("unparsable", 0))
        self._samples[key] = self._samples.get(key, 0) + 1
        if self._f1 is not None:
            self._f1.add(parts["f1"])

    def merge(self, other: GenerationCounts) -> None:
        """Add another shard's counts."""
        for key, times in other._samples.items():
            self._samples[key] = self._samples.get(key, 0) + times
        if self._f1 is not None and other._f1 is not None:
            self._f1.merge(other._f1)

    def metrics(self) -> Metrics:
        """`accuracy`, and where they have a meaning `f1`, `pass@k` of samples with at least k completions, and the `unparsable` share of completions."""
        samples = sorted(self._samples.items())
        overall = {"accuracy": _mean((right / n, times) for (n, right, _), times in samples)}
        if self._f1 is not None:
            overall["f1"] = self._f1.share()
        for k in self._k:
            overall[f"pass@{k}"] = _mean((pass_at_k(n, right, k), times) for (n, right, _), times in samples if n >= k)
        if self._parsed:
            overall["unparsable"] = _mean((lost / n, times) for (n, _, lost), times in samples)
        return Metrics(overall)


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate 1 - C(n - right, k) / C(n, k) of the probability that of k <= n completions at least one is right (Chen et al. 2021)."""
    return (math.comb(n, k) - math.comb(n - right, k)) / math.comb(n, k)


def _pass_at(k: int, parts: Parts) -> float | None:
    """What a sample adds to pass@k: nothing with fewer completions."""
    return pass_at_k(parts["n"], parts["right"], k) if parts["n"] >= k else None


def _mean(figures: Iterable[tuple[float, int]]) -> Estimate:
    """The mean of figures in [0, 1], each of so many samples."""
    known = list(figures)
    n = sum(times for _, times in known)
    s = math.fsum(times * value for value, times in known)
    return ratio(n, s, n, math.fsum(times * value * value for value, times in known), s, n)


class Generation:
    """Answer a prompt in free text, or by one of several choices.

    A split has `id`, `answer` and either `prompt` (a string) or `messages` (a list of {role, content}), and perhaps `choices` (strings). `answer` is a
    string or a list of accepted ones; with choices, the index (from 0), Latin letter or text of the right one. A model answers with a text or a list of
    texts, one for each completion; where there are choices, also with a list of log-probabilities, one for each choice, of which the highest (of equal
    ones, the first) is its answer.

    `match`: "exact" ignores surrounding space only; "normalized" is SQuAD's (`matching.normalized`); "regex" compares what `pattern` finds exactly;
    "numeric" compares the last number of the text's last 20,000 characters within `tolerance`, relative; "choice" asks which choice the text names.
    With all but "exact" and "judge", a `pattern` is applied first: its first group, or its whole match. `k`: the k of pass@k.

    With "judge", answers come from `runtimes.judged`: {"text": ..., "judge": ...}, a text or a list of them each, and `verdicts` reads what the judge
    said; a text without a verdict is unparsable.
    """

    columns = ("id", "answer")
    optional_columns = ("prompt", "messages", "choices")
    headline = "accuracy"

    def __init__(
        self,
        labels: Collection[str] = (),
        label_map: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        ignored: Collection[str] = (),
        verdicts: Verdicts | None = None,
        *,
        match: str = "exact",
        pattern: str | None = None,
        tolerance: float = 1e-6,
        k: Sequence[int] = (),
    ) -> None:
        if labels or label_map or thresholds or ignored:
            raise ValueError("labels, and policies about them, have no meaning for generation")
        if match == "judge" and verdicts is None:
            raise ValueError("match 'judge' needs a judge, the table [judge] of the suite")
        self._match = match
        self._verdicts = verdicts
        self._pattern = None if pattern is None else re.compile(pattern)
        # Whether an answer first has to be found in the text, which may fail.
        self._parsed = pattern is not None or match in ("numeric", "choice", "judge")
        self._tolerance = tolerance
        self._k = tuple(k)

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row. Raises BadRow."""
        inputs: dict[str, Any] = {"id": row["id"]}
        prompt, messages = row.get("prompt"), row.get("messages")
        if (prompt is None) == (messages is None):
            raise BadRow(f"{'neither' if prompt is None else 'both'} of 'prompt' and 'messages': a row has one of them")
        if messages is not None:
            inputs["messages"] = _messages(messages)
        elif isinstance(prompt, str):
            inputs["prompt"] = prompt
        else:
            raise BadRow(f"'prompt' is {type(prompt).__name__}, not a string")
        choices = row.get("choices")
        if choices is not None:
            inputs["choices"] = choices = _choices(choices)
        return Sample(row["id"], inputs, self._gold(row["answer"], choices))

    def _gold(self, answer: Any, choices: Sequence[str] | None) -> Gold:
        if choices is None and self._match == "choice":
            raise BadRow("no 'choices', which match = \"choice\" asks for")
        index = None if choices is None else _right_one(answer, choices)
        given = [choices[index]] if choices is not None and index is not None else [answer] if isinstance(answer, str) else answer
        if self._match == "numeric" and isinstance(given, int | float) and not isinstance(given, bool):
            given = [repr(given)]
        if not isinstance(given, (list, tuple)) or not given or not all(isinstance(text, str) for text in given):
            raise BadRow(f"'answer' is {answer!r:.200}, not a string or a list of accepted ones")
        if self._match == "numeric":
            numbers = [last_number(text) for text in given]
            if None in numbers:
                raise BadRow(f"'answer' {answer!r:.200} holds no number")
            return Gold(numbers=tuple(number for number in numbers if number is not None), choices=tuple(choices or ()), choice=index)
        form: Callable[[str], str] = normalized if self._match == "normalized" else str.strip
        return Gold(tuple(map(form, given)), choices=tuple(choices or ()), choice=index)

    def prediction(self, answer: Any, sample: Sample) -> Prediction:
        """Check an answer: a text, a list of texts, or a log-probability for each choice; judged texts for "judge". Raises BadPrediction."""
        if self._match == "judge":
            return _judged(answer)
        if isinstance(answer, str):
            return str(answer)
        try:
            given = None if isinstance(answer, bytes | Mapping) else list(answer)
        except TypeError:
            given = None
        if not given:
            raise BadPrediction(f"expected a text, a list of texts, or a log-probability for each choice, got {answer!r:.200}")
        if all(isinstance(text, str) for text in given):
            return [str(text) for text in given]
        return _log_probabilities(given, sample.gold.choices)

    def score(self, sample: Sample, prediction: Prediction) -> Parts:
        """`n` completions, `right` ones, `unparsable` ones where an answer has to be found in them; the mean `f1` of completions; the `chosen` indices."""
        gold: Gold = sample.gold
        if isinstance(prediction, Mapping):
            return self._judged_parts(prediction["judge"])
        if isinstance(prediction, str):
            texts: Sequence[str] = (prediction,)
        elif isinstance(prediction[0], str):
            texts = [str(text) for text in prediction]
        else:
            best = max(range(len(prediction)), key=prediction.__getitem__)
            f1 = {"f1": float(best == gold.choice)} if self._match == "normalized" else {}
            return {"n": 1, "right": int(best == gold.choice), "chosen": [best], **f1}
        found = texts if self._pattern is None else [extracted(self._pattern, text) for text in texts]
        parts: Parts = {"n": len(texts)}
        if self._match == "choice":
            parts["chosen"] = [None if text is None else chosen(text, gold.choices) for text in found]
            verdicts = [None if index is None else index == gold.choice for index in parts["chosen"]]
        elif self._match == "normalized":
            plain = [None if text is None else normalized(text) for text in found]
            verdicts = [None if text is None else text in gold.texts for text in plain]
            parts["f1"] = math.fsum(max(token_f1(text, right) for right in gold.texts) for text in plain if text is not None) / len(texts)
        else:
            verdicts = [None if text is None else self._is_right(text, gold) for text in found]
        parts["right"] = verdicts.count(True)
        return {**parts, "unparsable": verdicts.count(None)} if self._parsed else parts

    def _judged_parts(self, said: str | list[str]) -> Parts:
        assert self._verdicts is not None  # noqa: S101 - as the constructor sees to
        verdicts = [self._verdicts.of(text) for text in ([said] if isinstance(said, str) else said)]
        return {"n": len(verdicts), "right": verdicts.count(True), "unparsable": verdicts.count(None)}

    def _is_right(self, text: str, gold: Gold) -> bool | None:
        """Whether an answer is right; None where it should be a number and is none."""
        if self._match == "numeric":
            number = last_number(text[-LONGEST:])
            return None if number is None else any(equal(number, right, self._tolerance) for right in gold.numbers)
        return text.strip() in gold.texts

    def counts(self) -> GenerationCounts:
        """Empty counts."""
        return GenerationCounts(self._k, f1=self._match == "normalized", parsed=self._parsed)

    def terms(self, parts: Sequence[Parts], wanted: Collection[Key]) -> dict[Key, Ratio]:
        """All metrics: each is the mean of a figure of samples."""
        of: dict[str, Callable[[Parts], float | None]] = {"accuracy": lambda one: one["right"] / one["n"]}
        if self._match == "normalized":
            of["f1"] = itemgetter("f1")
        if self._parsed:
            of["unparsable"] = lambda one: one.get("unparsable", 0) / one["n"]
        return means(parts, wanted, {**of, **{f"pass@{k}": partial(_pass_at, k) for k in self._k}})


def _messages(given: Any) -> list[dict[str, Any]]:
    """A conversation as the runtime gets it. Raises BadRow."""
    whole = isinstance(given, (list, tuple)) and len(given) > 0
    if not whole or not all(isinstance(turn, Mapping) and all(isinstance(turn.get(key), str) for key in ("role", "content")) for turn in given):
        raise BadRow(f"'messages' is {given!r:.200}, not a list of {{role, content}} of strings")
    return [{key: value for key, value in turn.items() if value is not None} for turn in given]


def _choices(given: Any) -> list[str]:
    """The choices of a row. Raises BadRow."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(choice, str) for choice in given) or not 2 <= len(given) <= len(LETTERS):
        raise BadRow(f"'choices' is {given!r:.200}, not a list of 2 to {len(LETTERS)} strings")
    return list(given)


def _right_one(answer: Any, choices: Sequence[str]) -> int:
    """The index of the choice that the gold names: its text, else its letter, else its index. Raises BadRow."""
    if isinstance(answer, (list, tuple)) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str):
        if choices.count(answer) == 1:
            return choices.index(answer)
        if len(answer) == 1 and answer.upper() in LETTERS[: len(choices)]:
            return LETTERS.index(answer.upper())
    last = LETTERS[len(choices) - 1]
    raise BadRow(f"'answer' is {answer!r:.200}, which names none of {len(choices)} choices: give an index from 0, a letter from A to {last}, or the text")


def _judged(answer: Any) -> dict[str, str | list[str]]:
    """One text or several, and as many of the judge. Raises BadPrediction."""
    if isinstance(answer, Mapping) and answer.keys() == {"text", "judge"}:
        text, said = answer["text"], answer["judge"]
        if isinstance(text, str) and isinstance(said, str):
            return {"text": text, "judge": said}
        if isinstance(text, list) and isinstance(said, list) and len(text) == len(said) > 0 and all(isinstance(one, str) for one in [*text, *said]):
            return {"text": text, "judge": said}
    hint = "; of a row with 'choices', a language model writes one with request.choices = \"text\"" if isinstance(answer, (list, tuple)) else ""
    raise BadPrediction(f"expected a text that can be judged, or a list of them, got {answer!r:.200}{hint}")


def _log_probabilities(given: Sequence[Any], choices: Sequence[str]) -> list[float]:
    """A log-probability for each choice, as JSON can hold it. Raises BadPrediction."""
    if not choices:
        raise BadPrediction(f"expected a text or a list of texts, got {given!r:.200}; log-probabilities need a row with 'choices'")
    try:
        values = [float(value) for value in given]
    except (TypeError, ValueError):
        raise BadPrediction(f"expected only texts, or only log-probabilities, got {given!r:.200}") from None
    if len(values) != len(choices):
        raise BadPrediction(f"expected a log-probability for each of {len(choices)} choices, got {len(values)}")
    for index, value in enumerate(values):
        if math.isnan(value) or value == math.inf:
            raise BadPrediction(f"the log-probability of choice {LETTERS[index]} is {value}")
    return [max(value, -sys.float_info.max) for value in values]
