"""The help of every command: it has examples, a line each, and they are commands."""

import itertools
import shlex

import pytest
import typer
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app


def commands(command, *path):
    """Every command, with the words that lead to it."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)
    else:
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_can_be_copied(path):
    done = CliRunner().invoke(app, [*path, "--help"], terminal_width=60)
    assert done.exit_code == 0
    text = done.stdout.partition("\n\nArguments:\n")[0].partition("\n\nOptions:\n")[0]
    _, heading, below = text.partition("\n\n  Example")
    assert heading, "there is one"
    examples = [line.strip() for line in below.splitlines()[1:]]
    assert examples and any(line.startswith(f"gpueval {' '.join(path)}") for line in examples)
    for line in examples:
        words = shlex.split(line)
        if words[0] == "gpueval":
            found = next(inner for place, inner in COMMANDS.items() if list(place) == words[1 : 1 + len(place)])
            options = {word for param in found.params for word in (*param.opts, *param.secondary_opts)}
            own = list(itertools.takewhile(lambda word: word not in {"--", "&&"}, words))
            assert {word.partition("=")[0] for word in own if word.startswith("-")} <= options
        else:
            assert words[0] in {"pytest", "export"}, line
