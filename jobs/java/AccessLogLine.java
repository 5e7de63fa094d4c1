package io.tidegate.flink;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Reads one line of the gateway's JSON access log.
 *
 * <p>Only what the metrics need is decoded; the rest of the line is checked to be JSON and skipped. Text that repeats
 * (clusters, hosts, flags) is decoded once and kept. Not thread safe: one instance a source reader.
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

    /** A duration past this, in ms (115 days), would put the event out of any window's reach. */
    private static final double MAX_DURATION_MS = 1e10;

    private static final long MAX_EVENT_MS = 7_289_654_400_000L; // 2201-01-01

    private static final int CACHED_TEXTS = 50_000;
    private static final long UNKNOWN = Long.MIN_VALUE;
    private static final long UNREADABLE = Long.MIN_VALUE + 1;
    private static final long OUT_OF_RANGE = Long.MIN_VALUE + 2;

    /** Compared by identity: no number has these texts. */
    private static final String UNKNOWN_NUMBER = "unknown";

    private static final String NO_NUMBER = "no number";

    private static final Pattern JSON_NUMBER =
            Pattern.compile("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");

    private static final double MAX_WHOLE = 9_007_199_254_740_992.0;
    private static final BigDecimal MOST_WHOLE = BigDecimal.valueOf(9_007_199_254_740_991L);
    private static final BigDecimal MOST_MS = BigDecimal.valueOf(10_000_000_000L);

    private static final VarHandle LONGS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private static final TimestampData NO_EVENT_TIME = TimestampData.fromEpochMillis(0);

    private final JsonFactory json = new JsonFactory();
    private final Map<String, BinaryStringData> texts = new HashMap<>();
    private final StartTime startTime = new StartTime();

    private TimestampData closesAt = NO_EVENT_TIME;

    // The line at hand.
    private String startText;
    private long startMs;
    private long durationUs;
    private long durationMs;
    private long serviceTimeUs;
    private long responseCode;
    private long bytesReceived;
    private long bytesSent;
    private boolean limitedByDetails;
    private boolean periodic;
    private String flags;
    private String cluster;
    private String host;

    /** The line's row; never null, never an exception. */
    RowData read(byte[] line) {
        String wrong = isUtf8(line) ? parse(line) : "line: not UTF-8";
        if (wrong == null && periodic) {
            return row(line, SKIPPED, null, NO_EVENT_TIME);
        }
        if (wrong == null) {
            wrong = check();
        }
        if (wrong != null) {
            return row(line, DEAD, wrong, NO_EVENT_TIME);
        }
        long eventMs = startMs + durationMs;
        if (eventMs < 0 || eventMs >= MAX_EVENT_MS) {
            return row(line, DEAD, "start_time: out of range (1970 to 2200)", NO_EVENT_TIME);
        }
        GenericRowData row = row(line, REQUEST, null, TimestampData.fromEpochMillis(eventMs));
        row.setField(4, closesAt(eventMs));
        row.setField(5, kept(cluster));
        row.setField(6, kept(host));
        row.setField(7, durationUs == UNKNOWN ? null : (Object) durationUs);
        row.setField(8, serviceTimeUs < 0 ? null : (Object) serviceTimeUs);
        row.setField(9, outcome());
        row.setField(10, kept(flags));
        row.setField(11, Math.max(0, bytesReceived));
        row.setField(12, Math.max(0, bytesSent));
        return row;
    }

    private GenericRowData row(byte[] line, byte kind, String reason, TimestampData eventTime) {
        GenericRowData row = new GenericRowData(COLUMNS.size());
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
    private String check() {
        if (startText == null) {
            return "start_time: unknown";
        }
        startMs = startTime.epochMs(startText);
        if (startMs == StartTime.UNREADABLE) {
            return "start_time: not ISO 8601 with a zone";
        }
        if (durationUs == UNREADABLE) {
            return "duration: neither a number of milliseconds nor unknown";
        }
        return durationUs == OUT_OF_RANGE ? "duration: out of range (0 to 1e10 ms)" : null;
    }

    private byte outcome() {
        if (limitedByDetails || (flags != null && hasRateLimitFlag(flags))) {
            return RATE_LIMITED;
        }
        if (responseCode == 0) {
            return ABORTED;
        }
        if (responseCode >= 500 && responseCode < 600) {
            return ERROR_5XX;
        }
        return responseCode >= 400 && responseCode < 500 ? ERROR_4XX : OK;
    }

    private static boolean hasRateLimitFlag(String flags) {
        for (int at = flags.indexOf("RL"); at >= 0; at = flags.indexOf("RL", at + 1)) {
            if (endsFlag(flags, at - 1, -1) && endsFlag(flags, at + 2, 1)) {
                return true;
            }
        }
        return false;
    }

    /** Whether only blanks lie between a position and the next comma, or the text's end, in one direction. */
    private static boolean endsFlag(String flags, int at, int step) {
        while (at >= 0 && at < flags.length() && flags.charAt(at) == ' ') {
            at += step;
        }
        return at < 0 || at >= flags.length() || flags.charAt(at) == ',';
    }

    /** Reads the fields; returns what is wrong with the line as JSON, or null. */
    private String parse(byte[] line) {
        startText = null;
        durationUs = UNKNOWN;
        durationMs = 0;
        serviceTimeUs = UNKNOWN;
        responseCode = UNKNOWN;
        bytesReceived = UNKNOWN;
        bytesSent = UNKNOWN;
        limitedByDetails = false;
        periodic = false;
        flags = null;
        cluster = null;
        host = null;
        if (startsAsOtherEncoding(line)) {
            return "line: not JSON";
        }
        try (JsonParser parser = json.createParser(line)) {
            JsonToken first = parser.nextToken();
            if (first != JsonToken.START_OBJECT) {
                return first == null ? "line: empty" : "line: not a JSON object";
            }
            // A key that stands twice: the last one counts, as in most JSON readers.
            for (String key = parser.nextFieldName(); key != null; key = parser.nextFieldName()) {
                JsonToken value = parser.nextToken();
                switch (key) {
                    case "start_time":
                        startText = text(parser, value);
                        break;
                    case "duration":
                        readDuration(parser, value);
                        break;
                    case "upstream_service_time":
                        serviceTimeUs = micros(parser, value);
                        break;
                    case "response_code":
                        responseCode = whole(parser, value);
                        break;
                    case "bytes_received":
                        bytesReceived = whole(parser, value);
                        break;
                    case "bytes_sent":
                        bytesSent = whole(parser, value);
                        break;
                    case "response_flags":
                        flags = text(parser, value);
                        break;
                    case "response_code_details":
                        limitedByDetails = "local_rate_limited".equals(text(parser, value));
                        break;
                    case "upstream_cluster":
                        cluster = text(parser, value);
                        break;
                    case "upstream_host":
                        host = text(parser, value);
                        break;
                    case "access_log_type":
                        String type = text(parser, value);
                        periodic = type != null && !type.equals("DownstreamEnd");
                        break;
                    default:
                        break;
                }
                if (value.isStructStart()) {
                    parser.skipChildren();
                }
            }
            if (parser.currentToken() != JsonToken.END_OBJECT) {
                return "line: not JSON";
            }
            return parser.nextToken() == null ? null : "line: not one JSON object, more follows it";
        } catch (IOException error) {
            return "line: not JSON";
        }
    }

    /** A text that says something; null where it is no text, blank or "-". */
    private static String text(JsonParser parser, JsonToken value) throws IOException {
        if (value != JsonToken.VALUE_STRING) {
            return null;
        }
        String text = parser.getText();
        return isUnknown(text) ? null : text;
    }

    private static boolean isUnknown(String text) {
        int known = 0;
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) != ' ') {
                known++;
                if (known > 1 || text.charAt(i) != '-') {
                    return false;
                }
            }
        }
        return true;
    }

    /** The text of a JSON number, or of a text that is one; UNKNOWN_NUMBER or NO_NUMBER where it is neither. */
    private static String numberText(JsonParser parser, JsonToken value) throws IOException {
        if (value.isNumeric()) {
            return parser.getText();
        }
        if (value == JsonToken.VALUE_NULL) {
            return UNKNOWN_NUMBER;
        }
        if (value != JsonToken.VALUE_STRING) {
            return NO_NUMBER;
        }
        String text = parser.getText();
        if (isUnknown(text)) {
            return UNKNOWN_NUMBER;
        }
        int from = 0;
        int to = text.length();
        while (text.charAt(from) == ' ') {
            from++;
        }
        while (text.charAt(to - 1) == ' ') {
            to--;
        }
        text = text.substring(from, to);
        return JSON_NUMBER.matcher(text).matches() ? text : NO_NUMBER;
    }

    private static boolean isShortInteger(JsonParser parser, JsonToken value) throws IOException {
        return value == JsonToken.VALUE_NUMBER_INT && parser.getTextLength() <= 10;
    }

    /** The duration, in µs half up and in ms cut off; UNREADABLE and OUT_OF_RANGE are for {@link #check}. */
    private void readDuration(JsonParser parser, JsonToken value) throws IOException {
        durationMs = 0;
        if (isShortInteger(parser, value)) {
            durationMs = parser.getLongValue();
            durationUs = durationMs < 0 ? UNREADABLE : durationMs * 1000;
            return;
        }
        String text = numberText(parser, value);
        if (text == UNKNOWN_NUMBER || text == NO_NUMBER) {
            durationUs = text == UNKNOWN_NUMBER ? UNKNOWN : UNREADABLE;
            return;
        }
        durationUs = thousandths(text);
        if (durationUs > 0) {
            durationMs = Double.parseDouble(text) < 1e-4 ? 0 : new BigDecimal(text).longValue();
        }
    }

    /** A time in µs, half up; below 0 where it is unknown or no time. */
    private static long micros(JsonParser parser, JsonToken value) throws IOException {
        if (isShortInteger(parser, value)) {
            return parser.getLongValue() * 1000;
        }
        String text = numberText(parser, value);
        return text == UNKNOWN_NUMBER || text == NO_NUMBER ? UNKNOWN : thousandths(text);
    }

    /** A whole number from 0 to 2^53 - 1, or UNKNOWN. */
    private static long whole(JsonParser parser, JsonToken value) throws IOException {
        if (isShortInteger(parser, value)) {
            return parser.getLongValue();
        }
        String text = numberText(parser, value);
        if (text == UNKNOWN_NUMBER || text == NO_NUMBER) {
            return UNKNOWN;
        }
        double near = Double.parseDouble(text);
        if (near > MAX_WHOLE || (near != 0 && near < 1) || near < 0) {
            return UNKNOWN;
        }
        if (near == 0) {
            return isZero(text) ? 0 : UNKNOWN;
        }
        BigDecimal exact = new BigDecimal(text);
        return exact.stripTrailingZeros().scale() <= 0 && exact.compareTo(MOST_WHOLE) <= 0
                ? exact.longValueExact()
                : UNKNOWN;
    }

    /** Whether a number's text has no digit but 0 before its exponent: not merely too small for a double. */
    private static boolean isZero(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == 'e' || c == 'E') {
                return true;
            }
            if (c >= '1' && c <= '9') {
                return false;
            }
        }
        return true;
    }

    private static long thousandths(String text) {
        double near = Double.parseDouble(text);
        if (text.charAt(0) == '-') {
            return isZero(text) ? 0 : UNREADABLE;
        }
        // The bounds are checked before BigDecimal, for which 1e999999999 would be a very long number.
        if (near > MAX_DURATION_MS) {
            return OUT_OF_RANGE;
        }
        if (near < 1e-4) {
            return 0;
        }
        BigDecimal exact = new BigDecimal(text);
        return exact.compareTo(MOST_MS) > 0
                ? OUT_OF_RANGE
                : exact.movePointRight(3).setScale(0, RoundingMode.HALF_UP).longValueExact();
    }

    /** Jackson would read UTF-16 and UTF-32 too, and a byte order mark. */
    private static boolean startsAsOtherEncoding(byte[] line) {
        for (int at = 0; at < Math.min(4, line.length); at++) {
            if (line[at] == 0) {
                return true;
            }
        }
        return line.length > 0 && line[0] == (byte) 0xEF;
    }

    private BinaryStringData kept(String text) {
        if (text == null) {
            return null;
        }
        BinaryStringData known = texts.get(text);
        if (known == null) {
            if (texts.size() >= CACHED_TEXTS) {
                texts.clear();
            }
            known = BinaryStringData.fromString(text);
            known.ensureMaterialized();
            texts.put(text, known);
        }
        return known;
    }

    private static boolean isUtf8(byte[] line) {
        int at = 0;
        for (; at + 32 <= line.length; at += 32) {
            long bits =
                    (long) LONGS.get(line, at)
                            | (long) LONGS.get(line, at + 8)
                            | (long) LONGS.get(line, at + 16)
                            | (long) LONGS.get(line, at + 24);
            if ((bits & 0x8080808080808080L) != 0) {
                return decodes(line);
            }
        }
        for (; at < line.length; at++) {
            if (line[at] < 0) {
                return decodes(line);
            }
        }
        return true;
    }

    private static boolean decodes(byte[] line) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line));
            return true;
        } catch (CharacterCodingException error) {
            return false;
        }
    }
}
