"""The stand-in by itself: what it keeps, what it tells apart, how it fails and ends. Over real connections, without Hugging Face's clients."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.hub import endpoints
from tests.hub.server import FakeHub
from tests.hub.store import Refusal

LARGE = b"PAR1" + bytes(range(256)) * 40


@pytest.fixture
def repo(hub):
    return hub.repo("acme/people", {"README.md": b"# People\n", "data/fast.parquet": LARGE})


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(url, *, method="GET", token=None, headers=None, body=None):
    """Status, headers and body; redirects are not followed."""
    given = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    request = urllib.request.Request(url, data=body, method=method, headers=given)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


def file_url(hub, path, *, revision="main", repo="datasets/acme/people"):
    return f"{hub.url}/{repo}/resolve/{revision}/{path}"


def test_history_tells_what_each_commit_changed(repo):
    first = repo.head
    second = repo.commit({"notes.txt": b"one", "README.md": b"# Other\n"}, delete=("data/",), message="tidy", author="bob")
    assert [(one.sha, one.parent, one.message, one.author) for one in repo.log()] == [(second, first, "tidy", "bob"), (first, None, "initial commit", "acme")]
    assert repo.log()[0].changed == ("README.md", "data/fast.parquet", "notes.txt") and repo.log()[0].deleted == ("data/fast.parquet",)
    assert repo.head == second and "data/fast.parquet" not in repo.files()
    assert repo.files(first)["data/fast.parquet"] == LARGE and repo.files(first[:9])["README.md"] == b"# People\n"


def test_a_commit_that_cannot_be_leaves_nothing(repo):
    before = repo.head
    with pytest.raises(Refusal, match="file with this name"):
        repo.commit({"new.txt": b"1"}, delete=("data/none.parquet",))
    with pytest.raises(Refusal, match="Invalid rev"):
        repo.commit({"new.txt": b"1"}, branch="none")
    assert repo.head == before and "new.txt" not in repo.files()


def test_small_files_come_from_the_hub_and_large_ones_from_storage(hub, repo):
    status, headers, body = ask(file_url(hub, "README.md"))
    assert (status, body, headers["X-Repo-Commit"]) == (200, b"# People\n", repo.head)
    status, headers, body = ask(file_url(hub, "data/fast.parquet"), method="HEAD")
    entry = repo.at().tree["data/fast.parquet"]
    assert (status, headers["X-Linked-Size"], headers["X-Linked-Etag"]) == (302, str(len(LARGE)), f'"{entry.sha256}"')
    elsewhere = headers["Location"]
    assert urlsplit(elsewhere).netloc != urlsplit(hub.url).netloc
    assert ask(elsewhere)[2] == LARGE
    assert ask(elsewhere, token=hub.user("alice"))[0] == 400  # a token is none of storage's business
    assert ask(elsewhere[:-1] + "z")[0] == 403
    assert [(one.origin, one.status) for one in hub.requests] == [("hub", 200), ("hub", 302), ("storage", 200), ("storage", 400), ("storage", 403)]


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=4-7", 206, LARGE[4:8]),
        ("bytes=10000-", 206, LARGE[10000:]),
        ("bytes=-4", 206, LARGE[-4:]),
        ("bytes=4-999999", 206, LARGE[4:]),
        ("bytes=999999-", 416, None),
        ("bytes=0-1,4-5", 200, LARGE),
        ("lines=1-2", 200, LARGE),
    ],
)
def test_ranges(hub, repo, asked, status, expected):
    address = ask(file_url(hub, "data/fast.parquet"), method="HEAD")[1]["Location"]
    got, headers, body = ask(address, headers={"Range": asked})
    assert got == status and hub.requests[-1].range == asked
    if status == 416:
        assert headers["Content-Range"] == f"bytes */{len(LARGE)}"
    else:
        assert body == expected and hub.requests[-1].bytes_sent == len(body)


def test_who_may_see_what(hub, repo):
    alice, reader, bob, eve = hub.user("alice", orgs=["acme"]), hub.user("alice", role="read", orgs=["acme"]), hub.user("bob"), hub.user("eve")
    hub.repo("acme/secret", {"x.txt": b"1"}, private=True)
    hub.repo("acme/gate", {"x.txt": b"1", "README.md": b"card"}, gated="manual", allowed=("bob",))

    def outcome(address, token):
        status, headers, _ = ask(address, token=token)
        return status, headers["X-Error-Code"]

    secret, gate = (file_url(hub, "x.txt", repo=f"datasets/acme/{name}") for name in ("secret", "gate"))
    assert [outcome(secret, token) for token in (None, eve, "hf_none", reader)] == [(401, "RepoNotFound"), (404, "RepoNotFound"), (401, None), (200, None)]
    assert [outcome(gate, token) for token in (None, eve, bob, alice)] == [(401, "GatedRepo"), (403, "GatedRepo"), (200, None), (200, None)]
    assert outcome(file_url(hub, "README.md", repo="datasets/acme/gate"), None) == (200, None)
    assert [one.user for one in hub.requests[:4]] == [None, "eve", "?", "alice"]
    missing = file_url(hub, "x.txt", repo="datasets/acme/none")
    assert outcome(missing, None) == outcome(secret, None) and outcome(missing, eve) == outcome(secret, eve)
    writing = f"{hub.url}/api/datasets/acme/people/auth-check/write"
    assert [outcome(writing, token)[0] for token in (None, eve, reader, alice)] == [401, 403, 403, 200]
    hub.revoke(alice)
    assert outcome(gate, alice) == (401, None)
    assert json.loads(ask(f"{hub.url}/api/whoami-v2", token=reader)[2])["auth"]["accessToken"]["role"] == "read"


def test_no_token_is_kept_in_what_was_asked(hub, repo):
    token = hub.user("alice")
    ask(file_url(hub, "README.md"), token=token, headers={"User-Agent": "tests/1"})
    assert hub.requests[0].user_agent == "tests/1" and hub.requests[0].user == "alice" and token not in repr(hub.requests)


def test_a_tree_comes_in_pages(tmp_path):
    with FakeHub(tmp_path, page_size=3) as hub:
        hub.repo("acme/many", {f"data/part {number}.txt": b"x" for number in range(7)})
        address, rows, pages = f"{hub.url}/api/datasets/acme/many/tree/main/data?recursive=True&expand=False", [], 0
        while address:
            _, headers, body = ask(address)
            rows += json.loads(body)
            pages += 1
            link = headers["Link"]
            address = link.partition(">")[0].lstrip("<") if link else None
        assert pages == 3 and [row["path"] for row in rows] == [f"data/part {number}.txt" for number in range(7)]


def test_faults_come_as_often_as_told(hub, repo):
    hub.fail("GET", r"README\.md$", 503, times=2, headers={"Retry-After": "1"})
    card = file_url(hub, "README.md")
    assert ask(card, method="HEAD")[0] == 200
    answers = [ask(card) for _ in range(3)]
    assert [one[0] for one in answers] == [503, 503, 200] and answers[0][1]["Retry-After"] == "1"
    hub.fail(None, "people", 429, times=None)
    assert [ask(card, method=method)[0] for method in ("GET", "HEAD", "GET")] == [429] * 3
    hub.mend()
    assert ask(card)[0] == 200


def test_a_body_is_cut_where_told_and_once(hub, repo):
    address = ask(file_url(hub, "data/fast.parquet"), method="HEAD")[1]["Location"]
    hub.cut("/download/", after_bytes=1000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(address)
    assert caught.value.partial == LARGE[:1000] and hub.requests[-1].bytes_sent == 1000
    assert ask(address)[2] == LARGE
    hub.cut("README", after_bytes=1000)  # is shorter than that: stays whole, and the rule stays for another
    assert ask(file_url(hub, "README.md"))[2] == b"# People\n"


def test_corruption_keeps_the_length_and_its_place(hub, repo):
    address = ask(file_url(hub, "data/fast.parquet"), method="HEAD")[1]["Location"]
    hub.corrupt("/download/")
    wrong = ask(address)[2]
    middle = len(LARGE) // 2
    assert len(wrong) == len(LARGE) and [place for place in range(len(LARGE)) if wrong[place] != LARGE[place]] == [middle]
    assert ask(address, headers={"Range": f"bytes={middle - 5}-{middle + 5}"})[2] == wrong[middle - 5 : middle + 6]
    assert ask(address, headers={"Range": "bytes=0-99"})[2] == LARGE[:100]
    assert repo.files()["data/fast.parquet"] == LARGE


def test_a_stall_ends_with_the_hub_and_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        with FakeHub(tmp_path) as hub:
            hub.repo("acme/people", {"README.md": b"x"})
            idle = http.client.HTTPConnection("127.0.0.1", urlsplit(hub.url).port, timeout=30)  # a client that keeps its connection
            idle.request("GET", "/api/whoami-v2")
            idle.getresponse().read()
            hub.stall("README", 600)
            waiting = pool.submit(ask, file_url(hub, "README.md"))
            assert [one.status for one in hub.wait_for("README")] == [0]
            started = time.monotonic()
        assert time.monotonic() - started < 300  # did not sit the stall out
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError, urllib.error.URLError)):
            waiting.result(timeout=30)
        idle.close()
    assert set(threading.enumerate()) <= before  # others' may end meanwhile


def test_bodies_and_connections_are_bounded(tmp_path):
    with FakeHub(tmp_path, max_body_bytes=1000, max_connections=2) as hub:
        token = hub.user("alice")
        hub.repo("alice/people", {})
        address = f"{hub.url}/api/datasets/alice/people/preupload/main"
        assert ask(address, method="POST", token=token, body=b'{"files": []}')[0] == 200
        assert ask(address, method="POST", token=token, body=b"x" * 1001)[0] == 413
        held = []
        for expected in (200, 200, 503):
            connection = http.client.HTTPConnection("127.0.0.1", urlsplit(hub.url).port, timeout=30)
            held.append(connection)
            until_free = time.monotonic() + 30
            while True:  # connections of the requests above may still be closing
                connection.request("GET", "/api/datasets/alice/people")
                answer = connection.getresponse()
                answer.read()
                if answer.status == expected or time.monotonic() > until_free:
                    break
            assert answer.status == expected
        for connection in held:
            connection.close()
        assert hub.requests[-1].status == 503


def test_a_body_in_chunks(tmp_path):
    with FakeHub(tmp_path, max_body_bytes=1000) as hub:
        token = hub.user("alice")
        hub.repo("alice/people", {})
        address = f"{hub.url}/api/datasets/alice/people/preupload/main"

        def post(*pieces):
            return ask(address, method="POST", token=token, body=iter(pieces), headers={"Transfer-Encoding": "chunked"})

        status, _, body = post(b'{"files": [{"path": "a.parquet",', b' "size": 5}]}')
        assert status == 200 and json.loads(body)["files"][0]["uploadMode"] == "lfs"
        assert post(*[b" " * 300] * 4)[0] == 413
        hub.cut_upload("/preupload/", after_bytes=5)
        with pytest.raises((http.client.RemoteDisconnected, urllib.error.URLError, ConnectionError)):
            post(b'{"files"', b": []}")
        assert [one.status for one in hub.requests] == [200, 413, 0]


def test_a_fault_of_the_stand_in_is_said_at_its_end(tmp_path):
    def broken():
        raise ZeroDivisionError("of the test's own")

    hub = FakeHub(tmp_path)
    hub.__enter__()
    token = hub.user("alice")
    hub.repo("alice/people", {})
    hub.on_commit(broken)
    assert ask(f"{hub.url}/api/datasets/alice/people/commit/main", method="POST", token=token, body=b"")[0] == 500
    with pytest.raises(RuntimeError, match="of the test's own"):
        hub.__exit__(None, None, None)


def test_the_environment_leads_nowhere_else(hub, tmp_path):
    base = {
        "PATH": "/bin",
        "HF_TOKEN": "mine",
        "hf_endpoint": "x",
        "HUGGINGFACE_HUB_CACHE": "y",
        "HTTPS_PROXY": "z",
        "http_proxy": "z",
        "HUGGING_FACE_HUB_TOKEN": "t",
    }
    made = hub.environment(home=tmp_path / "home", base=base)
    assert made == {"PATH": "/bin", **hub.variables(home=tmp_path / "home")}
    assert made["HF_ENDPOINT"] == hub.url and made["HF_HOME"] == str(tmp_path / "home") and "HF_TOKEN" not in made
    assert hub.environment(hub.user("alice"), home=tmp_path, base=base)["HF_TOKEN"].startswith("hf_")


def test_endpoints_with_nobody_behind_them():
    with endpoints.refusing() as url, pytest.raises(urllib.error.URLError, match="refused"):
        ask(url)
    with endpoints.silent() as url:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=0.2)
        connection.request("GET", "/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
