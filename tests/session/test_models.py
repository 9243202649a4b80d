"""Which model a language model's server is started with, and what requests call it."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.servers.openai import VllmSettings
from pytest_gpueval.session import cases, servers
from pytest_gpueval.session.settings import Settings
from pytest_gpueval.suites import load

SUITE = """
task = "generation"
split = "fast"
runtime = "vllm"
[runtimes.vllm]
kind = "openai"
vllm = { model = "owner/name" }
[runtimes.inside]
kind = "openai"
server = { command = ["{suite}/serve", "{port}"], model = "weights.gguf" }
[runtimes.elsewhere]
kind = "openai"
url = "http://127.0.0.1:1/v1"
[runtimes.process]
kind = "inprocess"
target = "any:Model"
[datasets.one]
splits.fast = {}
"""


@pytest.fixture
def asked(tmp_path):
    """The settings with which a runtime of that suite would start its server."""
    directory = tmp_path / "suites/toy"
    directory.mkdir(parents=True)
    (directory / "suite.toml").write_text(SUITE)
    (directory / "weights.gguf").touch()
    settings = Settings(root=tmp_path)

    def given(runtime, model=None):
        (case,) = cases.chosen(load.read(directory / "suite.toml"), replace(settings, runtime=runtime, model=model))
        found = []
        started = SimpleNamespace(model="mine", key=None, key_name="KEY")
        server = SimpleNamespace(serve=lambda settings, _endpoint: found.append(settings) or started)
        servers.openai_runtime(case, settings, lambda _name: server)
        return SimpleNamespace(settings=found[0], entry=case.runtime)

    given.directory = directory
    given.chosen = lambda runtime, model: cases.chosen(load.read(directory / "suite.toml"), replace(settings, runtime=runtime, model=model))[0].runtime
    return given


def test_a_model_is_what_the_suite_says(asked):
    assert asked("vllm").settings.model == "owner/name"


def test_a_model_of_the_suites_folder_is_found_there(asked):
    found = asked("inside").settings
    assert found.model == str(asked.directory / "weights.gguf")
    assert found.command(7) == [f"{asked.directory}/serve", "7"]


@pytest.mark.parametrize("below", ["models", "."])
def test_a_model_that_was_fetched_needs_no_hub(asked, tmp_path, monkeypatch, below):
    """As `gpueval assets download` lays it out; the directory may be named with or without `models`."""
    fetched = tmp_path / "assets" / below / "owner--name"
    fetched.mkdir(parents=True)
    monkeypatch.setenv("GR_MODEL_DIR", str(tmp_path / "assets"))
    found = asked("vllm").settings
    assert (found.model, found.name) == (str(fetched.resolve()), "owner/name"), "requests and results call it as before"
    fetched.rename(fetched.with_name("other--name"))
    assert asked("vllm").settings.model == "owner/name"
    monkeypatch.setenv("GR_MODEL_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UsageProblem, match=r"GR_MODEL_DIR=\S+/nowhere: no such directory; it holds what `gpueval assets download` has fetched"):
        asked("vllm")


@pytest.mark.parametrize("runtime", ["vllm", "inside"])
def test_an_option_puts_another_one_in_its_place(asked, runtime):
    found = asked(runtime, "/models/mine")
    assert found.settings.model == "/models/mine"
    assert (found.entry.vllm or found.entry.server).model == "/models/mine", "which belongs to what a run was of"


def test_a_server_elsewhere_is_asked_for_it(asked):
    assert asked.chosen("elsewhere", "mine").request.model == "mine"


def test_other_runtimes_have_no_such_model(asked):
    with pytest.raises(UsageProblem, match="runtime 'process' is of kind 'inprocess', not 'openai'"):
        asked.chosen("process", "mine")


def test_a_folder_is_the_same_for_all_workers(pytester):
    (pytester.path / "models").mkdir()
    pytester.makeconftest(
        "def pytest_configure(config):\n    from pytest_gpueval.session.settings import Settings\n    print('model:', Settings.of(config).model)\n"
    )
    for given, meant in (("models", pytester.path / "models"), ("owner/name", "owner/name")):
        pytester.runpytest_subprocess("-s", f"--gpueval-model={given}").stdout.fnmatch_lines([f"model: {meant}"])


def test_requests_name_the_model_that_a_fixture_has_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", str(tmp_path))
    (tmp_path / "vllm").mkdir()
    binary = tmp_path / "vllm/vllm"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parents[1] / "servers/fake_vllm.py"} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("VLLM_API_KEY", "sk-test-0123456789abcdefghij")
    server = servers.OpenAIServers(Settings(root=tmp_path), tmp_path / "vllm/log", Redactor(), {"model": "mine"})
    try:
        assert server.serve(VllmSettings(model="owner/name", binary=str(binary), stop_s=1)).model == "mine"
    finally:
        server.stop()
