package io.tidegate.flink;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * Opens what log agents wrap around a line: CRI's prefix (time, stream, tag), and JSON with the line in {@code log} or
 * {@code message}, as a text or as an object. jobs/logic/logs/envelopes.py opens the same. Only lines that can't be read
 * as they are come here.
 */
final class Envelope {

    static final String PART = "line: a part of one (CRI tag P); `tidegate ship` and log agents join the parts before Kafka";

    private static final String[] KEYS = {"message", "log"};
    private static final int MAX_DEPTH = 4;
    private static final int MAX_PREFIX_BYTES = 64;
    private static final Pattern PREFIX =
            Pattern.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ \\s]{8,35} (?:stdout|stderr) ([FP]) ");

    private final ObjectMapper json = new ObjectMapper();

    /** Whether the line is one part of several, by its prefix. */
    static boolean isPart(byte[] line) {
        Matcher prefix = prefix(line);
        return prefix.lookingAt() && prefix.group(1).equals("P");
    }

    /** The line within all its envelopes, or null where it has none. */
    byte[] open(byte[] line) {
        byte[] inner = null;
        for (int depth = 0; depth < MAX_DEPTH; depth++) {
            byte[] next = inner(inner == null ? line : inner);
            if (next == null) {
                break;
            }
            inner = next;
        }
        return inner;
    }

    private byte[] inner(byte[] line) {
        if (line.length == 0 || line[0] != '{') {
            Matcher prefix = prefix(line);
            return prefix.lookingAt() ? Arrays.copyOfRange(line, prefix.end(), line.length) : null;
        }
        try {
            JsonNode content = json.readTree(line);
            if (!content.isObject() || content.has("start_time")) {
                return null;
            }
            for (String key : KEYS) {
                JsonNode value = content.path(key);
                if (value.isObject() && value.has("start_time")) {
                    return json.writeValueAsBytes(value);
                }
                if (value.isTextual() && !value.textValue().isBlank()) {
                    return value.textValue().strip().getBytes(StandardCharsets.UTF_8);
                }
            }
            return null;
        } catch (IOException error) {
            return null;
        }
    }

    private static Matcher prefix(byte[] line) {
        int length = Math.min(MAX_PREFIX_BYTES, line.length);
        return PREFIX.matcher(new String(line, 0, length, StandardCharsets.ISO_8859_1));
    }
}
