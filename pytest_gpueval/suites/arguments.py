"""A run's command: a template of words, filled with parameters in the notation of the program that reads them.

The words go to the program as they are, through no shell. Notations of `{parameters}`, which stands for all parameters that no other word names:

- `python-literal`: `--key=<Python literal>`, read by `ast.literal_eval`, as in the configurator of nanoGPT: `--wandb_log=False`, `--name='a'`.
- `argparse`: `--key=value`; true is `--key`, false is nothing, a list is `--key a b`.
- `hydra`: `key=value` in Hydra's override grammar (https://hydra.cc/docs/advanced/override_grammar/basic/), without sweeps and interpolations.
- `json`: one word, an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from pytest_gpueval.errors import valid_values

from .template import names as fields_of
from .template import pieces as pieces_of
from .values import Value, infinite

Style = Literal["python-literal", "argparse", "hydra", "json"]
PARAMETERS = "parameters"
ALL = "{parameters}"
MOST_BYTES = 131_071  # MAX_ARG_STRLEN of Linux (32 pages), less the NUL that ends a word

_OPTION = re.compile(r"[^\W\d-][^\s=]*")  # what can follow `--` and end at `=`
_HYDRA_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HYDRA_NAME = r"[A-Za-z_$][A-Za-z0-9_$-]*"
_HYDRA_PACKAGE = rf"(?:{_HYDRA_NAME}|(?:{_HYDRA_NAME}|0|[1-9][0-9]*)(?:\.(?:{_HYDRA_NAME}|0|[1-9][0-9]*))+)"
_HYDRA_KEY = re.compile(rf"\+{{0,2}}(?:{_HYDRA_PACKAGE}|{_HYDRA_ID.pattern}(?:/{_HYDRA_ID.pattern})+)(?:@{_HYDRA_PACKAGE})?")
_JSON = json.JSONEncoder(ensure_ascii=False)
_HYDRA_WORDS = ("true", "false", "null", "nan", "inf")  # in capitals or not, these are no text


def render(template: Sequence[str], parameters: Mapping[str, Value], style: Style, fields: Mapping[str, str]) -> list[str]:
    """The words of a command.

    `{name}` is one of `fields`, or else a parameter; `{parameters}`, a word of its own, is all parameters that no word names, in their order, without
    those that are None. Braces that are text are written twice.

    Raises: ValueError for a field that has no value in this row, and for values that the style or Linux cannot hand over.
    """
    named = {name for word in template for name in fields_of(word)}
    words: list[str] = []
    for word in template:
        if word == ALL:
            rest = {name: value for name, value in parameters.items() if value is not None and name not in named}
            words += _all(rest, style)
        else:
            words.append(_filled(word, parameters, style, fields))
    for word in words:
        _check_word(word)
    return words


def check(template: Sequence[str], names: Collection[str], fields: Collection[str]) -> None:
    """Raises ValueError for a template that could not be filled with parameters of these names, or takes none of them."""
    used = []
    for word in template:
        found = fields_of(word)
        if PARAMETERS in found and word != ALL:
            raise ValueError(f"{ALL} stands for any number of words, so it is a word of its own; found {word!r}")
        used += found
    for name in used:
        if name not in names and name not in fields and name != PARAMETERS:
            raise ValueError(f"unknown field {{{name}}}. {valid_values(name, {*names, *fields, PARAMETERS}, what='fields')}")
    if used.count(PARAMETERS) > 1:
        raise ValueError(f"{ALL} is there {used.count(PARAMETERS)} times; once is enough")
    if not any(name == PARAMETERS or (name in names and name not in fields) for name in used):
        raise ValueError(f"takes no parameter, so that all runs would be the same. Add the word {ALL!r}, or fields of parameters, such as '--seed={{seed}}'.")


def unused(template: Sequence[str], names: Collection[str]) -> list[str]:
    """The parameters that a template hands to nobody."""
    used = {name for word in template for name in fields_of(word)}
    return [] if PARAMETERS in used else [name for name in names if name not in used]


def _filled(word: str, parameters: Mapping[str, Value], style: Style, fields: Mapping[str, str]) -> str:
    pieces = []
    for text, name in pieces_of(word):
        pieces.append(text)
        if name is None:
            continue
        if name in fields:
            pieces.append(fields[name])
            continue
        value = parameters.get(name)
        if value is None:
            raise ValueError(
                f"the word {word!r} of the command names {name!r}, which has no value in this row. Give it one, or leave it to {ALL!r}. "
                f"{valid_values(name, {*(key for key in parameters if parameters[key] is not None), *fields, PARAMETERS}, what='fields')}"
            )
        pieces.append(value if isinstance(value, str) else _NOTATIONS[style](name, value))
    return "".join(pieces)


def _all(parameters: Mapping[str, Value], style: Style) -> Iterator[str]:
    """The words of `{parameters}`."""
    if style == "json":
        for name, value in parameters.items():
            _refuse_infinite(name, value, "JSON")
        yield _JSON.encode(dict(parameters))
        return
    for name, value in parameters.items():
        _check_name(name, style)
        if style == "argparse":
            yield from _option(name, value)
        else:
            yield f"{'' if style == 'hydra' else '--'}{name}={_NOTATIONS[style](name, value)}"


def _check_name(name: str, style: Style) -> None:
    form = _HYDRA_KEY if style == "hydra" else _OPTION
    if not form.fullmatch(name):
        what = "Hydra knows no such key" if style == "hydra" else f"no program would find it in '--{name}=...'"
        raise ValueError(f"parameter {name!r}: {what}. Name it with letters, digits and _ . -, beginning with a letter.")


def _check_word(word: str) -> None:
    """Raises ValueError for a word that Linux hands to no program."""
    try:
        size = len(word.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a word of the command is not Unicode text: {word!r:.80}") from None
    if size > MOST_BYTES:
        raise ValueError(
            f"a word of the command has {size:,} bytes, and Linux takes {MOST_BYTES:,}: {word!r:.80}. Write the value to a file, and give its name."
        )
    if "\0" in word:
        raise ValueError(f"a word of the command holds a NUL character, which ends words: {word!r:.80}")


def _refuse_infinite(name: str, value: Value, notation: str) -> None:
    wrong = infinite(value)
    if wrong is not None:
        raise ValueError(f"parameter {name!r} is {wrong}, which {notation} cannot say; style 'argparse' can. Leave the cell empty, or name a finite number.")


def _python(name: str, value: Value) -> str:
    """A literal without `=` in its strings: nanoGPT's configurator splits its arguments at every one."""
    _refuse_infinite(name, value, "a Python literal")
    return repr(value).replace("=", r"\x3d")


def _json(name: str, value: Value) -> str:
    _refuse_infinite(name, value, "JSON")
    return _JSON.encode(value)


def _option(name: str, value: Value) -> Iterator[str]:
    """A parameter in words for argparse."""
    if isinstance(value, bool):
        if value:
            yield f"--{name}"
    elif isinstance(value, list):
        yield f"--{name}"
        for part in value:
            word = part if isinstance(part, str) else _argparse(name, part)
            if word.startswith("-") and not re.fullmatch(r"-\d+|-\d*\.\d+", word):  # what argparse takes for a negative number
                raise ValueError(
                    f"parameter {name!r}: argparse takes {word!r:.80} in a list for the name of an option. Use the style 'json', or another value."
                )
            yield word
    else:
        yield f"--{name}={_argparse(name, value)}"


def _argparse(name: str, value: Value) -> str:
    """A value in one word; lists and tables in JSON."""
    if value == "--":
        raise ValueError(f"parameter {name!r}: argparse drops '--' where it is all of a value. Use the style 'json', or another value.")
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        if not text.startswith("-") or "e" not in text:
            return text
        plain = f"{Decimal(text):f}"  # argparse takes -1e-05 for an option, where it stands alone
        return plain if "." in plain else f"{plain}.0"
    return _json(name, value)


def _hydra(name: str, value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _hydra_text(value)
    if isinstance(value, list):
        return "[" + ",".join(_hydra(name, part) for part in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_hydra_key(name, key)}:{_hydra(name, part)}" for key, part in value.items()) + "}"
    _refuse_infinite(name, value, "Hydra's number")
    return repr(value)


def _hydra_key(name: str, key: str) -> str:
    if not _HYDRA_ID.fullmatch(key) or key.casefold() in _HYDRA_WORDS:
        raise ValueError(f"parameter {name!r}: Hydra's grammar has no notation for the key {key!r:.80}. Use letters, digits, _ and -, beginning with a letter.")
    return key


def _hydra_text(text: str) -> str:
    """A string that Hydra reads back as the same string."""
    if _HYDRA_ID.fullmatch(text) and text.casefold() not in _HYDRA_WORDS:
        return text
    # `${` would be looked up in the configuration; backslashes count only before `${` and before quotes.
    literal = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    quoted = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", literal)
    return "'" + re.sub(r"(\\+)$", lambda found: found[1] * 2, quoted) + "'"


_NOTATIONS: Mapping[Style, Callable[[str, Value], str]] = {"python-literal": _python, "argparse": _argparse, "hydra": _hydra, "json": _json}
