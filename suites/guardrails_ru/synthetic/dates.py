"""Dates in Russian and English spellings, and times, which are never gold."""

from __future__ import annotations

import random

from .rng import between, pick, weighted

MONTHS_RU = (
    "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
).split()
MONTHS_EN = (
    "January February March April May June July August September October November December"
).split()
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def calendar(rng: random.Random, low: int, high: int) -> tuple[int, int, int]:
    """A day, month and year of the given range of years."""
    month = between(rng, 1, 12)
    return between(rng, 1, LENGTHS[month - 1]), month, between(rng, low, high)


def date_ru(rng: random.Random, form: str, low: int = 2015, high: int = 2026) -> str:
    """A date with day and month; `form` is num, word or any."""
    day, month, year = calendar(rng, low, high)
    name = MONTHS_RU[month - 1]
    numeric = (
        (f"{day:02d}.{month:02d}.{year}", 10),
        (f"{day:02d}.{month:02d}.{year % 100:02d}", 2),
        (f"{year}-{month:02d}-{day:02d}", 1.5),
        (f"{day:02d}/{month:02d}/{year}", 1),
        (f"{day}.{month:02d}.{year}", 1),
    )
    words = (
        (f"{day} {name} {year} г.", 5),
        (f"{day} {name} {year} года", 5),
        (f"«{day:02d}» {name} {year} г.", 1),
        (f"{day} {name}", 2 if low > 2000 else 0),
    )
    if form == "num":
        return weighted(rng, numeric)
    if form == "word":
        return weighted(rng, words)
    return weighted(rng, (*numeric, *words))


def date_en(rng: random.Random, form: str, low: int = 2015, high: int = 2026) -> str:
    """A date with day and month; `form` is num, word or any."""
    day, month, year = calendar(rng, low, high)
    name = MONTHS_EN[month - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    numeric = (
        (f"{month:02d}/{day:02d}/{year}", 5),
        (f"{year}-{month:02d}-{day:02d}", 4),
        (f"{day:02d}/{month:02d}/{year}", 2),
        (f"{month}/{day}/{year % 100:02d}", 1),
        (f"{day:02d}-{name[:3]}-{year}", 1),
    )
    words = (
        (f"{name} {day}, {year}", 6),
        (f"{day} {name} {year}", 4),
        (f"{name[:3]} {day}, {year}", 2),
        (f"{name} {day}{ending}", 1.5 if low > 2000 else 0),
        (f"the {day}{ending} of {name} {year}", 0.7),
    )
    if form == "num":
        return weighted(rng, numeric)
    if form == "word":
        return weighted(rng, words)
    return weighted(rng, (*numeric, *words))


def clock(rng: random.Random) -> str:
    """A time of day."""
    return f"{between(rng, 7, 21):02d}{pick(rng, ':::.')}{pick(rng, ('00', '15', '30', '45', '05', '40', '20'))}"
