# ruff: noqa: SIM905
"""Composed Russian names: surnames by stem and ending, six cases, patronymics, initials.

Cases are numbered in the school order: nom, gen, dat, acc, ins, pre.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property

from .rng import chance, pick, weighted

CASES = {"nom": 0, "gen": 1, "dat": 2, "acc": 3, "ins": 4, "pre": 5}
Forms = tuple[str, str, str, str, str, str]

OV = (
    "Абрам Авдот Агап Аксён Антип Архип Астах Балан Баран Белозёр Беспал Бирюк Блин Бобр Боб Богдан Бугр "
    "Буран Быстр Власт Волк Волох Ворот Гвозд Глеб Глух Голован Горбун Громак Грек Груздов Губан Гурт Давыд "
    "Демид Долг Дорох Дроб Дубр Ершак Ефим Жарк Жерноков Жук Завьял Зайк Захар Звер Зеленк Зуб Зык Иван "
    "Игнат Исак Казак Калач Капуст Карп Карах Кирсан Клим Клок Кожух Козл Колос Комар Конон Корабл Королёк "
    "Краснов Крюк Кудряш Кузнец Кулик Лавр Ларион Лобан Логин Лоскут Лук Максим Маляр Мамонт Марк Мартын "
    "Макаров Миронов Моргун Мороз Назар Наум Нефёд Никон Носк Овчар Орл Осип Остап Павл Панкрат Пахом Петр "
    "Пирог Платон Плотник Подряд Поляк Прохор Пузан Родион Роман Рыбак Савв Самойл Сафрон Сверчк Северьян "
    "Семён Сидор Смирн Сокол Солод Спирид Стар Степан Строган Сухар Суслов Тарас Терёх Тимох Тит Тихон "
    "Трифон Турк Уваров Устин Фад Федот Филат Филипп Фом Фрол Харит Хлоп Холод Хохл Цыплак Чеботар Черн "
    "Чижик Чугун Шапошник Шилов Широк Шпак Шубник Щегл Щербак Юдак Якуш Яр"
).split()
EV = (
    "Авде Алексе Андре Артемь Афанась Белобород Баз Беспят Бул Василь Воробь Горде Григорь Гурь Арефь Дмитри "
    "Дорофе Евсе Елисе Ереме Журавл Зиновь Игнать Кисел Кобзар Ковал Корне Корол Лазар Лаврень Леонть Макс "
    "Матве Медвед Мине Моисе Муравь Никола Прокофь Пономар Савель Серге Соловь Тимофе Толмач Фаде Шмел Юрь "
    "Яковл Арсень Анань Астафь Зу Никифор Пантеле Ракитич Саврас Сыч Терень Федосе Цар Шабар"
).split()
IN = (
    "Аверк Аник Бабушк Балаш Белк Бород Булк Вавил Вершинин Волынк Ворон Галк Гол Голуб Грибан Гус Дудк Ерёмк "
    "Жарин Жемчуж Заварз Зим Иваш Ильюш Калинин Калаш Каш Кноп Кобыл Корот Кос Кошк Кукушк Курицын Кутуз "
    "Лапш Лис Лукошк Малинин Мамык Мельниц Миш Мит Морошк Мух Никит Осок Паш Перепёлк Пичуг Полынин Пуш "
    "Рябинин Савушк Сазан Сен Синицын Снегир Сорок Стрелк Суббот Телиц Тит Тюр Улит Фил Фомк Хоз Царапк "
    "Чайк Черёмух Шаг Шелк Шишк Щук Юш Ягод Тетер Курк Лисиц Птицын Спицын Панюш Гагар Лялин"
).split()
SKIJ = (
    "Барков Белогор Березов Боров Вишнев Волжан Воскресен Галиц Горец Дубров Зареч Каменец Липов Лозов "
    "Луговск Малинов Невель Новогруд Озер Орлов Островец Покров Полян Раев Садов Слободян Соснов Студен "
    "Тернов Троиц Яблонов Ясен"
).split()
ENKO = (
    "Авраме Бондар Васил Гаврил Горде Гриц Давид Данил Демч Зинч Иван Игнат Кирил Клим Ковал Кондрат "
    "Кравч Лавр Литвин Макар Марч Мартын Мирош Назар Онищ Остап Панас Петр Пилип Прокоп Роман Савч Семен Степан "
    "Тарас Ткач Тимош Федор Харч Шевч Яков Ярем"
).split()
HARD = (
    "Бондарчук Ковальчук Марчук Савчук Романюк Полищук Ткачук Гаврилюк Данильчук Мельник Коваль Гончар "
    "Бондарь Кушнир Шинкарь Лозин Рудник Дворник Петросян Оганесян Саркисян Мкртчян Арутюнян Вартанян Ким "
    "Пак Тен Шин Шульц Вебер Беккер Майер Фридман Гольдберг Рабинович Адамович Станкевич Янкович Борисевич "
    "Ермакович Нгуен Хан Бауэр Кох Гросс Штерн Лем Абдель Цой Гайдай Водолей Соловей Бабак Гордон"
).split()
FIXED = (
    "Черных Седых Белых Долгих Крутых Польских Сухих Рыжих Кутателадзе Беридзе Гогиашвили Хачидзе "
    "Киладзе Мамрадзе Чавчанидзе Лежава Ли Дурново Санду Петрусенко Сова-Белых Нечипоренко Гурцкая"
).split()
TURKIC = (
    "Ахмет Хайрулл Гариф Сафиулл Мухаметзян Габдрахман Зарип Кашап Нургали Вали Ибрагим Рахим Каримбек Юсуп "
    "Алибек Магомед Абдуллагат Исмаил Мурсал Таги Мамед Гасан Курбан Назарбек Умар Ташпулат Эргаш Саидмурад"
).split()

MALE = (
    "Александр Алексей Анатолий Андрей Антон Аркадий Арсений Артём Богдан Борис Вадим Валентин Валерий Василий "
    "Виктор Виталий Владимир Владислав Всеволод Вячеслав Геннадий Георгий Герман Глеб Григорий Даниил Денис "
    "Дмитрий Евгений Егор Иван Игорь Илья Кирилл Константин Лев Леонид Максим Марк Матвей Михаил Никита "
    "Николай Олег Павел Пётр Роман Руслан Савелий Семён Сергей Станислав Степан Тимофей Фёдор Эдуард Юрий "
    "Яков Ярослав Захар Мирон Платон Тихон Родион"
).split()
FEMALE = (
    "Александра Алина Алла Алёна Анастасия Ангелина Анна Антонина Валентина Валерия Варвара Вера Вероника "
    "Виктория Галина Дарья Диана Ева Евгения Екатерина Елена Елизавета Жанна Зинаида Зоя Инна Ирина Карина "
    "Кира Кристина Ксения Лариса Лидия Любовь Людмила Маргарита Марина Мария Милана Надежда Наталья Нина "
    "Оксана Олеся Ольга Полина Раиса Римма Светлана София Таисия Тамара Татьяна Ульяна Юлия Яна Ярослава"
).split()
MALE_TURKIC = (
    "Рустам Ринат Ильдар Марат Тимур Азамат Бекзод Фархад Шамиль Мурад Эльдар Эмиль Дамир Айрат Камиль "
    "Ренат Наиль Салават Дилшод Анвар Тигран Армен Гурген Ашот Вартан Давид Арслан Чингиз Алихан Ислам"
).split()
FEMALE_TURKIC = (
    "Гульнара Алсу Айгуль Лейла Мадина Дилноза Зарина Амина Эльвира Регина Диляра Камила Наргиза Фатима "
    "Гузель Рамиля Айнура Карине Асмик Анаит Нино Малика Сабина Динара Альбина Зухра"
).split()
DIMINUTIVES = {
    "Александр": "Саша Саня Шура", "Алексей": "Лёша Лёха", "Андрей": "Андрюша Андрюха", "Антон": "Антоша Тоха",
    "Василий": "Вася", "Виктор": "Витя", "Владимир": "Вова Володя", "Дмитрий": "Дима Митя Димон",
    "Евгений": "Женя Жека", "Иван": "Ваня", "Константин": "Костя", "Михаил": "Миша Мишка", "Николай": "Коля",
    "Павел": "Паша", "Пётр": "Петя", "Сергей": "Серёжа Серёга", "Юрий": "Юра", "Максим": "Макс",
    "Анастасия": "Настя", "Анна": "Аня Анечка", "Валентина": "Валя", "Виктория": "Вика", "Галина": "Галя",
    "Дарья": "Даша", "Евгения": "Женя", "Екатерина": "Катя Катюша", "Елена": "Лена Леночка",
    "Елизавета": "Лиза", "Ирина": "Ира", "Ксения": "Ксюша", "Людмила": "Люда", "Мария": "Маша Машенька",
    "Наталья": "Наташа", "Ольга": "Оля", "Светлана": "Света", "Татьяна": "Таня", "Юлия": "Юля",
    "Надежда": "Надя", "Любовь": "Люба", "София": "Соня", "Полина": "Поля", "Роман": "Рома", "Егор": "Егорка",
}  # fmt: skip
PATRONYMIC = {
    "Павел": "Павлов", "Лев": "Львов", "Пётр": "Петров", "Михаил": "Михайлов", "Яков": "Яковлев",
    "Юрий": "Юрьев", "Василий": "Васильев", "Анатолий": "Анатольев", "Геннадий": "Геннадьев",
    "Евгений": "Евгеньев", "Григорий": "Григорьев", "Валерий": "Валерьев", "Арсений": "Арсеньев",
    "Игорь": "Игорев", "Виталий": "Витальев", "Савелий": "Савельев", "Аркадий": "Аркадьев",
    "Георгий": "Георгиев", "Дмитрий": "Дмитриев",
}  # fmt: skip
IRREGULAR = {"Павел": "Павл", "Лев": "Льв", "Пётр": "Петр"}
LATIN = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "e", "ж": "zh", "з": "z", "и": "i",
    "й": "y", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t",
    "у": "u", "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ъ": "", "ы": "y", "ь": "",
    "э": "e", "ю": "yu", "я": "ya",
}  # fmt: skip


def latin(word: str) -> str:
    """A plain Latin spelling in lower case; other characters stay."""
    return "".join(LATIN.get(char, char) for char in word.lower())


def _paste(stem: str, endings: str) -> Forms:
    """Six forms from a stem and six endings separated by spaces (`-` is the empty ending)."""
    a, b, c, d, e, f = (stem + ("" if end == "-" else end) for end in endings.split())
    return a, b, c, d, e, f


def fixed(word: str) -> Forms:
    """A word that has one form in every case."""
    return word, word, word, word, word, word


def decline_a(word: str) -> Forms:
    """Words in -а and -я, either gender."""
    stem, before = word[:-1], word[-2:-1]
    if word.endswith("ия"):
        return _paste(stem, "я и и ю ей и")
    if word.endswith("я"):
        return _paste(stem, "я и е ю ей е")
    gen = "и" if before in "кгхжшчщ" else "ы"
    ins = "ей" if before in "жшчщц" else "ой"
    return _paste(stem, f"а {gen} е у {ins} е")


def decline_male(word: str) -> Forms:
    """Male first names, patronymics and surnames that end like nouns."""
    if word in IRREGULAR:
        _, *rest = _paste(IRREGULAR[word], "- а у а ом е")
        return word, rest[0], rest[1], rest[2], rest[3], rest[4]
    if word[-1] in "ая":
        return decline_a(word)
    if word.endswith("ий"):
        return _paste(word[:-1], "й я ю я ем и")
    if word.endswith("й"):
        return _paste(word[:-1], "й я ю я ем е")
    if word.endswith("ь"):
        return _paste(word[:-1], "ь я ю я ем е")
    if word[-1] in "оеуиэюы":
        return fixed(word)
    return _paste(word, "- а у а ем е" if word[-1] in "жшчщц" else "- а у а ом е")


def decline_female(word: str) -> Forms:
    """Female first names; those that end in a consonant or a foreign vowel stay as they are."""
    if word == "Любовь":
        return _paste("Любов", "ь и и ь ью и")
    return decline_a(word) if word[-1] in "ая" else fixed(word)


def _adjectival(stem: str, male: bool, endings: str) -> Forms:
    """Surnames in -ов, -ев, -ин (`ov`) and in -ский (`skij`)."""
    if endings == "ov":
        return _paste(stem, "- а у а ым е" if male else "а ой ой у ой ой")
    return _paste(stem, "ий ого ому ого им ом" if male else "ая ой ой ую ой ой")


def surname(rng: random.Random, male: bool, turkic: bool) -> Forms:
    """A surname in six cases for the given gender."""
    if turkic:
        stem = pick(rng, TURKIC)
        return _adjectival(stem + ("ев" if stem[-1] in "аиь" else pick(rng, ("ов", "ов", "ин"))), male, "ov")
    family = weighted(
        rng,
        (("ov", 40), ("ev", 16), ("in", 20), ("skij", 9), ("enko", 7), ("hard", 8), ("fixed", 3)),
    )
    if family == "ov":
        stem = pick(rng, OV)
        return _adjectival(stem if stem.endswith("ов") else stem + "ов", male, "ov")
    if family == "ev":
        stem = pick(rng, EV)
        return _adjectival(
            stem + ("ёв" if stem in ("Кисел", "Воробь", "Соловь", "Муравь", "Корол", "Журавл", "Ковал") else "ев"),
            male,
            "ov",
        )
    if family == "in":
        stem = pick(rng, IN)
        return _adjectival(stem if stem.endswith(("ин", "ын")) else stem + "ин", male, "ov")
    if family == "skij":
        stem = pick(rng, SKIJ)
        tail = "к" if stem.endswith(("ец", "иц", "ск", "цк")) else "ск"
        return _adjectival(stem.removesuffix("ск") + (tail if not stem.endswith("ск") else "ск"), male, "skij")
    if family == "enko":
        return fixed(pick(rng, ENKO).removesuffix("е") + "енко")
    if family == "fixed":
        return fixed(pick(rng, FIXED))
    word = pick(rng, HARD)
    return decline_male(word) if male else fixed(word)


@dataclass(slots=False)
class Person:
    """One composed person; every name part holds its six case forms."""

    male: bool
    last: Forms
    first: Forms
    middle: Forms | None
    dims: tuple[str, ...] = field(default=())

    @cached_property
    def initials(self) -> tuple[str, str]:
        """First letters of the first name and the patronymic (`''` without one)."""
        return self.first[0][0], self.middle[0][0] if self.middle else ""

    def render(self, rng: random.Random, form: str, case: int) -> str:
        """The name in one form: full, iof, fl, lf, io, short, first, last, middle, dim or any."""
        if form == "any":
            form = weighted(rng, (("full", 7), ("short", 5), ("shortrev", 3), ("fl", 4), ("lf", 2), ("iof", 2)))
        last, first = self.last[case], self.first[case]
        middle = self.middle[case] if self.middle else ""
        if form == "dim":
            return decline_a(pick(rng, self.dims))[case] if self.dims else first
        simple = {
            "full": f"{last} {first} {middle}", "iof": f"{first} {middle} {last}", "fl": f"{first} {last}",
            "lf": f"{last} {first}", "io": f"{first} {middle}", "first": first, "last": last, "middle": middle,
        }  # fmt: skip
        if form in simple:
            return " ".join(simple[form].split())
        gap = "" if chance(rng, 0.4) else " "
        one, two = self.initials
        dotted = f"{one}.{gap}{two}." if two else f"{one}."
        return f"{last} {dotted}" if form == "short" else f"{dotted}{gap}{last}"

    def local(self, rng: random.Random) -> str:
        """The local part of this person's mail address."""
        last, first = latin(self.last[0]), latin(self.first[0])
        forms = (
            f"{last}.{first}", f"{first}.{last}", f"{first[0]}.{last}", f"{last}_{first[0]}", f"{first}{last}",
            f"{last}{first[0]}", f"{first}-{last}", last,
        )  # fmt: skip
        return pick(rng, forms)


def _patronymic(rng: random.Random, male: bool, turkic: bool) -> Forms:
    """A patronymic in six cases."""
    father = pick(rng, MALE_TURKIC if turkic else MALE)
    if father in ("Илья", "Никита"):
        word = father[:-1] + ("ич" if male else "ична")
        word = word if male or father == "Никита" else "Ильинична"
        return decline_male(word) if male else decline_a(word)
    if father in PATRONYMIC:
        base = PATRONYMIC[father]
    elif father[-1] in "йь":
        base = father[:-1] + "ев"
    else:
        base = father + "ов"
    return decline_male(base + "ич") if male else decline_a(base + "на")


def person(rng: random.Random, male: bool | None = None) -> Person:
    """A random person; about one in six has a name of Turkic, Caucasian or other origin."""
    gender = chance(rng, 0.5) if male is None else male
    turkic = chance(rng, 0.15)
    last = surname(rng, gender, turkic)
    if chance(rng, 0.02) and not turkic:
        other = surname(rng, gender, turkic)
        last = (
            f"{last[0]}-{other[0]}", f"{last[1]}-{other[1]}", f"{last[2]}-{other[2]}",
            f"{last[3]}-{other[3]}", f"{last[4]}-{other[4]}", f"{last[5]}-{other[5]}",
        )  # fmt: skip
    if gender:
        name = pick(rng, MALE_TURKIC if turkic else MALE)
        first = decline_male(name)
    else:
        name = pick(rng, FEMALE_TURKIC if turkic else FEMALE)
        first = decline_female(name)
    middle = None if chance(rng, 0.2 if turkic else 0.02) else _patronymic(rng, gender, turkic)
    return Person(gender, last, first, middle, dims=tuple(DIMINUTIVES.get(name, "").split()))
