package io.tidegate.flink;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Texts that repeat from line to line (clusters, hosts, flags), found again by their bytes: what is derived from one is
 * derived once. At most {@link #CAPACITY} are kept, none of more than {@link #MAX_KEPT_BYTES}. Not thread safe.
 */
final class Texts {

    private static final int CAPACITY = 50_000;

    private static final int MAX_KEPT_BYTES = 1024;
    private static final int TABLE = Integer.highestOneBit(CAPACITY) * 4;

    /** One text, and what the job asks of it. */
    static final class Text {
        private final byte[] bytes;
        private final String string;

        /** For Flink's rows; null where the text says nothing: it is blank or "-". */
        final BinaryStringData known;

        /** What the comma-joined flags that this text would be decide: bits of {@link ResponseFlags}. */
        final int decidedByFlags;

        /** Whether this text, as response code details, says that a rate limit refused the request. */
        final boolean saysRateLimited;

        private Text(byte[] bytes) {
            this.bytes = bytes;
            string = new String(bytes, StandardCharsets.UTF_8);
            known = isUnknown(string) ? null : BinaryStringData.fromString(string);
            if (known != null) {
                known.ensureMaterialized();
            }
            decidedByFlags = ResponseFlags.decided(string);
            saysRateLimited = string.contains("rate_limited") || string.equals("rate_limiter_error");
        }

        boolean is(String other) {
            return string.equals(other);
        }
    }

    private final Text[] table = new Text[TABLE];
    private int size;

    Text of(String text) {
        // A lone surrogate has no UTF-8: it becomes "?", as everywhere in Java.
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        return of(bytes, 0, bytes.length);
    }

    /** The text of these bytes, which are UTF-8. */
    Text of(byte[] from, int start, int end) {
        int at = hash(from, start, end) & (TABLE - 1);
        for (Text found = table[at]; found != null; found = table[at]) {
            if (Arrays.equals(found.bytes, 0, found.bytes.length, from, start, end)) {
                return found;
            }
            at = (at + 1) & (TABLE - 1);
        }
        Text text = new Text(Arrays.copyOfRange(from, start, end));
        if (end - start > MAX_KEPT_BYTES) {
            return text;
        }
        if (size == CAPACITY) {
            Arrays.fill(table, null);
            size = 0;
            at = hash(from, start, end) & (TABLE - 1);
        }
        table[at] = text;
        size++;
        return text;
    }

    private static int hash(byte[] bytes, int start, int end) {
        long hash = end - start;
        int at = start;
        for (; at + 8 <= end; at += 8) {
            hash = (hash ^ (long) Words.LONGS.get(bytes, at)) * 0x9E3779B97F4A7C15L;
            hash ^= hash >>> 32;
        }
        for (; at < end; at++) {
            hash = (hash ^ bytes[at]) * 0x9E3779B97F4A7C15L;
        }
        return (int) (hash ^ (hash >>> 32) ^ (hash >>> 17));
    }

    /** Whether a text is blank, or "-" with or without blanks around it. */
    static boolean isUnknown(String text) {
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

    /** Without the blanks at its ends: spaces only, unlike String.trim. */
    static String withoutBlanks(String text) {
        int from = 0;
        int to = text.length();
        while (from < to && text.charAt(from) == ' ') {
            from++;
        }
        while (to > from && text.charAt(to - 1) == ' ') {
            to--;
        }
        return text.substring(from, to);
    }
}
