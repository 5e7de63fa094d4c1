"""What an account of ours might do in a cluster, to be sure that it may not; and the namespaces of the manifests."""

from __future__ import annotations

from kubernetes import client

from tests.support.kubernetes_api import KubernetesApi

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = (
    ("networking.istio.io", "envoyfilters"),
    ("networking.istio.io", "virtualservices"),
    ("networking.istio.io", "destinationrules"),
    ("networking.istio.io", "gateways"),
    ("security.istio.io", "authorizationpolicies"),
    ("", "secrets"),
    ("", "pods"),
    ("", "configmaps"),
    ("", "services"),
    ("", "namespaces"),
    ("apps", "deployments"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
)


def namespaces(api: KubernetesApi, *names: str) -> None:
    """Make these namespaces, where they are not there yet."""
    for name in names:
        try:
            client.CoreV1Api(api.client()).create_namespace(
                client.V1Namespace(metadata=client.V1ObjectMeta(name=name))
            )
        except client.ApiException as error:
            if error.status != 409:
                raise
