package io.tidegate.flink;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Reads lines of the shape that gateways write nearly always: one flat JSON object whose keys, and whose values that
 * matter, are plain. Anything else it refuses, and {@link JsonLineReader} reads the line: whatever this one accepts, that
 * one accepts with the same fields. It exists since a JSON parser costs more than all the rest of the job.
 *
 * <p>Gateways write their keys in one order: each key is first compared with the one that stood there in the line before.
 * Not thread safe.
 */
final class FlatLineReader {

    private static final long ONES = 0x0101010101010101L;
    private static final long HIGH_BITS = 0x8080808080808080L;
    private static final long QUOTES = '"' * ONES;
    private static final long BACKSLASHES = '\\' * ONES;
    private static final long BLANKS = ' ' * ONES;

    /** Far below what Jackson refuses: names of 50,000 characters, texts of 20 million. */
    private static final int MAX_KEY_BYTES = 1024;

    private static final int MAX_LINE_BYTES = 1 << 21;
    private static final int MAX_KEYS = 64;
    private static final int MAX_SHORT_DIGITS = 10;
    private static final int REFUSED = -1;

    private static final int OTHER = 0;
    private static final int START_TIME = 1;
    private static final int DURATION = 2;
    private static final int UPSTREAM_SERVICE_TIME = 3;
    private static final int RESPONSE_CODE = 4;
    private static final int BYTES_RECEIVED = 5;
    private static final int BYTES_SENT = 6;
    private static final int RESPONSE_FLAGS = 7;
    private static final int RESPONSE_CODE_DETAILS = 8;
    private static final int UPSTREAM_CLUSTER = 9;
    private static final int UPSTREAM_HOST = 10;
    private static final int ACCESS_LOG_TYPE = 11;
    private static final int CLIENT = 12;
    private static final int RESPONSE_DURATION = 13;
    private static final int GRPC_STATUS = 14;
    private static final int ATTEMPTS = 15;
    private static final int INPUT_TOKENS = 16;
    private static final int OUTPUT_TOKENS = 17;
    private static final int METHOD = 18;
    private static final int PROTOCOL = 19;
    private static final int REQUEST_ID = 20;
    private static final int TRACEPARENT = 21;
    private static final int NAME = 22;

    private static final Map<String, Integer> FIELDS =
            Map.ofEntries(
                    Map.entry("start_time", START_TIME),
                    Map.entry("duration", DURATION),
                    Map.entry("upstream_service_time", UPSTREAM_SERVICE_TIME),
                    Map.entry("response_code", RESPONSE_CODE),
                    Map.entry("bytes_received", BYTES_RECEIVED),
                    Map.entry("bytes_sent", BYTES_SENT),
                    Map.entry("response_flags", RESPONSE_FLAGS),
                    Map.entry("response_code_details", RESPONSE_CODE_DETAILS),
                    Map.entry("upstream_cluster", UPSTREAM_CLUSTER),
                    Map.entry("upstream_host", UPSTREAM_HOST),
                    Map.entry("access_log_type", ACCESS_LOG_TYPE),
                    Map.entry("client", CLIENT),
                    Map.entry("response_duration", RESPONSE_DURATION),
                    Map.entry("grpc_status", GRPC_STATUS),
                    Map.entry("upstream_request_attempt_count", ATTEMPTS),
                    Map.entry("input_tokens", INPUT_TOKENS),
                    Map.entry("output_tokens", OUTPUT_TOKENS),
                    Map.entry("method", METHOD),
                    Map.entry("protocol", PROTOCOL),
                    Map.entry("request_id", REQUEST_ID),
                    Map.entry("traceparent", TRACEPARENT));

    /** The keys of the line before, each with the quote that ends it, and their fields. */
    private final byte[][] keys = new byte[MAX_KEYS][];

    private final int[] fieldOfKey = new int[MAX_KEYS];

    private final Texts texts;
    private final boolean withClient;

    /** A key that isn't among FIELDS, or one that is: then it is read as that. */
    private final String nameKey;

    // The line at hand.
    private byte[] line;
    private LineFields fields;

    /** Whether a skipped text had bytes of other than ASCII. */
    private boolean beyondAscii;

    FlatLineReader(Texts texts, boolean withClient, String nameKey) {
        this.texts = texts;
        this.withClient = withClient;
        this.nameKey = nameKey;
    }

    /** Fills the fields, and says true; or refuses the line: then the fields hold anything. */
    boolean read(byte[] line, LineFields fields) {
        this.line = line;
        this.fields = fields;
        beyondAscii = false;
        fields.clear();
        int length = line.length;
        if (length < 2 || length > MAX_LINE_BYTES || line[0] != '{' || line[1] != '"') {
            return false;
        }
        int at = 2; // behind a key's first quote
        for (int nth = 0; nth < MAX_KEYS; nth++) {
            byte[] key = keys[nth];
            if (key == null || !startsWith(at, key)) {
                key = learn(nth, at);
                if (key == null) {
                    return false;
                }
            }
            at = blanks(at + key.length);
            if (at >= length || line[at] != ':') {
                return false;
            }
            at = value(fieldOfKey[nth], blanks(at + 1));
            if (at == REFUSED) {
                return false;
            }
            at = blanks(at);
            if (at >= length) {
                return false;
            }
            if (line[at] == '}') {
                return onlySpaceFollows(at + 1) && (!beyondAscii || Utf8.isValid(line));
            }
            if (line[at] != ',') {
                return false;
            }
            at = blanks(at + 1);
            if (at >= length || line[at] != '"') {
                return false;
            }
            at++;
        }
        return false;
    }

    private boolean startsWith(int at, byte[] key) {
        return at + key.length <= line.length && Arrays.equals(line, at, at + key.length, key, 0, key.length);
    }

    /** The nth key of the line with its closing quote, kept for the lines to come; null where it isn't plain. */
    private byte[] learn(int nth, int from) {
        int end = plainEnd(from);
        if (end == REFUSED || end - from > MAX_KEY_BYTES) {
            return null;
        }
        String key = ascii(from, end);
        int field = FIELDS.getOrDefault(key, key.equals(nameKey) ? NAME : OTHER);
        fieldOfKey[nth] = field == CLIENT && !withClient ? OTHER : field;
        keys[nth] = Arrays.copyOfRange(line, from, end + 1);
        return keys[nth];
    }

    /** Reads the value of a field; where it ends, or REFUSED. */
    private int value(int field, int at) {
        if (at >= line.length) {
            return REFUSED;
        }
        byte first = line[at];
        switch (field) {
            case OTHER:
                return skipped(at);
            case DURATION:
            case UPSTREAM_SERVICE_TIME:
            case RESPONSE_DURATION:
            case RESPONSE_CODE:
            case GRPC_STATUS:
            case ATTEMPTS:
            case INPUT_TOKENS:
            case OUTPUT_TOKENS:
            case BYTES_RECEIVED:
            case BYTES_SENT:
                return first == '"' ? numberText(field, at + 1) : first == 'n' ? unknown(field, at) : number(field, at);
            default:
                break;
        }
        if (first != '"') {
            int end = skipped(at);
            setNoText(field);
            if (field == START_TIME && first != 'n') {
                return REFUSED; // a number may be an epoch time
            }
            return end;
        }
        int end = plainEnd(at + 1);
        if (end == REFUSED) {
            return REFUSED;
        }
        switch (field) {
            case START_TIME:
                String text = ascii(at + 1, end);
                fields.startTime = Texts.isUnknown(text) ? null : text;
                break;
            case METHOD:
                // A client may send any method, so it isn't kept among the texts.
                if (isCapital(line[at + 1]) && line[at + 1] != 'C') {
                    fields.hasMethod = true;
                    fields.connects = false;
                } else {
                    fields.setMethod(ascii(at + 1, end));
                }
                break;
            case REQUEST_ID:
                fields.requestId = end - at - 1 > ExemplarOf.MAX_ID_LENGTH ? null : slice(at + 1, end);
                break;
            case TRACEPARENT:
                fields.traceparent = end - at - 1 == ExemplarOf.TRACEPARENT_LENGTH ? slice(at + 1, end) : null;
                break;
            default:
                setText(field, texts.of(line, at + 1, end));
                break;
        }
        return end + 1;
    }

    private void setNoText(int field) {
        switch (field) {
            case START_TIME:
                fields.startTime = null;
                break;
            case METHOD:
                fields.setMethod(null);
                break;
            case REQUEST_ID:
                fields.requestId = null;
                break;
            case TRACEPARENT:
                fields.traceparent = null;
                break;
            default:
                setText(field, null);
                break;
        }
    }

    /** A part of the line, without a copy. */
    private BinaryStringData slice(int from, int to) {
        return BinaryStringData.fromAddress(
                new MemorySegment[] {MemorySegmentFactory.wrap(line)}, from, to - from);
    }

    private void setText(int field, Texts.Text text) {
        switch (field) {
            case RESPONSE_FLAGS:
                fields.flags = text;
                break;
            case RESPONSE_CODE_DETAILS:
                fields.details = text;
                break;
            case PROTOCOL:
                fields.hasProtocol = text != null && text.known != null;
                break;
            case UPSTREAM_CLUSTER:
                fields.cluster = text;
                break;
            case UPSTREAM_HOST:
                fields.host = text;
                break;
            case ACCESS_LOG_TYPE:
                fields.setLogType(text);
                break;
            case CLIENT:
                fields.client = text;
                break;
            case NAME:
                fields.name = text;
                break;
            default:
                break;
        }
    }

    private int number(int field, int at) {
        int end = digitsEnd(at);
        if (end == REFUSED || continuesNumber(end)) {
            return REFUSED;
        }
        setNumber(field, shortInteger(at, end));
        return end;
    }

    /** A text that is a short integer, says that nothing is known, or is the name of a gRPC status. */
    private int numberText(int field, int at) {
        if (field == GRPC_STATUS && at < line.length && isCapital(line[at])) {
            int end = plainEnd(at);
            if (end != REFUSED && line[end - 1] != ' ') {
                setNumber(field, GrpcStatus.named(ascii(at, end)));
                return end + 1;
            }
            return REFUSED;
        }
        if (at + 1 < line.length && line[at] == '-' && line[at + 1] == '"') {
            setNumber(field, LineFields.UNKNOWN);
            return at + 2;
        }
        int end = digitsEnd(at);
        if (end == REFUSED || end >= line.length || line[end] != '"') {
            return REFUSED;
        }
        setNumber(field, shortInteger(at, end));
        return end + 1;
    }

    private int unknown(int field, int at) {
        setNumber(field, LineFields.UNKNOWN);
        return literal("null", at);
    }

    private void setNumber(int field, long value) {
        boolean known = value != LineFields.UNKNOWN;
        switch (field) {
            case DURATION:
                fields.durationMs = known ? value : 0;
                fields.durationUs = known ? value * 1000 : value;
                break;
            case UPSTREAM_SERVICE_TIME:
                fields.serviceTimeUs = known ? value * 1000 : value;
                break;
            case RESPONSE_CODE:
                fields.responseCode = value;
                break;
            case RESPONSE_DURATION:
                fields.responseDurationUs = known ? value * 1000 : value;
                break;
            case GRPC_STATUS:
                fields.grpcStatus = value;
                break;
            case ATTEMPTS:
                fields.attempts = value;
                break;
            case INPUT_TOKENS:
                fields.inputTokens = value;
                break;
            case OUTPUT_TOKENS:
                fields.outputTokens = value;
                break;
            case BYTES_RECEIVED:
                fields.bytesReceived = value;
                break;
            default:
                fields.bytesSent = value;
                break;
        }
    }

    /** Behind the digits of a JSON integer from 0 of at most ten digits, or REFUSED. */
    private int digitsEnd(int at) {
        int end = at;
        while (end < line.length && isDigit(line[end])) {
            end++;
        }
        boolean readable = end > at && end - at <= MAX_SHORT_DIGITS && (line[at] != '0' || end == at + 1);
        // 9999999999 ms would be a duration out of range; ten digits that are more than that don't exist.
        return readable ? end : REFUSED;
    }

    private boolean continuesNumber(int at) {
        return at < line.length && (line[at] == '.' || line[at] == 'e' || line[at] == 'E');
    }

    private long shortInteger(int from, int to) {
        long value = 0;
        for (int at = from; at < to; at++) {
            value = value * 10 + (line[at] - '0');
        }
        return value;
    }

    /** Behind a value that doesn't matter, or REFUSED where it isn't surely JSON, or is an object or array. */
    private int skipped(int at) {
        switch (line[at]) {
            case '"':
                return skippedText(at + 1);
            case 'n':
                return literal("null", at);
            case 't':
                return literal("true", at);
            case 'f':
                return literal("false", at);
            default:
                int end = digitsEnd(at);
                return end == REFUSED || continuesNumber(end) ? REFUSED : end;
        }
    }

    /** Behind the quote that ends a text, or REFUSED. */
    private int skippedText(int at) {
        while (true) {
            at = nextSpecial(at);
            if (at >= line.length) {
                return REFUSED;
            }
            byte special = line[at];
            if (special == '"') {
                return at + 1;
            }
            if (special < 0) {
                beyondAscii = true;
                at++;
            } else if (special == '\\') {
                at = escapeEnd(at + 1);
                if (at == REFUSED) {
                    return REFUSED;
                }
            } else {
                return REFUSED;
            }
        }
    }

    private int escapeEnd(int at) {
        if (at >= line.length) {
            return REFUSED;
        }
        switch (line[at]) {
            case '"':
            case '\\':
            case '/':
            case 'b':
            case 'f':
            case 'n':
            case 'r':
            case 't':
                return at + 1;
            case 'u':
                for (int digit = at + 1; digit <= at + 4; digit++) {
                    if (digit >= line.length || Character.digit((char) line[digit], 16) < 0) {
                        return REFUSED;
                    }
                }
                return at + 5;
            default:
                return REFUSED;
        }
    }

    /** Where the quote stands that ends a text of plain ASCII, or REFUSED where it has anything else. */
    private int plainEnd(int at) {
        int end = nextSpecial(at);
        return end < line.length && line[end] == '"' ? end : REFUSED;
    }

    /** The next quote, backslash, control character or byte beyond ASCII; the line's end where there is none. */
    private int nextSpecial(int at) {
        for (; at + 8 <= line.length; at += 8) {
            long bytes = (long) Words.LONGS.get(line, at);
            long quotes = bytes ^ QUOTES;
            long backslashes = bytes ^ BACKSLASHES;
            // A borrow can mark bytes above a marked one, never below: the lowest mark is right.
            long special =
                    (((quotes - ONES) & ~quotes)
                                    | ((backslashes - ONES) & ~backslashes)
                                    | ((bytes - BLANKS) & ~bytes)
                                    | bytes)
                            & HIGH_BITS;
            if (special != 0) {
                return at + (Long.numberOfTrailingZeros(special) >>> 3);
            }
        }
        for (; at < line.length; at++) {
            byte b = line[at];
            if (b == '"' || b == '\\' || b < ' ') {
                return at;
            }
        }
        return at;
    }

    private int literal(String word, int at) {
        if (at + word.length() > line.length) {
            return REFUSED;
        }
        for (int i = 0; i < word.length(); i++) {
            if (line[at + i] != word.charAt(i)) {
                return REFUSED;
            }
        }
        return at + word.length();
    }

    private int blanks(int at) {
        while (at < line.length && line[at] == ' ') {
            at++;
        }
        return at;
    }

    private boolean onlySpaceFollows(int at) {
        for (; at < line.length; at++) {
            byte b = line[at];
            if (b != ' ' && b != '\n' && b != '\r' && b != '\t') {
                return false;
            }
        }
        return true;
    }

    private String ascii(int from, int to) {
        return new String(line, from, to - from, StandardCharsets.ISO_8859_1);
    }

    private static boolean isCapital(byte b) {
        return b >= 'A' && b <= 'Z';
    }

    private static boolean isDigit(byte b) {
        return b >= '0' && b <= '9';
    }
}
