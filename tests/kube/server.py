"""A stand-in for a cluster's API server and its kubelet, on loopback, in a thread of this process; the real kubectl talks to it.

    with FakeCluster(tmp_path / "cluster") as cluster:
        cluster.pod("trainer-0")
        subprocess.run(["kubectl", "exec", "-i", "trainer-0", "--", "hostname"], env={**os.environ, **cluster.environment()})

Served, over TLS and to bearers of a token alone: discovery, pods (get, list, delete, log), exec (v5.channel.k8s.io over WebSocket), Jobs with Indexed
completion (create, get, list, watch, delete with foreground propagation and a precondition), Secrets, ConfigMaps, and ownership between them. A pod's
containers are directories and processes of this machine.

It is a stand-in. It does not do: SPDY, RBAC beyond refusals that a test asks for, images, namespaces of the kernel (a pod sees this machine's files and
processes), scheduling, resources, volumes, validation of what is created beyond a name that is taken, field managers, CRDs. Whether a real cluster words a
refusal like this one is not known for all of them.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import os
import shutil
import ssl
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.hub.faults import Faults, Rule
from tests.hub.journal import Journal, Request
from tests.kube import exec as execution
from tests.kube.answers import listed, refusal, selector
from tests.kube.certificate import write_certificate
from tests.kube.jobs import Job, stop
from tests.kube.objects import Objects
from tests.kube.pods import Pod, carriers
from tests.loops import end_loop, end_server

TOKEN, CONTEXT, NAMESPACE = "made-up-token-of-the-tests", "test", "evals"
# Leads elsewhere, or makes kubectl behave otherwise.
_LEADING = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")


class FakeCluster:
    """A cluster whose pods' directories lie below `directory`. Leaving the block ends all of their processes, and raises what went wrong inside it."""

    def __init__(self, directory: Path, *, grace_s: float = 20.0) -> None:
        self.directory, self.grace_s = directory, grace_s
        self.pods: dict[tuple[str, str], Pod] = {}
        self.jobs: dict[tuple[str, str], Job] = {}
        self._secrets, self._records = Objects(self, "Secret", "secrets"), Objects(self, "ConfigMap", "configmaps")
        self.secrets, self.config_maps = self._secrets.kept, self._records.kept
        self.faults, self.journal = Faults(), Journal()
        self.port = 0
        self.uids: list[str] = []
        self.broken: list[str] = []
        self._version = 1
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake cluster", daemon=True)
        self._connections: set[asyncio.BaseTransport] = set()
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._deletions: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_certificate(self.directory)
        self._thread.start()
        self._do(self._open())
        self.write_kubeconfig(self.kubeconfig, self.port)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._do(self._close())
        end_loop(self._loop, self._thread)
        if self.broken and error is None:
            raise RuntimeError("the stand-in failed:\n" + "\n".join(self.broken))

    # For tests

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kube config"

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """Of a kubectl that knows this cluster alone."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        assert shutil.which("kubectl", path=path), "the tests need kubectl 1.31 or newer; `make kubectl` installs it"
        return {"KUBECONFIG": str(kubeconfig or self.kubeconfig), "KUBECACHEDIR": str(self.directory / "cache"), "PATH": path, **dict.fromkeys(_LEADING, "")}

    def write_kubeconfig(self, path: Path, port: int, token: str = TOKEN) -> Path:
        """One that leads to this port of loopback, with this token."""
        authority = base64.b64encode((self.directory / "cert.pem").read_bytes()).decode()
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
        context = {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}
        document = {"apiVersion": "v1", "kind": "Config", "current-context": CONTEXT}
        document |= {"clusters": [{"name": CONTEXT, "cluster": cluster}], "users": [{"name": CONTEXT, "user": {"token": token}}]}
        path.write_text(json.dumps({**document, "contexts": [{"name": CONTEXT, "context": context}]}))
        return path

    def pod(self, name: str, namespace: str = NAMESPACE, **more: Any) -> Pod:
        """A pod that runs and waits."""
        return self._do(_called(lambda: self.new_pod(name, namespace, **{"containers": ["main"], **more})))

    def delete_pod(self, name: str, namespace: str = NAMESPACE) -> None:
        self._do(self.end_pod(self.pods[namespace, name]))

    def evict(self, pod: Pod) -> None:
        """As a node that is short of memory does."""

        async def evicted() -> None:
            pod.phase, pod.reason, pod.message = "Failed", "Evicted", "The node was low on resource: memory."
            pod.conditions = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
            await pod.kill()

        self._do(evicted())

    def out_of_memory(self, pod: Pod) -> None:
        """What the kernel does to a container above its limit."""

        async def killed() -> None:
            pod.ended_by = "OOMKilled"
            await pod.kill()
            while pod.phase == "Running":  # until the Job knows
                await self.changed()

        self._do(killed())

    def forget_job(self, name: str) -> None:
        """It vanishes with all it has, as where somebody deletes the namespace."""
        self._do(self._deleted(self.jobs[NAMESPACE, name]))

    def hold_pods(self) -> None:
        """New pods of Jobs stay Pending until `let_pods_run`, as where no node has room."""
        self._do(_called(self.may_run.clear))

    def let_pods_run(self) -> None:
        self._do(_called(lambda: (self.may_run.set(), self.notify())))

    def fail(self, path: str, status: int, *, method: str | None = None, times: int | None = None, message: str = "") -> None:
        self.faults.add(Rule("fail", path, method, times, status=status, message=message))

    def lose_answer(self, path: str, *, method: str, times: int = 1) -> None:
        """Do what is asked, and cut the connection in place of an answer."""
        self.faults.add(Rule("drop", path, method, times))

    def heal(self) -> None:
        self.faults.clear()

    def cut(self) -> None:
        """Every connection breaks."""
        self._do(_called(self._cut))

    def stop_serving(self) -> None:
        """The API server is gone; pods run on."""
        self._do(self._site.stop())

    @property
    def requests(self) -> tuple[Request, ...]:
        return self.journal.all()

    def living(self) -> list[int]:
        """Pids of all processes of all pods."""
        return [pid for uid in self.uids for pid in carriers(uid)]

    # For the parts of the stand-in

    def new_pod(self, name: str, namespace: str, **more: Any) -> Pod:
        directory = self.directory / "pods" / name
        directory.mkdir(parents=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "HOSTNAME": name, "LANG": "C.UTF-8"}
        pod = Pod(name, namespace, str(uuid.uuid4()), directory, environment=environment | more.pop("environment", {}), **more)
        self.pods[namespace, name] = pod
        self.uids.append(pod.uid)
        return pod

    async def end_pod(self, pod: Pod) -> None:
        """TERM, the grace, KILL."""
        pod.deleting = True
        self.notify()
        stop(pod)
        if pod.process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(pod.process.wait(), self.grace_s)
        await pod.kill()
        self.pods.pop((pod.namespace, pod.name), None)

    async def changed(self) -> None:
        async with self._condition:
            await self._condition.wait()

    def notify(self) -> None:
        async def all_waiting() -> None:
            async with self._condition:
                self._condition.notify_all()

        task = self._loop.create_task(all_waiting())
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    def touch(self, job: Job, event: str = "MODIFIED") -> None:
        self._version += 1
        job.document["metadata"]["resourceVersion"] = str(self._version)
        for watcher in self._watchers:
            watcher.put_nowait({"type": event, "object": json.loads(json.dumps(job.document))})

    @staticmethod
    def now() -> str:
        return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @staticmethod
    def secret_value(secret: dict[str, Any], key: str) -> str:
        if key in secret.get("stringData", {}):
            return secret["stringData"][key]
        return base64.b64decode(secret["data"][key]).decode()

    # Its own

    def _do(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(120)

    async def _open(self) -> None:
        self._condition, self.may_run = asyncio.Condition(), asyncio.Event()
        self.may_run.set()
        app = web.Application(middlewares=[self._guard], client_max_size=64 << 20)
        app.add_routes(_routes(self))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "cert.pem", self.directory / "key.pem")
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context)
        await self._site.start()
        self.port = self._site._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        for job in self.jobs.values():
            job.deleting = True
        self._cut()
        for pod in list(self.pods.values()):
            pod.deleting = True
            await pod.kill()
        self.may_run.set()
        self.notify()
        for uid in self.uids:
            while carriers(uid):
                await Pod("", "", uid, self.directory, [], {}).kill()
        await end_server(self._runner)

    def _cut(self) -> None:
        for transport in list(self._connections):
            transport.abort()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Who is there, and what goes wrong on purpose."""
        transport = request.transport
        self._connections.add(transport)
        number = self.journal.open(Request(request.method, request.path_qs))
        try:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._noted(number, refusal(401, "Unauthorized"))
            rule = self.faults.take("fail", request.method, request.path_qs)
            if rule is not None:
                return self._noted(number, refusal(rule.status, rule.message or _message(rule.status, request)))
            answer = await handler(request)
            if self.faults.take("drop", request.method, request.path_qs):
                transport.abort()
            return self._noted(number, answer)
        except web.HTTPNotFound:
            return self._noted(number, refusal(404, "the server could not find the requested resource"))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            self.broken.append(traceback.format_exc())
            raise
        finally:
            self._connections.discard(transport)

    def _noted(self, number: int, answer: web.StreamResponse) -> web.StreamResponse:
        self.journal.note(number, status=answer.status)
        return answer

    async def exec(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        if isinstance(pod, web.Response):
            return pod
        container = request.query.get("container", pod.containers[0])
        if pod.phase != "Running" or container not in pod.containers:
            return refusal(
                400, f"container {container} is not valid for pod {pod.name}" if container not in pod.containers else f'container not found ("{container}")'
            )
        if execution.PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
            return refusal(400, "this stand-in speaks WebSocket alone; kubectl 1.31 or newer is needed")
        return await execution.serve(request, pod)

    def _pod(self, request: web.Request) -> Pod | web.Response:
        name = request.match_info["name"]
        return self.pods.get((request.match_info["namespace"], name)) or refusal(404, f'pods "{name}" not found')

    async def get_pod(self, request: web.Request) -> web.Response:
        pod = self._pod(request)
        return pod if isinstance(pod, web.Response) else web.json_response(pod.document())

    async def list_pods(self, request: web.Request) -> web.Response:
        wanted = selector(request)
        found = [pod.document() for pod in self.pods.values() if pod.namespace == request.match_info["namespace"] and wanted.items() <= pod.labels.items()]
        return listed("PodList", "v1", found)

    async def remove_pod(self, request: web.Request) -> web.Response:
        pod = self._pod(request)
        if isinstance(pod, web.Response):
            return pod
        document = pod.document()
        await self.end_pod(pod)
        return web.json_response(document)

    async def pod_log(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        if isinstance(pod, web.Response):
            return pod
        if not pod.log.exists():
            return refusal(400, f'container "{pod.containers[0]}" in pod "{pod.name}" is waiting to start: ContainerCreating')
        data = pod.log.read_bytes()
        if "tailLines" in request.query:
            lines = data.splitlines(keepends=True)
            count = int(request.query["tailLines"])
            data = b"".join(lines[-count:] if count else [])
        return web.Response(body=data)

    async def create_job(self, request: web.Request) -> web.Response:
        document, namespace = json.loads(await request.read()), request.match_info["namespace"]
        name = document["metadata"]["name"]
        if (namespace, name) in self.jobs:
            return refusal(409, f'jobs.batch "{name}" already exists')
        document["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": self.now(), "resourceVersion": "1"}
        job = self.jobs[namespace, name] = Job(self, document)
        self.touch(job, "ADDED")
        job.reconcile()
        return web.json_response(document, status=201)

    async def get_job(self, request: web.Request) -> web.Response:
        job = self._job(request)
        return job if isinstance(job, web.Response) else web.json_response(job.document)

    def _job(self, request: web.Request) -> Job | web.Response:
        name = request.match_info["name"]
        return self.jobs.get((request.match_info["namespace"], name)) or refusal(404, f'jobs.batch "{name}" not found')

    async def list_jobs(self, request: web.Request) -> web.StreamResponse:
        wanted = selector(request)
        jobs = [job for job in self.jobs.values() if job.namespace == request.match_info["namespace"]]
        if request.query.get("watch") in {"true", "1"}:
            return await self._watch(request)
        found = [job.document for job in jobs if wanted.items() <= job.document["metadata"].get("labels", {}).items()]
        return listed("JobList", "batch/v1", found)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """Events of one Job, from a version on."""
        name = request.query["fieldSelector"].partition("=")[2]
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            await answer.prepare(request)
            job = self.jobs.get((request.match_info["namespace"], name))
            if job is None:
                queue.put_nowait({"type": "DELETED", "object": {"metadata": {"name": name}}})
            elif job.document["metadata"]["resourceVersion"] != request.query.get("resourceVersion"):
                queue.put_nowait({"type": "MODIFIED", "object": job.document})
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", 60))):
                while True:
                    event = await queue.get()
                    if event["object"]["metadata"]["name"] == name:
                        await answer.write(json.dumps(event).encode() + b"\n")
        except TimeoutError:
            return answer
        finally:
            self._watchers.discard(queue)

    async def delete_job(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if isinstance(job, web.Response):
            return job
        options = json.loads(await request.read() or b"{}")
        if options.get("propagationPolicy") != "Foreground":
            return refusal(400, "this stand-in deletes in the foreground alone")
        wanted = options.get("preconditions", {}).get("uid", job.uid)
        if wanted != job.uid:
            return refusal(409, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {job.uid}", reason="Conflict")
        if not job.deleting:
            task = self._loop.create_task(self._deleted(job))
            self._deletions.add(task)
            task.add_done_callback(self._deletions.discard)
            await asyncio.sleep(0)
        return web.json_response(job.document)

    async def _deleted(self, job: Job) -> None:
        await job.delete()
        self._secrets.forget(job.uid)
        self._records.forget(job.uid)
        self.jobs.pop((job.namespace, job.name), None)
        self.touch(job, "DELETED")

    def object_routes(self) -> Iterable[web.AbstractRouteDef]:
        return [*self._secrets.routes(), *self._records.routes()]


def _routes(cluster: FakeCluster) -> Iterable[web.AbstractRouteDef]:
    pods, jobs = "/api/v1/namespaces/{namespace}/pods", "/apis/batch/v1/namespaces/{namespace}/jobs"
    verbs = ["create", "delete", "get", "list", "watch"]
    core = [{"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs} for name, kind in CORE.items()]
    batch = [{"name": "jobs", "singularName": "job", "namespaced": True, "kind": "Job", "verbs": verbs}]
    group = {"name": "batch", "versions": [{"groupVersion": "batch/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "batch/v1", "version": "v1"}}
    fixed = {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": core},
        "/apis/batch/v1": {"kind": "APIResourceList", "groupVersion": "batch/v1", "resources": batch},
    }
    return [
        *(web.get(path, _answering(document)) for path, document in fixed.items()),
        web.get(pods, cluster.list_pods),
        web.get(pods + "/{name}", cluster.get_pod),
        web.delete(pods + "/{name}", cluster.remove_pod),
        web.get(pods + "/{name}/log", cluster.pod_log),
        web.get(pods + "/{name}/exec", cluster.exec),
        web.post(pods + "/{name}/exec", cluster.exec),
        web.get(jobs, cluster.list_jobs),
        web.post(jobs, cluster.create_job),
        web.get(jobs + "/{name}", cluster.get_job),
        web.delete(jobs + "/{name}", cluster.delete_job),
        *cluster.object_routes(),
    ]


CORE = {"pods": "Pod", "pods/exec": "PodExecOptions", "pods/log": "Pod", "secrets": "Secret", "configmaps": "ConfigMap"}


def _answering(document: dict[str, Any]) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document)

    return answer


def _message(code: int, request: web.Request) -> str:
    if code == 403:
        return f'pods is forbidden: User "tester" cannot {request.method.lower()} resource "pods" in API group "" in the namespace "{NAMESPACE}"'
    return f"made up by a test: {code}"


async def _called(work: Callable[[], Any]) -> Any:
    return work()
