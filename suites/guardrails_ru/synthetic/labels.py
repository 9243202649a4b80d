"""Label vocabularies: what each dataset calls its spans, and the twelve canonical labels."""

from __future__ import annotations

CANONICAL = (
    "PERSON", "LOCATION", "ORGANIZATION", "PHONE", "EMAIL", "URL", "IP_ADDRESS", "DATE", "PASSPORT", "SNILS", "INN",
    "BANK_CARD",
)  # fmt: skip

RAW_LABELS: dict[str, dict[str, str]] = {
    "russian-pii-66k": {
        "name": "PERSON", "city": "LOCATION", "country": "LOCATION", "address": "LOCATION", "company": "ORGANIZATION",
        "phone_number": "PHONE", "email": "EMAIL", "url": "URL", "ip": "IP_ADDRESS", "date": "DATE",
        "birth_date": "DATE", "passport_rf": "PASSPORT", "snils": "SNILS", "inn": "INN", "card_number": "BANK_CARD",
    },
    "meddies": {
        "PATIENT": "PERSON", "DOCTOR": "PERSON", "RELATIVE": "PERSON", "PLACE": "LOCATION", "ADDRESS": "LOCATION",
        "CLINIC": "ORGANIZATION", "ORG": "ORGANIZATION", "PHONE": "PHONE", "EMAIL": "EMAIL", "LINK": "URL",
        "DATE": "DATE", "BIRTHDATE": "DATE", "PASSPORT": "PASSPORT", "SNILS": "SNILS", "INN": "INN",
    },
    "scanpatch": {
        "last_name": "PERSON", "first_name": "PERSON", "middle_name": "PERSON", "full_name": "PERSON",
        "place": "LOCATION", "postal_address": "LOCATION", "organization": "ORGANIZATION", "phone": "PHONE",
        "mail": "EMAIL", "website": "URL", "date": "DATE", "passport": "PASSPORT", "snils": "SNILS", "inn": "INN",
        "bank_card": "BANK_CARD",
    },
    "rubai": {
        "PER": "PERSON", "LOC": "LOCATION", "ADDR": "LOCATION", "ORG": "ORGANIZATION", "TEL": "PHONE",
        "EMAIL": "EMAIL", "LINK": "URL", "IP": "IP_ADDRESS", "DATE": "DATE", "DOC_PASSPORT": "PASSPORT",
        "DOC_SNILS": "SNILS", "DOC_INN": "INN", "CARD": "BANK_CARD",
    },
    "kaggle": {
        "NAME_STUDENT": "PERSON", "EMAIL": "EMAIL", "PHONE_NUM": "PHONE", "STREET_ADDRESS": "LOCATION",
        "URL_PERSONAL": "URL",
    },
    "hf-sample-en": {
        "person_name": "PERSON", "city": "LOCATION", "country": "LOCATION", "street_address": "LOCATION",
        "company_name": "ORGANIZATION", "phone_number": "PHONE", "email": "EMAIL", "url": "URL",
        "ip_address": "IP_ADDRESS", "date": "DATE", "date_of_birth": "DATE", "passport_number": "PASSPORT",
        "credit_card_number": "BANK_CARD",
    },
    "presidio-test": {
        "PERSON": "PERSON", "GPE": "LOCATION", "STREET_ADDRESS": "LOCATION", "ORGANIZATION": "ORGANIZATION",
        "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "URL": "URL", "DOMAIN_NAME": "URL",
        "IP_ADDRESS": "IP_ADDRESS", "DATE_TIME": "DATE", "CREDIT_CARD": "BANK_CARD",
    },
}  # fmt: skip
"""Raw label of a dataset to canonical label."""

_KINDS: dict[str, str] = {
    "russian-pii-66k": (
        "person=name city=city country=country address=address street=address org=company hospital=company "
        "school=company phone=phone_number email=email url=url ip=ip date=date birth=birth_date passport=passport_rf "
        "snils=snils inn=inn card=card_number"
    ),
    "meddies": (
        "person.1=PATIENT person.2=DOCTOR person.3=DOCTOR person.98=RELATIVE person=RELATIVE city=PLACE "
        "address=ADDRESS street=ADDRESS org=ORG hospital=CLINIC phone=PHONE email=EMAIL url=LINK date=DATE "
        "birth=BIRTHDATE passport=PASSPORT snils=SNILS inn=INN"
    ),
    "scanpatch": (
        "person.last=last_name person.first=first_name person.middle=middle_name person=full_name city=place "
        "country=place address=postal_address street=postal_address org=organization school=organization phone=phone "
        "email=mail url=website date=date birth=date passport=passport snils=snils inn=inn card=bank_card"
    ),
    "rubai": (
        "person=PER city=LOC country=LOC address=ADDR street=ADDR org=ORG hospital=ORG school=ORG phone=TEL "
        "email=EMAIL url=LINK ip=IP date=DATE birth=DATE passport=DOC_PASSPORT snils=DOC_SNILS inn=DOC_INN card=CARD"
    ),
    "kaggle": ("person=NAME_STUDENT email=EMAIL phone=PHONE_NUM address=STREET_ADDRESS street=STREET_ADDRESS url=URL_PERSONAL"),
    "hf-sample-en": (
        "person=person_name city=city country=country address=street_address street=street_address org=company_name "
        "phone=phone_number email=email url=url ip=ip_address date=date birth=date_of_birth "
        "passport=passport_number card=credit_card_number"
    ),
    "presidio-test": (
        "person=PERSON city=GPE country=GPE address=STREET_ADDRESS street=STREET_ADDRESS org=ORGANIZATION "
        "phone=PHONE_NUMBER email=EMAIL_ADDRESS url=URL domain=DOMAIN_NAME ip=IP_ADDRESS date=DATE_TIME "
        "birth=DATE_TIME card=CREDIT_CARD"
    ),
}
KINDS: dict[str, dict[str, str]] = {dataset: dict(pair.split("=", 1) for pair in text.split()) for dataset, text in _KINDS.items()}


def raw_label(dataset: str, kind: str) -> str:
    """The raw label of a fine kind: `person.2.last` looks up `person.2`, `person.last`, `person`."""
    table = KINDS[dataset]
    head, *rest = kind.split(".")
    for part in rest:
        if f"{head}.{part}" in table:
            return table[f"{head}.{part}"]
    return table[head]


def as_toml() -> str:
    """The label maps as TOML tables, one for each dataset."""
    tables = []
    for dataset, table in RAW_LABELS.items():
        rows = [f'"{raw}" = "{canonical}"' for raw, canonical in table.items()]
        tables.append("\n".join([f'[datasets."{dataset}".labels]', *rows]))
    return "\n\n".join(tables) + "\n"
