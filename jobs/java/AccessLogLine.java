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
                    "bytes_sent");

    /** The column that a table may have after these: it is read only then. */
    static final String CLIENT = "client";

    /** Values of the column kind. */
    static final byte REQUEST = 0;

    static final byte SKIPPED = 1;
    static final byte DEAD = 2;

    /** Values of the column outcome: each request has one. */
    static final byte OK = 0;

    static final byte ERROR_4XX = 1;
    static final byte ERROR_5XX = 2;
    static final byte ABORTED = 3;
    static final byte RATE_LIMITED = 4;

    private static final long MAX_EVENT_MS = 7_289_654_400_000L; // 2201-01-01
    private static final String START_OUT_OF_RANGE = "start_time: out of range (1970 to 2200)";

    private static final TimestampData NO_EVENT_TIME = TimestampData.fromEpochMillis(0);

    private final Texts texts = new Texts();
    private final FlatLineReader flat;
    private final JsonLineReader json;
    private final boolean withClient;
    private final LineFields fields = new LineFields();
    private final StartTime startTime = new StartTime();
    private final Envelope envelope = new Envelope();

    private TimestampData closesAt = NO_EVENT_TIME;

    AccessLogLine(boolean withClient) {
        this.withClient = withClient;
        flat = new FlatLineReader(texts, withClient);
        json = new JsonLineReader(texts, withClient);
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
        long eventMs = startMs + fields.durationMs;
        if (eventMs >= MAX_EVENT_MS) {
            return row(line, DEAD, START_OUT_OF_RANGE, NO_EVENT_TIME);
        }
        GenericRowData row = row(line, REQUEST, null, TimestampData.fromEpochMillis(eventMs));
        row.setField(4, closesAt(eventMs));
        row.setField(5, known(fields.cluster));
        row.setField(6, known(fields.host));
        row.setField(7, fields.durationUs == LineFields.UNKNOWN ? null : (Object) fields.durationUs);
        row.setField(8, fields.serviceTimeUs < 0 ? null : (Object) fields.serviceTimeUs);
        row.setField(9, outcome());
        row.setField(10, known(fields.flags));
        row.setField(11, Math.max(0, fields.bytesReceived));
        row.setField(12, Math.max(0, fields.bytesSent));
        if (withClient) {
            row.setField(13, known(fields.client));
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

    private byte outcome() {
        if (fields.limitedByDetails || (fields.flags != null && fields.flags.hasRateLimitFlag)) {
            return RATE_LIMITED;
        }
        long code = fields.responseCode;
        if (code == 0) {
            return ABORTED;
        }
        if (code >= 500 && code < 600) {
            return ERROR_5XX;
        }
        return code >= 400 && code < 500 ? ERROR_4XX : OK;
    }

    private static BinaryStringData known(Texts.Text text) {
        return text == null ? null : text.known;
    }
}
