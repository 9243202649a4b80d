"""What Hydra itself makes of the words that style `hydra` writes, recorded: hydra-core brings a pytest plugin, which every test session would load.

`python -m tests.suites_files.hydra_cases`, with hydra-core and Hypothesis installed, writes the file anew.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pytest_gpueval.suites.arguments import render

FILE = Path(__file__).with_name("hydra_cases.json")
# One of each thing that Hydra's grammar treats in a way of its own.
CHOSEN = [
    *(True, False, 0, -1, 10**20, 0.1, -1e-05, 1e16, 1.0, "", " ", "hc", "a-b_c", "a.b", "a/b", "a b", " a ", "a,b", "a=b", "a:b", "(a)", "[a]", "{a}", "f(x)"),
    *(
        "true",
        "False",
        "NULL",
        "null",
        "nan",
        "Inf",
        "-inf",
        "1",
        "-1",
        "1e3",
        "007",
        "1_000",
        "'",
        '"',
        "it's",
        '"q"',
        "''",
        "\\",
        "\\\\",
        "a\\",
        "a\\'",
        "\\'",
    ),
    *(
        "${a}",
        "\\${a}",
        "\\\\${a}",
        "${",
        "$",
        "${oc.env:HOME}",
        "a${b}c'",
        "\n",
        "\t",
        "#",
        "~",
        "+a",
        "@",
        "%",
        "?",
        "|",
        "*",
        "привет",
        "choice(1,2)",
        "1,2",
    ),
    *([], [1, "a b", None, True], [[]], ["true", "1"], {}, {"a": 1, "b-c": ["x,y", {"d": None}]}, [{"a": "${b}"}]),
]
KEYS = ["a", "optimizer.lr", "+a.b", "++a", "a/b", "a/b@c", "a@b.c", "_a", "a.0.b", "$a"]
_SPECIAL = "\\'\"${}[](),:= \t\n%#~+-.eE01a/@?|*"
_TEXT = st.text(st.one_of(st.sampled_from(_SPECIAL), st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=20)
_LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT)
_KEY = st.from_regex(r"[a-z_][A-Za-z0-9_-]{0,6}", fullmatch=True).filter(lambda key: key.casefold() not in {"true", "false", "null", "nan", "inf"})
_VALUE = st.recursive(_LEAF, lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(_KEY, part, max_size=3)), max_leaves=5)


def drawn(count: int) -> list[object]:
    """Values that Hypothesis makes up."""
    found: list[object] = []

    @seed(1)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(_VALUE.filter(lambda value: value is not None))
    def collect(value: object) -> None:
        found.append(value)

    collect()
    return list({repr(value): value for value in found}.values())


def record() -> None:
    """Renders each value, has Hydra read it into a configuration, and keeps the word and what was read."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    parser = OverridesParser.create()
    cases = []
    for value in [*CHOSEN, *drawn(400)]:
        [word] = render(["{parameters}"], {"+a": value}, "hydra", {})
        override = parser.parse_override(word)
        if override.is_sweep_override():
            raise SystemExit(f"Hydra takes {word!r} for several values")
        config = OmegaConf.create({})
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
        cases.append({"word": word, "read": OmegaConf.to_container(config, resolve=True)["a"]})
    keys = [{"key": key, "read": parser.parse_override(f"{key}=1").get_key_element()} for key in KEYS]
    versions = {name: metadata.version(name) for name in ("hydra-core", "omegaconf")}
    lines = [f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, entries)) + "\n]" for name, entries in (("keys", keys), ("cases", cases))]
    FILE.write_text("{\n" + ",\n".join([f'"versions": {json.dumps(versions)}', *lines]) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
