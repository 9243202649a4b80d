# ruff: noqa: SIM905
"""Identifiers: documents, cards, phones, network names, and numbers that only look like them."""

from __future__ import annotations

import random

from .rng import between, chance, digits, pick, weighted

MAIL_STEMS = ("pochta vestnik sever-mail romashka lada-torg kvartal atlas-it medline inbox-one delta rassvet kontur-plus zenit-s opora portal-24 lotos").split()
EN_STEMS = "northwind maplemail brightbox quillnet harborpost larkmail oakline inboxly fernhill bluecedar statecampus westlake copperfox tidewater".split()
RF_DOMAINS = ("почта-пример.рф", "пример.рф", "мой-дом.пример.рф", "вестник-пример.рф")
WORDS = "docs help cabinet status news login catalog report profile files support events blog orders lk press forum about results schedule".split()


def luhn_digit(body: str) -> str:
    """The digit that makes `body` plus that digit pass the Luhn check."""
    total = 0
    for index, char in enumerate(reversed(body)):
        value = int(char) * (2 if index % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def snils_control(body: str) -> str:
    """The two control digits of a nine-digit SNILS body."""
    total = sum(int(char) * (9 - index) for index, char in enumerate(body)) % 101
    return f"{0 if total == 100 else total:02d}"


def inn_digit(body: str) -> str:
    """One control digit of a taxpayer number for a body of 9, 10 or 11 digits."""
    weights = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)[-len(body) :]
    return str(sum(w * int(char) for w, char in zip(weights, body, strict=True)) % 11 % 10)


def inn(rng: random.Random, length: int = 0) -> str:
    """A valid taxpayer number of 10 (company) or 12 (person) digits."""
    length = length or (12 if chance(rng, 0.6) else 10)
    body = f"{between(rng, 1, 92):02d}" + digits(rng, 7 if length == 10 else 8)
    while len(body) < length:
        body += inn_digit(body)
    return body


def snils(rng: random.Random) -> str:
    """A valid SNILS in one of the usual spellings."""
    body = digits(rng, 9)
    control = snils_control(body)
    a, b, c = body[:3], body[3:6], body[6:]
    forms = [
        (f"{a}-{b}-{c} {control}", 5),
        (f"{a}-{b}-{c}-{control}", 2),
        (f"{a} {b} {c} {control}", 2),
        (body + control, 2),
    ]
    return weighted(rng, forms)


def card(rng: random.Random, *, valid: bool = True) -> str:
    """A 16-digit card number; with `valid=False` its last digit fails the Luhn check."""
    body = pick(rng, ("2200", "2202", "4276", "4111", "5469", "5536", "5105", "4817", "2204"))
    body += "".join(str(rng.randrange(10)) for _ in range(11))
    check = luhn_digit(body)
    if not valid:
        check = str((int(check) + between(rng, 1, 9)) % 10)
    number = body + check
    separator = weighted(rng, ((" ", 5), ("", 3), ("-", 2)))
    return separator.join(number[index : index + 4] for index in range(0, 16, 4))


def passport(rng: random.Random) -> str:
    """Series and number of a Russian passport, in one of the usual spellings."""
    series, number = f"{between(rng, 1, 92):02d} {between(rng, 0, 24):02d}", digits(rng, 6)
    forms = (
        (f"{series} {number}", 6),
        (f"{series.replace(' ', '')} {number}", 4),
        (f"{series.replace(' ', '')} № {number}", 2),
        (f"серия {series.replace(' ', '')} № {number}", 2),
        (f"серия {series} номер {number}", 1),
        (f"{series} №{number}", 1),
        (f"{series.replace(' ', '')}{number}", 1),
    )
    return weighted(rng, forms)


def passport_en(rng: random.Random) -> str:
    """A passport number as British or American papers print it."""
    if chance(rng, 0.5):
        return digits(rng, 9)
    return pick(rng, "ABCEHKLMXZ") + digits(rng, 8)


def phone(rng: random.Random) -> str:
    """A phone as Russians write it, sometimes with an extension or of another country."""
    code = "9" + f"{between(rng, 0, 99):02d}"
    if chance(rng, 0.2):
        code = pick(rng, ("495", "499", "812", "343", "831", "843", "383", "846", "861", "473"))
    a, b, c = digits(rng, 3), f"{between(rng, 0, 99):02d}", f"{between(rng, 0, 99):02d}"
    forms = (
        (f"+7 ({code}) {a}-{b}-{c}", 6),
        (f"8 ({code}) {a}-{b}-{c}", 4),
        (f"8-{code}-{a}-{b}-{c}", 3),
        (f"+7{code}{a}{b}{c}", 4),
        (f"8{code}{a}{b}{c}", 4),
        (f"+7 {code} {a} {b} {c}", 3),
        (f"8 {code} {a}-{b}-{c}", 3),
        (f"+7-{code}-{a}-{b}{c}", 1),
        (f"8({code}){a}{b}{c}", 1),
        (f"+7.{code}.{a}.{b}.{c}", 0.5),
        (f"+7 ({code}) {a}-{b}-{c} доб. {between(rng, 10, 999)}", 1),
        (f"+375 29 {a}-{b}-{c}", 0.6),
        (f"+7 701 {a} {b}{c}", 0.6),
        (f"+998 90 {a} {b} {c}", 0.5),
        (f"+374 91 {a[0]}{b}{c}{a[1]}", 0.3),
    )
    return weighted(rng, forms)


def phone_en(rng: random.Random) -> str:
    """An American or British phone."""
    area, mid, tail = f"{between(rng, 2, 9)}{digits(rng, 2)}", f"555{''}", digits(rng, 4)
    if chance(rng, 0.5):
        mid = f"{between(rng, 2, 9)}{digits(rng, 2)}"
    forms = (
        (f"({area}) {mid}-{tail}", 5),
        (f"{area}-{mid}-{tail}", 5),
        (f"{area}.{mid}.{tail}", 2),
        (f"+1 {area} {mid} {tail}", 3),
        (f"+1-{area}-{mid}-{tail}", 3),
        (f"1 ({area}) {mid}-{tail}", 1),
        (f"({area}){mid}-{tail} x{between(rng, 10, 9999)}", 1),
        (f"+44 20 7946 0{digits(rng, 3)}", 1.5),
        (f"07700 900{digits(rng, 3)}", 1.5),
        (f"+44 7700 900{digits(rng, 3)}", 1.5),
        (f"+49 30 {digits(rng, 7)}", 0.6),
        (f"001-{area}-{mid}-{tail}", 1),
    )
    return weighted(rng, forms)


def ip(rng: random.Random) -> str:
    """An address of a documentation or private range, sometimes IPv6."""
    last = between(rng, 1, 254)
    groups = [f"{rng.randrange(65536):x}" for _ in range(6)]
    forms = (
        (f"{pick(rng, ('192.0.2', '198.51.100', '203.0.113'))}.{last}", 5),
        (f"192.168.{between(rng, 0, 254)}.{last}", 4),
        (f"10.{between(rng, 0, 254)}.{between(rng, 0, 254)}.{last}", 4),
        (f"172.{between(rng, 16, 31)}.{between(rng, 0, 254)}.{last}", 2),
        ("2001:db8:" + ":".join(groups), 1),
        (f"2001:db8:{groups[0]}::{groups[1]}", 2),
        (f"fe80::{groups[2]}:{groups[3]}", 1),
    )
    return weighted(rng, forms)


def domain(rng: random.Random, language: str) -> str:
    """A host name under example domains, or an invented one that carries the word."""
    if language == "ru":
        if chance(rng, 0.07):
            return pick(rng, RF_DOMAINS)
        stem = pick(rng, MAIL_STEMS)
        return stem + pick(rng, ("-example.ru", ".example.ru", ".example.com", "-test.example"))
    stem = pick(rng, EN_STEMS)
    return stem + pick(rng, (".example.com", ".example.org", "-example.net", ".example"))


def email(rng: random.Random, local: str, language: str) -> str:
    """A mail address: the given local part with optional digits and tag, and a host."""
    tail = weighted(rng, (("", 5), (str(between(rng, 1, 99)), 3), (str(between(rng, 1961, 2009)), 2)))
    tag = "+" + pick(rng, WORDS) if chance(rng, 0.06) else ""
    return f"{local}{tail}{tag}@{domain(rng, language)}"


def url(rng: random.Random, language: str) -> str:
    """A web address, with or without scheme, path, query and port."""
    host = domain(rng, language)
    prefix = weighted(rng, (("https://", 6), ("http://", 2), ("www.", 2), ("https://www.", 1)))
    if chance(rng, 0.05):
        host += f":{pick(rng, ('8080', '8443', '3000'))}"
    path = ""
    for _ in range(rng.randrange(3)):
        path += "/" + pick(rng, WORDS)
    if chance(rng, 0.3):
        path += f"/{between(rng, 10, 99999)}"
    if chance(rng, 0.15):
        path = (path or "/") + f"?id={between(rng, 1, 9999)}&ref={pick(rng, WORDS)}"
    return prefix + host + path


def contract(rng: random.Random) -> str:
    """A number of 11 or 12 digits that is neither a SNILS nor a taxpayer number."""
    if chance(rng, 0.5):
        body = pick(rng, "1234569") + digits(rng, 8)
        control = (int(snils_control(body)) + between(rng, 1, 60)) % 100
        return f"{body}{control:02d}"
    body = digits(rng, 11)
    good = inn_digit(body)
    return body + str((int(good) + between(rng, 1, 9)) % 10)


def bad_inn(rng: random.Random) -> str:
    """Ten digits whose control digit is wrong."""
    good = inn(rng, 10)
    return good[:9] + str((int(good[9]) + between(rng, 1, 9)) % 10)


def policy(rng: random.Random) -> str:
    """A 16-digit insurance policy number that fails the Luhn check."""
    body = digits(rng, 15)
    number = body + str((int(luhn_digit(body)) + between(rng, 1, 9)) % 10)
    return number if chance(rng, 0.6) else f"{number[:4]} {number[4:]}"


def sku(rng: random.Random) -> str:
    """An article number; some are written like phones."""
    forms = (
        (f"{digits(rng, 3)}-{digits(rng, 3)}-{digits(rng, 2)}", 2),
        (f"{pick(rng, 'ABKMT')}{pick(rng, 'CHXPR')}-{digits(rng, 5)}", 2),
        (f"{digits(rng, 2)}.{digits(rng, 4)}-{digits(rng, 3)}", 1),
        (f"{digits(rng, 4)}/{digits(rng, 2)}", 1),
    )
    return weighted(rng, forms)
