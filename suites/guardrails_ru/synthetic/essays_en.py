"""`kaggle`: long English essays and letters of students; every one carries a name."""

from __future__ import annotations

from . import noise
from .rng import between, chance, pick
from .scene import SceneEn
from .template import lines

HEADERS = lines("""
{p1:fl}⏎[Reflection|Assignment {n:1-9}|Final essay|Project journal]: [Learning by Visual Maps|Solving a Problem in a Team|Telling a Story with Pictures|Testing an Idea Early]⏎⏎
[Reflection|Essay|Case study] – [Visual Maps|Storytelling|Rapid Prototypes] by {p1:fl}⏎⏎
{p1:upper}⏎{email:1}⏎⏎[Challenge|Introduction]⏎
[Course|Module] {n:1-12}, [submission|version] {n:1-4}⏎Student: {p1:fl}⏎[E-mail: {email:1}⏎|][Phone: {phone}⏎|]⏎
{p1:fl}⏎{addr}⏎{phone}⏎⏎[Dear Professor {p2:last}|Dear Admissions Committee|Dear Ms {p2:last}],⏎⏎
[Name|Author]: {p1:fl}[, student number {n:100000-999999}|]⏎[Portfolio: {url}⏎|]⏎
To: {email:2}⏎From: {email:1}⏎Subject: [my essay|late submission|feedback on assignment {n:1-9}]⏎⏎[Hello|Dear] {p2:fl},⏎⏎
""")

BODY = lines("""
When I [first heard about|began to use] the [tool|method], I [did not expect|hardly believed] that it would [change|shape] the way our [team|group|class] works.
The [challenge|problem] we [chose|were given] was [simple to state|hard to measure]: {n:20-90} percent of [visitors|new members|pupils] [left|gave up] within {n:2-12} weeks.
We [started|opened] with a [wall of notes|large sheet of paper|blank board], and everyone wrote [at least|no fewer than] {n:3-20} ideas [in silence|without comments].
[Hope|Grace|Faith] is not a [plan|strategy], as our tutor [liked to say|reminded us], so we [wrote down|counted] what we could [test|measure] by ourselves.
I [will|may] [admit|confess] that the [first|second] version [failed|was a mess]: it took {n:2-40} minutes to explain and {n:2-9} [questions|clicks] to use.
[A picture|A sketch] lets people [disagree|argue] about the same thing, and that alone [saved|spared] us {n:2-30} hours of [meetings|e-mail].
The [Pythagorean theorem|Parkinson's law|Nobel Prize|Doppler effect] was the [example|topic] we used because [nobody|hardly anyone] feels neutral about it.
In the [middle|end] we [voted|agreed] {n:5-9} to {n:1-4} for the [smaller|cheaper] idea, which cost {price} and needed [no|little] training.
[Next|After that], we [built|drew] a [paper model|storyboard|mock screen] and [asked|invited] {n:4-30} [neighbours|strangers|students] to [break|try] it.
Their [comments|reactions] [surprised|humbled] me, since [only|just] {n:1-9} of them used the [door|button|map] the way we had [planned|drawn] it.
[The approach|This way of working] has its [limits|costs]; it [asks|takes] patience, and it [does not|rarely] suit people who want [an answer|a number] by {time}.
I [marked|labelled] the notes with [version numbers|codes] such as {version} so that we could [compare|order] them later.
[What I learned|My main insight] is that [listening|drawing] [slows|calms] a group down at the moment when [speed|noise] would [hurt|mislead] it.
[If I could|Should I] start again, I would [invite|interview] the [users|parents|guards] before [anyone|the first of us] [opened|touched] a laptop.
The [library|lab|canteen] lent us a room with {n:4-20} chairs, one [projector|printer], and a clock that was {n:3-20} minutes slow.
[By the way|To be honest], ticket {contract} with our [request|complaint] is still [open|unanswered], which is [a lesson|an irony] of its own.
[Some|Two] members [feared|worried] that [maps|pictures] look childish, but the [results|figures] [convinced|quieted] them within {n:2-6} days.
In [my own|daily] [work|practice] as a [nurse|teacher|shop clerk|driver], I now [draw|sketch] a [map|plan] before each [shift|lesson|long trip].
[Finally|In the end], we [measured|checked] again: [waiting time|dropout] fell by {n:5-60} percent, and the [mark|score] rose from {n:1-4}.{n:0-9} to {n:5-9}.{n:0-9}.
It is [tempting|easy] to [mark|call] such a project as [done|a success], yet the [honest|useful] question is who [keeps|will carry] it [next year|after us].
""")

PERSONAL = lines("""
My teammate {px:fl} [suggested|insisted] that we [interview|watch] people first, and {px:first} [from the other class|a quiet person] [agreed|kept the notes].
As {px:fl} [put it in her talk|wrote to me], a map is [a conversation|a promise] that everyone can see.
I [invited|met] {px:fl}[, who runs the project site {url}|], and we [talked|argued] for {n:20-90} minutes.
We [met|gathered] at {street} because the [library|lab] was closed, and {px:first} brought [markers|sandwiches].
The [slides|pictures] are [published|kept] at {url} [and I update them weekly|for anyone who asks].
[You can reach|Please write to] me at {email:1}[ or call {phone}|] if the [file|link] does not open.
[Our mentor|Our coordinator] {px:fl} [answered|replied] from {email} [the same night|within {n:2-9} hours].
[My sister|My friend|My colleague] {px:first} [tried|tested] the sketch and [laughed|asked for a copy].
""")

CLOSINGS = lines("""
⏎⏎[Sincerely|Kind regards|Yours faithfully|Best],⏎{p1:fl}[⏎{email:1}|][⏎{phone}|]
⏎⏎[Thank you for reading|Thanks for your time].⏎{p1:fl}[⏎{url}|]
⏎⏎{p1:fl}, {addr}
⏎⏎— {p1:first}
⏎⏎[Unsubscribe from class mail|Course mail settings]: {mailurl}
""")


def build(scene: SceneEn) -> None:
    """One essay of two to five paragraphs, 800 to 3000 characters, at least one name."""
    rng = scene.rng
    if chance(rng, 0.85):
        scene.one(HEADERS)
    else:
        scene.text("My name is {p1:fl}[, and I study|. I am] [in the evening course|in the second year]. ")
    order = list(range(len(BODY)))
    rng.shuffle(order)
    personal = list(range(len(PERSONAL)))
    rng.shuffle(personal)
    for index in order[: between(rng, 7, 16)]:
        scene.text(BODY[index])
        if personal and chance(rng, 0.12):
            scene.builder.add(" ")
            scene.text(PERSONAL[personal.pop()])
        scene.builder.add(pick(rng, (" ", " ", " ", "\n\n")))
    if chance(rng, 0.65):
        scene.one(CLOSINGS)
    noise.english(scene.builder, rng, 1.5)
