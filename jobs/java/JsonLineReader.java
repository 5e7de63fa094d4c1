package io.tidegate.flink;

import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.regex.Pattern;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.table.data.binary.BinaryStringData;

/** Reads any line, by Jackson, and says what is wrong with one that can't be read. Not thread safe. */
final class JsonLineReader {

    /** A duration past this, in ms (115 days), would put the event out of any window's reach. */
    private static final double MAX_DURATION_MS = 1e10;

    /** Compared by identity: no number has these texts. */
    private static final String UNKNOWN_NUMBER = "unknown";

    private static final String NO_NUMBER = "no number";

    private static final Pattern JSON_NUMBER =
            Pattern.compile("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");

    /** Jackson's own limit for a bare number; what reads one takes time by the square of its length. */
    private static final int MAX_NUMBER_LENGTH = 1000;

    private static final double MAX_WHOLE = 9_007_199_254_740_992.0;
    private static final BigDecimal MOST_WHOLE = BigDecimal.valueOf(9_007_199_254_740_991L);
    private static final BigDecimal MOST_MS = BigDecimal.valueOf(10_000_000_000L);

    private final JsonFactory json = new JsonFactory();
    private final Texts texts;
    private final boolean withClient;
    private final String nameKey;

    JsonLineReader(Texts texts, boolean withClient, String nameKey) {
        this.texts = texts;
        this.withClient = withClient;
        this.nameKey = nameKey;
    }

    /** Fills the fields; returns what is wrong with the line as JSON, or null. */
    String read(byte[] line, LineFields fields) {
        fields.clear();
        if (!Utf8.isValid(line)) {
            return "line: not UTF-8";
        }
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
                        fields.startTime = value.isNumeric() ? parser.getText() : text(parser, value);
                        break;
                    case "duration":
                        readDuration(parser, value, fields);
                        break;
                    case "upstream_service_time":
                        fields.serviceTimeUs = micros(parser, value);
                        break;
                    case "response_code":
                        fields.responseCode = whole(parser, value);
                        break;
                    case "bytes_received":
                        fields.bytesReceived = whole(parser, value);
                        break;
                    case "bytes_sent":
                        fields.bytesSent = whole(parser, value);
                        break;
                    case "response_flags":
                        fields.flags = kept(parser, value);
                        break;
                    case "response_code_details":
                        fields.details = kept(parser, value);
                        break;
                    case "response_duration":
                        fields.responseDurationUs = micros(parser, value);
                        break;
                    case "grpc_status":
                        fields.grpcStatus = grpcStatus(parser, value);
                        break;
                    case "upstream_request_attempt_count":
                        fields.attempts = whole(parser, value);
                        break;
                    case "input_tokens":
                        fields.inputTokens = whole(parser, value);
                        break;
                    case "output_tokens":
                        fields.outputTokens = whole(parser, value);
                        break;
                    case "method":
                        fields.setMethod(text(parser, value));
                        break;
                    case "protocol":
                        fields.hasProtocol = text(parser, value) != null;
                        break;
                    case "request_id":
                        fields.requestId = id(parser, value, 1, ExemplarOf.MAX_ID_LENGTH);
                        break;
                    case "traceparent":
                        fields.traceparent =
                                id(parser, value, ExemplarOf.TRACEPARENT_LENGTH, ExemplarOf.TRACEPARENT_LENGTH);
                        break;
                    case "upstream_cluster":
                        fields.cluster = kept(parser, value);
                        break;
                    case "upstream_host":
                        fields.host = kept(parser, value);
                        break;
                    case "access_log_type":
                        fields.setLogType(kept(parser, value));
                        break;
                    case "client":
                        fields.client = withClient ? kept(parser, value) : null;
                        break;
                    default:
                        if (key.equals(nameKey)) {
                            fields.name = kept(parser, value);
                        }
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
            String key = UnquotedDash.key(line);
            return key == null
                    ? "line: not JSON"
                    : "line: not JSON: " + key + " is an unquoted -; quote the operators of the text format, or use json_format";
        }
    }

    /** A gRPC status by its number, or by its name. */
    private static long grpcStatus(JsonParser parser, JsonToken value) throws IOException {
        long number = whole(parser, value);
        return number == LineFields.UNKNOWN && value == JsonToken.VALUE_STRING
                ? GrpcStatus.named(Texts.withoutBlanks(parser.getText()))
                : number;
    }

    /** A text of a length from least to most characters; else null. */
    private static BinaryStringData id(JsonParser parser, JsonToken value, int least, int most) throws IOException {
        String text = text(parser, value);
        boolean fits = text != null && text.length() >= least && text.length() <= most;
        return fits ? BinaryStringData.fromString(text) : null;
    }

    private Texts.Text kept(JsonParser parser, JsonToken value) throws IOException {
        return value == JsonToken.VALUE_STRING ? texts.of(parser.getText()) : null;
    }

    /** A text that says something; null where it is no text, blank or "-". */
    private static String text(JsonParser parser, JsonToken value) throws IOException {
        if (value != JsonToken.VALUE_STRING) {
            return null;
        }
        String text = parser.getText();
        return Texts.isUnknown(text) ? null : text;
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
        if (Texts.isUnknown(text)) {
            return UNKNOWN_NUMBER;
        }
        text = Texts.withoutBlanks(text);
        if (text.length() > MAX_NUMBER_LENGTH) {
            return NO_NUMBER;
        }
        return JSON_NUMBER.matcher(text).matches() ? text : NO_NUMBER;
    }

    private static boolean isShortInteger(JsonParser parser, JsonToken value) throws IOException {
        return value == JsonToken.VALUE_NUMBER_INT && parser.getTextLength() <= 10;
    }

    private static void readDuration(JsonParser parser, JsonToken value, LineFields fields) throws IOException {
        fields.durationMs = 0;
        if (isShortInteger(parser, value)) {
            fields.durationMs = parser.getLongValue();
            fields.durationUs = fields.durationMs < 0 ? LineFields.UNREADABLE : fields.durationMs * 1000;
            return;
        }
        String text = numberText(parser, value);
        if (text == UNKNOWN_NUMBER || text == NO_NUMBER) {
            fields.durationUs = text == UNKNOWN_NUMBER ? LineFields.UNKNOWN : LineFields.UNREADABLE;
            return;
        }
        fields.durationUs = thousandths(text);
        if (fields.durationUs > 0) {
            fields.durationMs = Double.parseDouble(text) < 1e-4 ? 0 : new BigDecimal(text).longValue();
        }
    }

    /** A time in µs, half up; below 0 where it is unknown or no time. */
    private static long micros(JsonParser parser, JsonToken value) throws IOException {
        if (isShortInteger(parser, value)) {
            return parser.getLongValue() * 1000;
        }
        String text = numberText(parser, value);
        return text == UNKNOWN_NUMBER || text == NO_NUMBER ? LineFields.UNKNOWN : thousandths(text);
    }

    /** A whole number from 0 to 2^53 - 1, or LineFields.UNKNOWN. */
    private static long whole(JsonParser parser, JsonToken value) throws IOException {
        if (isShortInteger(parser, value)) {
            return parser.getLongValue();
        }
        String text = numberText(parser, value);
        if (text == UNKNOWN_NUMBER || text == NO_NUMBER) {
            return LineFields.UNKNOWN;
        }
        double near = Double.parseDouble(text);
        if (near > MAX_WHOLE || (near != 0 && near < 1) || near < 0) {
            return LineFields.UNKNOWN;
        }
        if (near == 0) {
            return isZero(text) ? 0 : LineFields.UNKNOWN;
        }
        BigDecimal exact = new BigDecimal(text);
        return exact.stripTrailingZeros().scale() <= 0 && exact.compareTo(MOST_WHOLE) <= 0
                ? exact.longValueExact()
                : LineFields.UNKNOWN;
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
            return isZero(text) ? 0 : LineFields.UNREADABLE;
        }
        // The bounds are checked before BigDecimal, for which 1e999999999 would be a very long number.
        if (near > MAX_DURATION_MS) {
            return LineFields.OUT_OF_RANGE;
        }
        if (near < 1e-4) {
            return 0;
        }
        BigDecimal exact = new BigDecimal(text);
        return exact.compareTo(MOST_MS) > 0
                ? LineFields.OUT_OF_RANGE
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
}
