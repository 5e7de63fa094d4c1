"""The official Kubernetes client, connected as the settings say."""

from __future__ import annotations

import os

import urllib3
from kubernetes import client, config

from tidegate.adapters.kubernetes.errors import KubernetesUnknown
from tidegate.schemas.settings.limits import Kubernetes

_CONNECTIONS = 100
"""So many are kept for the next request: a watcher has one for each gateway."""


def connect(settings: Kubernetes) -> client.ApiClient:
    """A client: of the kubeconfig that is set, else of the pod's service account, else of the usual kubeconfig.

    It tries nothing a second time by itself: whoever calls knows what may be tried again, and when.
    Raises KubernetesUnknown where there is none of these; asks the API nothing yet.
    """
    configuration = client.Configuration()
    try:
        if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                config_file=None if settings.kubeconfig is None else str(settings.kubeconfig),
                context=settings.context,
                client_configuration=configuration,
            )
    except (config.ConfigException, OSError, ValueError) as error:
        raise KubernetesUnknown(
            f"no way to the Kubernetes API: {error}. Run in a pod with a service account, or set "
            "kubernetes.kubeconfig (and kubernetes.context)"
        ) from error
    configuration.connection_pool_maxsize = _CONNECTIONS
    configuration.retries = urllib3.Retry(total=0, redirect=False)
    return client.ApiClient(configuration)
