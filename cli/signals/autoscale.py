"""`tidegate autoscale`: autoscaling signals for KEDA (gRPC) and for Prometheus (/metrics)."""

from __future__ import annotations

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping


def autoscale(context: typer.Context) -> int:
    """Serve the desired number of replicas of each task, as a KEDA external scaler and as Prometheus metrics.

    Listens on autoscaling.host, at autoscaling.grpc_port and autoscaling.metrics_port. Runs until SIGTERM or Ctrl-C.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from tidegate.adapters.autoscaling.feed import SignalsFeed
        from tidegate.adapters.autoscaling.keda import Scaler, serve
        from tidegate.adapters.autoscaling.metrics import SignalsCollector
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[autoscaling]'") from error

    options: Options = context.obj
    settings = options.load()
    own = settings.autoscaling
    with failures(settings), stopping() as received:
        feed = SignalsFeed(settings.kafka)
        feed.start()
        try:
            server, port = serve(Scaler(feed), f"{own.host}:{own.grpc_port}")
            registry = CollectorRegistry()
            registry.register(SignalsCollector(feed))
            metrics, _ = start_http_server(own.metrics_port, own.host, registry)
        except OSError as error:
            feed.stop()
            raise CommandFailed(
                f"autoscale: can't listen on {own.host}: {error}; set autoscaling.grpc_port and "
                "autoscaling.metrics_port"
            ) from error
        typer.echo(f"KEDA: {own.host}:{port}; Prometheus: http://{own.host}:{metrics.server_port}/metrics")
        received.stop.wait()
        server.stop(2).wait()
        metrics.shutdown()
        feed.stop()
    return received.exit_code
