"""`scanpatch`: scanned Russian forms as an OCR engine returns them."""

from __future__ import annotations

from . import noise
from .rng import between, chance, pick, weighted
from .scene import SceneRu
from .template import lines

TITLES = lines("""
АНКЕТА [СОИСКАТЕЛЯ|ЗАЁМЩИКА|УЧАСТНИКА|ПАЦИЕНТА]
ЗАЯВЛЕНИЕ № {n:10-9999}
КВИТАНЦИЯ [ФОРМА ПД-4|ОБ ОПЛАТЕ] № {contract}
РЕГИСТРАЦИОННАЯ КАРТА [ГОСТЯ|ПОСЕТИТЕЛЯ|ЧИТАТЕЛЯ]
СОГЛАСИЕ НА ОБРАБОТКУ ПЕРСОНАЛЬНЫХ ДАННЫХ
[СПРАВКА|АКТ|НАКЛАДНАЯ|ЛИСТОК УБЫТИЯ] № {n:10-9999}
Лист {n:1-4} из {n:4-9}[   Форма № {n:1-12}-П|]
""")

NAME = lines("""
Фамилия: {p1:last}⏎Имя: {p1:first}⏎Отчество: {p1:middle}
Фамилия {p1:last}   Имя {p1:first}   Отчество {p1:middle}
1. Фамилия, имя, отчество ....... {p1:full}
Ф.И.О. _____ {p1:full} _____
ФИО [заявителя|клиента|сотрудника|ребёнка]: {p1:full}
Я, _{p1:full}_,
От [гр.|гражданина{g1:|}] {p1:full gen}
""")

FIELDS = lines("""
Дата рождения: {dob}[ г.|]
Дата рожд. ........ {dob:num}
Место рождения: [гор. |]{city}
Паспорт: {passport}[   дата выдачи {date:num}|]
Документ: паспорт РФ  {passport}⏎Кем выдан: {office}
СНИЛС [застрахованного|(11 цифр)] {snils}
СНИЛС: {snils}
Страховой № .... {snils}
ИНН [физ. лица|]: {inn:12}
ИНН {inn:10}   Наименование: {org}
Адрес [регистрации|проживания|места жительства]: {addr}
Зарегистрирован{g1:|а} по адресу ______ {addr}
Телефон [дом.|моб.|для связи]: {phone}
Конт. тел. ........ {phone}
Эл. почта: {email:1}
E-mail  {email:1}
Место работы: {org}[, должность инженер|, бухгалтер|]
Образование: {school}, [{year} г.|окончил{g1:|а} в {year}]
Карта для зачисления: {card}
Номер карты .... {card}
Получатель: {ip_nested}
Банк получателя: {bank}
Сайт организации: {url}
Доверенное лицо: {p2:full}, тел. {phone}
[Законный представитель|Поручитель|Супруг(а)]: {p2:full}
Гражданство: {country:nom}
Прибыл{g1:|а} из: {city:gen}
Дата прибытия: {date:num}   Дата убытия: {later:num}
""")

BLANKS = lines("""
Семейное положение: [{g1:холост|не замужем}|{g1:женат|замужем}|не указано]
Пол: [{g1:М|Ж}|{g1:муж.|жен.}]   Возраст: {n:18-80}
Воинский учёт: [да|нет]   Категория: [А|Б|В]
Код подразделения: {n:100-990}-{n:100-999}
№ договора {contract}   Код {n:100-999}
Лицевой счёт: {contract}
Идентификатор платежа: {order}
Учётный № {badcard}
КПП {n:100-999}{n:100-999}001   ОКПО {n:10000000-99999999}
Сумма: {price}   Пеня: 0-00
Количество листов: {n:1-12}   Экз. {n:1-3}
Штамп: [ПРИНЯТО|КОПИЯ ВЕРНА|ОПЛАЧЕНО] [вх. № {n:10-9999}|]
Назначение платежа: [электроэнергия|капремонт|детский сад|вывоз мусора]
Показания: пред. {n:100-9999} тек. {n:10000-19999}
М. П. ..................
Заполняется печатными буквами. Исправления не допускаются.
Вид документа: [копия|оригинал|дубликат]   Код вида: {n:10-99}
Ставка {n:5-24},{n:0-9} % годовых, срок {n:6-60} мес.
Программа печати, вер. {version}
Отметки: ________________________
""")

SIGN = lines("""
Подпись ________ ({p1:short})   Дата {date:num}
Дата: {date}   Подпись: _________
Принял: {p2:short} ............ {date:num}
{date:num}  ________  / {p1:short} /
[Руководитель|Директор] ______ {p2:shortrev}
""")


def build(scene: SceneRu) -> None:
    """One scan: a title, fields in print order, a signature line; 26 % are blank forms."""
    rng = scene.rng
    bare = chance(rng, 0.26)
    parts: list[str] = [pick(rng, TITLES)] if chance(rng, 0.75) else []
    if bare:
        order = list(BLANKS)
        rng.shuffle(order)
        parts += order[: between(rng, 4, 9)]
    else:
        if chance(rng, 0.85):
            parts.append(pick(rng, NAME))
        fields = list(FIELDS)
        rng.shuffle(fields)
        parts += fields[: between(rng, 1, 8)]
        for _ in range(rng.randrange(4)):
            parts.insert(1 + rng.randrange(len(parts)), pick(rng, BLANKS))
        if chance(rng, 0.55):
            parts.append(pick(rng, SIGN))
    for place, part in enumerate(parts):
        if place:
            scene.builder.add(weighted(rng, (("\n", 12), ("\n\n", 1), ("  ", 1.5))))
        scene.text(part)
    level = weighted(rng, (("0", 25), ("1", 40), ("3", 25), ("6", 10)))
    if chance(rng, 0.1):
        noise.upper(scene.builder)
    noise.ocr(scene.builder, rng, int(level) / 100)
    if chance(rng, 0.3):
        noise.yo(scene.builder)
