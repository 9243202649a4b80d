"""Templates of prompts: text with `{names}`; braces that are text are written twice. Filled by whoever asks (`runtimes.openai_request.fill`)."""

from __future__ import annotations

import string


def names(template: str) -> list[str]:
    """The names in a template. Raises ValueError for what is more than a name: it would read attributes and run formatting code."""
    found = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:  # an unmatched brace
        raise ValueError(f"{error}. Braces that are text are written twice: {{{{ and }}}}.") from None
    for _, name, form, conversion in parsed:
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError(f"{{{name}}} with attributes, indices, conversions or formats is not allowed; only names, as in {{prompt}}")
        found.append(name)
    return found
