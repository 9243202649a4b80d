"""Answers that a second model judges, which is shown what the first is not: the gold.

    samples -> model -> a question for each text of an answer -> judge -> the answer with what the judge said of it

Both models work at the same time, each as far ahead as it likes to be. Answers come in the order of the samples; one without a text, an error for
example, is passed on as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic

from pytest_gpueval.errors import RuntimeFault, Unreachable

from .base import A, Answer, Runtime

# So many answers that need no judge may wait behind one that the judge has not judged yet.
_MOST_WAITING = 256

Ask = Callable[[Any, str], Mapping[str, Any]]


class Lent:
    """A runtime of somebody else's, who starts it when `take` is called first, and closes it."""

    def __init__(self, take: Callable[[], Runtime]) -> None:
        self._take = take
        self._runtime: Runtime | None = None

    def start(self) -> None:
        """Take it. Raises what its start raises."""
        self._runtime = self._take()

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Its answers. Raises RuntimeFault."""
        if self._runtime is None:
            raise RuntimeFault("a runtime is asked before it was started")
        return self._runtime.answers(samples)

    def close(self) -> None:
        """Leave it to its owner."""
        self._runtime = None


class Judged:
    """Asks `model`, and then `judge` about each text that it said: `question(sample, text)` are the inputs of that.

    An answer's value is {"text": what the model said, "judge": what the judge said of it}: two texts, or two lists of as many. Latency and tokens are
    the model's, `judge_tokens` the judge's. Where the judge has no answer, the row has none, and its error says that it was the judge.
    """

    def __init__(self, model: Runtime, judge: Runtime, question: Ask) -> None:
        self._model = model
        self._judge = judge
        self._question = question

    def start(self) -> None:
        """Start both. Raises RuntimeFault, Unreachable."""
        try:
            self._judge.start()
        except (RuntimeFault, Unreachable) as error:
            raise of_the_judge(error) from error
        try:
            self._model.start()
        except BaseException:
            self._judge.close()
            raise

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """The judged answers. Raises RuntimeFault, Unreachable."""
        rows: _Rows[A] = _Rows(self._model.answers(samples), self._question)
        while not rows.ended:
            try:
                for said in self._judge.answers(rows.questions()):
                    yield from rows.judged(said)
            except (RuntimeFault, Unreachable) as error:
                if error is rows.fault:
                    raise
                raise of_the_judge(error) from error
            yield from rows.ready()

    def close(self) -> None:
        """Close both."""
        try:
            self._judge.close()
        finally:
            self._model.close()


def of_the_judge(error: RuntimeFault | Unreachable) -> RuntimeFault | Unreachable:
    """The same error, which says whose it is."""
    return type(error)(f"the judge: {error}")


class _Question:
    """A sample for the judge."""

    __slots__ = ("id", "inputs")

    def __init__(self, id: str, inputs: Mapping[str, Any]) -> None:
        self.id = id
        self.inputs = inputs


class _Row(Generic[A]):
    """An answer of the model, and what the judge has said of its texts so far."""

    __slots__ = ("answer", "said", "texts")

    def __init__(self, answer: Answer[A]) -> None:
        self.answer = answer
        self.texts, self.said = _texts(answer.value), list[Answer[_Question]]()

    @property
    def complete(self) -> bool:
        return len(self.said) == len(self.texts)

    def judged(self) -> Answer[A]:
        """The answer with all that the judge said, or with its error."""
        answer, said = self.answer, self.said
        if not self.texts:
            return answer
        told = [one.tokens for one in said if one.tokens is not None]
        tokens = (sum(read for read, _ in told), sum(written for _, written in told)) if told else None
        problem = next((_problem(one, number, len(said)) for number, one in enumerate(said, 1) if not _has_spoken(one)), None)
        alone = isinstance(answer.value, str)
        value = None if problem else {"text": self.texts[0] if alone else self.texts, "judge": said[0].value if alone else [one.value for one in said]}
        judged = Answer(answer.sample, value, problem, answer.latency_ms, answer.tokens, tokens)
        judged.note = answer.note or next((f"the judge: {one.note}" for one in said if one.note), None)
        return judged


class _Rows(Generic[A]):
    """The rows between the two models."""

    def __init__(self, answers: Iterator[Answer[A]], question: Ask) -> None:
        self.ended = False
        # What went wrong on the model's side: the judge's passes it on like one of its own.
        self.fault: Exception | None = None
        self._answers = answers
        self._question = question
        self._rows: deque[_Row[A]] = deque()
        # Questions without an answer, and rows without a question.
        self._open = self._idle = 0

    def questions(self) -> Iterator[_Question]:
        """For the judge, until the model has no more answers, or so many without a question have come that somebody must take them first."""
        while True:
            try:
                answer = next(self._answers, None)
            except Exception as error:
                self.fault = error
                raise
            if answer is None:
                self.ended = True
                return
            row = _Row(answer)
            self._rows.append(row)
            self._idle += not row.texts
            if not row.texts and (not self._open or self._idle >= _MOST_WAITING):
                return
            for text in row.texts:
                self._open += 1
                yield _Question(answer.sample.id, self._question(answer.sample, text))

    def judged(self, said: Answer[_Question]) -> Iterator[Answer[A]]:
        """The answers that are complete now that the judge has answered the next question."""
        yield from self.ready()
        self._open -= 1
        self._rows[0].said.append(said)
        yield from self.ready()

    def ready(self) -> Iterator[Answer[A]]:
        """The answers at the head that are complete."""
        while self._rows and self._rows[0].complete:
            row = self._rows.popleft()
            self._idle -= not row.texts
            yield row.judged()


def _texts(value: Any) -> list[str]:
    """The texts of an answer; none where it is something else, such as log-probabilities, and its task says what it thinks of that."""
    if isinstance(value, str):
        return [str(value)]
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        several = list(value)
        return [str(text) for text in several] if all(isinstance(text, str) for text in several) else []
    return []


def _has_spoken(said: Answer[_Question]) -> bool:
    return said.error is None and isinstance(said.value, str)


def _problem(said: Answer[_Question], number: int, count: int) -> str:
    which = f" of completion {number}" if count > 1 else ""
    return f"the judge{which}: {said.error or f'expected a text, got {said.value!r:.200}'}"
