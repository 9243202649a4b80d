# ruff: noqa: SIM905
"""Dates in Russian and English spellings, and times, which are never gold."""

from __future__ import annotations

import random
from datetime import date, timedelta

from .rng import between, pick, weighted

MONTHS_RU = ("января февраля марта апреля мая июня июля августа сентября октября ноября декабря").split()
MONTHS_EN = ("January February March April May June July August September October November December").split()


def birthday(rng: random.Random) -> date:
    """A day of birth between 1938 and 2008."""
    return date(1938, 1, 1) + timedelta(days=rng.randrange(25900))


def spell(rng: random.Random, language: str, form: str, day: date) -> str:
    """A day in one of the usual spellings; `form` is num, word or any."""
    recent = day.year > 2012
    numeric, words = (_russian if language == "ru" else _english)(day, recent)
    if form == "num":
        return weighted(rng, numeric)
    if form == "word":
        return weighted(rng, words)
    return weighted(rng, [*numeric, *words])


Forms = list[tuple[str, float]]


def _russian(when: date, recent: bool) -> tuple[Forms, Forms]:
    """Weighted numeric and worded forms; only recent days may lack a year."""
    day, month, year, name = when.day, when.month, when.year, MONTHS_RU[when.month - 1]
    numeric: Forms = [
        (f"{day:02d}.{month:02d}.{year}", 10),
        (f"{day:02d}.{month:02d}.{year % 100:02d}", 2),
        (f"{year}-{month:02d}-{day:02d}", 1.5),
        (f"{day:02d}/{month:02d}/{year}", 1),
        (f"{day}.{month:02d}.{year}", 1),
    ]
    words: Forms = [
        (f"{day} {name} {year} г.", 5),
        (f"{day} {name} {year} года", 5),
        (f"«{day:02d}» {name} {year} г.", 1),
        (f"{day} {name}", 2 if recent else 0),
    ]
    return numeric, words


def _english(when: date, recent: bool) -> tuple[Forms, Forms]:
    """Weighted numeric and worded forms; only recent days may lack a year."""
    day, month, year, name = when.day, when.month, when.year, MONTHS_EN[when.month - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    numeric: Forms = [
        (f"{month:02d}/{day:02d}/{year}", 5),
        (f"{year}-{month:02d}-{day:02d}", 4),
        (f"{day:02d}/{month:02d}/{year}", 2),
        (f"{month}/{day}/{year % 100:02d}", 1),
        (f"{day:02d}-{name[:3]}-{year}", 1),
    ]
    words: Forms = [
        (f"{name} {day}, {year}", 6),
        (f"{day} {name} {year}", 4),
        (f"{name[:3]} {day}, {year}", 2),
        (f"{name} {day}{ending}", 1.5 if recent else 0),
        (f"the {day}{ending} of {name} {year}", 0.7),
    ]
    return numeric, words


def clock(rng: random.Random) -> str:
    """A time of day."""
    minutes = pick(rng, ("00", "15", "30", "45", "05", "40", "20"))
    return f"{between(rng, 7, 21):02d}{pick(rng, ':::.')}{minutes}"
