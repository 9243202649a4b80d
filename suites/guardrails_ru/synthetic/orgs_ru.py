# ruff: noqa: SIM905
"""Composed Russian organisations: companies, banks, hospitals, schools, offices."""

from __future__ import annotations

import random

from .rng import between, chance, pick, weighted

HEADS = (
    "Техно Строй Агро Сев Волга Урал Сиб Пром Инвест Транс Энерго Эко Евро Метал Нефте Хим Лес Авто Тепло Свет "
    "Мед Фарм Спец Проф Гео Инфо Вест Нева Дон Кама Юг"
).split()
TAILS = (
    "Сервис Гарант Альянс Трейд Маркет Логистик Проект Монтаж Ресурс Групп Комплект Снаб Холдинг Система Актив "
    "Капитал Центр Эксперт Контракт Инжиниринг Продукт Лайн"
).split()
SINGLES = (
    "Ромашка Рассвет Горизонт Заря Орион Вектор Кристалл Берёзка Меридиан Гранит Лотос Фаворит Олимп Маяк Радуга "
    "Северное_сияние Тихая_гавань Белый_парус Золотой_колос Добрый_мастер Новый_век Твой_дом Чистый_город "
    "Первый_шаг Вкусная_история Умные_окна Каменный_цветок Город_мастеров Быстрый_старт"
).split()
BANKS = ("Волжский_Кредит Северный_Капитал Уралинвест Невский_Альянс Донской_Стандарт Прогресс-Финанс Камский_Резерв").split()
PROFILES = (
    "городская клиническая больница/областная клиническая больница/городская поликлиника/"
    "детская городская поликлиника/стоматологическая поликлиника/районная больница/"
    "городская больница скорой помощи/консультативно-диагностический центр"
).split("/")
QUOTES = (("«", "»", 7.0), ('"', '"', 3.0), ("“", "”", 0.5), ("", "", 0.5))


def quoted(rng: random.Random, name: str) -> str:
    """The name in one of the usual kinds of quotes."""
    left = weighted(rng, [(f"{a}\t{b}", w) for a, b, w in QUOTES]).split("\t")
    return f"{left[0]}{name}{left[1]}"


def brand(rng: random.Random) -> str:
    """An invented trade name."""
    if chance(rng, 0.3):
        return pick(rng, SINGLES).replace("_", " ")
    head, tail = pick(rng, HEADS), pick(rng, TAILS)
    joined = weighted(rng, ((head + tail.lower(), 5), (head + tail, 3), (f"{head}-{tail}", 2)))
    return joined + (f"-{between(rng, 2, 99)}" if chance(rng, 0.06) else "")


def company(rng: random.Random) -> str:
    """A company with its legal form."""
    form = weighted(rng, (("ООО", 10), ("АО", 4), ("ПАО", 2), ("ЗАО", 1), ("ТК", 1), ("ТСЖ", 1), ("НКО", 0.5)))
    return f"{form} {quoted(rng, brand(rng))}"


def bank(rng: random.Random, case: str) -> str:
    """An invented bank in the nominative, instrumental or prepositional case."""
    word = {"nom": "банк", "ins": "банком", "pre": "банке"}[case or "nom"]
    name = pick(rng, BANKS).replace("_", " ")
    return weighted(rng, ((f"{word} {quoted(rng, name)}", 3), (f"АКБ {quoted(rng, name)}", 1)))


def hospital(rng: random.Random) -> str:
    """A hospital or a clinic, full or abbreviated."""
    number = between(rng, 1, 99)
    profile = pick(rng, PROFILES)
    forms = (
        (f"ГБУЗ {quoted(rng, profile[0].upper() + profile[1:] + f' № {number}')}", 4),
        (f"ГКБ № {number}", 4),
        (f"ГКБ №{number}", 2),
        (f"ЦРБ № {number}", 1),
        (
            f"клиника {quoted(rng, pick(rng, SINGLES).replace('_', ' ') + pick(rng, ('', '-Мед', ' плюс')))}",
            2,
        ),
        (f"МЦ {quoted(rng, pick(rng, HEADS) + 'мед')}", 2),
        (f"ГАУЗ {quoted(rng, 'Городская поликлиника №' + str(number))}", 1),
    )
    return weighted(rng, forms)


def school(rng: random.Random) -> str:
    """A school, a kindergarten or a college."""
    number = between(rng, 1, 250)
    forms = (
        (f"МБОУ СОШ № {number}", 4),
        (f"МБОУ {quoted(rng, f'Гимназия № {number}')}", 2),
        (f"ГБОУ {quoted(rng, f'Школа № {number}')}", 2),
        (f"МБДОУ {quoted(rng, f'Детский сад № {number}')}", 1),
        (f"МАОУ {quoted(rng, f'Лицей № {number}')}", 2),
    )
    return weighted(rng, forms)


def office(rng: random.Random) -> str:
    """A state office, undeclined abbreviations only."""
    number = between(rng, 1, 46)
    return pick(
        rng,
        (
            f"ИФНС № {number}",
            f"МФЦ № {number}",
            f"УФМС № {number}",
            f"ЖЭК № {number}",
            f"ФНС № {number}",
        ),
    )
