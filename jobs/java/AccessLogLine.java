package io.tidegate.flink;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Reads one line of the gateway's JSON access log.
 *
 * <p>Only what the metrics need is decoded; the rest of the line is checked to be JSON and skipped. Not thread safe:
 * one instance a source reader.
 */
final class AccessLogLine {

    static final List<String> COLUMNS =
            List.of(
                    "line",
                    "kind",
                    "reason",
                    "event_time",
                    "closes_at",
                    "upstream_cluster",
                    "upstream_host",
                    "duration_us",
                    "service_time_us",
                    "outcome",
                    "response_flags",
                    "bytes_received",
                    "bytes_sent",
                    "response_duration_us",
                    "grpc_status",
                    "retries",
                    "input_tokens",
                    "output_tokens",
                    "upgraded",
                    "request_id",
                    "traceparent");

    /** The column that a table may have after these: it is read only then. */
    static final String CLIENT = "client";

    /** Values of the column kind. */
    static final byte REQUEST = 0;

    static final byte SKIPPED = 1;
    static final byte DEAD = 2;
    static final byte TCP = 3;

    private static final long MAX_EVENT_MS = 7_289_654_400_000L; // 2201-01-01

    /** Of one request's tokens and attempts: more is read as unknown, so that no sum of a window can overflow. */
    private static final long MAX_COUNT = 1_000_000_000L;

    private static final String START_OUT_OF_RANGE = "start_time: out of range (1970 to 2200)";

    /** By gRPC status, as the counts of a row name it. */
    private static final BinaryStringData[] GRPC_STATUSES = new BinaryStringData[GrpcStatus.MAX + 1];

    static {
        for (int status = 0; status < GRPC_STATUSES.length; status++) {
            GRPC_STATUSES[status] = BinaryStringData.fromString(Integer.toString(status));
            GRPC_STATUSES[status].ensureMaterialized();
        }
    }

    private static final TimestampData NO_EVENT_TIME = TimestampData.fromEpochMillis(0);

    private final Texts texts = new Texts();
    private final FlatLineReader flat;
    private final JsonLineReader json;
    private final boolean withClient;
    private final LineFields fields = new LineFields();
    private final StartTime startTime = new StartTime();
    private final Envelope envelope = new Envelope();

    private TimestampData closesAt = NO_EVENT_TIME;

    /** nameKey: the key that names department and task; the cluster where a line lacks it. */
    AccessLogLine(boolean withClient, String nameKey) {
        this.withClient = withClient;
        flat = new FlatLineReader(texts, withClient, nameKey);
        json = new JsonLineReader(texts, withClient, nameKey);
    }

    static List<String> columnsWithClient() {
        List<String> columns = new ArrayList<>(COLUMNS);
        columns.add(CLIENT);
        return columns;
    }

    /** The line's row; never null, never an exception. */
    RowData read(byte[] line) {
        String wrong = readFields(line);
        if (wrong == null && fields.periodic) {
            return row(line, SKIPPED, null, NO_EVENT_TIME);
        }
        long startMs = StartTime.UNREADABLE;
        if (wrong == null) {
            startMs = fields.startTime == null ? startMs : startTime.epochMs(fields.startTime);
            wrong = wrongField(startMs);
        }
        if (wrong != null) {
            return row(line, DEAD, wrong, NO_EVENT_TIME);
        }
        if (fields.isTcp()) {
            return row(line, TCP, null, NO_EVENT_TIME);
        }
        long eventMs = startMs + fields.durationMs;
        if (eventMs >= MAX_EVENT_MS) {
            return row(line, DEAD, START_OUT_OF_RANGE, NO_EVENT_TIME);
        }
        GenericRowData row = row(line, REQUEST, null, TimestampData.fromEpochMillis(eventMs));
        row.setField(4, closesAt(eventMs));
        BinaryStringData name = known(fields.name);
        row.setField(5, name == null ? known(fields.cluster) : name);
        row.setField(6, known(fields.host));
        boolean upgraded = fields.isUpgraded();
        // How long an upgraded connection stayed open is no duration of a request.
        row.setField(7, upgraded ? null : given(fields.durationUs));
        row.setField(8, given(fields.serviceTimeUs));
        row.setField(9, Outcome.of(fields));
        row.setField(10, known(fields.flags));
        row.setField(11, Math.max(0, fields.bytesReceived));
        row.setField(12, Math.max(0, fields.bytesSent));
        row.setField(13, upgraded ? null : given(fields.responseDurationUs));
        row.setField(14, fields.hasGrpcStatus() ? GRPC_STATUSES[(int) fields.grpcStatus] : null);
        row.setField(15, isCount(fields.attempts) ? (Object) Math.max(0, fields.attempts - 1) : null);
        row.setField(16, isCount(fields.inputTokens) ? (Object) fields.inputTokens : null);
        row.setField(17, isCount(fields.outputTokens) ? (Object) fields.outputTokens : null);
        row.setField(18, upgraded);
        row.setField(19, fields.requestId);
        row.setField(20, fields.traceparent);
        if (withClient) {
            row.setField(21, known(fields.client));
        }
        return row;
    }

    /** Fills the fields from the line, out of its envelope if it has one; returns what is wrong with it, or null. */
    private String readFields(byte[] line) {
        String wrong = flat.read(line, fields) ? null : json.read(line, fields);
        if ((wrong == null && (fields.startTime != null || fields.periodic)) || line.length == 0) {
            return wrong;
        }
        byte[] inner = envelope.open(line);
        if (inner == null) {
            return wrong;
        }
        wrong = flat.read(inner, fields) ? null : json.read(inner, fields);
        return wrong != null && Envelope.isPart(line) ? Envelope.PART : wrong;
    }

    private GenericRowData row(byte[] line, byte kind, String reason, TimestampData eventTime) {
        GenericRowData row = new GenericRowData(withClient ? COLUMNS.size() + 1 : COLUMNS.size());
        row.setField(0, line);
        row.setField(1, kind);
        row.setField(2, reason == null ? null : BinaryStringData.fromString(reason));
        row.setField(3, eventTime);
        return row;
    }

    /** The last millisecond of the event's second: once the watermark is there, the second's window is closed. */
    private TimestampData closesAt(long eventMs) {
        long lastMs = eventMs - eventMs % 1000 + 999;
        if (lastMs != closesAt.getMillisecond()) {
            closesAt = TimestampData.fromEpochMillis(lastMs);
        }
        return closesAt;
    }

    /** What is wrong with the fields that must be right, or null. */
    private String wrongField(long startMs) {
        if (fields.startTime == null) {
            return "start_time: unknown";
        }
        if (startMs == StartTime.UNREADABLE) {
            return StartTime.unreadable(fields.startTime);
        }
        if (startMs < 0 || startMs >= MAX_EVENT_MS) {
            return START_OUT_OF_RANGE;
        }
        if (fields.durationUs == LineFields.UNREADABLE) {
            return "duration: neither a number of milliseconds nor unknown";
        }
        return fields.durationUs == LineFields.OUT_OF_RANGE ? "duration: out of range (0 to 1e10 ms)" : null;
    }

    private static boolean isCount(long number) {
        return number >= 0 && number <= MAX_COUNT;
    }

    /** A number that is known, or null. */
    private static Long given(long number) {
        return number < 0 ? null : number;
    }

    private static BinaryStringData known(Texts.Text text) {
        return text == null ? null : text.known;
    }
}
