"""All settings, grouped by what they govern.

Defaults < the running local stack < `tidegate.toml` < environment `TIDEGATE_GROUP__NAME` < command line.
Loaded and validated whole, once, at the start: all errors are reported at once. Every field has a description:
`tidegate settings` prints it, and docs/settings.md is made from it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
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

from tidegate.schemas import topics
from tidegate.schemas.settings.limits import Catalog, Kubernetes, Limits, Manager, ReplicaChanges, Watcher
from tidegate.schemas.settings.signals import (
    Alerts,
    Autoscaling,
    CallStatistics,
    ProfileSettings,
    RemoteWrite,
    ResourceMetrics,
)
from tidegate.schemas.topics import ACCESS_LOGS, INFERENCE_LOGS, LATE, Topic

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


class Elasticsearch(_Group):
    """How to reach Elasticsearch, and how its indices are named."""

    url: str = Field(
        "http://127.0.0.1:9200", pattern=r"^https?://[^\s]+$", description="address of the server"
    )
    username: str | None = Field(None, description="user of HTTP basic authentication; default: none")
    password: SecretStr | None = Field(
        None, description="the user's password; from the environment or password_file only"
    )
    password_file: Path | None = Field(None, description="file that holds the user's password")
    ca_file: Path | None = Field(None, description="PEM file of the server's certificate authority")
    index_prefix: str = Field(
        "", pattern=r"^[a-z0-9._-]{0,100}$", description="prefix of every index' and template's name"
    )
    shards: Shards = Field(1, description="primary shards of each index")
    topic_shards: dict[str, Shards] = Field(
        default_factory=dict, description="primary shards by topic, instead of shards"
    )
    replicas: int = Field(0, ge=0, le=10, description="replicas of each shard")
    refresh_seconds: Seconds | None = Field(
        None, description="interval at which new documents become searchable; default: the server's, 1 s"
    )
    best_compression: tuple[str, ...] = Field(
        (ACCESS_LOGS.name, INFERENCE_LOGS.name, LATE.name),
        description="topics whose indices use the codec best_compression: a quarter to a third smaller, slower to read",
    )
    sorted_indices: bool = Field(
        True,
        description="index sorting of new indices: rows by level, task, replica and time, logs by task, newest first",
    )
    keep_days: dict[str, Annotated[int, Field(ge=1, le=36_500)]] = Field(
        default_factory=dict,
        description="retention by topic, in days beside today, instead of the topic's default",
    )

    @field_validator("topic_shards", "best_compression", "keep_days")
    @classmethod
    def _known_topics(cls, named: _Named, info: ValidationInfo) -> _Named:
        topics.require_indexed(named, by_day=info.field_name == "keep_days")
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
        "127.0.0.1:8081",
        pattern=r"^[^\s:]+:\d+$",
        description="host:port of the JobManager's REST API, for submit and keep",
    )
    parallelism: int = Field(1, ge=1, le=1024, description="parallelism of a job")
    checkpoint_dir: Path | None = Field(
        None, description="folder of checkpoints; default: flink/checkpoints in stack.state_dir"
    )
    checkpoint_interval_seconds: Seconds = Field(10, description="interval between checkpoints")
    restart_initial_backoff_seconds: Seconds = Field(
        1, description="delay before the first restart of a failed job; doubles with each further one"
    )
    restart_max_backoff_seconds: Seconds = Field(60, description="longest delay before a restart")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="any other Flink option by its own name, such as table.exec.mini-batch.size",
    )


class AccessLog(_Group):
    """Identity: how a line of the gateway's log becomes department, task, version and replica."""

    service_prefix: str = Field(
        "service-", description="prefix that is cut from the service's name to get the task"
    )
    departments: dict[str, str] = Field(
        default_factory=dict,
        description="department by namespace; any other namespace is a department itself",
    )
    max_tasks_per_department: int = Field(
        5000,
        ge=1,
        description="tasks of a department that have rows of their own; further ones fold into __overflow__",
    )

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
        2, ge=0, le=3600, description="delay of the watermark: how long a window waits for its lines"
    )
    idle_partition_seconds: Seconds = Field(
        5, description="a partition without lines for so long no longer holds the watermark back"
    )
    max_ahead_seconds: Seconds = Field(
        60, description="a line whose event time is further ahead of its Kafka timestamp is a dead letter"
    )
    apdex_target_ms: int = Field(
        500,
        ge=1,
        le=3_600_000,
        description="target latency of the Apdex; up to four times of it is tolerated",
    )
    consumer_group: str = Field(
        "tidegate-service-metrics", min_length=1, description="Kafka consumer group of the job"
    )


class Shipper(_Group):
    """`tidegate ship`: files to Kafka."""

    files: tuple[str, ...] = Field((), description="glob patterns of the log files to follow")
    state_dir: Path | None = Field(
        None, description="folder of the offsets; default: ship in stack.state_dir"
    )
    max_line_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=67_108_864,
        description="longest line that is sent; a longer one is a dead letter",
    )
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = Field(
        "lz4", description="compression of the producer's batches"
    )
    linger_ms: int = Field(50, ge=0, le=10_000, description="how long a batch waits for further lines")
    batch_bytes: int = Field(1_000_000, ge=1024, description="size at which a batch is sent at once")
    buffer_mib: int = Field(
        64,
        ge=4,
        le=2048,
        description="lines in memory that Kafka has not acknowledged yet; then reading waits",
    )
    poll_ms: int = Field(
        100, ge=1, le=60_000, description="interval at which a file is checked for new lines"
    )
    rotated_wait_seconds: Seconds = Field(
        5, description="a rotated file that has not grown for so long is complete"
    )
    flush_seconds: Seconds = Field(
        10, description="at the end: how long Kafka may take to acknowledge the last lines"
    )


_PLACE = re.compile(r"\{([a-z_]*)\}")
LOG_PLACES = ("department", "namespace", "task", "pod", "replica", "any")


class ServiceLogs(_Group):
    """`tidegate ship --services`: the logs of the services to Kafka. How it is sent is as of `shipper`."""

    files: tuple[str, ...] = Field(
        (),
        description=f"glob patterns of the log files; {{{'}, {'.join(LOG_PLACES)}}} in them give the log's task",
    )
    state_dir: Path | None = Field(
        None, description="folder of the offsets; default: ship-services in stack.state_dir"
    )
    record_wait_seconds: Seconds = Field(
        1, description="a file's last record is complete when the file has not grown for so long"
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
        description="URL of a trace's page in Jaeger, Tempo or SkyWalking, with {trace_id} in it",
    )


class Ui(_Group):
    """`tidegate ui`: a page to look at, without Grafana. It only reads, and authenticates nobody."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; beyond loopback, put an authenticating proxy in front"
    )
    port: int = Field(8090, ge=0, le=65535, description="port to listen on; 0: any free one")
    source: Literal["auto", "elasticsearch", "kafka"] = Field(
        "auto",
        description="where rows are read; auto: Elasticsearch if it answers and has rows of 1 s, else Kafka",
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), description="Host headers that are accepted; * for any"
    )
    kafka_minutes: int = Field(
        15, ge=1, le=1440, description="source kafka: how far back rows of 1 s are read at the start"
    )
    kafka_mib: int = Field(256, ge=16, le=65_536, description="source kafka: memory for rows, as JSON")


class Indexer(_Group):
    """`tidegate index`: topics to Elasticsearch."""

    consumer_group: str = Field(
        "tidegate-indexer", min_length=1, description="Kafka consumer group of the indexer"
    )
    bulk_documents: int = Field(2000, ge=1, le=100_000, description="most documents of a bulk request")
    bulk_bytes: int = Field(8_388_608, ge=1024, description="size at which a bulk request is sent at once")
    flush_ms: int = Field(500, ge=10, le=60_000, description="longest wait before a bulk request is sent")
    max_backoff_seconds: Seconds = Field(
        30, description="longest delay between attempts while Elasticsearch is down or overloaded"
    )
    request_timeout_seconds: Seconds = Field(30, description="timeout of a request to Elasticsearch")


class Stack(_Group):
    """The local servers of `tidegate up`. A port of 0 means any free one."""

    state_dir: Path = Field(
        Path(".tidegate"),
        description="state folder: data and logs of the local servers, offsets, checkpoints",
    )
    kafka_port: Port = Field(0, description="port of Kafka")
    elasticsearch_port: Port = Field(0, description="port of Elasticsearch")
    flink_rest_port: Port = Field(0, description="port of Flink's REST API and web UI")
    envoy_port: Port = Field(0, description="port of Envoy's listener")
    envoy_admin_port: Port = Field(0, description="port of Envoy's admin interface")
    kafka_heap_mib: int = Field(512, ge=256, description="Java heap of Kafka")
    elasticsearch_heap_mib: int = Field(512, ge=256, description="Java heap of Elasticsearch")
    elasticsearch_user: str | None = Field(
        None,
        description="user of Elasticsearch when root starts it; default: elasticsearch if it exists, else nobody",
    )
    jobmanager_memory_mib: int = Field(1024, ge=768, description="total process memory of the JobManager")
    taskmanager_memory_mib: int = Field(2048, ge=1024, description="total process memory of the TaskManager")
    taskmanager_slots: int = Field(6, ge=1, description="task slots; a job of parallelism 1 takes one")
    envoy_flush_ms: int = Field(
        200, ge=10, le=60_000, description="interval at which Envoy writes its access log"
    )
    envoy_concurrency: int = Field(1, ge=1, le=64, description="Envoy's worker threads")
    start_timeout_seconds: Seconds = Field(120, description="how long a server may take to be ready")


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


@dataclass(frozen=True)
class Layer:
    """What one source of settings gives, nested by group, as pydantic-settings reads it."""

    source: Literal["command line", "environment", "file", "local stack"]
    path: Path | None
    values: Mapping[str, Any]


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of all layers, validated.

    config: the TOML file; None means `tidegate.toml` in this folder, where it exists.
    overrides: what the command line gave, by dotted name: {"kafka.topic_prefix": "test."}.

    Raises SettingsError naming every wrong field, its value's layer and what is allowed.
    """
    return load_layers(config, overrides)[0]


def load_layers(
    config: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Settings, tuple[Layer, ...]]:
    """As `load`, with the layers that the settings come from, the strongest first. Raises SettingsError."""
    from_file = _read_toml(config)
    wrong = [
        f"{config or CONFIG_FILE}: {secret} must not stand in a file that gets committed; "
        f"set TIDEGATE_{group.upper()}__{name.upper()} or {secret}_file"
        for secret in _SECRETS
        for group, _, name in (secret.partition("."),)
        if name in _group_of(from_file, group)
    ]
    nested: dict[str, Any] = {}
    for name, value in (overrides or {}).items():
        group, _, field = name.partition(".")
        if not field:
            raise SettingsError(f"{name}: a setting is GROUP.NAME, such as kafka.bootstrap_servers")
        nested.setdefault(group, {})[field] = value
    layers: list[Layer] = []

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
            layers[:] = [
                Layer("command line", None, init_settings()),
                Layer("environment", None, env_settings()),
                Layer("file", config or Path(CONFIG_FILE), from_file),
            ]
            state_dir = Stack().state_dir
            for layer in reversed(layers):
                state_dir = Path(_group_of(layer.values, "stack").get("state_dir", state_dir))
            layers.append(Layer("local stack", state_dir / STACK_FILE, _stack_defaults(state_dir)))
            return tuple(InitSettingsSource(settings_cls, dict(layer.values)) for layer in layers)

    try:
        settings = Layered(**nested)
    except ValidationError as error:
        raise SettingsError("\n".join([*wrong, _explain(error)])) from error
    except SourceError as error:
        raise SettingsError("\n".join([*wrong, f"environment: {error}"])) from error
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings, tuple(layers)


def _group_of(values: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """What a source gives for a group; nothing where it isn't a table, which validation reports."""
    found = values.get(group)
    return found if isinstance(found, Mapping) else {}


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
