"""The Kubernetes API: a real kube-apiserver over a real etcd, with RBAC, on loopback. No node, no controller.

Only tests start it. No controller creates EndpointSlices, terminates a namespace, or runs a pod: a test writes these
objects itself.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.stack import kubernetes_programs as programs
from tidegate.stack.errors import StackError
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import HOST, answers
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder

ETCD = "etcd"
API_SERVER = "kube-apiserver"

_ADMIN = "tidegate-admin"
_TOKENS = "tokens.csv"
_KUBECONFIG = "kubeconfig"
_ACCOUNT_KEY = "accounts.pem"


class EtcdServer(UsualFolder):
    """The API server's store. Its data stays in the state folder."""

    name = ETCD

    @property
    def ports(self) -> Mapping[str, int]:
        """One for clients, one for other members, of which there are none."""
        return {"clients": 0, "peers": 0}

    def prepare(self, place: Place) -> Launch:
        """Write nothing: flags configure it completely."""
        clients, peers = (f"http://{HOST}:{place.ports[purpose]}" for purpose in ("clients", "peers"))
        return Launch(
            command=(
                str(programs.etcd()),
                f"--data-dir={place.folder / 'data'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",  # tests' data needn't outlive the machine
            ),
            directory=place.folder,
        )

    def problem(self, place: Place) -> str | None:
        """Ready when it reports itself healthy."""
        try:
            request = f"{_etcd(place.ports['clients'])}/health"
            with urllib.request.urlopen(request, timeout=1.5) as response:  # noqa: S310 (loopback, http)
                healthy = json.load(response).get("health")
        except (OSError, ValueError) as error:
            return f"it doesn't answer yet: {error}"
        return None if healthy == "true" else f"its health is {healthy}"

    def addresses(self, place: Place) -> dict[str, str]:
        """The clients' URL."""
        return {"url": _etcd(place.ports["clients"])}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """Nothing: only the API server speaks to it."""
        return {}


class KubernetesApiServer(UsualFolder):
    """The API server. `kubeconfig` in its folder is an administrator's."""

    name = API_SERVER

    @property
    def ports(self) -> Mapping[str, int]:
        """One, for everybody; TLS."""
        return {"https": 0}

    def prepare(self, place: Place) -> Launch:
        """Write the administrator's token and the key that signs service accounts' tokens, the first time."""
        etcd_port = place.stack_ports.get(f"{ETCD}.clients")
        if etcd_port is None:
            raise StackError(f"{API_SERVER} needs {ETCD}; start both together")
        _write_once(place.folder / _ACCOUNT_KEY, _private_key())
        _write_once(place.folder / _TOKENS, f"{secrets.token_urlsafe(24)},{_ADMIN},{_ADMIN},system:masters\n")
        token = (place.folder / _TOKENS).read_text().partition(",")[0]
        cluster = {"server": _url(place), "certificate-authority": str(_certificate(place))}
        _write(place.folder / _KUBECONFIG, json.dumps(kubeconfig(cluster, token)))
        return Launch(
            command=(
                str(programs.kube_apiserver()),
                f"--etcd-servers={_etcd(etcd_port)}",
                f"--bind-address={HOST}",
                f"--advertise-address={HOST}",
                f"--secure-port={place.ports['https']}",
                f"--cert-dir={_certificate(place).parent}",
                "--endpoint-reconciler-type=none",  # its own endpoint may not be on loopback
                f"--token-auth-file={place.folder / _TOKENS}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={place.folder / _ACCOUNT_KEY}",
                f"--service-account-signing-key-file={place.folder / _ACCOUNT_KEY}",
                "--service-cluster-ip-range=10.96.0.0/16",
                # It refuses pods in a namespace for which no controller has made the account `default`.
                "--disable-admission-plugins=ServiceAccount",
                "--etcd-compaction-interval=0",
                "--profiling=false",
            ),
            directory=place.folder,
        )

    def problem(self, place: Place) -> str | None:
        """Ready when /readyz succeeds: its caches are filled and RBAC's default roles exist."""
        if not answers(place.ports["https"]):
            return "its port isn't open yet"
        try:
            context = ssl.create_default_context(cafile=str(_certificate(place)))
            request = f"{_url(place)}/readyz"
            with urllib.request.urlopen(request, timeout=1.5, context=context):  # noqa: S310 (loopback)
                return None
        except urllib.error.HTTPError as error:
            return f"it isn't ready yet: {error.read().decode('utf-8', 'replace').strip()[-200:]}"
        except OSError as error:
            return f"it doesn't answer yet: {error}"

    def addresses(self, place: Place) -> dict[str, str]:
        """The URL, and the administrator's kubeconfig."""
        return {"url": _url(place), "kubeconfig": str(place.folder / _KUBECONFIG)}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """`kubernetes.kubeconfig`."""
        return {"kubernetes": {"kubeconfig": str(place.folder / _KUBECONFIG)}}


def add_kubernetes_api(stack: LocalStack) -> None:
    """Let this stack know both servers; `stack.up([ETCD, API_SERVER])` starts them."""
    stack.add(EtcdServer())
    stack.add(KubernetesApiServer())


def kubeconfig(cluster: Mapping[str, Any], token: str) -> dict[str, Any]:
    """A kubeconfig (JSON is YAML) for whoever holds the token. cluster: the address and the certificate."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tidegate", "cluster": dict(cluster)}],
        "users": [{"name": "tidegate", "user": {"token": token}}],
        "contexts": [{"name": "tidegate", "context": {"cluster": "tidegate", "user": "tidegate"}}],
        "current-context": "tidegate",
    }


def _url(place: Place) -> str:
    return f"https://{HOST}:{place.ports['https']}"


def _etcd(port: int) -> str:
    return f"http://{HOST}:{port}"


def _certificate(place: Place) -> Path:
    """The certificate that the API server creates at its first start, followed by its issuer's."""
    return place.folder / "certificates" / "apiserver.crt"


def _private_key() -> str:
    """A new P-256 key as PEM (SEC 1, without the public part, which its reader computes).

    Neither Python nor every machine has a tool that creates one. Any 32 bytes that don't begin with 255 are a
    key: the curve's order begins with 2^32 - 1.
    """
    number = bytes([secrets.randbelow(255), *secrets.token_bytes(31)])
    curve = bytes.fromhex("a00a06082a8648ce3d030107")
    der = bytes.fromhex("3031020101" + "0420") + number + curve
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        _write(path, text)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)  # before the secret is in it
    path.write_text(text)
