"""`tidegate manager`: the HTTP service in front of Kubernetes and Istio."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.stopping import stopping
from tidegate.schemas.settings import SettingsError


def manager(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="to listen on; default: manager.host")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one; default: manager.port")] = None,
) -> int:
    """Serve rate limits and traffic settings of tasks over HTTP, checked, with an audit log.

    /docs is its OpenAPI page. Runs until it gets SIGTERM or Ctrl-C; requests that have begun are answered first.
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
        # The server takes both signals while it runs, and raises them again when it is done.
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
        raise CommandFailed(f"manager: {where} can't be listened on: {error}; set manager.port") from error
    return received.exit_code
