"""`presidio-test`: English template-like sentences with many kinds of entities."""

from __future__ import annotations

from . import noise
from .rng import chance
from .scene import SceneEn
from .template import lines

PII = lines("""
[My name is|I am|It's] {p1:fl}[ and I live in|, I was born in] {country}, [call me at|my phone is] {phone}.
[Please block|I want to cancel|How do I renew] my card {card}[, it was stolen in {city}| as soon as possible].
[What is the limit|How much is left] for card {card}[ issued on {date:num}|]?
{p1:title} [lives|moved] at {street}, {city}[ since {date}|].
{p1:fl}⏎{org}⏎{street}⏎{city}⏎{country}
[The address of|The head office of] {org} is {addr}.
[Who is|Have you seen] the [CEO|owner|driver] of {org}, {p1:any}?
{p1:fl} [was|is] the [chairman|founder] of {org} from {city} [until|since] {date}.
[You can|Feel free to] [write|mail] me at {email:1} [or visit|and check] {domain}.
[The server|A request from] {ip} [reached|resolved to] {domain} on {date:num}.
{p1:first} and {p2:first} [met|married] in {city} on {date:word}.
{p1:fl}, {p2:fl} and {px:fl} [flew|drove] from {city} to {city}[, {country}|].
[I'd like to order|Could you send] a [taxi|parcel] to {street}, {city} for {p1:title}.
[Date of birth|Born]: {dob}. [Place|City]: {city}. Name: {p1:lf}.
[Billing|Shipping] [address|contact]: {p1:fl}, {addr}, {phone}
[During|After] my [trip|visit] to {country}, {org} charged {card} and {card}.
[Contact|Ask] {p1:title} ({email:1}, {phone}) before {date}.
[The lawyer of|A witness for] {firm_nested} [arrived|spoke] in {city} on {date}.
[My website|Our shop] is {url} [but|and] the mail is {email}.
[He|She] said: "{p1:first}, [take|bring] the [{date}|{city}] ticket[s|]".
[Update|Change] my [phone|number] from {phone} to {phone}, [thanks|signed] {p1:fl}.
[IPs|Hosts] {ip}, {ip} and {ip} belong to {org}.
{org}-{country} [opened|closed] its {city}/{country} desk on {date}.
{p1:fl}'s [grandmother|boss|flatmate] {p2:fl} [works|worked] for {org} in {city}.
[Just posted|See] {url} with photos of {p1:first} in {city}.
[Unsubscribe link|Click]: {mailurl}
{p1:title}, {p2:title} and the rest of {org} [thank|greet] {country}.
[Passport|Licence holder] {p1:mid}, {dob}, {street}, {city}, {country}.
""")

NEGATIVE = lines("""
[Will you|May I] [mark|frank] {n:2-90} letters [by|before] {time}?
[Version|Release] {version} [broke|fixed] {n:2-40} [tests|pages] in {n:2-50} minutes.
[Grace|Hope|Faith|Joy] is [a word|only a noun] in verse {n:1-50} of {n:51-150}.
[The order number|My reference] is {order}, [not a card|ignore it], total {price}.
[Contract|Account] {contract} [is closed|expires in {n:2-30} days], fee {price}.
[Coupon|Code] {badcard} [gives|is worth] {price} off.
[The bill|A bill] of {price} was [paid|split] {n:2-9} ways at {time}.
[Pythagorean|Bayes'] theorem [is exercise|appears on page] {n:2-400}.
[Part|Model] {sku} [weighs|needs] {n:2-90} [kg|bolts], [ratio|gear] {n:1-9}:{n:1-9}.
""")


def build(scene: SceneEn) -> None:
    """One or two template sentences; 15 % carry nothing personal."""
    rng = scene.rng
    if chance(rng, 0.15):
        scene.several(NEGATIVE, 2 if chance(rng, 0.5) else 1)
    else:
        scene.several(PII, 2 if chance(rng, 0.15) else 1)
        if chance(rng, 0.12):
            scene.builder.add(" ")
            scene.one(NEGATIVE)
    noise.english(scene.builder, rng, 0.6)
