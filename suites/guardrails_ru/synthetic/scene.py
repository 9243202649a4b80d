# ruff: noqa: E501, SIM905
"""The stage of one row: its people, its random stream and the slots that templates call."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import ClassVar

from . import dates, ids, names_ru, orgs_ru, places_ru, world_en
from .builder import Builder
from .rng import between, chance, digits, pick, weighted
from .template import Literal, Node, Slot, parse

EMOJI = ("🙂 😅 😂 🙏 👍 🔥 ❤️ 🤔 😭 🥲 ✅ 📌 📎 🚀 👋 👩‍💻 👨‍👩‍👧 🤦🏽‍♀️ 🧑🏻‍⚕️ 🏳️‍🌈 🇷🇺 👍🏿 🫠 ☎️ 💸").split()
DIAGNOSES = (
    "I10 — эссенциальная гипертензия", "I11.9 — гипертоническая болезнь II ст.", "K29.3 — хронический гастрит",
    "M42.1 — остеохондроз поясничного отдела", "J45.0 — бронхиальная астма", "J06.9 — ОРВИ средней тяжести",
    "E11.9 — сахарный диабет 2 типа", "G43.0 — мигрень без ауры", "N20.0 — камни почки", "K80.2 — ЖКБ, вне обострения",
    "S82.6 — перелом наружной лодыжки", "G20 — болезнь Паркинсона", "L40.0 — псориаз, бляшечная форма",
    "I20.8 — стенокардия напряжения II ФК", "D50.9 — железодефицитная анемия", "J18.9 — внебольничная пневмония",
)  # fmt: skip
FORMAL = {
    True: "г-н г-на г-ну г-на г-ном г-не".split(),
    False: "г-жа г-жи г-же г-жу г-жой г-же".split(),
}


PLAIN = 0.85
"""How often a slot for nested spans gives a plain one, so that nesting stays near 1 % of rows."""


class Scene:
    """Renders templates into a builder; people are made on first use and kept for the row."""

    language: ClassVar[str] = ""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.builder = Builder()
        self.base = date(2015, 2, 1) + timedelta(days=rng.randrange(4100))
        self.latest = self.base
        self.slots: dict[str, Callable[[str], None]] = {
            "n": self._number, "price": self._price, "order": self._order, "badcard": self._badcard,
            "contract": self._contract, "badinn": self._badinn, "version": self._version, "dx": self._diagnosis, "q": self._quantity, "date": self._date, "later": self._later,
            "time": self._time, "sku": self._sku, "policy": self._policy, "emoji": self._emoji, "ip": self._ip,
            "card": self._card, "url": self._url, "mailurl": self._mailurl, "year": self._year,
        }  # fmt: skip

    def text(self, template: str) -> None:
        """Append one rendered template."""
        self._nodes(parse(template))

    def one(self, pool: Sequence[str]) -> None:
        """Append one template of the pool."""
        self.text(pick(self.rng, pool))

    def several(self, pool: Sequence[str], count: int, gap: str = " ") -> None:
        """Append `count` different templates of the pool in random order (fewer when it is short)."""
        order = list(range(len(pool)))
        self.rng.shuffle(order)
        for place, index in enumerate(order[:count]):
            if place:
                self.builder.add(gap)
            self.text(pool[index])

    def _nodes(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if isinstance(node, Literal):
                self.literal(node.text)
            elif isinstance(node, Slot):
                self._slot(node)
            else:
                self._nodes(node.options[self.rng.randrange(len(node.options))])

    def literal(self, text: str) -> None:
        """Append plain text; a full stop after one that an entity ends with is dropped."""
        if text.startswith(".") and not text.startswith("..") and self.builder.last() == ".":
            text = text[1:]
        if text.startswith("\n") and self.builder.last() == " ":
            self.builder.cells.pop()
        self.builder.add(text)

    def _slot(self, slot: Slot) -> None:
        name, index = slot.name, 0
        if name[0] in "pg" and name[1:].isdigit():
            name, index = name[0], int(name[1:])
            self._person(name, index, slot.arg)
        else:
            self.slots[name](slot.arg)

    def _person(self, name: str, index: int, arg: str) -> None:
        raise NotImplementedError

    def local(self, arg: str) -> str:
        """The local part of a mail address of person `arg`, or of a stranger without one."""
        raise NotImplementedError

    def _simple(self, kind: str, make: Callable[[str], str]) -> Callable[[str], None]:
        return lambda arg: self.mark(make(arg), kind)

    def mark(self, text: str, kind: str) -> None:
        """Append an entity."""
        self.builder.entity(text, kind)

    def _number(self, arg: str) -> None:
        low, _, high = (arg or "2-99").partition("-")
        self.builder.add(str(between(self.rng, int(low), int(high))))

    def _price(self, _: str) -> None:
        rng = self.rng
        if self.language == "en":
            self.builder.add(f"${between(rng, 3, 2400)}.{pick(rng, ('00', '50', '99', '25'))}")
            return
        value = between(rng, 12, (99, 999, 9999, 99999)[rng.randrange(4)]) * 10
        spaced = f"{value // 1000} {value % 1000:03d}" if value >= 1000 else str(value)
        self.builder.add(pick(rng, (f"{value} руб.", f"{spaced} ₽", f"{spaced} рублей", f"{value}р")))

    def _order(self, _: str) -> None:
        self.builder.add(digits(self.rng, 17))

    def _badcard(self, _: str) -> None:
        self.builder.add(ids.card(self.rng, valid=False))

    def _contract(self, _: str) -> None:
        self.builder.add(ids.contract(self.rng))

    def _badinn(self, _: str) -> None:
        self.builder.add(ids.bad_inn(self.rng))

    def _version(self, _: str) -> None:
        rng = self.rng
        parts = [
            str(between(rng, 1, 12)),
            str(between(rng, 0, 9)),
            str(between(rng, 0, 9)),
            str(rng.randrange(60)),
        ]
        self.builder.add(".".join(parts[: 4 if chance(rng, 0.7) else 3]))

    def _diagnosis(self, _: str) -> None:
        self.builder.add(pick(self.rng, DIAGNOSES))

    def _quantity(self, arg: str) -> None:
        """A number with the Russian plural it asks for: `2-30 день дня дней`."""
        span, one, few, many = arg.split()
        low, _, high = span.partition("-")
        value = between(self.rng, int(low), int(high))
        word = many
        if value % 100 not in (11, 12, 13, 14):
            word = one if value % 10 == 1 else few if value % 10 in (2, 3, 4) else many
        self.builder.add(f"{value} {word}")

    def _date(self, arg: str) -> None:
        """A date within two months of the row's own day."""
        self.latest = self.base + timedelta(days=between(self.rng, -40, 20))
        self.mark(dates.spell(self.rng, self.language, arg or "any", self.latest), "date")

    def _later(self, arg: str) -> None:
        """A date a few days after the last one."""
        self.latest += timedelta(days=between(self.rng, 3, 28))
        self.mark(dates.spell(self.rng, self.language, arg or "any", self.latest), "date")

    def _time(self, _: str) -> None:
        self.builder.add(dates.clock(self.rng))

    def _year(self, _: str) -> None:
        self.builder.add(str(between(self.rng, 1994, 2025)))

    def _sku(self, _: str) -> None:
        self.builder.add(ids.sku(self.rng))

    def _policy(self, _: str) -> None:
        self.builder.add(ids.policy(self.rng))

    def _emoji(self, _: str) -> None:
        self.builder.add(pick(self.rng, EMOJI))

    def _ip(self, _: str) -> None:
        self.mark(ids.ip(self.rng), "ip")

    def _card(self, _: str) -> None:
        self.mark(ids.card(self.rng), "card")

    def _url(self, _: str) -> None:
        self.mark(ids.url(self.rng, self.language), "url")

    def _mailurl(self, arg: str) -> None:
        """A web address that carries a mail address, one span in the other; mostly a plain one."""
        if chance(self.rng, PLAIN):
            self._url("")
            return
        start = len(self.builder)
        self.builder.add(f"https://{ids.domain(self.rng, 'en')}/{pick(self.rng, ids.WORDS)}?mail=")
        self.mark(f"{self.local(arg)}@{ids.domain(self.rng, 'en')}", "email")
        self.builder.close(start, "url")


class SceneRu(Scene):
    """Slots of Russian rows. Person slots: `{p1:form case}`, gender words: `{g1:male|female}`."""

    language = "ru"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.people: dict[int, names_ru.Person] = {}
        kinds: dict[str, tuple[str, Callable[[str], str]]] = {
            "city": ("city", lambda a: places_ru.city(rng, a)),
            "country": ("country", lambda a: places_ru.country(rng, a)),
            "addr": ("address", lambda a: places_ru.address(rng)),
            "street": ("street", lambda a: places_ru.street(rng)),
            "streetpre": ("street", lambda a: places_ru.street_pre(rng)),
            "org": ("org", lambda a: orgs_ru.company(rng)),
            "bank": ("org", lambda a: orgs_ru.bank(rng, a)),
            "hosp": ("hospital", lambda a: orgs_ru.hospital(rng)),
            "school": ("school", lambda a: orgs_ru.school(rng)),
            "office": ("org", lambda a: orgs_ru.office(rng)),
            "phone": ("phone", lambda a: ids.phone(rng)),
            "email": ("email", lambda a: ids.email(rng, self.local(a), "ru")),
            "dob": ("birth", lambda a: dates.spell(rng, "ru", a or "num", dates.birthday(rng))),
            "passport": ("passport", lambda a: ids.passport(rng)),
            "snils": ("snils", lambda a: ids.snils(rng)),
            "inn": ("inn", lambda a: ids.inn(rng, int(a or 0))),
        }
        for name, (kind, make) in kinds.items():
            self.slots[name] = self._simple(kind, make)
        self.slots["ip_nested"] = self._ip_nested
        self.slots["px"] = self._stranger
        self.slots["pxm"] = lambda arg: self._stranger(arg, male=True)
        self.slots["pxf"] = lambda arg: self._stranger(arg, male=False)

    def person(self, index: int) -> names_ru.Person:
        """Person `index` of the row."""
        if index not in self.people:
            self.people[index] = names_ru.person(self.rng)
        return self.people[index]

    def local(self, arg: str) -> str:
        """The local part of a mail address of person `arg`, or of a stranger without one."""
        who = self.person(int(arg)) if arg else names_ru.person(self.rng)
        return who.local(self.rng)

    def _person(self, name: str, index: int, arg: str) -> None:
        who = self.person(index)
        if name == "g":
            male, _, female = arg.partition("|")
            self.literal(male if who.male else female)
            return
        form, _, case = arg.partition(" ")
        form = form or "any"
        if form == "io" and who.middle is None:
            form = "fl"
        if form == "any" and chance(self.rng, 0.05):
            self.builder.add(FORMAL[who.male][names_ru.CASES[case or "nom"]] + " ")
            form = "last"
        if form == "middle" and who.middle is None:
            self.builder.add(pick(self.rng, ("—", "-", "нет")))
            return
        self.mark(who.render(self.rng, form, names_ru.CASES[case or "nom"]), f"person.{index}.{form}")

    def _stranger(self, arg: str, male: bool | None = None) -> None:
        self.people[99] = names_ru.person(self.rng, male)
        self._person("p", 99, arg)

    def _ip_nested(self, arg: str) -> None:
        """A sole trader: an organisation that holds a person's name; mostly a plain company."""
        if chance(self.rng, PLAIN):
            self.slots["org"]("")
            return
        start = len(self.builder)
        self.builder.add("ИП ")
        who = self.person(int(arg or 98))
        self.mark(
            who.render(self.rng, weighted(self.rng, (("short", 3), ("full", 1))), 0),
            "person.98.short",
        )
        self.builder.close(start, "org")


class SceneEn(Scene):
    """Slots of English rows. Person slots: `{p1:form}`, gender words: `{g1:he|she}`."""

    language = "en"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.people: dict[int, world_en.PersonEn] = {}
        kinds: dict[str, tuple[str, Callable[[str], str]]] = {
            "city": ("city", lambda a: world_en.town(rng)),
            "country": ("country", lambda a: world_en.country(rng)),
            "addr": ("address", lambda a: world_en.address(rng)),
            "street": ("street", lambda a: world_en.street(rng)),
            "org": ("org", lambda a: world_en.company(rng)),
            "phone": ("phone", lambda a: ids.phone_en(rng)),
            "email": ("email", lambda a: ids.email(rng, self.local(a), "en")),
            "domain": ("domain", lambda a: ids.domain(rng, "en")),
            "dob": ("birth", lambda a: dates.spell(rng, "en", a or "any", dates.birthday(rng))),
            "passport": ("passport", lambda a: ids.passport_en(rng)),
        }
        for name, (kind, make) in kinds.items():
            self.slots[name] = self._simple(kind, make)
        self.slots["px"] = self._stranger
        self.slots["firm_nested"] = self._firm_nested

    def person(self, index: int) -> world_en.PersonEn:
        """Person `index` of the row."""
        if index not in self.people:
            self.people[index] = world_en.person(self.rng)
        return self.people[index]

    def local(self, arg: str) -> str:
        """The local part of a mail address of person `arg`, or of a stranger without one."""
        who = self.person(int(arg)) if arg else world_en.person(self.rng)
        return who.local(self.rng)

    def _person(self, name: str, index: int, arg: str) -> None:
        who = self.person(index)
        if name == "g":
            male, _, female = arg.partition("|")
            self.literal(male if who.male else female)
            return
        form = arg or "any"
        if form == "title":
            self.builder.add(who.title(self.rng))
            form = "formal"
        self.mark(who.render(self.rng, form), f"person.{index}.{form}")

    def _stranger(self, arg: str) -> None:
        self.people.pop(99, None)
        self._person("p", 99, arg)

    def _firm_nested(self, arg: str) -> None:
        """A practice that holds its owner's name, as a person in an organisation; mostly a plain one."""
        if chance(self.rng, PLAIN):
            self.slots["org"]("")
            return
        start = len(self.builder)
        self.builder.add(pick(self.rng, ("Law Office of ", "Studio ", "Estate of ", "Gallery ")))
        self.mark(self.person(int(arg or 98)).render(self.rng, "fl"), "person.98.fl")
        self.builder.close(start, "org")
