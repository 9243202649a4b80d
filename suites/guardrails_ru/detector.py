"""The suite's real model: a detector of personal data in Russian and English that runs in-process.

``Detector`` joins a Russian entity model with patterns, checksums and word lists. It downloads
nothing, since the weights are in natasha's wheel, and needs no accelerator; it can use one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .detection import contacts, dates, english, identifiers, russian
from .detection.device import DEVICES
from .detection.ner import RussianNer
from .detection.prepare import prepare
from .detection.spans import LABELS, Finding, Span, resolve

__all__ = ["LABELS", "Detector", "Span"]

_DIGIT_RUN = re.compile(r"[0-9](?:[^0-9\n]{0,4}[0-9]){5}")
_LATIN_NAME = re.compile(r"[A-Z][a-z]")
_CYRILLIC = re.compile(r"[А-Яа-яЁё]")
_ENGLISH_NAMES = ("census", "rules")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"option {name} is true or false, not {value!r}")  # noqa: TRY004 - one kind of error for all options
    return value


class Detector:
    """Find personal data in texts.

    Options, all with defaults:

    * ``ner`` (true): run the Russian entity model;
    * ``device`` ("cpu"): where its network computes; "cuda" is the first GPU that the process sees;
    * ``english`` (true): look for English names, places and organisations;
    * ``english_names`` ("census"): where English names come from; "rules" leaves them to titles
      and introductions, and needs no list;
    * ``phone_region`` ("RU"): the region of a telephone number without a country code;
    * ``labels`` (all): the labels to report;
    * ``min_score`` (0): findings under it are left out, after overlaps are resolved.
    """

    OPTIONS = ("device", "english", "english_names", "labels", "min_score", "ner", "phone_region")

    def __init__(self, **options: object) -> None:
        unknown = sorted(set(options) - set(self.OPTIONS))
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; the detector's options are {', '.join(self.OPTIONS)}")
        self._with_ner = _flag("ner", options.get("ner", True))
        self._with_english = _flag("english", options.get("english", True))
        names = options.get("english_names", "census")
        if names not in _ENGLISH_NAMES:
            raise ValueError(f"option english_names is one of {', '.join(_ENGLISH_NAMES)}")
        device = options.get("device", "cpu")
        if device not in DEVICES:
            raise ValueError(f"option device is one of {', '.join(DEVICES)}, not {device!r}")
        if device == "cuda" and not self._with_ner:
            raise ValueError('option device = "cuda" goes with the Russian entity model, which ner = false leaves out')
        self._device = str(device)
        self._census = names == "census"
        self._region = _region(options.get("phone_region", "RU"))
        self._labels = _labels(options.get("labels"))
        self._min_score = _score(options.get("min_score", 0.0))
        self._ner: RussianNer | None = None
        self._lexicon = english.Lexicon()
        self._first_names: frozenset[str] = frozenset()
        self._loaded = False

    def warm_up(self) -> None:
        """Load the model and the word lists and run one sentence; a second call does nothing."""
        if self._loaded:
            return
        self._first_names = russian.load_first_names()
        if self._with_ner:
            self._ner = RussianNer(self._device)
        if self._with_english:
            self._lexicon = english.load_lexicon(census=self._census)
        self._loaded = True
        self._detect("Иван Петров живёт в Казани, его телефон +7 916 123-45-67; ask John Smith.")

    def predict(self, batch: Sequence[Mapping[str, object]]) -> list[list[Span]]:
        """Return each item's spans ``(start, end, label, score)`` in order of their starts."""
        self.warm_up()
        return [self._detect(_text(item)) for item in batch]

    def close(self) -> None:
        """Let go of the model; a later ``warm_up`` or ``predict`` loads it again."""
        ner, self._ner = self._ner, None
        if ner is not None:
            ner.close()
        self._lexicon = english.Lexicon()
        self._first_names = frozenset()
        self._loaded = False

    def _detect(self, text: str) -> list[Span]:
        prepared = prepare(text)
        spans: list[Span] = []
        for finding in resolve(self._find(prepared.text)):
            score = round(finding.score, 4)
            if finding.label in self._labels and score >= self._min_score:
                start, end = prepared.original(finding.start, finding.end)
                spans.append((start, end, finding.label, score))
        return spans

    def _find(self, text: str) -> Iterator[Finding]:
        """Run the finders a text can have something for."""
        yield from contacts.find_emails(text)
        yield from contacts.find_urls(text)
        yield from contacts.find_ips(text)
        if any(digit in text for digit in "0123456789"):
            yield from dates.find_dates(text)
            if _DIGIT_RUN.search(text):
                yield from contacts.find_phones(text, self._region)
                yield from identifiers.find_inn(text)
                yield from identifiers.find_snils(text)
                yield from identifiers.find_cards(text)
                yield from identifiers.find_passports(text)
        if _CYRILLIC.search(text):
            yield from russian.find_persons(text, self._first_names)
            yield from russian.find_places(text)
            yield from russian.find_companies(text)
            if self._ner is not None:
                yield from russian.find_entities(text, self._ner)
        if self._with_english and _LATIN_NAME.search(text):
            yield from english.find_persons(text, self._lexicon)
            yield from english.find_organisations(text)
            yield from english.find_places(text, self._lexicon)


def _text(item: Mapping[str, object]) -> str:
    text = item.get("text")
    if not isinstance(text, str):
        raise TypeError(f"item {item.get('id')!r} has no text: {type(text).__name__}")
    return text


def _region(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Z]{2}", value):
        raise ValueError(f"option phone_region is a country code of two capitals, not {value!r}")
    return value


def _labels(value: object) -> frozenset[str]:
    if value is None:
        return LABELS
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"option labels is a list of labels, not {value!r}")  # noqa: TRY004 - one kind of error for all options
    chosen = frozenset(str(label) for label in value)
    if chosen - LABELS:
        raise ValueError(f"unknown label {', '.join(sorted(chosen - LABELS))}; the labels are {', '.join(sorted(LABELS))}")
    return chosen


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"option min_score is a number from 0 to 1, not {value!r}")
    return float(value)
