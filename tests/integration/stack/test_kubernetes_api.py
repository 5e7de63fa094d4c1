"""The Kubernetes API that the tests use is a real one: RBAC, tokens, watches, Istio's kinds."""

from __future__ import annotations

import pytest
from kubernetes import client
from kubernetes.dynamic import DynamicClient

from tests.support.kubernetes_api import KubernetesApi
from tidegate.stack.kubernetes_programs import KUBERNETES_VERSION


def test_it_is_the_version_that_was_built(kubernetes_api: KubernetesApi) -> None:
    assert client.VersionApi(kubernetes_api.client()).get_code().git_version.startswith(KUBERNETES_VERSION)


def test_an_account_without_a_role_may_read_nothing(kubernetes_api: KubernetesApi) -> None:
    namespace = kubernetes_api.new_namespace()
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="nobody"))
    client.CoreV1Api(kubernetes_api.client()).create_namespaced_service_account(namespace, account)
    api = kubernetes_api.client_as(namespace, "nobody")
    assert not kubernetes_api.allowed(api, "list", "", "pods", namespace)
    with pytest.raises(client.ApiException, match=f"system:serviceaccount:{namespace}:nobody"):
        client.CoreV1Api(api).list_namespaced_pod(namespace)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("networking.istio.io/v1", "VirtualService"),
        ("networking.istio.io/v1", "DestinationRule"),
    ],
)
def test_istios_kinds_keep_what_they_are_given(
    kubernetes_api: KubernetesApi, version: str, kind: str
) -> None:
    namespace = kubernetes_api.new_namespace()
    dynamic = DynamicClient(kubernetes_api.client())
    resource = dynamic.resources.get(api_version=version, kind=kind)
    spec = {"anything": {"nested": [1, {"deep": "yes"}]}}
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "kept"}, "spec": spec}
    dynamic.server_side_apply(resource, body=body, name="kept", namespace=namespace, field_manager="tests")
    assert dynamic.get(resource, name="kept", namespace=namespace).to_dict()["spec"] == spec
