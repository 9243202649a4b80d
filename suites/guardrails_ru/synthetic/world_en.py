# ruff: noqa: SIM905
"""Composed English names, places and organisations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .rng import between, chance, pick, weighted

MALE = (
    "James Robert Michael David William Thomas Daniel Matthew Anthony Andrew Joshua Kevin Brian George Edward "
    "Ronald Timothy Jason Ryan Jacob Gary Eric Stephen Jonathan Larry Scott Frank Samuel Patrick Alexander Jack "
    "Dennis Tyler Aaron Nathan Henry Zachary Peter Kyle Noah Ethan Liam Oliver Mason Logan Wei Hiroshi Arjun Ravi "
    "Mohammed Omar Ahmed Yusuf Kwame Chidi Emeka Diego Mateo Carlos Luis Pedro Antoine Pierre Lars Sven Piotr "
    "Giovanni Luca Nikolai Dmitri Andrzej Jürgen Øyvind José Tomás Rhys Callum Hamish Declan Mark Will Chase"
).split()
FEMALE = (
    "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Nancy Lisa Margaret Sandra Ashley "
    "Kimberly Emily Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca Laura Sharon Cynthia Amy Angela "
    "Shirley Anna Ruth Brenda Pamela Nicole Katherine Samantha Christine Emma Olivia Ava Sophia Isabella Mia Aisha "
    "Fatima Zainab Amara Ngozi Priya Ananya Lakshmi Mei Yuki Sakura Lucia Camila Valentina Ximena Chloé Amélie "
    "Ingrid Astrid Freya Saoirse Niamh Siobhan Giulia Chiara Zuzanna Katarzyna Leila Noor Grace Hope June April"
).split()
LASTS = (
    "Smith Johnson Brown Jones Miller Davis Wilson Anderson Taylor Moore Jackson Martin Lee Thompson White Harris "
    "Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Baker Nelson Mitchell Campbell "
    "Roberts Carter Phillips Evans Turner Parker Collins Edwards Stewart Morris Murphy Cook Rogers Morgan Cooper "
    "Peterson Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray Hughes Price "
    "García Martínez Rodríguez López Hernández Gonzalez Pérez Sánchez Ramírez Torres Flores Rivera Gomez Diaz "
    "Nguyen Tran Pham Kim Park Choi Chen Wang Li Zhang Liu Yamamoto Tanaka Suzuki Patel Singh Sharma Gupta Khan "
    "Hussain Ali Rahman Okafor Adeyemi Mensah Diallo Kamara O'Brien O'Connor McCarthy MacDonald Fitzgerald Schmidt "
    "Müller Weber Kowalski Novak Horvath Rossi Bianchi Dubois Lefèvre Jansen Andersson Nielsen Virtanen Popescu"
).split()
STEMS = (
    "Hart Brook West Ash Wood Green Lang Stan Hay Black Whit Brad Clay Shel Ald Thorn Win Nor Har Elm Hol Rock Mill "
    "Red Sut Birch Lin Cran Penn Kings Fair Wake Marsh Fox Oak"
).split()
ENDS = "ley ton ford well wood worth field more by ham man shaw burn".split()
TOWNS = (
    "Boston Chicago Seattle Denver Austin Portland Phoenix Dallas Atlanta Miami Houston Nashville Philadelphia "
    "London Manchester Leeds Bristol Glasgow Cardiff Edinburgh Liverpool Sheffield Dublin Toronto Vancouver Sydney "
    "Melbourne Berlin Munich Paris Lyon Madrid Lisbon Rome Milan Vienna Prague Oslo Stockholm Helsinki Tokyo Osaka "
    "Mumbai Delhi Singapore Nairobi Lagos Accra Cairo Lima Bogotá San_Diego New_York Los_Angeles Kansas_City "
    "Salt_Lake_City St._Louis Cape_Town Buenos_Aires Mexico_City Hong_Kong"
).split()
TOWN_ENDS = "ville ton ford ham bury field port dale haven".split()
COUNTRIES = (
    "Canada Germany France Spain Italy Japan India Brazil Mexico Kenya Nigeria Norway Sweden Poland Australia Ireland "
    "Portugal Argentina Chile Vietnam Thailand New_Zealand South_Africa the_Netherlands Turkey"
).split()
STATES = "AL AZ CA CO CT FL GA IL IN KS MA MD MI MN NC NJ NY OH OR PA TN TX UT VA WA WI".split()
ROADS = "Street Avenue Road Lane Drive Court Boulevard Way Place Terrace St. Ave Rd Ln Dr Blvd".split()
FIELDS = (
    "Systems Logistics Foods Consulting Partners Analytics Industries Software Media Bank Insurance Pharmaceuticals "
    "Airways Energy Robotics Textiles Motors Publishing Telecom Holdings Labs Design"
).split()
HEADS = (
    "North South Silver Blue Bright Quantum Summit Harbor Copper Maple Pioneer Granite Lumen Vertex Orchid Falcon "
    "Beacon Cobalt Meridian Juniper Cedar Atlas Nova Ember"
).split()
FOLD = str.maketrans("éèíáóöüøçñÉØ", "eeiaoouocnEO")


@dataclass(slots=True)
class PersonEn:
    """One composed person; `middle` is a single capital letter."""

    male: bool
    first: str
    last: str
    middle: str

    def render(self, rng: random.Random, form: str) -> str:
        """The name as fl, mid, initial, lf, first, last, upper, formal or any; no title."""
        if form == "any":
            form = weighted(rng, (("fl", 10), ("mid", 3), ("initial", 2), ("lf", 1), ("first", 2)))
        if form == "formal":
            form = "last" if chance(rng, 0.6) else "fl"
        forms = {
            "fl": f"{self.first} {self.last}", "mid": f"{self.first} {self.middle}. {self.last}",
            "initial": f"{self.first[0]}. {self.last}", "lf": f"{self.last}, {self.first}", "first": self.first,
            "last": self.last, "upper": f"{self.first} {self.last}".upper(),
        }  # fmt: skip
        return forms[form]

    def title(self, rng: random.Random) -> str:
        """A form of address with its space; it is no part of the name."""
        return pick(rng, ("Mr. ", "Mr ", "Dr. ") if self.male else ("Ms. ", "Mrs. ", "Ms ", "Dr. "))

    def local(self, rng: random.Random) -> str:
        """The local part of this person's mail address, plain ASCII."""
        first = self.first.translate(FOLD).lower()
        last = self.last.translate(FOLD).lower().replace("'", "")
        return pick(
            rng,
            (
                f"{first}.{last}",
                f"{first}{last}",
                f"{first[0]}{last}",
                f"{first}_{last}",
                f"{last}.{first[0]}",
            ),
        )


def person(rng: random.Random) -> PersonEn:
    """A random person of one of many origins."""
    male = chance(rng, 0.5)
    last = pick(rng, STEMS) + pick(rng, ENDS) if chance(rng, 0.35) else pick(rng, LASTS)
    if chance(rng, 0.03):
        last += "-" + pick(rng, LASTS)
    return PersonEn(male, pick(rng, MALE if male else FEMALE), last, pick(rng, "ABCDEFGHJKLMNPRSTW"))


def town(rng: random.Random) -> str:
    """A real large city or a composed small town."""
    if chance(rng, 0.35):
        return pick(rng, STEMS) + pick(rng, TOWN_ENDS)
    return pick(rng, TOWNS).replace("_", " ")


def _local(rng: random.Random, towns: list[str]) -> str:
    """A town of one country for a postal address: composed, or one of the given."""
    return pick(rng, STEMS) + pick(rng, TOWN_ENDS) if chance(rng, 0.5) else pick(rng, towns)


def country(rng: random.Random) -> str:
    """A country."""
    return pick(rng, COUNTRIES).replace("_", " ")


def street(rng: random.Random) -> str:
    """A street with its house number."""
    trees = "Maple Oak Cedar Elm Pine Walnut Main Church High Park Lake Hill Station Mill Washington Lincoln Franklin"
    name = pick(rng, trees.split()) if chance(rng, 0.45) else pick(rng, STEMS) + pick(rng, ENDS)
    side = pick(rng, ("N. ", "S. ", "West ", "East ")) if chance(rng, 0.1) else ""
    flat = ""
    if chance(rng, 0.25):
        flat = pick(rng, (", Apt ", " Apt. ", ", Suite ", ", Unit ", " #")) + str(between(rng, 1, 420))
    return f"{between(rng, 1, 9899)} {side}{name} {pick(rng, ROADS)}{flat}"


def address(rng: random.Random) -> str:
    """A full postal address, American or British, on one line."""
    if chance(rng, 0.25):
        code = f"{pick(rng, 'BCEGHLMNSW')}{pick(rng, 'ABDEHLNRS')}{between(rng, 1, 29)} {between(rng, 1, 9)}"
        name = pick(rng, STEMS) + pick(rng, ENDS)
        road = pick(rng, ("Road", "Lane", "Close", "Gardens", "Terrace", "Street", "Crescent"))
        return f"{between(rng, 1, 240)} {name} {road}, {_local(rng, TOWNS[13:21])} {code}{pick(rng, 'ABDEFGHJ')}{pick(rng, 'LNPQRT')}"
    return f"{street(rng)}, {_local(rng, TOWNS[:13])}, {pick(rng, STATES)} {between(rng, 10000, 99999)}"


def company(rng: random.Random) -> str:
    """An invented company, agency or institution."""
    stem = pick(rng, HEADS) + pick(rng, ("", "", "", "line", "works", "point", "gate", "bridge", "peak"))
    surname = pick(rng, STEMS) + pick(rng, ENDS)
    legal = pick(rng, ("", "", " Inc.", " LLC", " Ltd", " Group", " plc", " GmbH", " Corp."))
    forms = (
        (f"{stem} {pick(rng, FIELDS)}{legal}", 7),
        (f"{surname} & Sons", 1),
        (f"{surname} {pick(rng, FIELDS)}{legal}", 2),
        (f"{surname}, {pick(rng, STEMS)}{pick(rng, ENDS)} & Co.", 0.6),
        (f"University of {surname}", 0.8),
        (f"{surname} General Hospital", 0.6),
    )
    return weighted(rng, forms)
