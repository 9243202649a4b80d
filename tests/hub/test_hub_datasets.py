"""The real datasets against the stand-in: what `load_dataset` asks, checks and caches; the project's tools rely on these facts."""

import pytest

from tests.hub import cards

SPLITS = {"fast": 10, "full": 100}
FAST = "data/fast-00000-of-00001.parquet"
LOAD = """
from datasets import load_dataset
loaded = load_dataset("acme/people"{more})
result = {{name: [len(split), split[0]["id"]] for name, split in loaded.items()}}
"""


@pytest.fixture
def repo(hub):
    return hub.repo("acme/people", cards.files(SPLITS))


def load(client, token=None, *, more="", **named):
    return client(LOAD.format(more=f", {more}" if more else ""), token, **named)


def sent(hub):
    """Data files whose bytes were sent."""
    return [one.path.partition("?")[0].rpartition("/")[2] for one in hub.requests if one.origin == "storage"]


def test_a_cold_cache_loads_and_a_warm_one_asks_but_fetches_nothing(hub, repo, client):
    cold = load(client)
    assert cold.value == {"fast": [10, 0], "full": [100, 0]}, cold
    assert sorted(sent(hub)) == [FAST.rpartition("/")[2], "full-00000-of-00001.parquet"]
    hub.forget_requests()
    assert load(client).value == cold.value  # another process
    assert sent(hub) == [] and len(hub.requests) > 0
    assert load(client, home="another").value == cold.value and len(sent(hub)) == 2


def test_a_new_commit_is_found(hub, repo, client):
    load(client)
    repo.commit({FAST: cards.parquet(10, start=7)})
    assert load(client).value == {"fast": [10, 7], "full": [100, 0]}


def test_another_number_of_rows_than_the_card_counts_is_an_error(hub, repo, client):
    """Only in a cold cache, and for as long as the card stays."""
    repo.commit({FAST: cards.parquet(12)})
    wrong = load(client)
    assert wrong.error == "NonMatchingSplitsSizesError" and "num_examples=10" in wrong.text and "num_examples=12" in wrong.text
    repo.commit({"README.md": cards.card({"fast": 12, "full": 100})})
    assert load(client, home="fresh").value == {"fast": [12, 0], "full": [100, 0]}


def test_both_changed_in_one_commit_is_in_order(hub, repo, client):
    repo.commit({FAST: cards.parquet(12), "README.md": cards.card({"fast": 12, "full": 100})})
    assert load(client).value == {"fast": [12, 0], "full": [100, 0]}


def test_the_number_of_bytes_in_the_card_is_not_checked(hub, repo, client):
    repo.commit({"README.md": repo.files()["README.md"].replace(b"num_bytes: 200", b"num_bytes: 123456")})
    assert load(client).error is None


def test_a_shard_left_behind_counts(hub, repo, client):
    repo.commit({"data/fast-00000-of-00002.parquet": cards.parquet(5), "data/fast-00001-of-00002.parquet": cards.parquet(5)})
    wrong = load(client)
    assert wrong.error == "NonMatchingSplitsSizesError" and "num_examples=20" in wrong.text
    repo.commit(delete=(FAST,))
    assert load(client, home="fresh").value["fast"][0] == 10


def test_splits_that_the_card_lacks_or_has_too_many(hub, repo, client):
    patterns = {"fast": "data/fast-*", "full": "data/full-*"}
    repo.commit({"README.md": cards.card({"full": 100}, files=patterns)})
    unexpected = load(client)
    assert unexpected.error == "UnexpectedSplitsError" and "fast" in unexpected.text
    repo.commit({"README.md": cards.card({**SPLITS, "test": 5}, files=patterns)})
    missing = load(client, home="fresh")
    assert missing.error == "ExpectedMoreSplitsError" and "test" in missing.text


def test_one_split_costs_all_and_data_files_do_not(hub, repo, client):
    one = client('from datasets import load_dataset\nresult = len(load_dataset("acme/people", split="fast"))')
    assert one.value == 10 and len(sent(hub)) == 2
    hub.forget_requests()
    repo.commit({FAST: cards.parquet(12)})  # against the card: not checked
    named = client(f'from datasets import load_dataset\nresult = len(load_dataset("acme/people", data_files="{FAST}", split="train"))', home="fresh")
    assert named.value == 12 and sent(hub) == [FAST.rpartition("/")[2]]


def test_without_checks_a_wrong_cache_passes_later(hub, repo, client):
    repo.commit({FAST: cards.parquet(12)})
    assert load(client, more='verification_mode="no_checks"').value["fast"] == [12, 0]
    assert load(client).value["fast"] == [12, 0]
    assert load(client, home="fresh").error == "NonMatchingSplitsSizesError"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_takes_what_was_cached_last_whatever_the_revision(hub, repo, client, variable):
    first = repo.head
    load(client)
    repo.commit({FAST: cards.parquet(10, start=7)})
    assert load(client).value["fast"] == [10, 7]
    hub.forget_requests()
    for revision in (first, "0" * 40, "none"):
        offline = load(client, more=f'revision="{revision}"', **{variable: "1"})
        assert offline.value["fast"] == [10, 7] and "Using the latest cached version of the dataset" in offline.output
    assert load(client, home="fresh", **{variable: "1"}).error == "ConnectionError"
    assert hub.requests == ()


def test_a_hub_that_fails_is_hidden_by_the_cache(hub, repo, client):
    """Also from an account that may not see the repository any more."""
    load(client)
    repo.commit({FAST: cards.parquet(10, start=7)})
    hub.fail(None, "/resolve/main/README", 500, times=None)
    assert load(client).value["fast"] == [10, 0]
    hub.mend()
    repo.private = True
    assert load(client, hub.user("eve")).value["fast"] == [10, 0]


def test_refusals(hub, repo, client):
    hub.repo("acme/secret", cards.files(SPLITS), private=True)
    hub.repo("acme/gate", cards.files(SPLITS), gated="auto")
    eve = hub.user("eve")
    for name, token, words in (
        ("secret", None, "Dataset 'acme/secret' doesn't exist on the Hub or cannot be accessed."),
        ("secret", eve, "Dataset 'acme/secret' doesn't exist on the Hub or cannot be accessed."),
        ("gate", None, "Dataset 'acme/gate' is a gated dataset on the Hub. You must be authenticated to access it."),
        (
            "gate",
            eve,
            "Dataset 'acme/gate' is a gated dataset on the Hub. Visit the dataset page at https://huggingface.co/datasets/acme/gate to ask for access.",
        ),
    ):
        refused = client(LOAD.format(more="").replace("acme/people", f"acme/{name}"), token)
        assert (refused.error, refused.text) == ("DatasetNotFoundError", words)
    assert load(client, more='revision="none"').text == "Revision 'none' doesn't exist for dataset 'acme/people' on the Hub."
    bad = load(client, "hf_" + "0" * 34)
    assert (bad.error, bad.status) == ("HfHubHTTPError", 401)
