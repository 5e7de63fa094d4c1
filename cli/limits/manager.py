"""`tidegate manager`: the HTTP service in front of Kubernetes and Istio."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.stopping import stopping
from tidegate.schemas.settings import SettingsError


def manager(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; default: manager.host")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free port; default: manager.port")] = None,
) -> int:
    """Serve an HTTP API for the rate limits and traffic settings of tasks, with validation and an audit log.

    /docs is its OpenAPI page. Runs until SIGTERM or Ctrl-C, and answers open requests before it ends.
    """
    try:
        from tidegate.adapters.kubernetes.errors import KubernetesUnknown
        from tidegate.adapters.manager.serve import serve
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[manager]'") from error
    from confluent_kafka import KafkaException

    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.schemas.catalog import CatalogError

    options: Options = context.obj
    settings = options.load({"manager.host": host, "manager.port": port})
    try:
        # The server handles both signals while it runs, and raises them again when it ends.
        with stopping() as received:
            serve(settings, lambda address: typer.echo(f"listening on {address}"))
    except CatalogError as error:
        raise SettingsError(str(error)) from error
    except (KafkaUnavailable, KubernetesUnknown) as error:
        raise CommandFailed(str(error)) from error
    except KafkaException as error:
        raise CommandFailed(f"Kafka at {settings.kafka.bootstrap_servers}: {error}") from error
    except OSError as error:
        where = f"{settings.manager.host}:{settings.manager.port}"
        raise CommandFailed(f"manager: can't listen on {where}: {error}; set manager.port") from error
    return received.exit_code
