"""English persons, places and organisations by light-weight rules.

No English model is loaded. Names come from the lists of the United States census of 1990 in the
package ``names`` (MIT); towns and countries from the descriptions of area codes in
``phonenumbers`` (Apache-2.0); the rest from titles, company suffixes and address shapes. Expect a
middling recall: a name outside the lists needs a title or an introduction to be found.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .spans import NAMED, NUMBERED, Finding

# A first name is trusted alone (without a surname after it) up to this share of the population.
_FREQUENT = 0.02
_CAP = r"[A-Z][a-z]{1,20}(?:['’][A-Z]?[a-z]{1,20})?(?:-[A-Z][a-z]{1,20})?"
_LAST = rf"(?:O['’]|D['’]|Mc|Mac|de |van |von )?{_CAP}"
_TITLED = re.compile(
    rf"(?<![\w.])(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Sir|Madam|Capt|Rev)\.? (?P<name>{_CAP}"
    rf"(?: [A-Z]\.)?(?: {_LAST}){{0,2}})(?![\w])"
)
_INTRODUCED = re.compile(
    r"(?i:\bmy name is|\bi am|\bi['’]m|\bthis is|\bname:|\bdear|\bhi|\bhello|\bregards,"
    r"|\bsincerely,"
    rf"|\bcontact|\bsigned by|\bcall(?:ed)?|\bask for)\s{{1,2}}(?P<name>{_CAP}(?: [A-Z]\.)?"
    rf"(?: {_LAST}){{0,2}})(?![\w])"
)
_PAIR = re.compile(rf"(?<![\w'’\-])(?P<first>{_CAP})(?:(?: [A-Z]\.| {_CAP})?) (?P<last>{_LAST})(?![\w])")
_SINGLE = re.compile(r"(?<![\w'’\-.@/])[A-Z][a-z]{2,15}(?![\w@\-])")
_ORG = re.compile(
    r"(?<![\w])(?:(?:[A-Z][\w&'’\-]{0,24}(?:,? (?:&|and|of|for) | |, )){1,5}"
    r"(?:Inc|LLC|Ltd|Limited|Corp|Corporation|PLC|plc|GmbH|LLP)(?!\w)\.?"
    r"|(?:[A-Z][\w&'’\-]{0,24}(?:,? (?:&|and|of|for) | )){1,5}"
    r"(?:Group|Holdings?|Bank|University"
    r"|College|Institute|Hospital|Foundation|Association|Technologies|Solutions|Systems|Partners"
    r"|Airlines)(?!\w))"
)
_STREET = re.compile(
    r"(?<![\w\-.,])[0-9]{1,5}[A-Z]? (?:[NSEW]\.? )?(?:(?:[A-Z][a-z'’]{1,20}|[0-9]{1,3}(?:st|nd"
    r"|rd|th)) ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq"
    r"|Terrace|Way|Parkway|Pkwy|Highway|Hwy|Circle|Close|Gardens|Row)(?!\w)\.?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|#)\.? ?[0-9A-Z]{1,6}(?!\w))?"
)
_STATE = re.compile(
    r"(?<![\w])(?P<town>[A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20}){0,2}), (?:A[KLRZ]|C[AOT]|D[CE]|FL"
    r"|GA|HI"
    r"|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
    r"(?: [0-9]{5}(?:-[0-9]{4})?)?(?!\w)"
)
_PLACE = re.compile(
    r"(?<![\w.@/\-])(?P<lead>(?:in|In|from|From|to|at|near|of|visit|leave|live[sd]? in|born in) )?"
    r"(?P<name>[A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20}){0,2})(?![\w@\-])"
)
_COMMON_TEXT = """
    will may mark grace hope faith april june august summer rose art bill jack frank rich chase
    dawn joy van so an see long my in ok king prince lane drew dean grant miles ray guy gene
    page king young love sunday monday tuesday wednesday thursday friday saturday january
    february march july september october november december christian queen star angel early
    many major rusty victory crystal amber ruby pearl olive iris violet daisy ivy lily heather
    holly sandy stormy charity constance patience prudence merry happy easter royal see le la
    the yes no china india asia america london paris florence sydney virginia georgia carolina
    dakota austin dallas houston israel jordan chad kenya cuba mobile reading bath orange split
    nice
"""
_COMMON = frozenset(_COMMON_TEXT.split())
# Words at the head of a pair of capitals that are not a first name.
_NOT_FIRST_TEXT = """
    the this that these those my our your his her dear hello hi please contact call new north
    south east west san los las saint st united great mr mrs ms dr in on at from to for and or
    but if when so see main bank university will
"""
_NOT_FIRST = frozenset(_NOT_FIRST_TEXT.split())


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The word lists, all in lower case."""

    first: frozenset[str] = field(default_factory=frozenset)
    frequent: frozenset[str] = field(default_factory=frozenset)
    last: frozenset[str] = field(default_factory=frozenset)
    places: frozenset[str] = field(default_factory=frozenset)


def load_lexicon(*, census: bool = True) -> Lexicon:
    """Read the lists; without ``census`` names are left to titles and introductions."""
    places = _load_places()
    if not census:
        return Lexicon(places=places)
    spec = importlib.util.find_spec("names")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the census lists of English names are in the package names, which is not installed; "
            "install it (pip install names) or use Detector(english_names='rules')"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    first: set[str] = set()
    frequent: set[str] = set()
    for name in ("dist.male.first", "dist.female.first"):
        for line in (root / name).read_text(encoding="ascii").splitlines():
            word, share = line.split()[:2]
            first.add(word.lower())
            if float(share) >= _FREQUENT:
                frequent.add(word.lower())
    lines = (root / "dist.all.last").read_text(encoding="ascii").splitlines()
    last = frozenset(line.split(None, 1)[0].lower() for line in lines)
    return Lexicon(frozenset(first), frozenset(frequent) - _COMMON, last, places)


def _load_places() -> frozenset[str]:
    """Return the towns and countries that ``phonenumbers`` describes area codes with."""
    from phonenumbers.geodata import GEOCODE_DATA  # noqa: PLC0415 - loaded with the model
    from phonenumbers.geodata.locale import LOCALE_DATA  # noqa: PLC0415 - loaded with the model

    places: set[str] = set()
    for descriptions in GEOCODE_DATA.values():
        for part in descriptions.get("en", "").replace("/", ",").split(","):
            places.add(part.strip())
    for names in LOCALE_DATA.values():
        name = names.get("en", "")
        places.add(names.get(name[1:], "") if name.startswith("*") else name)
    return frozenset(place.lower() for place in places if len(place) > 3 and place[0].isalpha())


def find_persons(text: str, lexicon: Lexicon) -> Iterator[Finding]:
    """Titled, introduced and listed names."""
    for match in _TITLED.finditer(text):
        yield Finding(match.start("name"), match.end("name"), "PERSON", 0.9, NAMED)
    for match in _INTRODUCED.finditer(text):
        first = match["name"].split()[0].lower()
        known = first in lexicon.first
        if first in _NOT_FIRST or (first in lexicon.places and not known):
            continue
        if known or " " in match["name"]:
            score = 0.85 if known else 0.6
            yield Finding(match.start("name"), match.end("name"), "PERSON", score, NAMED)
    if not lexicon.first:
        return
    start = 0
    while pair := _PAIR.search(text, start):
        first = pair["first"].lower()
        if first not in lexicon.first or first in _NOT_FIRST:
            start = pair.end("first")
            continue
        listed = pair["last"].lower() in lexicon.last
        score = 0.85 if listed and first not in _COMMON else 0.6 if listed else 0.5
        yield Finding(pair.start(), pair.end(), "PERSON", score, NAMED)
        start = pair.end()
    for single in _SINGLE.finditer(text):
        if single.group().lower() in lexicon.frequent:
            yield Finding(single.start(), single.end(), "PERSON", 0.6, NAMED)


def find_organisations(text: str) -> Iterator[Finding]:
    """Capitalised words up to a company's or institution's suffix."""
    for match in _ORG.finditer(text):
        start = match.start()
        if match.group().startswith("The "):
            start += 4
        yield Finding(start, match.end(), "ORGANIZATION", 0.85, NAMED)


def find_places(text: str, lexicon: Lexicon) -> Iterator[Finding]:
    """Street addresses, a town with its state, and listed towns and countries."""
    for match in _STREET.finditer(text):
        yield Finding(match.start(), match.end(), "LOCATION", 0.9, NUMBERED)
    for match in _STATE.finditer(text):
        yield Finding(match.start(), match.end(), "LOCATION", 0.85, NAMED)
    for match in _PLACE.finditer(text):
        words = match["name"].split(" ")
        for size in range(len(words), 0, -1):
            name = " ".join(words[:size])
            if name.lower() in lexicon.places:
                start = match.start("name")
                led = bool(match["lead"])
                if led or size > 1 or name.lower() not in lexicon.first:
                    score = 0.8 if led else 0.65 if size > 1 else 0.55
                    yield Finding(start, start + len(name), "LOCATION", score, NAMED)
                break
