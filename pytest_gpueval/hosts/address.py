"""Where a host is: `local`, `ssh://...`, `k8s://...`, `slurm://...`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pytest_gpueval.errors import UsageProblem, valid_values

FORMS = "local, ssh://[USER@]HOST[:PORT], k8s://NAMESPACE/POD[?context=NAME&container=NAME], k8s://NAMESPACE[?context=NAME], slurm://[PARTITION][?account=NAME&login=ssh://...]"
# No character that a shell, a URL or a terminal gives a meaning, and no leading dash: ssh would take it for an option.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z")
_IP6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\Z")


@dataclass(frozen=True, slots=True)
class Local:
    """The machine we are on."""

    def __str__(self) -> str:
        return "local"


@dataclass(frozen=True, slots=True)
class Ssh:
    """An SSH server, or a name of ssh_config, which then says the rest. What is None is left to ssh_config."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{user}{host}{'' if self.port is None else f':{self.port}'}"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A pod that runs."""

    namespace: str
    pod: str
    context: str | None = None
    container: str | None = None

    def __str__(self) -> str:
        return f"k8s://{self.namespace}/{self.pod}{_query(context=self.context, container=self.container)}"


@dataclass(frozen=True, slots=True)
class KubernetesJobs:
    """A namespace in which runs are Jobs."""

    namespace: str
    context: str | None = None

    def __str__(self) -> str:
        return f"k8s://{self.namespace}{_query(context=self.context)}"


@dataclass(frozen=True, slots=True)
class Slurm:
    """A partition ("" for the cluster's default one) of the Slurm that this machine, or a login node, submits to."""

    partition: str
    account: str | None = None
    login: Ssh | None = None

    def __str__(self) -> str:
        return f"slurm://{self.partition}{_query(account=self.account, login=None if self.login is None else str(self.login))}"


Address = Local | Ssh | Kubernetes | KubernetesJobs | Slurm


def parsed(text: str, where: str = "") -> Address:
    """The address that a user wrote. `where` begins the message. Raises UsageProblem."""
    try:
        return _parsed(text)
    except UsageProblem as problem:
        raise UsageProblem(f"{where}{problem}\nAddresses: {FORMS}") from None


def _parsed(text: str) -> Address:
    if text == "local":
        return Local()
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise UsageProblem(f"{text!r} is not an address: {error}") from None
    if text != text.strip() or not text.isprintable():
        raise UsageProblem(f"{text!r} is not an address: it holds a space or a control character")
    if "://" not in text:
        raise UsageProblem(f"{text!r} is not an address")
    if url.fragment or "#" in text:
        raise UsageProblem(f"{text!r}: an address has no '#'")
    match url.scheme:
        case "ssh":
            return _ssh(text, url, port)
        case "k8s":
            return _kubernetes(text, url)
        case "slurm":
            return _slurm(text, url)
    raise UsageProblem(f"{text!r}: unknown kind {url.scheme!r}. {valid_values(url.scheme, ('ssh', 'k8s', 'slurm'), what='kinds')}")


def _ssh(text: str, url: SplitResult, port: int | None) -> Ssh:
    if url.password is not None:
        raise UsageProblem(f"ssh://...@{url.hostname}: a password does not belong in an address; use a key or an agent")
    if url.path not in {"", "/"} or url.query:
        raise UsageProblem(f"{text!r}: nothing may follow the port; a directory there is `workdir` in hosts.toml")
    if port == 0:
        raise UsageProblem(f"{text!r}: a port is a number from 1 to 65535")
    # Not url.hostname, which is lowercased: names of ssh_config are not.
    written = url.netloc.rpartition("@")[2]
    host = written[1 : written.index("]")] if written.startswith("[") else written.partition(":")[0]
    if not (_IP6 if written.startswith("[") else _HOST).match(host):
        raise UsageProblem(f"{text!r}: {host!r} is not the name of a host")
    user = unquote(url.username) if url.username is not None else None
    return Ssh(host, None if user is None else _word(text, "user", user), port)


def _kubernetes(text: str, url: SplitResult) -> Kubernetes | KubernetesJobs:
    values = _values(text, url, ("context", "container"))
    pod = url.path.strip("/")
    if not url.netloc:
        raise UsageProblem(f"{text!r}: a namespace is needed")
    namespace = _word(text, "namespace", url.netloc)
    if pod:
        return Kubernetes(namespace, _word(text, "pod", pod), values.get("context"), values.get("container"))
    if "container" in values:
        raise UsageProblem(f"{text!r}: a container is one of a pod, and no pod is named")
    return KubernetesJobs(namespace, values.get("context"))


def _slurm(text: str, url: SplitResult) -> Slurm:
    values = _values(text, url, ("account", "login"))
    if url.path.strip("/"):
        raise UsageProblem(f"{text!r}: nothing may follow the partition but '?account=...'")
    login = _parsed(values["login"]) if "login" in values else None
    if not isinstance(login, Ssh | None):
        raise UsageProblem(f"{text!r}: the login node is an SSH host, not {values['login']!r}")
    return Slurm(_word(text, "partition", url.netloc) if url.netloc else "", values.get("account"), login)


def _values(text: str, url: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    """What follows the '?', each key once."""
    values: dict[str, str] = {}
    for key, value in parse_qsl(url.query, keep_blank_values=True):
        if key not in known:
            raise UsageProblem(f"{text!r}: unknown {key!r}. {valid_values(key, known, what='keys')}")
        if key in values or not value:
            raise UsageProblem(f"{text!r}: {key!r} needs one value")
        # A context may be called anything, an ARN of a cluster with : and / for one.
        values[key] = value if key in {"login", "context"} and not value.startswith("-") else _word(text, key, value)
    return values


def _word(text: str, what: str, word: str) -> str:
    if not _WORD.match(word):
        raise UsageProblem(f"{text!r}: {word!r} is not the name of a {what}")
    return word


def _query(**values: str | None) -> str:
    given = {key: value for key, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
