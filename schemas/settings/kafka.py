"""Settings of Kafka: how to reach it, and how topics are made there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from tidegate.schemas.settings.base import Group
from tidegate.schemas.topics import Topic


class Kafka(Group):
    """How to reach Kafka, and how topics are made there."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", min_length=1, description="host:port of one or more brokers, comma-separated"
    )
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="prefix of every topic's name"
    )
    create_topics: bool = Field(True, description="create missing topics at start")
    partitions: int = Field(3, ge=1, le=10_000, description="partitions of a topic that tidegate creates")
    replication_factor: int = Field(1, ge=1, le=10, description="replicas of a topic that tidegate creates")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="transport and authentication, as Kafka's own security.protocol"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism; used with SASL_PLAINTEXT and SASL_SSL"
    )
    sasl_username: str | None = Field(
        None, description="SASL user; required with SASL_PLAINTEXT and SASL_SSL"
    )
    sasl_password: SecretStr | None = Field(
        None, description="SASL password; from the environment or sasl_password_file only"
    )
    sasl_password_file: Path | None = Field(None, description="file that holds the SASL password")
    ssl_ca_file: Path | None = Field(None, description="PEM file of the brokers' certificate authority")

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Kafka:
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and (self.sasl_password or self.sasl_password_file)
        ):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username, and sasl_password "
                "(environment) or sasl_password_file"
            )
        return self

    def topic(self, topic: Topic) -> str:
        """The topic's name in this Kafka, with the prefix."""
        return topic.full_name(self.topic_prefix)

    def password(self) -> str | None:
        """The SASL password, from the environment or its file."""
        if self.sasl_password is not None:
            return self.sasl_password.get_secret_value()
        return self.sasl_password_file.read_text().strip() if self.sasl_password_file else None

    def client_config(self) -> dict[str, str]:
        """librdkafka's properties for these settings (confluent-kafka clients)."""
        config = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            config |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username or "",
                "sasl.password": self.password() or "",
            }
        if self.ssl_ca_file:
            config["ssl.ca.location"] = str(self.ssl_ca_file)
        return config

    def java_config(self) -> dict[str, str]:
        """The Java client's properties for these settings (Flink's connector)."""
        config = {"bootstrap.servers": self.bootstrap_servers}
        if self.security_protocol != "PLAINTEXT":
            config["security.protocol"] = self.security_protocol
        if self.security_protocol.startswith("SASL"):
            module = "plain.PlainLoginModule" if self.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
            name, secret = (
                json.dumps(text) for text in (self.sasl_username or "", self.password() or "")
            )  # JSON's quoting is JAAS' quoting
            config |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
                f"username={name} password={secret};",
            }
        if self.ssl_ca_file:
            config |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.ssl_ca_file)}
        return config
