"""The real datasets against the stand-in: what `load_dataset` asks, checks and caches; the project's tools rely on these facts.

A process that imports datasets takes seconds: what needs no fresh one shares one.
"""

import pytest

from tests.hub import cards
from tests.hub.client import run, said
from tests.hub.server import FakeHub

SPLITS = {"fast": 10, "full": 100}
FAST, FULL = "data/fast-00000-of-00001.parquet", "data/full-00000-of-00001.parquet"
PATTERNS = {"fast": "data/fast-*", "full": "data/full-*"}
LOAD = """
from datasets import load_dataset
def load(name, **more):
    loaded = load_dataset(f"acme/{name}", **more)
    return {split: [len(rows), rows[0]["id"]] for split, rows in loaded.items()} if "split" not in more else len(loaded)
"""


@pytest.fixture
def repo(hub):
    return hub.repo("acme/people", cards.files(SPLITS))


def tried(client, calls, token=None, **more):
    """What each of the named loads came to, all in one process, and what it printed."""
    lines = [LOAD, "result = {}", *(f"result[{name!r}] = attempt(lambda: {call})" for name, call in calls.items())]
    whole = client("\n".join(lines), token, **more)
    assert whole.error is None, whole.text
    return {name: said(one, whole.output) for name, one in whole.value.items()}


def fetched(hub):
    """Data files whose bytes were sent."""
    return sorted("data/" + one.path.partition("?")[0].rpartition("/")[2] for one in hub.requests if one.origin == "storage")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What loading each of these repositories into an empty cache came to, and the data files that were asked for."""
    place = tmp_path_factory.mktemp("facts")
    more_rows, half = cards.parquet(12), cards.parquet(5)
    shards = {"data/fast-00000-of-00002.parquet": half, "data/fast-00001-of-00002.parquet": half}
    changes = {
        "order": {},
        "rows": {FAST: more_rows},
        "both": {FAST: more_rows, "README.md": cards.card({**SPLITS, "fast": 12})},
        "bytes": {"README.md": cards.card(SPLITS).replace(b"num_bytes: 200\n", b"num_bytes: 123456\n")},
        "left": shards,
        "lacks": {"README.md": cards.card({"full": 100}, files=PATTERNS)},
        "surplus": {"README.md": cards.card({**SPLITS, "test": 5}, files=PATTERNS)},
        "unchecked": {FAST: more_rows},
        "one": {},
        "named": {FAST: more_rows},
    }
    calls = {name: f"load({name!r})" for name in changes} | {
        "tidy": "load('tidy')",
        "unchecked": "load('unchecked', verification_mode='no_checks')",
        "checked later": "load('unchecked')",
        "one": "load('one', split='fast')",
        "named": f"load('named', data_files='{FAST}', split='train')",
    }
    with FakeHub(place / "hub") as hub:
        for name, files in changes.items():
            hub.repo(f"acme/{name}", cards.files(SPLITS)).commit(files)
        hub.repo("acme/tidy", cards.files(SPLITS)).commit(shards, delete=(FAST,))
        found = tried(lambda source, _: run(source, hub.environment(home=place / "home")), calls)
        asked = {name: [path for path in (FAST, FULL) if any(f"acme/{name}/" in one.path and path in one.path for one in hub.requests)] for name in changes}
    return found, asked


def test_a_repository_in_order_loads(loaded):
    assert loaded[0]["order"].value == {"fast": [10, 0], "full": [100, 0]}


def test_another_number_of_rows_than_the_card_counts_is_an_error(loaded):
    wrong = loaded[0]["rows"]
    assert wrong.error == "NonMatchingSplitsSizesError" and "num_examples=10" in wrong.text and "num_examples=12" in wrong.text
    assert loaded[0]["both"].value == {"fast": [12, 0], "full": [100, 0]}  # rows and card changed in one commit


def test_the_number_of_bytes_is_not_checked(loaded):
    assert loaded[0]["bytes"].value == loaded[0]["order"].value


def test_a_shard_left_behind_counts(loaded):
    wrong = loaded[0]["left"]
    assert wrong.error == "NonMatchingSplitsSizesError" and "num_examples=20" in wrong.text
    assert loaded[0]["tidy"].value == loaded[0]["order"].value


def test_splits_that_the_card_lacks_or_has_too_many(loaded):
    assert loaded[0]["lacks"].error == "UnexpectedSplitsError" and "fast" in loaded[0]["lacks"].text
    assert loaded[0]["surplus"].error == "ExpectedMoreSplitsError" and "test" in loaded[0]["surplus"].text


def test_without_checks_a_wrong_cache_passes_later(loaded):
    assert loaded[0]["unchecked"].value["fast"] == loaded[0]["checked later"].value["fast"] == [12, 0]


def test_one_split_costs_all_and_data_files_do_not(loaded):
    """And what is named by its file is not checked against the card."""
    found, asked = loaded
    assert (found["one"].value, asked["one"]) == (10, [FAST, FULL])
    assert (found["named"].value, asked["named"]) == (12, [FAST])


def test_a_warm_cache_asks_but_fetches_nothing_and_finds_a_new_commit(hub, repo, client):
    def load():
        hub.forget_requests()
        return tried(client, {"all": "load('people')"})["all"].value, fetched(hub), len(hub.requests)

    cold, warm = load(), load()  # each in a process of its own
    assert cold[:2] == ({"fast": [10, 0], "full": [100, 0]}, [FAST, FULL])
    assert warm[:2] == (cold[0], []) and warm[2] > 0
    repo.commit({FAST: cards.parquet(10, start=7)})
    assert load()[:2] == ({"fast": [10, 7], "full": [100, 0]}, [FAST])


def test_offline_takes_what_was_cached_last_whatever_the_revision(hub, repo, client):
    first = repo.head
    repo.commit({FAST: cards.parquet(10, start=7)})
    online = tried(client, {"first": f"load('people', revision='{first}')", "last": "load('people')"})
    assert [one.value["fast"] for one in online.values()] == [[10, 0], [10, 7]]
    hub.forget_requests()
    calls = {revision: f"load('people', revision='{revision}')" for revision in (first, "0" * 40, "none")}
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        offline = tried(client, {**calls, "never seen": "load('others')"}, **{variable: "1"})
        assert [offline[revision].value["fast"] for revision in calls] == [[10, 7]] * 3
        assert "Using the latest cached version of the dataset" in offline[first].output
        assert offline["never seen"].error == "ConnectionError"
    assert hub.requests == ()


def test_a_cache_hides_that_the_hub_fails_or_refuses(hub, repo, client):
    closed = hub.repo("acme/closed", cards.files(SPLITS))
    calls = {"people": "load('people')", "closed": "load('closed')"}
    tried(client, calls)
    for one in (repo, closed):
        one.commit({FAST: cards.parquet(10, start=7)})
    hub.fail(None, "acme/people/resolve/main/README", 500, times=None)
    closed.private = True
    again = tried(client, calls, hub.user("eve"))
    assert {name: one.value["fast"] for name, one in again.items()} == {"people": [10, 0], "closed": [10, 0]}
    assert "Using the latest cached version of the dataset since acme/closed" in again["closed"].output
    assert "since acme/people" not in again["people"].output  # no word


def test_no_name_is_looked_up(hub, repo, client):
    """The library asks for the dataset viewer too, whose name no DNS of a developer's machine need hear."""
    watched = "import sys\nasked = []\nsys.addaudithook(lambda event, given: asked.append(given[0]) if event == 'socket.getaddrinfo' else None)\n"
    done = client(f"{watched}{LOAD}\nload('people')\nresult = sorted(set(asked))")
    assert done.value == ["127.0.0.1"], done
    assert {one.path.partition("?")[0].rpartition("/")[0] for one in hub.elsewhere} == {hub.url.replace("://", "://datasets-server.")}


def test_refusals(hub, repo, client):
    hub.repo("acme/secret", cards.files(SPLITS), private=True)
    hub.repo("acme/gate", cards.files(SPLITS), gated="auto")
    eve = hub.user("eve")
    hidden, gate = "Dataset 'acme/{}' doesn't exist on the Hub or cannot be accessed.", "Dataset 'acme/gate' is a gated dataset on the Hub."
    expected = {
        "load('secret')": hidden.format("secret"),
        f"load('secret', token='{eve}')": hidden.format("secret"),
        "load('none')": hidden.format("none"),
        "load('gate')": f"{gate} You must be authenticated to access it.",
        f"load('gate', token='{eve}')": f"{gate} Visit the dataset page at https://huggingface.co/datasets/acme/gate to ask for access.",
        "load('people', revision='none')": "Revision 'none' doesn't exist for dataset 'acme/people' on the Hub.",
    }
    bad = f"load('people', token='hf_{'0' * 34}')"
    found = tried(client, {call: call for call in (*expected, bad)})
    assert {call: one.text for call, one in found.items() if call != bad} == expected
    assert {one.error for call, one in found.items() if call != bad} == {"DatasetNotFoundError"}
    assert (found[bad].error, found[bad].status) == ("HfHubHTTPError", 401)
