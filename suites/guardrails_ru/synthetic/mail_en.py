"""`hf-sample-en`: short English support mail, invoices, tickets and notes."""

from __future__ import annotations

from . import noise
from .rng import between, chance, pick, weighted
from .scene import SceneEn
from .template import lines

PII = lines("""
[Hi|Hello|Good morning], this is {p1:fl}[ from {org}|]. [My order|The parcel] {order} has not [arrived|shipped]; [call me at|my number is] {phone}.
Please [ship|send] the [replacement|refund letter] to {p1:any}, {addr}.
[Ticket|Case] #{n:10000-99999} — reported by {p1:fl} ({email:1}) on {date}: [cannot log in|printer offline|double charge of {price}].
Invoice {n:1000-99999}⏎Bill to: {org}⏎Attn: {p1:fl}⏎{addr}⏎Date: {date:num}⏎Total: {price}
The card {card} was [declined|charged twice] on {date}[, please reverse {price}|].
[Blocked|Repeated] login attempts from {ip} [to the account of|by] {email} at {time}.
[We confirm|This confirms] your [booking|appointment] in {city} on {date:word} at {time} for {p1:any}[, passport {passport}|].
[Our new office|The showroom] is at {street}, {city}. [Directions|A map]: {url}
[Contact|Reach out to] {px:any} at {email} [or|and] {phone} [about the quote|before {date}].
[Hey|Hi] {p2:first}, [can you add|please invite] {p3:fl} <{email:3}> to the [channel|call] on {date:word}?
[Thanks|Many thanks],⏎{p1:fl}⏎{org}⏎{phone} | {url}
{org} [has appointed|promoted] {p1:fl} [as|to] head of [sales|design] in {city}[, effective {date}|].
[Passport|Travel document] {passport} [issued to|belongs to] {p1:mid}, born {dob:word}[, {country}|].
[To stop these e-mails|Unsubscribe here]: {mailurl}
[Delivery|Courier] note: leave with {px:title} at {addr}; [phone|tel.] {phone}.
[Payment|Wire] of {price} to {org}, card ending accepted: {card}, [payer|sent by] {p1:fl}.
[Refund|Warranty] request: name {p1:fl}, e-mail {email:1}, phone {phone}, bought {date:num}.
{firm_nested} [represents|acts for] {px:title} in the matter of [a lease|an unpaid bill] of {price}.
[Server|Gateway] {ip} [moved|was moved] to {country} on {date:num}; [owner|on call]: {px:fl}.
[Dear|Hello] {p1:title}, [your subscription|your plan] with {org} [ends|renews] on {date:word}.
""")

NEGATIVE = lines("""
[Order|Parcel|Shipment] {order} [is delayed|was split|left the depot] and should [arrive|clear customs] in {n:2-14} days.
[Please update|We upgraded] [the app|the firmware] to version {version}; [restart|reboot] takes {n:2-20} minutes.
[Reference|Voucher|Coupon] {badcard} is [not a payment card|valid for {n:2-30} days], value {price}.
[Part|Item] {sku} costs {price}, [lead time|in stock after] {n:2-40} days.
[May|Will] we [mark|close] this [ticket|thread] as [solved|stale] after {n:2-20} days [of silence|without news]?
[The grace period|The trial|The free plan] [lasts|ends after] {n:5-45} days, [then|afterwards] {price} a month.
[Hope|I hope] the [faith|patience] of our [users|testers] is [rewarded|not in vain]: {n:2-90} bugs [fixed|closed].
[Account|Contract] number {contract}, balance {price}, [no action needed|pay at any desk].
[The meeting|The call|Stand-up] [moved|slipped] to {time}, room {n:1-60}, [bring the charts|no slides please].
[The error|Error code] {n:100-599} [appears|shows up] in build {version} [on cold start|when printing].
[Parkinson's disease|Down syndrome|The Nobel Prize|The Turing test] is [a search term|a topic] in {n:2-400} [articles|tickets] of the [help centre|archive].
[Score|Ratio] {n:1-9}:{n:1-9}, {n:10-90} [votes|points], [about|roughly] {n:2-60} minutes [left|to go].
""")


def build(scene: SceneEn) -> None:
    """One short sample; 22 % carry nothing personal."""
    rng = scene.rng
    if chance(rng, 0.22):
        scene.several(NEGATIVE, between(rng, 1, 3))
        noise.english(scene.builder, rng)
        return
    for place in range(int(weighted(rng, (("1", 6), ("2", 4), ("3", 2))))):
        if place:
            scene.builder.add(pick(rng, (" ", " ", "\n")))
        scene.one(PII)
    if chance(rng, 0.35):
        scene.builder.add(" ")
        scene.one(NEGATIVE)
    if chance(rng, 0.06):
        scene.text(" {emoji}")
    noise.english(scene.builder, rng)
