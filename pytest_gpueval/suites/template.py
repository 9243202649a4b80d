"""Templates of prompts: text with `{names}`; braces that are text are written twice. Filled by whoever asks (`runtimes.openai_request.fill`)."""

from __future__ import annotations

import functools
import string


def names(template: str) -> list[str]:
    """The names in a template. Raises ValueError for what is more than a name: it would read attributes and run formatting code."""
    return [name for _, name in pieces(template) if name is not None]


@functools.lru_cache
def pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """A template as text and the name that follows it, if one does. Raises as `names`."""
    found: list[tuple[str, str | None]] = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:  # an unmatched brace
        raise ValueError(f"{error}. Braces that are text are written twice: {{{{ and }}}}.") from None
    for text, name, form, conversion in parsed:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"{{{name}}} with attributes, indices, conversions or formats is not allowed; only names, as in {{prompt}}")
        found.append((text, name))
    return tuple(found)
