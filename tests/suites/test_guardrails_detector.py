"""The detector of ``guardrails_ru``: what it finds, where, and what it must never do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slovnet", reason="needs the extra guardrails-ru")
pytest.importorskip("phonenumbers", reason="needs the extra guardrails-ru")
pytest.importorskip("stdnum", reason="needs the extra guardrails-ru")
pytest.importorskip("names", reason="needs the extra guardrails-ru")

from suites.guardrails_ru.detection import identifiers
from suites.guardrails_ru.detection.ner import EMBEDDINGS, WEIGHTS, RussianNer, natasha_file
from suites.guardrails_ru.detection.prepare import prepare
from suites.guardrails_ru.detection.spans import NAMED, STRUCTURED, Finding, resolve
from suites.guardrails_ru.detector import LABELS, Detector

Found = list[tuple[str, str]]


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    model = Detector()
    model.warm_up()
    yield model
    model.close()


@pytest.fixture(scope="module")
def patterns() -> Iterator[Detector]:
    model = Detector(ner=False)
    model.warm_up()
    yield model
    model.close()


def found(model: Detector, text: str, least: float = 0.5) -> Found:
    """Labels and surfaces from a score on, cut out of the original text by the spans' offsets."""
    (spans,) = model.predict([{"id": "one", "text": text}])
    return [(label, text[start:end]) for start, end, label, score in spans if score >= least]


def score_of(model: Detector, text: str, label: str) -> float:
    (spans,) = model.predict([{"id": "one", "text": text}])
    return max((span[3] for span in spans if span[2] == label), default=0.0)


RUSSIAN = [
    (
        "Вчера в Казань приехала Мария Кузнецова.",
        [("LOCATION", "Казань"), ("PERSON", "Мария Кузнецова")],
    ),
    ("Иск подал Орлов Степан Ильич.", [("PERSON", "Орлов Степан Ильич")]),
    ("Сегодня Анна Сергеевна Лукина на больничном.", [("PERSON", "Анна Сергеевна Лукина")]),
    ("ВЛАДЕЛЕЦ: СИДОРОВ ПЁТР ИВАНОВИЧ", [("PERSON", "СИДОРОВ ПЁТР ИВАНОВИЧ")]),
    (
        "Акт приняли Ветров А. С. и Н.П. Громова",
        [("PERSON", "Ветров А. С."), ("PERSON", "Н.П. Громова")],
    ),
    ("привет, меня зовут саша", [("PERSON", "саша")]),
    ("спросите иванова петра сергеевича", [("PERSON", "иванова петра сергеевича")]),
    ("Поставщик — ООО «Северный ветер».", [("ORGANIZATION", "ООО «Северный ветер»")]),
    (
        "Доставьте на ул. Садовую, д. 14, корп. 2, кв. 77 до обеда",
        [("LOCATION", "ул. Садовую, д. 14, корп. 2, кв. 77")],
    ),
    ("Офис: Невский проспект, 28", [("LOCATION", "Невский проспект, 28")]),
    ("Встреча на ул. 8 Марта, д. 3", [("LOCATION", "ул. 8 Марта, д. 3")]),
    ("Наберите 8 (912) 345-67-89 вечером", [("PHONE", "8 (912) 345-67-89")]),
    ("тел. +7-495-123-45-67", [("PHONE", "+7-495-123-45-67")]),
    ("позвони на 9161234567", [("PHONE", "9161234567")]),
    ("городской телефон 212-85-06", [("PHONE", "212-85-06")]),
    ("Пишите: o.petrova+tag@mail.example.ru.", [("EMAIL", "o.petrova+tag@mail.example.ru")]),
    ("Наш ящик: справка@министерство.рф", [("EMAIL", "справка@министерство.рф")]),
    ("см. https://example.ru/a_(b)?c=1#d).", [("URL", "https://example.ru/a_(b)?c=1#d")]),
    ("заходите на www.example.com!", [("URL", "www.example.com")]),
    ("правила лежат на пример.рф/правила", [("URL", "пример.рф/правила")]),
    ("узел 10.20.30.40:8080 молчит", [("IP_ADDRESS", "10.20.30.40")]),
    ("адрес 2001:db8:0:1::42 занят", [("IP_ADDRESS", "2001:db8:0:1::42")]),
    ("дата рождения 31.12.1987", [("DATE", "31.12.1987")]),
    ("явиться «5» мая 2023 г. к 10:00", [("DATE", "«5» мая 2023")]),
    ("создан 2024-02-29T08:15:00Z", [("DATE", "2024-02-29")]),
    ("1979 года рождения", [("DATE", "1979")]),
    ("паспорт 4510 654321", [("PASSPORT", "4510 654321")]),
    ("паспорт серии 45 10 № 654321", [("PASSPORT", "45 10 № 654321")]),
    ("серия 4510, номер 654321", [("PASSPORT", "4510, номер 654321")]),
    ("4510654321, выдан в городе", [("PASSPORT", "4510654321")]),
    ("загранпаспорт 71 2345678", [("PASSPORT", "71 2345678")]),
    ("СНИЛС 112-233-445 95", [("SNILS", "112-233-445 95")]),
    ("ИНН 500100732259", [("INN", "500100732259")]),
    ("ИНН организации: 7707083893", [("INN", "7707083893")]),
    ("карта 4111 1111 1111 1111", [("BANK_CARD", "4111 1111 1111 1111")]),
    ("карта 2200-0000-0000-0004", [("BANK_CARD", "2200-0000-0000-0004")]),
]

ENGLISH = [
    ("Please ask Dr. Amelia Thornbury about it.", [("PERSON", "Amelia Thornbury")]),
    ("The order of James Wilson is late.", [("PERSON", "James Wilson")]),
    ("My name is Priya Raman and I agree.", [("PERSON", "Priya Raman")]),
    ("We sued Blue Heron Widgets Ltd. in court.", [("ORGANIZATION", "Blue Heron Widgets Ltd.")]),
    ("Send it to 742 Cedar Hill Road, Apt 3B today", [("LOCATION", "742 Cedar Hill Road, Apt 3B")]),
    ("He moved from Chicago last year.", [("LOCATION", "Chicago")]),
    ("ship to Springfield, IL 62704", [("LOCATION", "Springfield, IL 62704")]),
    ("Born on March 12, 1985.", [("DATE", "March 12, 1985")]),
    ("since 3rd of June 2011", [("DATE", "3rd of June 2011")]),
    ("call me at (415) 555-2671", [("PHONE", "(415) 555-2671")]),
    ("dial +44 20 7946 0958 12 times", [("PHONE", "+44 20 7946 0958")]),
    ("card 3782 822463 10005", [("BANK_CARD", "3782 822463 10005")]),
    ("passport no. AB1234567", [("PASSPORT", "AB1234567")]),
]


@pytest.mark.parametrize(("text", "expected"), RUSSIAN + ENGLISH, ids=lambda value: str(value)[:40])
def test_finds(detector: Detector, text: str, expected: Found) -> None:
    assert found(detector, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Сумма 1 250 000,50 рублей, скидка 15 процентов.",
        "Заказ №1234567890 собран в 12:30:45.",
        "Дата 31.02.2020 не существует.",
        "В словаре std::vector и a::b нет адресов.",
        "пользователь @nickname ответил",
        "огрн 1027700132195",
        "формула 10.5/3.2-1.1",
        "It was nice to see you, thank you very much.",
    ],
)
def test_leaves_alone(detector: Detector, text: str) -> None:
    assert found(detector, text) == []


def test_every_label_has_a_sentence() -> None:
    assert {label for _, pairs in RUSSIAN for label, _ in pairs} == LABELS


@pytest.mark.parametrize(
    ("valid", "broken", "label"),
    [
        ("ИНН 500100732259", "ИНН 500100732258", "INN"),
        ("ИНН 7707083893", "ИНН 7707083894", "INN"),
        ("СНИЛС 112-233-445 95", "СНИЛС 112-233-445 96", "SNILS"),
        ("карта 5555 5555 5555 4444", "карта 5555 5555 5555 4445", "BANK_CARD"),
    ],
)
def test_checksum_sets_the_score(detector: Detector, valid: str, broken: str, label: str) -> None:
    assert score_of(detector, valid, label) == 0.99
    assert 0 < score_of(detector, broken, label) < 0.9


def test_broken_numbers_without_context_are_not_identifiers(detector: Detector) -> None:
    assert found(detector, "код 500100732258", 0.0) == []
    assert found(detector, "код 4111111111111112", 0.0) == []


@pytest.mark.parametrize(
    ("digits", "valid"),
    [
        ("11223344595", True),
        ("08765430200", True),  # the weighted sum is 202: two full turns
        ("00100199800", False),  # numbers up to this one carry no check
        ("11223344594", False),
        ("1122334459", False),
    ],
)
def test_snils_check(digits: str, valid: bool) -> None:
    assert identifiers.snils_is_valid(digits) is valid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("🙂👨‍👩‍👧 Пишет Мария Кузнецова 🙂", [("PERSON", "Мария Кузнецова")]),
        (
            "Звонил Петро\u0301в из Москвы\u0301.",
            [("PERSON", "Петро\u0301в"), ("LOCATION", "Москвы\u0301")],
        ),
        (
            "Сергеи\u0306 Андреев в Твери",
            [("PERSON", "Сергеи\u0306 Андреев"), ("LOCATION", "Твери")],
        ),
        ("почта: a\u00adb@exa\u200bmple.ru", [("EMAIL", "a\u00adb@exa\u200bmple.ru")]),
        ("тел.\u00a08\u00a0(912)\u00a0345-67-89", [("PHONE", "8\u00a0(912)\u00a0345-67-89")]),
        ("\ufeffИНН\t7707083893\u2028", [("INN", "7707083893")]),
    ],
)
def test_offsets_are_those_of_the_text_as_it_came(detector: Detector, text: str, expected: Found) -> None:
    assert found(detector, text) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\u200b\ufeff", "\u0301", "\ud800", "🙂", "\x00"])
def test_nothing_in_nothing(detector: Detector, text: str) -> None:
    assert detector.predict([{"id": 1, "text": text}]) == [[]]


def test_an_empty_batch(detector: Detector) -> None:
    assert detector.predict([]) == []


def test_a_result_does_not_depend_on_its_neighbours(detector: Detector) -> None:
    items = [{"id": place, "text": text} for place, (text, _) in enumerate(RUSSIAN + ENGLISH)]
    together = detector.predict(items)
    backwards = detector.predict(items[::-1])[::-1]
    alone = [detector.predict([item])[0] for item in items]
    assert together == backwards == alone


def test_another_detector_says_the_same(detector: Detector) -> None:
    text = " ".join(text for text, _ in RUSSIAN)
    other = Detector()
    assert other.predict([{"id": 1, "text": text}]) == detector.predict([{"id": 1, "text": text}])
    other.close()


ALPHABET = st.sampled_from(list("аяАЯёaZz019 \n\t.,:;@/+-()«»\"'№%_&#\u0301\u0306\u200d\u00ad\u00a0🙂٣ßİ"))
PIECES = st.sampled_from([text for text, _ in RUSSIAN + ENGLISH])


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.text(ALPHABET, max_size=200),
        st.lists(st.one_of(PIECES, st.text(ALPHABET, max_size=8)), max_size=6).map("".join),
    )
)
def test_any_text_gives_well_formed_spans(detector: Detector, text: str) -> None:
    (spans,) = detector.predict([{"id": 1, "text": text}])
    last = 0
    for start, end, label, score in spans:
        assert (type(start), type(end), type(score)) == (int, int, float)
        assert last <= start < end <= len(text)
        assert label in LABELS
        assert 0 < score <= 1
        last = end
    assert [tuple] * len(spans) == [type(span) for span in spans]


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "@",
        "A",
        "Я",
        "1 ",
        "a.",
        "1:",
        "Ab ",
        "Аб ",
        "А. ",
        "ул. ",
        "a@",
        "((",
        "+1",
        "а1",
        "http://",
        "«",
    ],
)
def test_long_runs_finish(patterns: Detector, unit: str) -> None:
    """100 KB of one unit costs seconds at most: no pattern takes quadratic time."""
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    patterns.predict([{"id": 1, "text": text}])
    assert time.process_time() - began < 10


@pytest.mark.parametrize("unit", ["1", "@", "Я", "а1", "Я. "])
def test_the_model_finishes_long_runs_too(detector: Detector, unit: str) -> None:
    (spans,) = detector.predict([{"id": 1, "text": unit * (30_000 // len(unit))}])
    assert all(end - start <= 200 for start, end, _, _ in spans)


def test_a_long_text_keeps_its_offsets(detector: Detector) -> None:
    line = "Отчёт подписала Мария Кузнецова, тел. 8 (912) 345-67-89.\n"
    (spans,) = detector.predict([{"id": 1, "text": line * 500}])
    cut = [(label, (line * 500)[start:end]) for start, end, label, _ in spans]
    assert cut == [("PERSON", "Мария Кузнецова"), ("PHONE", "8 (912) 345-67-89")] * 500


def test_the_network_agrees_with_slovnet() -> None:
    """The packed forward pass and the decoding give the library's own entities."""
    from navec import Navec
    from slovnet import NER

    theirs = NER.load(str(natasha_file(WEIGHTS)))
    theirs.navec(Navec.load(str(natasha_file(EMBEDDINGS))))
    ours = RussianNer()
    lines = [text for text, _ in RUSSIAN]
    expected = [[(span.start, span.stop, span.type) for span in theirs(line).spans] for line in lines]
    alone = [[(e.start, e.end, e.kind) for e in ours.tag(line)] for line in lines]
    assert alone == expected
    packed: list[tuple[int, int, str]] = []
    offset = 0
    for line, spans in zip(lines, expected, strict=True):
        packed += [(offset + start, offset + end, kind) for start, end, kind in spans]
        offset += len(line) + 1
    assert [(e.start, e.end, e.kind) for e in ours.tag("\n".join(lines))] == packed


def test_overlaps_are_resolved_by_tier_score_and_length() -> None:
    findings = [
        Finding(0, 5, "PERSON", 0.6, NAMED),
        Finding(4, 9, "PERSON", 0.9, NAMED),
        Finding(8, 12, "LOCATION", 0.8, NAMED),
        Finding(20, 30, "EMAIL", 0.5, STRUCTURED),
        Finding(22, 28, "INN", 0.99),
        Finding(40, 50, "INN", 0.7),
        Finding(40, 52, "PHONE", 0.7),
        Finding(60, 60, "DATE", 0.9),
    ]
    expected = [
        Finding(0, 9, "PERSON", 0.9, NAMED),
        Finding(20, 30, "EMAIL", 0.5, STRUCTURED),
        Finding(40, 52, "PHONE", 0.7),
    ]
    assert resolve(findings) == expected
    assert resolve(reversed(findings)) == expected


def test_prepared_text_maps_back() -> None:
    text = "\u200bИ\u0301ва\u00adн"
    prepared = prepare(text)
    assert prepared.text == "Иван"
    assert prepared.original(0, 1) == (1, 3)
    assert prepared.original(0, 4) == (1, len(text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresold": 1}, "unknown option thresold; the detector's options are device, english, "),
        ({"ner": "yes"}, "ner is true or false"),
        ({"english_names": "all"}, "english_names is one of census, rules"),
        ({"phone_region": "rus"}, "phone_region"),
        ({"labels": "PERSON"}, "labels is a list"),
        ({"labels": ["PERSON", "NICK"]}, "unknown label NICK; the labels are BANK_CARD, "),
        ({"min_score": 2}, "min_score is a number from 0 to 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(**options)


def test_options_narrow_the_result() -> None:
    text = "Мария Кузнецова и John Smith: 8 (912) 345-67-89, 12 мая"
    only = Detector(ner=False, english=False, labels=["PHONE", "DATE"], min_score=0.9)
    assert found(only, text, 0.0) == [("PHONE", "8 (912) 345-67-89")]
    rules = Detector(ner=False, english_names="rules", labels=["PERSON"])
    assert found(rules, "Mary sees Mr. John Smith") == [("PERSON", "John Smith")]


def test_an_item_without_text_is_an_error(detector: Detector) -> None:
    with pytest.raises(TypeError, match="item 'x' has no text"):
        detector.predict([{"id": "x", "text": None}])


def test_closing_lets_go_and_warming_up_loads_again() -> None:
    model = Detector(english=False)
    model.close()
    model.warm_up()
    model.close()
    assert found(model, "Приехала Мария Кузнецова") == [("PERSON", "Мария Кузнецова")]
