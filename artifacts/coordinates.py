"""Every Java artifact that tidegate uses, with its pinned version: `group:artifact:packaging:version`."""

FLINK_KAFKA_CONNECTOR = "org.apache.flink:flink-sql-connector-kafka:jar:5.0.0-2.2"
"""One jar with everything that a job needs to read and write Kafka: for `pipeline.jars`."""

RE2J = "com.google.re2j:re2j:jar:1.8"
"""Regular expressions in linear time, for `access_log.name_pattern`: for `pipeline.jars`."""

KAFKA = (
    "org.apache.kafka:kafka_2.13:jar:4.1.1",
    "org.apache.kafka:kafka-tools:jar:4.1.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:jar:2.24.3",
    "org.apache.logging.log4j:log4j-core:jar:2.24.3",
)
"""The broker and its tools, with a log writer: resolve with their dependencies."""

ELASTICSEARCH = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:zip:8.19.21"
"""The real server without its optional modules (see docs/operations.md for what is missing)."""

UPLOT = "org.webjars.npm:uplot:jar:1.6.30"
"""The charts of `tidegate ui`: JavaScript and a style sheet, packed as a jar."""

JAVA_COMPILER = "org.eclipse.jdt:ecj:jar:3.33.0"
"""Eclipse's compiler, which needs no JDK, for the functions in `jobs/java`."""
