"""A real Kubernetes API for tests: who to be there, namespaces of one's own, and Istio's kinds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.dynamic import DynamicClient

from tests.support.waiting import until
from tidegate.adapters.kubernetes.client import connect
from tidegate.schemas.settings.limits import Kubernetes
from tidegate.stack.kubernetes_api import kubeconfig

_ISTIO_KINDS = (
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
)


@dataclass(frozen=True)
class KubernetesApi:
    """One API server. admin: an administrator's kubeconfig; others are written beside it, into `folder`."""

    admin: Path
    folder: Path

    @property
    def settings(self) -> Kubernetes:
        """How the administrator reaches it."""
        return Kubernetes(kubeconfig=self.admin)

    def client(self) -> client.ApiClient:
        """The administrator's client."""
        return connect(self.settings)

    def settings_as(self, namespace: str, account: str) -> Kubernetes:
        """How this service account reaches it, with a token of its own."""
        cluster = yaml.safe_load(self.admin.read_text())["clusters"][0]["cluster"]
        path = self.folder / f"{uuid.uuid4().hex}.kubeconfig"
        path.write_text(json.dumps(kubeconfig(cluster, self.token(namespace, account))))
        return Kubernetes(kubeconfig=path)

    def client_as(self, namespace: str, account: str) -> client.ApiClient:
        """This service account's client."""
        return connect(self.settings_as(namespace, account))

    def token(self, namespace: str, account: str) -> str:
        """A token of this service account, from the API itself (TokenRequest)."""
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
        )
        answer = client.CoreV1Api(self.client()).create_namespaced_service_account_token(
            account, namespace, request
        )
        return str(answer.status.token)

    def new_namespace(self, labels: Mapping[str, str] | None = None, prefix: str = "t") -> str:
        """A namespace with a name that no other has. Nothing removes it while the server runs."""
        name = f"{prefix}-{uuid.uuid4().hex[:10]}"
        body = client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=dict(labels or {})))
        client.CoreV1Api(self.client()).create_namespace(body)
        return name

    def apply(self, manifest: Path, namespace: str | None = None) -> None:
        """Apply every object of a YAML file (server-side). namespace: of those objects that don't say theirs.

        Roles and accounts of the manifest are the file's own: what is tested is what is deployed.
        """
        dynamic = DynamicClient(self.client())
        for item in yaml.safe_load_all(manifest.read_text()):
            if item is None:
                continue
            resource = dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
            where = item["metadata"].get("namespace", namespace) if resource.namespaced else None
            dynamic.server_side_apply(
                resource,
                body=item,
                name=item["metadata"]["name"],
                namespace=where,
                field_manager="tests",
                force_conflicts=True,
            )

    def allowed(
        self, api: client.ApiClient, verb: str, group: str, resource: str, namespace: str = ""
    ) -> bool:
        """Whether RBAC lets this client's user do so (SelfSubjectAccessReview)."""
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(
                resource_attributes=client.V1ResourceAttributes(
                    verb=verb, group=group, resource=resource, namespace=namespace
                )
            )
        )
        answer = client.AuthorizationV1Api(api).create_self_subject_access_review(review)
        return bool(answer.status.allowed)

    def install_istio_kinds(self) -> None:
        """EnvoyFilter, VirtualService and DestinationRule, with any `spec`; waits until they are served."""
        extensions = client.ApiextensionsV1Api(self.client())
        for group, version, kind, plural in _ISTIO_KINDS:
            try:
                extensions.create_custom_resource_definition(_definition(group, version, kind, plural))
            except client.ApiException as error:
                if error.status != 409:  # it is there already
                    raise
        until(
            lambda: all(_established(extensions, f"{plural}.{group}") for group, _, _, plural in _ISTIO_KINDS)
        )


def _established(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    conditions = extensions.read_custom_resource_definition(name).status.conditions or ()
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)


def _definition(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    open_object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": open_object, "status": open_object},
                        }
                    },
                    "subresources": {"status": {}},
                }
            ],
        },
    }
