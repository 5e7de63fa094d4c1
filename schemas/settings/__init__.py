"""All settings, grouped by what they govern.

Defaults < the running local stack < `tidegate.toml` < environment `TIDEGATE_GROUP__NAME` < command line.
Loaded and validated whole, once, at the start: every error is told at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from tidegate.schemas.settings.limits import Catalog, Kubernetes, Limits, Manager, ReplicaChanges, Watcher
from tidegate.schemas.settings.signals import (
    Alerts,
    Autoscaling,
    CallStatistics,
    ProfileSettings,
    RemoteWrite,
    ResourceMetrics,
)
from tidegate.schemas.topics import ACCESS_LOGS, ALL_TOPICS, INFERENCE_LOGS, LATE, Topic

CONFIG_FILE = "tidegate.toml"
STACK_FILE = "stack.json"

Seconds = Annotated[float, Field(gt=0)]
_Named = TypeVar("_Named", dict[str, int], tuple[str, ...])
Shards = Annotated[int, Field(ge=1, le=1024)]
Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """The settings are wrong. The message lists every error, each with where it comes from."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kafka(_Group):
    """How to reach Kafka, and how topics are made there."""

    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1, description="host:port, comma-separated")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="put before every topic's name"
    )
    create_topics: bool = Field(True, description="create missing topics at start")
    partitions: int = Field(3, ge=1, le=10_000, description="of topics that we create")
    replication_factor: int = Field(1, ge=1, le=10, description="of topics that we create")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = Field(
        None, description="from the environment or sasl_password_file only"
    )
    sasl_password_file: Path | None = None
    ssl_ca_file: Path | None = Field(None, description="PEM of the brokers' certificate authority")

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


class Elasticsearch(_Group):
    """How to reach Elasticsearch, and how its indices are named."""

    url: str = Field("http://127.0.0.1:9200", pattern=r"^https?://[^\s]+$")
    username: str | None = None
    password: SecretStr | None = Field(None, description="from the environment or password_file only")
    password_file: Path | None = None
    ca_file: Path | None = None
    index_prefix: str = Field("", pattern=r"^[a-z0-9._-]{0,100}$", description="put before every index' name")
    shards: Shards = Field(1, description="of each index")
    topic_shards: dict[str, Shards] = Field(
        default_factory=dict, description="by topic, instead of shards, such as more for gateway.access-logs"
    )
    replicas: int = Field(0, ge=0, le=10, description="further copies of each shard")
    refresh_seconds: Seconds | None = Field(
        None, description="how often new documents become visible; default: the server's own, about a second"
    )
    best_compression: tuple[str, ...] = Field(
        (ACCESS_LOGS.name, INFERENCE_LOGS.name, LATE.name),
        description="topics whose indices are a quarter to a third smaller, and slower to fetch many documents from",
    )
    sorted_indices: bool = Field(
        True,
        description="rows lie on disk by level, task, replica and time, logs by task, newest first; for new indices",
    )
    keep_days: dict[str, Annotated[int, Field(ge=1, le=36_500)]] = Field(
        default_factory=dict, description="by topic, instead of the default: days that are kept beside today"
    )

    @field_validator("topic_shards", "best_compression")
    @classmethod
    def _topics_that_there_are(cls, named: _Named) -> _Named:
        known = [topic.name for topic in ALL_TOPICS]
        if unknown := set(named) - set(known):
            raise ValueError(f"{min(unknown)!r} is no topic that is indexed; there are {', '.join(known)}")
        return named

    def basic_auth(self) -> tuple[str, str] | None:
        """User and password, or None where no user is set."""
        if self.username is None:
            return None
        secret = self.password.get_secret_value() if self.password else ""
        if self.password is None and self.password_file:
            secret = self.password_file.read_text().strip()
        return self.username, secret


class Flink(_Group):
    """Where jobs run, and how they recover."""

    rest_address: str = Field(
        "127.0.0.1:8081", pattern=r"^[^\s:]+:\d+$", description="JobManager, for submit"
    )
    parallelism: int = Field(1, ge=1, le=1024)
    checkpoint_dir: Path | None = Field(None, description="default: flink/checkpoints in the state folder")
    checkpoint_interval_seconds: Seconds = 10
    restart_initial_backoff_seconds: Seconds = 1
    restart_max_backoff_seconds: Seconds = 60
    options: dict[str, str] = Field(
        default_factory=dict, description="any other Flink option, such as 'table.exec.mini-batch.size'"
    )


class AccessLog(_Group):
    """Identity: how a line of the gateway's log becomes department, task, version and replica."""

    service_prefix: str = Field("service-", description="cut from the service's name to get the task")
    departments: dict[str, str] = Field(
        default_factory=dict, description="namespace to department; others are their own department"
    )
    max_tasks_per_department: int = Field(5000, ge=1, description="further tasks fold into __overflow__")

    @field_validator("departments")
    @classmethod
    def _department_names(cls, departments: dict[str, str]) -> dict[str, str]:
        for namespace, department in departments.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", department):
                raise ValueError(
                    f"department {department!r} of namespace {namespace!r} is not [A-Za-z0-9._-]{{1,128}}"
                )
        return departments


class ServiceMetrics(_Group):
    """The job service-metrics: time and targets."""

    watermark_delay_seconds: float = Field(
        2, ge=0, le=3600, description="how long a second waits for its lines"
    )
    idle_partition_seconds: Seconds = Field(5, description="after that a silent partition holds nobody up")
    max_ahead_seconds: Seconds = Field(
        60, description="a line that claims to end this long after Kafka got it is a dead letter"
    )
    apdex_target_ms: int = Field(500, ge=1, le=3_600_000)
    consumer_group: str = Field("tidegate-service-metrics", min_length=1)


class Shipper(_Group):
    """`tidegate ship`: files to Kafka."""

    files: tuple[str, ...] = Field((), description="glob patterns of the files to follow")
    state_dir: Path | None = Field(
        None, description="where offsets are kept; default: ship in the state folder"
    )
    max_line_bytes: int = Field(1_048_576, ge=1024, le=67_108_864)
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = "lz4"
    linger_ms: int = Field(50, ge=0, le=10_000)
    batch_bytes: int = Field(1_000_000, ge=1024)
    buffer_mib: int = Field(64, ge=4, le=2048, description="lines in memory that Kafka hasn't taken yet")
    poll_ms: int = Field(100, ge=1, le=60_000, description="how often a file's end is looked at")
    rotated_wait_seconds: Seconds = Field(
        5, description="a rotated file that hasn't grown for so long is at its end"
    )
    flush_seconds: Seconds = Field(10, description="how long Kafka may take for the last lines at the end")


_PLACE = re.compile(r"\{([a-z_]*)\}")
LOG_PLACES = ("department", "namespace", "task", "pod", "replica", "any")


class ServiceLogs(_Group):
    """`tidegate ship --services`: the logs of the services to Kafka. How it is sent is as of `shipper`."""

    files: tuple[str, ...] = Field(
        (), description=f"glob patterns; what {{{'}, {'.join(LOG_PLACES)}}} match says whose log it is"
    )
    state_dir: Path | None = Field(
        None, description="where offsets are kept; default: ship-services in the state folder"
    )
    record_wait_seconds: Seconds = Field(
        1, description="a last record is complete when nothing has come for so long"
    )

    @field_validator("files")
    @classmethod
    def _names_a_task(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in files:
            places = set(_PLACE.findall(pattern))
            if unknown := places - set(LOG_PLACES):
                raise ValueError(f"{pattern!r}: {{{min(unknown)}}} is none of {', '.join(LOG_PLACES)}")
            if not places & {"task", "pod"} or not places & {"department", "namespace"}:
                raise ValueError(
                    f"{pattern!r} must have {{task}} or {{pod}}, and {{department}} or {{namespace}}, "
                    "so that it is known whose log it is"
                )
        return files


class Lookup(_Group):
    """`tidegate logs`, `tidegate trace`."""

    trace_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]*\{trace_id\}[^\s]*$",
        description="a trace's page in Jaeger, Tempo or SkyWalking, with {trace_id} in it",
    )


class Ui(_Group):
    """`tidegate ui`: a page to look at, without Grafana. It only reads, and asks nobody who they are."""

    host: str = Field(
        "127.0.0.1", description="for others than this machine, put a proxy that knows them before it"
    )
    port: int = Field(8090, ge=0, le=65535, description="0: any free one")
    source: Literal["auto", "elasticsearch", "kafka"] = Field(
        "auto", description="auto: Elasticsearch where it answers and has rows of a second, else Kafka"
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), description="names under which browsers may ask; * for any"
    )
    kafka_minutes: int = Field(
        15, ge=1, le=1440, description="how far back seconds are read from Kafka at the start"
    )
    kafka_mib: int = Field(256, ge=16, le=65_536, description="windows from Kafka in memory, as JSON")


class Indexer(_Group):
    """`tidegate index`: topics to Elasticsearch."""

    consumer_group: str = Field("tidegate-indexer", min_length=1)
    bulk_documents: int = Field(2000, ge=1, le=100_000)
    bulk_bytes: int = Field(8_388_608, ge=1024)
    flush_ms: int = Field(500, ge=10, le=60_000)
    max_backoff_seconds: Seconds = 30
    request_timeout_seconds: Seconds = 30


class Stack(_Group):
    """The local servers of `tidegate up`. A port of 0 means any free one."""

    state_dir: Path = Path(".tidegate")
    kafka_port: Port = 0
    elasticsearch_port: Port = 0
    flink_rest_port: Port = 0
    envoy_port: Port = 0
    envoy_admin_port: Port = 0
    kafka_heap_mib: int = Field(512, ge=256)
    elasticsearch_heap_mib: int = Field(512, ge=256)
    elasticsearch_user: str | None = Field(
        None,
        description="who runs it when root starts it; default: elasticsearch if that user exists, else nobody",
    )
    jobmanager_memory_mib: int = Field(1024, ge=768, description="total process memory")
    taskmanager_memory_mib: int = Field(2048, ge=1024, description="total process memory")
    taskmanager_slots: int = Field(6, ge=1, description="one for each job of parallelism 1")
    envoy_flush_ms: int = Field(200, ge=10, le=60_000, description="how often Envoy writes its access log")
    envoy_concurrency: int = Field(1, ge=1, le=64, description="Envoy's worker threads")
    start_timeout_seconds: Seconds = 120


class Settings(BaseSettings):
    """Everything that can be set. `load` is how a command gets it."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: Kafka = Field(default_factory=Kafka)
    elasticsearch: Elasticsearch = Field(default_factory=Elasticsearch)
    flink: Flink = Field(default_factory=Flink)
    access_log: AccessLog = Field(default_factory=AccessLog)
    service_metrics: ServiceMetrics = Field(default_factory=ServiceMetrics)
    shipper: Shipper = Field(default_factory=Shipper)
    service_logs: ServiceLogs = Field(default_factory=ServiceLogs)
    lookup: Lookup = Field(default_factory=Lookup)
    ui: Ui = Field(default_factory=Ui)
    indexer: Indexer = Field(default_factory=Indexer)
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    watcher: Watcher = Field(default_factory=Watcher)
    replica_changes: ReplicaChanges = Field(default_factory=ReplicaChanges)
    catalog: Catalog = Field(default_factory=Catalog)
    limits: Limits = Field(default_factory=Limits)
    manager: Manager = Field(default_factory=Manager)
    remote_write: RemoteWrite = Field(default_factory=RemoteWrite)
    resource_metrics: ResourceMetrics = Field(default_factory=ResourceMetrics)
    task_profile: ProfileSettings = Field(default_factory=ProfileSettings)
    alerts: Alerts = Field(default_factory=Alerts)
    autoscaling: Autoscaling = Field(default_factory=Autoscaling)
    call_statistics: CallStatistics = Field(default_factory=CallStatistics)
    stack: Stack = Field(default_factory=Stack)

    def checkpoint_dir(self) -> Path:
        """Where Flink's checkpoints go."""
        return self.flink.checkpoint_dir or self.stack.state_dir.absolute() / "flink" / "checkpoints"

    def shipper_state_dir(self) -> Path:
        """Where the shipper keeps its offsets."""
        return self.shipper.state_dir or self.stack.state_dir.absolute() / "ship"

    def service_logs_state_dir(self) -> Path:
        """Where the shipper of services' logs keeps its offsets."""
        return self.service_logs.state_dir or self.stack.state_dir.absolute() / "ship-services"


_SECRETS = ("kafka.sasl_password", "elasticsearch.password", "limits.manager_token")


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of all layers, validated.

    config: the TOML file; None means `tidegate.toml` in this folder, where it exists.
    overrides: what the command line gave, by dotted name: {"kafka.topic_prefix": "test."}.

    Raises SettingsError naming every wrong field, its value's layer and what is allowed.
    """
    from_file = _read_toml(config)
    for secret in _SECRETS:
        group, name = secret.split(".")
        if name in from_file.get(group, {}):
            raise SettingsError(
                f"{config or CONFIG_FILE}: {secret} must not stand in a file that gets committed; "
                f"set TIDEGATE_{group.upper()}__{name.upper()} or {secret}_file"
            )
    nested: dict[str, Any] = {}
    for name, value in (overrides or {}).items():
        group, _, field = name.partition(".")
        if not field:
            raise SettingsError(f"{name}: a setting is GROUP.NAME, such as kafka.bootstrap_servers")
        nested.setdefault(group, {})[field] = value

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            layers = (init_settings, env_settings, InitSettingsSource(settings_cls, from_file))
            state_dir = Stack().state_dir
            for layer in reversed(layers):
                state_dir = Path(layer().get("stack", {}).get("state_dir", state_dir))
            return (*layers, InitSettingsSource(settings_cls, _stack_defaults(state_dir)))

    try:
        return Layered(**nested)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error
    except SourceError as error:
        raise SettingsError(f"environment: {error}") from error


def _read_toml(config: Path | None) -> dict[str, Any]:
    path = config or Path(CONFIG_FILE)
    if config is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def _stack_defaults(state_dir: Path) -> dict[str, Any]:
    """The addresses of the servers that `tidegate up` has running, where it has any."""
    path = state_dir / STACK_FILE
    try:
        addresses = json.loads(path.read_text()).get("settings", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (json.JSONDecodeError, AttributeError) as error:
        raise SettingsError(
            f"{path}: damaged ({error}); end the servers that it names by hand, then remove it"
        ) from error
    return dict(addresses)


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        environment = "TIDEGATE_" + "__".join(str(part).upper() for part in item["loc"][:2])
        lines.append(f"{where}: {item['msg']} (set it in {CONFIG_FILE} or as {environment})")
    return "\n".join(lines)
