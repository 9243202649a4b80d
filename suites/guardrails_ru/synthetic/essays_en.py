# ruff: noqa: E501
"""`kaggle`: long English essays and letters of students; every one carries a name."""

from __future__ import annotations

from . import noise
from .rng import between, chance, pick
from .scene import SceneEn
from .template import lines

HEADERS = lines("""
{p1:fl}⏎[Reflection|Assignment {n:1-9}|Final essay|Journal]: [Learning by Doing|What I Would Do Again|A Day Worth Writing About|Small Steps|Looking Twice]⏎⏎
[Reflection|Essay|Case study] – [First Attempts|Looking Back|Notes on a Beginning] by {p1:fl}⏎⏎
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
[The Pythagorean theorem|Parkinson's law|The Nobel Prize|The Doppler effect] was the [example|topic] we used because [nobody|hardly anyone] feels neutral about it.
In the [middle|end] we [voted|agreed] {n:5-9} to {n:1-4} for the [smaller|cheaper] idea, which cost {price} and needed [no|little] training.
[Next|After that], we [built|drew] a [paper model|storyboard|mock screen] and [asked|invited] {n:4-30} [neighbours|strangers|students] to [break|try] it.
Their [comments|reactions] [surprised|humbled] me, since [only|just] {n:1-9} of them used the [door|button|map] the way we had [planned|drawn] it.
[The approach|This way of working] has its [limits|costs]; it [asks|takes] patience, and it [does not suit|rarely suits] people who want [an answer|a number] by {time}.
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

LETTER = lines("""
I am [writing|applying] to [ask for|request] a place in the [evening|summer] course, which [starts|opens] in {n:2-9} weeks and [costs|is priced at] {price}.
For {n:2-9} years I [worked|served] as a [night porter|baker's helper|data clerk], and [most|much] of what I know about [people|patience] comes from there.
My [marks|grades] were [never|seldom] the best of the year: {n:50-89} out of 100 in [physics|history], {n:40-99} in [mathematics|drama].
[What|The thing that] changed me was a [broken|borrowed] bicycle that I [took apart|repaired] {n:3-30} times with [no manual|a torn manual].
[Faith|Trust] in [small|daily] steps [sounds|may sound] naive, [but|yet] it [carried|got] me through {n:3-11} months without [work|a flat].
I [speak|read] [two|three] languages [badly|slowly] and one [well|fluently], and I am not [afraid|ashamed] of [asking|looking] twice.
The [Nobel Prize|Pulitzer Prize] is not my [aim|dream]; a [workshop|bench] with [decent|good] light [would be|is] enough.
[Last winter|In spring], I [ran|helped at] a [repair stand|reading circle] for {n:5-60} [children|pensioners], [free of charge|for {price} a month in total].
[Money|The fee] is [the hard part|a worry]: rent [takes|eats] {n:30-70} percent of my pay, and the [bus|train] another {n:3-12}.
I [have attached|enclose] [the form|a copy of the form] with reference {contract}; the [second|last] page was [scanned|printed] at {n:50-95} percent.
[Should|If] the [committee|office] [need|needs] [proof|papers], I [will|can] [send|bring] them [by|before] {time} on any [working day|weekday].
A [joy|hope] I [rarely|seldom] [mention|admit] is [teaching|showing] someone to [solder|iron|bake]; their [first|second] try is [always|mostly] better than mine was.
The [course|programme] [interests|suits] me because it [joins|mixes] [drawing|design] with [metal|wood|code], and because [groups|classes] have [only|just] {n:8-20} [seats|people].
[In return|For my part], I [offer|promise] [steady|regular] work, {n:6-20} hours a week, and [fewer|no more] [excuses|questions] than [you expect|last year].
I [do not|cannot] [claim|say] that I am [gifted|quick]; I can [claim|say] that I [finish|return to] what I [start|break].
[Two|Three] [rejections|refusals] [taught|showed] me to [read|check] the [rules|small print], page {n:2-40} [included|above all].
My [shift|work] ends at {time}, so an [early|evening] [interview|call] [would suit|suits] me [best|well].
[May|March] is when our [shop|bakery] [closes|shuts] for {n:1-3} weeks, [and|so] I [could|would] [travel|start] then.
""")

TRIP = lines("""
[Our class|The whole group] [left|set off] at {time} in [a bus|two vans], [late|early] by {n:5-50} minutes as [always|usual].
The [museum|dam|station] [stands|lies] [beyond|behind] the [old|last] [mill|bridge], {n:3-60} kilometres from [school|home].
[Rain|Fog] [hid|covered] the [hills|river], [which|and that] [spared|saved] us the [speech|lecture] about [rocks|erosion].
A [guide|keeper] in a [green|torn] coat [counted|led] us: {n:12-40} [pupils|students], {n:2-4} [adults|teachers], one [dog|lost umbrella].
The [exhibition|display] [opens|begins] with the [Doppler effect|Pythagorean theorem|Archimedes' screw], [drawn|explained] in [chalk|plain words] for {n:8-14}-year-olds.
I [liked|remember] the [model|map] in room {n:1-19} most, [scale|built at] 1:{n:20-500}, with [lamps|trains] that [move|blink].
[Lunch|Soup] [cost|was] ${n:3-18}.50 and [tasted|smelled] of [smoke|cardboard], [but|yet] [nobody|hardly anyone] [complained|minded].
[In|During] the [second|last] hour we [measured|timed] the [pendulum|flow] {n:4-30} times; the [mean|average] was {n:1-9}.{n:10-99} seconds.
Our [readings|figures] [differed|disagreed] by {n:2-19} percent, [partly|mostly] because the [clock|ruler] was [broken|wet].
[The shop|A kiosk] [sells|sold] [postcards|magnets] at ${n:1-9}.99, [article|code] {sku}, and [maps|kits] that [nobody|few] can [fold|finish].
[A sign|The label] said "model {version}", which we [first|at once] [took|mistook] for a [network address|phone number].
[April|May] is [too|rather] early for [swimming|tents], [although|but] {n:2-6} of us [tried|will swear otherwise].
On the [way back|return], the [driver|bus] [stopped|waited] {n:10-45} minutes for a [herd|train] to [cross|pass].
I [would|will] [grade|mark] the [day|trip] {n:5-9} out of 10: [good|kind] [people|guides], [poor|cold] [soup|rooms].
What [stayed|remains] with me is the [sound|size] of the [turbine|hall], [louder|larger] than {n:10-90} [trucks|classrooms].
[Next time|Another year], we [should|ought to] [book|reserve] the [workshop|tour] {n:3-8} weeks [ahead|before], [reference|booking] {order} [proved|was] useless.
The [report|essay] [asks|wanted] for [a lesson|a moral]; [mine|my own] is that [water|weather] [wins|decides] [in the end|every time].
[Homework|The worksheet] had {n:6-20} [questions|items], of which I [answered|solved] {n:2-5} [on the bus|by torchlight].
""")

PERSONAL = lines("""
My teammate {px:fl} [suggested|insisted] that we [interview|watch] people first, and {px:first}[ from the other class|, a quiet person,] [agreed|kept the notes].
As {px:fl} [put it in a talk|wrote to me], a map is [a conversation|a promise] that everyone can see.
I [invited|met] {px:fl}[, who runs the project site {url}|], and we [talked|argued] for {n:20-90} minutes.
We [met|gathered] at {street} because the [library|lab] was closed, and {px:first} brought [markers|sandwiches].
The [slides|pictures] are [published|kept] at {url} [and I update them weekly|for anyone who asks].
[You can reach|Please write to] me at {email:1}[ or call {phone}|] if the [file|link] does not open.
[Our mentor|Our coordinator] {p3:fl} [answered|replied] from {email:3} [the same night|within {n:2-9} hours].
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
    body = (BODY, LETTER, TRIP)[rng.randrange(3)]
    order = list(range(len(body)))
    rng.shuffle(order)
    personal = list(range(len(PERSONAL)))
    rng.shuffle(personal)
    for place, index in enumerate(order[: between(rng, 10, 19)]):
        if place:
            scene.builder.add(pick(rng, (" ", " ", " ", "\n\n")))
        scene.text(body[index])
        if personal and chance(rng, 0.18):
            scene.builder.add(" ")
            scene.text(PERSONAL[personal.pop()])
    if chance(rng, 0.65):
        scene.one(CLOSINGS)
    noise.english(scene.builder, rng, 1.5)
