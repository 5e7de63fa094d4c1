"""Settings of the receiver of access logs."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tidegate.schemas.settings.base import Group, Port, Seconds


class Receive(Group):
    """`tidegate receive`: Envoy's gRPC access log service and OTLP logs, into `gateway.access-logs`."""

    host: str = Field("127.0.0.1", description="address to listen on")
    grpc_port: Port = Field(4317, description="port of both gRPC services; 0: any free one")
    http_port: Port = Field(
        4318, description="port of OTLP over HTTP, /metrics, /healthz and /readyz; 0: any free one"
    )
    tls_cert_file: Path | None = Field(
        None, description="PEM file of the server's certificate chain; default: no TLS"
    )
    tls_key_file: Path | None = Field(None, description="PEM file of the certificate's key")
    tls_client_ca_file: Path | None = Field(
        None,
        description="PEM file of the CA that clients' certificates are checked with; default: none asked",
    )
    max_request_bytes: int = Field(
        4_194_304, ge=65_536, description="largest message or HTTP body, also after decompression"
    )
    max_line_bytes: int = Field(
        1_048_576, ge=1024, description="longest line that is sent; a longer one is a dead letter"
    )
    max_streams: int = Field(
        256, ge=1, le=4096, description="gRPC calls at once; Envoy keeps a stream for each worker thread"
    )
    buffer_mib: int = Field(
        64,
        ge=4,
        le=2048,
        description="lines in memory that Kafka has not acknowledged yet; then reading waits",
    )
    timeout_seconds: Seconds = Field(
        10, description="how long Kafka may take to acknowledge lines before they are asked for again"
    )

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file must be set together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self
