"""No secret survives, and nothing else is lost."""

import html
import json
import shlex
import time
from urllib.parse import quote, quote_plus

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_gpueval.runs import redact
from pytest_gpueval.runs.redact import MARK, Redactor

# Anything a variable can hold; a piece of the mark itself cannot be told from the mark.
SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0<>"), min_size=6, max_size=30).filter(
    lambda text: text.strip() == text and len(text.splitlines()) == 1 and text not in MARK
)
AROUND = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=40)
WRITTEN = {
    "plain": lambda s: s,
    "url": lambda s: quote(s, safe=""),
    "url with slashes": quote,
    "url, lower case": lambda s: (
        "".join(f"%{byte:02x}" if len(c) > 1 or not (c.isalnum() or c in "_.-~") else c for c in s for byte in c.encode())
        if all(len(c.encode()) == 1 for c in s)
        else quote(s)
    ),
    "form": quote_plus,
    "json": lambda s: json.dumps(s)[1:-1],
    "utf-8 json": lambda s: orjson.dumps(s).decode()[1:-1],
    "python": lambda s: repr(s)[1:-1],
    "shell": lambda s: shlex.quote(f" {s} "),
    "html": html.escape,
}


@given(secret=SECRETS, before=AROUND, after=AROUND, how=st.sampled_from(sorted(WRITTEN)))
@example(secret="pa'ss\"wo\\rd", before="", after="", how="shell")
@example(secret="жжж12345", before="", after="", how="json")
@settings(max_examples=300, deadline=None)
def test_no_known_secret_survives(secret, before, after, how):
    redactor = Redactor([secret])
    text = before + WRITTEN[how](secret) + after
    clean = redactor.text(text)
    assert secret not in clean
    assert WRITTEN[how](secret) not in clean
    assert MARK in clean
    assert secret not in json.dumps(redactor.value({text: [text, {"x": (text,)}]}), ensure_ascii=False)


@given(secret=SECRETS, before=AROUND, after=AROUND, number=st.integers(0, 10**9), utf8=st.booleans())
@example(secret="n12345", before="\n12345", after="", number=1, utf8=True)
@example(secret="123456", before="", after="", number=123456, utf8=True)
@settings(max_examples=300, deadline=None)
def test_a_line_of_results_stays_json_without_the_secret(secret, before, after, number, utf8):
    record = {"id": "r1", "prediction": [{"text": before + secret + after}], "score": {"n": number}}
    clean = json.loads(Redactor([secret]).line(orjson.dumps(record) if utf8 else json.dumps(record).encode()))
    assert secret not in clean["prediction"][0]["text"]
    assert clean["score"] == {"n": number}


def test_a_line_that_is_no_json_is_cleaned_too():
    assert Redactor(["secret-1"]).line(b'{"x": secret-1') == b'{"x": ' + MARK.encode()
    assert Redactor(["secret-1"]).line(b'{"x":1}') == b'{"x":1}'


@given(st.lists(st.text("ab", min_size=6, max_size=10), min_size=1, max_size=4), st.text("ab", max_size=60))
@settings(max_examples=200, deadline=None)
def test_overlapping_secrets_leave_nothing_of_each_other(secrets, text):
    covered = {i for secret in secrets for start in range(len(text)) if text.startswith(secret, start) for i in range(start, start + len(secret))}
    kept = "".join(c for i, c in enumerate(text) if i not in covered)
    assert Redactor(secrets).text(text).replace(MARK, "") == kept
    assert Redactor(secrets).line(json.dumps(text).encode()).decode().replace(MARK, "") == json.dumps(kept)


def test_a_secret_that_begins_another():
    redactor = Redactor(["abcdef", "abcdefghij"])
    assert redactor.text("abcdefghij abcdef") == f"{MARK} {MARK}"


def test_secrets_of_several_lines_are_found_line_by_line():
    key = "-----BEGIN KEY-----\nMIIEabcdefgh\n  indented-part\nend\n-----END KEY-----"
    redactor = Redactor.of({"DEPLOY_PRIVATE_KEY": key})
    for form in (key, key.replace("\n", "\r\n"), key.replace("\n", " "), json.dumps(key), repr(key)):
        clean = redactor.text(form)
        assert "MIIE" not in clean
        assert "indented-part" not in clean


def test_secrets_whose_bytes_are_no_text():
    secret = b"\xff\xfesecret-bytes".decode("utf-8", "surrogateescape")  # as os.environ gives it
    redactor = Redactor.of({"MY_TOKEN": secret})
    assert redactor.text(secret) == MARK
    assert redactor.text(b"\xff\xfesecret-bytes".decode("utf-8", "backslashreplace")) == MARK


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "DB_PASSWORD",
        "LIUM_API_KEY",
        "WANDB_API_KEY",
        "PGPASSWORD",
        "MYSQL_PWD",
        "GITHUB_PAT",
        "SENTRY_DSN",
        "HUGGING_FACE_HUB_TOKEN",
        "hf-token",
        "--api-key",
        "apiKey",
        "X-Api-Key",
        "AWS_SESSION_TOKEN",
        "SSH_PASSPHRASE",
        "DB_PASS",
        "GOOGLE_CREDENTIALS",
        "HTTP_COOKIE",
        "DJANGO_SECRET",
        "SIGNING_KEY",
        "NPM_AUTH",
        "clientSecret",
        "DOCKER_AUTH_CONFIG",
        "HFTOKEN",
        "KUBE_PASSWD",
        "PASS",
        "SSHPASS",
        "API_KEYS",
        "ACCESS_TOKENS",
    ],
)
def test_names_of_secrets(name):
    assert redact.is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "KEYMAP",
        "MONKEY",
        "PWD",
        "OLDPWD",
        "GIT_AUTHOR_NAME",
        "GIT_AUTHOR_EMAIL",
        "XAUTHORITY",
        "SSH_AUTH_SOCK",
        "HF_TOKEN_PATH",
        "TOKENIZERS_PARALLELISM",
        "TOKENIZER",
        "GIT_ASKPASS",
        "SSH_ASKPASS",
        "KEYBOARD",
        "COMPASS",
        "--max-tokens",
        "--max-new-tokens",
        "eos_token",
        "pad_token",
        "num_tokens",
        "public_key",
        "AWS_SHARED_CREDENTIALS_FILE",
        "PASSENGER",
        "AUTH_URL",
        "--gpueval-session",
        "primary_key",
        "",
        "-k",
        "-p",
        "HF_HOME",
        "DATA_DIR",
        "COOKIECUTTER_CONFIG",
        "KEY",
    ],
)
def test_names_of_nothing_secret(name):
    assert not redact.is_secret_name(name)


def test_short_values_are_no_secrets():
    assert redact.secret_values({"A_TOKEN": "1", "B_TOKEN": "true", "C_TOKEN": "12345", "D_TOKEN": "123456", "USER": "somebody"}) == {"123456"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("login hf_" + "aB3" * 10 + " done", f"login {MARK} done"),
        ("sk-proj-" + "a1" * 15, MARK),
        ("ghp_" + "a1" * 18 + " gho_" + "b2" * 18, f"{MARK} {MARK}"),
        ("github_pat_" + "a1_" * 10, MARK),
        ("AKIAIOSFODNN7EXAMPLE", MARK),
        ("xoxb-123456789012-abc", MARK),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.SflKxwRJSMeKKF2QT4", MARK),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MARK}"),
        ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: Basic {MARK}"),
        ("curl -H 'authorization: bearer abcdef123'", f"curl -H 'authorization: bearer {MARK}'"),
        ("git clone https://me:p4ss@host/repo", f"git clone https://{MARK}@host/repo"),
        ("redis://:p4ss@host", f"redis://{MARK}@host"),
        ("--hf-token=abc --x=1", f"--hf-token={MARK} --x=1"),
        ("env HF_TOKEN=abc,x", f"env HF_TOKEN={MARK},x"),
        ('"DB_PASSWORD=abc"', f'"DB_PASSWORD={MARK}"'),
    ],
)
def test_shapes_of_secrets(text, clean):
    assert Redactor().text(text) == clean
    assert Redactor().text(f"{'x ' * 500}{text}\n") == f"{'x ' * 500}{clean}\n", "long texts are searched otherwise"


# Beginnings, middles and ends of shapes, of which whole ones are made by chance.
PIECES = (
    *("hf_", "sk-", "sk-proj-", "ghp_", "gh", "github_pat_", "glpat-", "AKIA", "xoxb-", "eyJ", ".", "Bearer ", "bearer ", "Authorization: Basic ", "Basic "),
    *("https://", "://", ":", "@", "/", "--hf-token=", "-password=", "-secret=", "-api-key=", "_TOKEN=", "DB_PASSWORD=", "_API_KEY=", "_SECRET=", "="),
    *("a1" * 10, "aB3" * 8, "IOSFODNN7EXAMPLE", "-", "_", " ", "\n", "\x1c", "\u2028", "é", "\udcff", "hush-hush", "secrét", "hush"),
)


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join), st.sampled_from(["", "x" * 300, "\udcff" * 300]))
def test_long_texts_are_searched_at_once_and_nothing_is_missed(text, padding):
    """As all forms and shapes are, one by one."""
    redactor = Redactor(["hush-hush", "secrét", "a\nb\\<c>{9}", "\udcff\udcfe!"])
    for whole in (padding + text, f"{text} {padding}"):
        assert redactor.text(whole) == redactor._clean(whole)


@pytest.mark.parametrize("secret", ["a<b>c{2}|$^.*+?()[]\\x", "new\nline", "тайна!", "\U0001f511-key", "\udcff\udcfe-no-text", "#-&~ \t"])
def test_known_secrets_are_found_in_long_texts(secret):
    assert secret not in Redactor([secret]).text("x" * 300 + secret + "y" * 300)


def test_more_secrets_than_a_search_can_hold_are_found_one_by_one():
    secrets = [f"secret number {number} {'x' * 1000}" for number in range(300)]
    redactor = Redactor(secrets)
    assert redactor.text("y" * 300 + secrets[-1]) == "y" * 300 + MARK
    assert redactor.text("y" * 300) == "y" * 300


@pytest.mark.parametrize(
    "text",
    [
        "monkey keyboard author authority through enough",
        "max_tokens=512 num_tokens=7",
        "--pad-token=<pad>",
        "sk-learn-compatible-estimators-and-pipelines",
        "task-based-scheduling-0123456789012345",
        "https://example.com:8080/path?x=1",
        "git@github.com:me/repo.git",
        "the bearer certificate",
        "basic understanding",
        "hf_hub_download",
        "hf_transfer is not installed, downloads are slow",
        "strict.f1 0.912 [0.897, 0.926]",
        "a" * 5000,
        "eyJ without dots",
        "ssh://host:22/x",
        "2026-11-22T04:15:14+00:00",
        "sha256:" + "0123456789abcdef" * 4,
        "GPU-0a1b2c3d-0000-1111-2222-333344445555",
    ],
)
def test_ordinary_text_stays(text):
    redactor = Redactor.of({"PATH": "monkey keyboard", "GIT_AUTHOR_NAME": "authority", "MY_TOKEN": "not in there"})
    assert redactor.text(text) == text
    assert redactor.value(text) == text
    assert redactor.line(text.encode()) == text.encode()


def test_values_keep_their_form():
    value = {"n": 1, "x": None, "t": (1, 2.5, True), 3: "three"}
    assert Redactor(["secret"]).value(value) == {"n": 1, "x": None, "t": [1, 2.5, True], "3": "three"}


def test_texts_under_the_name_of_a_secret_go():
    options = {"api_key": "abc", "max_tokens": 5, "nested": [{"password": "x"}], "HF_TOKEN": "<set>", "db_password": "", "token": {"f1": 0.5}}
    clean = {"api_key": MARK, "max_tokens": 5, "nested": [{"password": MARK}], "HF_TOKEN": "<set>", "db_password": "", "token": {"f1": 0.5}}
    assert Redactor().value(options) == clean


@pytest.mark.parametrize(
    ("argv", "clean"),
    [
        (["pytest", "--hf-token", "abc", "-k", "x"], ["pytest", "--hf-token", MARK, "-k", "x"]),
        (["pytest", "--hf-token=abc", "-x"], ["pytest", f"--hf-token={MARK}", "-x"]),
        (["env", "HF_TOKEN=abc", "pytest"], ["env", f"HF_TOKEN={MARK}", "pytest"]),
        (["pytest", "--api-key"], ["pytest", "--api-key"]),
        (["pytest", "--auth", "--verbose"], ["pytest", "--auth", "--verbose"]),
        (["pytest", "--max-tokens", "512", "--tokenizer", "bert"], ["pytest", "--max-tokens", "512", "--tokenizer", "bert"]),
        (["x", "known-secret", "a=known-secret"], ["x", MARK, f"a={MARK}"]),
        (["tests/test_token.py::test_x[a=b]"], ["tests/test_token.py::test_x[a=b]"]),
    ],
)
def test_arguments(argv, clean):
    assert redact.arguments(argv, Redactor(["known-secret"])) == clean


@given(data=st.binary(max_size=60), secret=SECRETS, at=st.integers(0, 80))
@settings(max_examples=200, deadline=None)
def test_a_cut_goes_through_no_secret_and_no_character(data, secret, at):
    redactor = Redactor([secret])
    whole = data + secret.encode() + "ж".encode()
    assume(at <= len(whole))
    cut = redactor.cut(whole, at)
    assert 0 <= cut <= at
    first, second = whole[:cut].decode("utf-8", "backslashreplace"), whole[cut:].decode("utf-8", "backslashreplace")
    assert secret not in redactor.text(first) + redactor.text(second)


HOSTILE = [
    "eyJ-",
    "eyJ",
    "sk-",
    "sk-a",
    "Bearer ",
    "://",
    "a:",
    "hf_",
    "-token=",
    "_TOKEN=",
    "xoxb-",
    "ghp_",
    "AKIA",
    "secret-",
    "aaaaaaaa",
    "\n",
    "://a:b",
    "[[",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_stays_proportional_to_the_text(piece):
    """Twice the text may take up to eight times as long here; a pattern that backtracks takes thousands of times as long."""
    redactor = Redactor([f"secret-value-{i}" for i in range(5)])

    def seconds(size):
        text = piece * (size // len(piece))
        begin = time.process_time()
        redactor.text(text)
        return time.process_time() - begin

    assert seconds(2_000_000) < max(seconds(250_000), 0.02) * 64


def test_ten_megabytes_of_log():
    line = "2026-11-22 04:15:14 INFO step 12 loss=0.1234 https://example.com/a?x=1 author monkey\n"
    secrets = [f"secret-value-{i}" for i in range(10)]
    text = line * 120_000 + secrets[3]
    clean = Redactor(secrets).text(text)
    assert clean == line * 120_000 + MARK
