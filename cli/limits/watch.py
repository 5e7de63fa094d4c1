"""`tidegate watch`: publishes the ready replicas of each task to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping
from tidegate.schemas.settings import Settings, SettingsError

if TYPE_CHECKING:
    from tidegate.adapters.watching.publisher import ReplicaSource


def watch(context: typer.Context) -> int:
    """Publish the ready replicas of each task and the ready gateways to kubernetes.replicas and kubernetes.gateways.

    The source is watcher.source: the Kubernetes API, Prometheus' samples in Kafka, or the Envoys themselves. Runs until
    SIGTERM or Ctrl-C.
    """
    from tidegate.adapters.watching.publisher import SourceFailed, run_watcher

    options: Options = context.obj
    settings = options.load()
    try:
        with failures(settings), stopping() as received:
            delivered = run_watcher(settings.kafka, _source(settings), received.stop)
    except SourceFailed as error:
        raise CommandFailed(str(error)) from error
    typer.echo(f"{delivered} rows published")
    return received.exit_code


def _source(settings: Settings) -> ReplicaSource:
    """Raises SourceFailed, CatalogError, KafkaUnavailable; SettingsError for a setting the source doesn't support."""
    # Each source needs only its own client to be installed.
    from tidegate.adapters.catalog.source import catalog_source

    watcher = settings.watcher
    if watcher.source == "kubernetes":
        from tidegate.adapters.watching.kubernetes import KubernetesSource

        return KubernetesSource(settings, catalog_source(settings))
    if watcher.namespace_selector or watcher.service_selector:
        raise SettingsError(
            f"watcher.namespace_selector and watcher.service_selector: source {watcher.source} doesn't support label "
            "selectors; leave them empty"
        )
    if watcher.source == "prometheus":
        from tidegate.adapters.watching.prometheus import PrometheusSource

        return PrometheusSource(settings, catalog_source(settings))
    from tidegate.adapters.watching.envoy import EnvoySource

    return EnvoySource(settings)
