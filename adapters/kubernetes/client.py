"""The official Kubernetes client, configured by the settings."""

from __future__ import annotations

import os

import urllib3
from kubernetes import client, config

from tidegate.adapters.kubernetes.errors import KubernetesUnknown
from tidegate.schemas.settings.limits import Kubernetes

_CONNECTIONS = 100
"""The pool of open connections: a watcher needs one for each gateway."""


def connect(settings: Kubernetes) -> client.ApiClient:
    """A client from the configured kubeconfig, else the pod's service account, else the default kubeconfig.

    It repeats no request by itself: the caller decides what is retried, and when.
    Raises KubernetesUnknown without any of these. Sends no request yet.
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
            f"no access to the Kubernetes API is configured: {error}. Run in a pod with a service account, or set "
            "kubernetes.kubeconfig (and kubernetes.context)"
        ) from error
    configuration.connection_pool_maxsize = _CONNECTIONS
    configuration.retries = urllib3.Retry(total=0, redirect=False)
    return client.ApiClient(configuration)
