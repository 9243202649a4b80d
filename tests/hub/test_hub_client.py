"""The real huggingface_hub against the stand-in: downloads, commits, and the errors that the project's rooms tell apart."""

import pytest

from tests.hub import cards, endpoints
from tests.hub.client import said

SPLITS = {"fast": 10, "full": 100}
FAST = "data/fast-00000-of-00001.parquet"
DOWNLOAD = f"""
import hashlib, os
from huggingface_hub import hf_hub_download
path = os.path.realpath(hf_hub_download("acme/people", "{FAST}", repo_type="dataset"))
result = [os.path.basename(path), hashlib.sha256(open(path, "rb").read()).hexdigest()]
"""
PIECE = 10 << 20  # what the client writes at a time, and so where it goes on


@pytest.fixture
def repo(hub):
    return hub.repo("acme/people", cards.files(SPLITS))


@pytest.fixture
def alice(hub):
    return hub.user("alice", orgs=["acme"])


def sha256(repo):
    return repo.at().tree[FAST].sha256


def tried(client, calls, token=None, **more):
    """What each of the named calls came to, all in one process."""
    lines = ["import os", "import huggingface_hub as hf", "result = {}", *(f"result[{name!r}] = attempt(lambda: {call})" for name, call in calls.items())]
    whole = client("\n".join(lines), token, **more)
    assert whole.error is None, whole.text
    return {name: said(one) for name, one in whole.value.items()}


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, repo, client):
    repo.commit({FAST: bytes(range(256)) * 45_000})
    hub.cut("/download/", after_bytes=PIECE + 1000)
    assert client(DOWNLOAD).value == [sha256(repo), sha256(repo)]
    assert [(one.range, one.status) for one in hub.requests if one.origin == "storage"] == [(None, 200), (f"bytes={PIECE}-", 206)]


def test_a_short_download_that_breaks_off_starts_again(hub, repo, client):
    hub.cut("/download/", after_bytes=100)
    assert client(DOWNLOAD).value == [sha256(repo), sha256(repo)]
    assert [(one.range, one.status) for one in hub.requests if one.origin == "storage"] == [(None, 200), (None, 200)]


def test_a_cached_file_is_asked_for_but_not_sent_again(hub, repo, client):
    assert client(DOWNLOAD).value == [sha256(repo), sha256(repo)]  # a large file's blob is named by its SHA-256
    hub.forget_requests()
    assert client(DOWNLOAD).value == [sha256(repo), sha256(repo)]
    assert [(one.method, one.status) for one in hub.requests] == [("HEAD", 302)]
    repo.commit({FAST: cards.parquet(10, start=5)})
    assert client(DOWNLOAD).value == [sha256(repo), sha256(repo)]


def test_wrong_bytes_of_the_right_length_pass_the_client_unnoticed(hub, repo, client):
    hub.corrupt("/download/")
    name, content = client(DOWNLOAD).value
    assert name == sha256(repo) != content


def test_a_cached_file_at_a_commit_is_neither_asked_for_nor_looked_at(hub, repo, client):
    pinned = DOWNLOAD.replace('repo_type="dataset"', f'repo_type="dataset", revision="{repo.head}"')
    assert client(pinned).value == [sha256(repo), sha256(repo)]
    [blob] = [one for one in (hub.blobs.directory.parents[1] / "home").rglob(sha256(repo)) if one.is_file()]
    blob.write_bytes(b"spoilt")
    hub.forget_requests()
    name, content = client(pinned).value
    assert name == sha256(repo) != content and hub.requests == ()
    other = repo.commit({FAST: cards.parquet(10, start=5)})
    offline = client(pinned.replace(repo.log()[1].sha, other), HF_HUB_OFFLINE="1")
    assert offline.error == "LocalEntryNotFoundError" and hub.requests == ()  # not the commit that is cached: unlike load_dataset


def test_a_branch_is_answered_from_the_cache_where_the_hub_refuses(hub, repo, client):
    old = sha256(repo)
    client(DOWNLOAD)
    repo.commit({FAST: cards.parquet(10, start=5)})
    repo.private = True
    stale = client(DOWNLOAD, hub.user("eve"))
    assert stale.value == [old, old] and stale.output == ""


def test_the_token_does_not_go_to_storage(hub, repo, client, alice):
    client(DOWNLOAD, alice)
    assert {one.origin: one.user for one in hub.requests} == {"hub": "alice", "storage": None}


def test_what_is_known_of_a_repository(hub, repo, client, alice):
    repo.tag("v1")
    repo.commit({"notes.txt": b"one"}, message="notes", author="bob")
    calls = {
        "whoami": "(lambda me: [me['name'], me['auth']['accessToken']['role'], [one['name'] for one in me['orgs']]])(hf.whoami())",
        "sha": "hf.dataset_info('acme/people').sha",
        "siblings": "{one.rfilename: one.lfs and one.lfs.sha256 for one in hf.dataset_info('acme/people', files_metadata=True).siblings}",
        "check": "hf.auth_check('acme/people', repo_type='dataset', write=True)",
        "files": "hf.list_repo_files('acme/people', repo_type='dataset')",
        "at tag": "hf.list_repo_files('acme/people', repo_type='dataset', revision='v1')",
        "refs": "[[one.name, one.target_commit] for one in hf.list_repo_refs('acme/people', repo_type='dataset').tags]",
        "log": "[[one.commit_id, one.title, one.authors] for one in hf.list_repo_commits('acme/people', repo_type='dataset')]",
        "paths": f"[[one.path, type(one).__name__] for one in hf.get_paths_info('acme/people', ['{FAST}', 'none', 'data'], repo_type='dataset')]",
    }
    found = tried(client, calls, alice)
    assert {name: one.error for name, one in found.items() if one.error} == {}
    tree = repo.at().tree
    assert found["whoami"].value == ["alice", "write", ["acme"]]
    assert found["sha"].value == repo.head
    assert found["siblings"].value == {path: entry.sha256 if entry.large else None for path, entry in tree.items()}
    assert sorted(found["files"].value) == sorted(tree) and sorted(found["at tag"].value) == sorted(set(tree) - {"notes.txt"})
    assert found["refs"].value == [["v1", repo.log()[1].sha]]
    assert found["log"].value == [[repo.head, "notes", ["bob"]], [repo.log()[1].sha, "initial commit", ["acme"]]]
    assert found["paths"].value == [[FAST, "RepoFile"], ["data", "RepoFolder"]]


def test_pages_are_followed(hub, client):
    hub.page_size = 4
    hub.repo("acme/many", {f"data/{number:02}.txt": b"x" for number in range(10)})
    found = tried(client, {"files": "hf.list_repo_files('acme/many', repo_type='dataset')"})["files"]
    assert len(found.value) == 11 and len([one for one in hub.requests if "cursor=" in one.path]) == 2


def test_models_are_served_too(hub, client):
    model = hub.repo("acme/tiny", {"config.json": b"{}", "model.safetensors": b"weights" * 1000}, kind="model")
    found = tried(
        client,
        {
            "info": "hf.model_info('acme/tiny').sha",
            "all": "sorted(os.listdir(hf.snapshot_download('acme/tiny')))",
            "weights": "len(open(hf.hf_hub_download('acme/tiny', 'model.safetensors'), 'rb').read())",
            "sizes": "{one.filename: one.file_size for one in hf.snapshot_download('acme/tiny', dry_run=True, cache_dir='/nowhere')}",
        },
    )
    assert {name: one.text for name, one in found.items() if one.error} == {}
    assert found["info"].value == model.head and found["weights"].value == 7000
    assert found["all"].value == [".gitattributes", "config.json", "model.safetensors"]
    assert found["sizes"].value["model.safetensors"] == 7000


COMMIT = """
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
parent = HfApi().dataset_info("acme/people").sha
operations = [
    CommitOperationAdd("data/fast-00000-of-00002.parquet", b"PAR1 one"), CommitOperationAdd("data/fast-00001-of-00002.parquet", b"PAR1 two"),
    CommitOperationAdd("README.md", b"---\\nlicense: mit\\n---\\nnew\\n"), CommitOperationDelete("data/fast-00000-of-00001.parquet"),
]
result = HfApi().create_commit("acme/people", operations, commit_message="two shards", repo_type="dataset", parent_commit=parent).oid
"""


def test_one_commit_replaces_shards_and_card(hub, repo, client, alice):
    before = repo.head
    done = client(COMMIT, alice)
    last = repo.log()[0]
    assert (done.value, last.sha, last.parent, last.message, last.author) == (repo.head, repo.head, before, "two shards", "alice")
    assert last.changed == ("README.md", FAST, "data/fast-00000-of-00002.parquet", "data/fast-00001-of-00002.parquet") and last.deleted == (FAST,)
    assert repo.files()["data/fast-00001-of-00002.parquet"] == b"PAR1 two" and repo.at().tree["data/fast-00001-of-00002.parquet"].large
    assert repo.files()["README.md"] == b"---\nlicense: mit\n---\nnew\n" and not repo.at().tree["README.md"].large
    assert sorted((one.method, one.user) for one in hub.requests if one.origin == "storage") == [("PUT", None), ("PUT", None)]


def test_what_is_there_already_is_not_sent_again(hub, repo, client, alice):
    content = repo.files()[FAST]
    hub.forget_requests()
    source = f"""
from huggingface_hub import CommitOperationAdd, create_commit
data = bytes.fromhex("{content.hex()}")
add = lambda path: [CommitOperationAdd(path, data)]
result = [create_commit("acme/people", add(path), commit_message="x", repo_type="dataset").oid for path in ("{FAST}", "data/copy.parquet")]
"""
    done = client(source, alice)
    assert done.value == [repo.log()[1].sha, repo.head] and len(repo.log()) == 2  # the first changed nothing
    assert [one.path for one in hub.requests if one.method == "PUT"] == []


def test_a_parent_that_moved_is_a_conflict(hub, repo, client, alice):
    moved = []
    hub.on_commit(lambda: moved.append(repo.commit({"notes.txt": b"mine"}, message="before yours", author="bob")))
    done = client(COMMIT, alice)
    assert (done.error, done.status) == ("HfHubHTTPError", 412) and "A commit has happened since. Please refresh and try again." in done.text
    assert repo.head == moved[0] and FAST in repo.files()
    assert client(COMMIT, alice).value == repo.head  # once, unless told otherwise


def test_a_commit_whose_answer_is_lost_was_made(hub, repo, client, alice):
    hub.cut("/commit/main", after_bytes=0)
    done = client(COMMIT, alice)
    assert done.error == "RemoteProtocolError" and repo.log()[0].message == "two shards"
    hub.cut_upload("/commit/main", after_bytes=20)
    before = repo.head
    again = client(COMMIT.replace("fast-00000-of-00001", "full-00000-of-00001"), alice)
    assert again.error in ("RemoteProtocolError", "ReadError", "WriteError") and repo.head == before


def test_an_upload_that_fails_leaves_the_repository_alone(hub, repo, client, alice):
    before = repo.head
    hub.fail("PUT", "/upload/", 403, times=None)
    done = client(COMMIT, alice)
    assert done.error == "RuntimeError" and "Error while uploading" in done.text and repo.head == before


def test_repositories_tags_and_branches_are_made(hub, client):
    token = hub.user("carol")
    found = tried(
        client,
        {
            "create": "str(hf.create_repo('carol/new', repo_type='dataset', private=True))",
            "again": "str(hf.create_repo('carol/new', repo_type='dataset', exist_ok=True))",
            "taken": "hf.create_repo('carol/new', repo_type='dataset')",
            "foreign": "hf.create_repo('acme/new', repo_type='dataset')",
            "upload": "hf.upload_file(path_or_fileobj=b'x', path_in_repo='x.txt', repo_id='carol/new', repo_type='dataset').oid",
            "tag": "hf.create_tag('carol/new', tag='v1', repo_type='dataset')",
            "branch": "hf.create_branch('carol/new', branch='wild', repo_type='dataset')",
            "there": "hf.upload_file(path_or_fileobj=b'y', path_in_repo='y.txt', repo_id='carol/new', repo_type='dataset', revision='wild').oid",
        },
        token,
    )
    assert {name: one.status for name, one in found.items() if one.error} == {"taken": 409, "foreign": 403}
    repo = hub.repository("datasets", "carol/new")
    assert repo.private and repo.head == found["upload"].value == repo.tags["v1"] and repo.branches["wild"] == found["there"].value
    assert "y.txt" in repo.files("wild") and "y.txt" not in repo.files()


def calls(name, token=False):
    """One that asks the API, one that asks for the right to read, one that fetches; `token` False is nobody's."""
    return {
        "info": f"hf.dataset_info('acme/{name}', token={token!r}).sha",
        "check": f"hf.auth_check('acme/{name}', repo_type='dataset', token={token!r})",
        "file": f"hf.hf_hub_download('acme/{name}', '{FAST}', repo_type='dataset', token={token!r})",
    }


def outcomes(client, asked):
    """Error and status of the calls, for each repository and token of `asked`, in one process."""
    together = {f"{number} {call}": source for number, one in enumerate(asked) for call, source in calls(*one).items()}
    found = tried(client, together)
    return [{call: (found[f"{number} {call}"].error, found[f"{number} {call}"].status) for call in ("info", "check", "file")} for number in range(len(asked))]


def test_private_and_missing_repositories_look_alike(hub, repo, client):
    hub.repo("acme/secret", cards.files(SPLITS), private=True)
    eve = hub.user("eve")
    found = outcomes(client, [("secret",), ("none",), ("secret", eve), ("none", eve)])
    assert found == [dict.fromkeys(("info", "check", "file"), ("RepositoryNotFoundError", status)) for status in (401, 401, 404, 404)]


def test_gated_repositories_tell_who_is_not_let_in(hub, client):
    hub.repo("acme/gate", cards.files(SPLITS), gated="manual", allowed=("bob",))
    nobody, eve, bob = outcomes(client, [("gate",), ("gate", hub.user("eve")), ("gate", hub.user("bob"))])
    assert nobody["check"] == nobody["file"] == ("GatedRepoError", 401)
    assert eve["check"] == eve["file"] == ("GatedRepoError", 403)
    assert nobody["info"] == eve["info"] == (None, None)  # that there is such a repository is no secret
    assert set(bob.values()) == {(None, None)}


def test_a_bad_token_is_told_even_where_none_is_needed(hub, repo, client):
    bad = "hf_" + "0" * 34
    found = tried(client, {"who": "hf.whoami()", **calls("people", bad)}, bad)
    assert {(one.error, one.status) for one in found.values()} == {("HfHubHTTPError", 401)}
    assert "Invalid user token. The token from HF_TOKEN environment variable is invalid." in found["who"].text
    assert all("Invalid credentials in Authorization header" in one.text for name, one in found.items() if name != "who")


def test_revisions_and_files_that_are_not_there(hub, repo, client):
    found = tried(
        client,
        {
            "branch": f"hf.hf_hub_download('acme/people', '{FAST}', repo_type='dataset', revision='none')",
            "sha": "hf.dataset_info('acme/people', revision='0' * 40)",
            "file": "hf.hf_hub_download('acme/people', 'data/none.parquet', repo_type='dataset')",
            "folder": "list(hf.list_repo_tree('acme/people', 'none', repo_type='dataset'))",
        },
    )
    assert [found[name].error for name in ("branch", "sha", "file", "folder")] == [
        "RevisionNotFoundError",
        "RevisionNotFoundError",
        "RemoteEntryNotFoundError",
        "RemoteEntryNotFoundError",
    ]
    assert {one.status for one in found.values()} == {404}


def test_only_those_with_a_write_token_commit(hub, repo, client):
    before = repo.head
    tokens = {"reader": hub.user("alice", role="read", orgs=["acme"]), "eve": hub.user("eve"), "nobody": False}
    commit = "hf.create_commit('acme/people', [hf.CommitOperationAdd('x.txt', b'x')], commit_message='x', repo_type='dataset', token={!r})"
    found = tried(client, {name: commit.format(token) for name, token in tokens.items()})
    assert {name: (one.error, one.status) for name, one in found.items()} == {name: ("HfHubHTTPError", 401 if name == "nobody" else 403) for name in tokens}
    assert "You must use a write token" in found["reader"].text and "create_pr=1" in found["eve"].text
    assert repo.head == before


def test_a_refusal_that_passes_is_waited_out(hub, repo, client):
    hub.fail("GET", "/tree/", 503, times=1)
    hub.fail("GET", "/download/", 429, times=1, headers={"Retry-After": "0"})
    found = tried(client, {"files": "len(hf.list_repo_files('acme/people', repo_type='dataset'))", **calls("people")})
    assert found["files"].value == 4 and found["file"].error is None
    assert [one.status for one in hub.requests if "/tree/" in one.path] == [503, 200]
    assert [one.status for one in hub.requests if "/download/" in one.path] == [429, 200]


def test_nobody_there_is_told_from_somebody_who_fails(hub, repo, client):
    asked = {name: call for name, call in calls("people").items() if name != "file"}  # which would wait and try again
    hub.fail(None, "people", 500, times=None)
    assert {(one.error, one.status) for one in tried(client, asked).values()} == {("HfHubHTTPError", 500)}
    with endpoints.refusing() as nobody:
        assert {one.error for one in tried(client, asked, HF_ENDPOINT=nobody).values()} == {"ConnectError"}
    with endpoints.silent() as nobody:
        assert tried(client, {"info": "hf.dataset_info('acme/people', timeout=0.2)"}, HF_ENDPOINT=nobody)["info"].error == "ReadTimeout"
