package io.tidegate.flink;

import java.nio.charset.StandardCharsets;

/** Finds what makes a line of a text format no JSON: {@code "duration": -}, an operator without quotes and a value. */
final class UnquotedDash {

    private static final int MAX_KEY_BYTES = 64;

    private UnquotedDash() {}

    /** The first key whose value is a bare dash, or null. */
    static String key(byte[] line) {
        int from = 0;
        int to = 0;
        for (int at = 0; at < line.length; at++) {
            if (line[at] == '"') {
                from = at + 1;
                for (at++; at < line.length && line[at] != '"'; at++) {
                    if (line[at] == '\\') {
                        at++;
                    }
                }
                to = Math.min(at, line.length);
            } else if (line[at] == ':') {
                int dash = blanks(line, at + 1);
                int next = blanks(line, dash + 1);
                if (dash < line.length && line[dash] == '-' && next < line.length && (line[next] == ',' || line[next] == '}')) {
                    int end = Math.min(to, from + MAX_KEY_BYTES);
                    return new String(line, from, end - from, StandardCharsets.UTF_8);
                }
            }
        }
        return null;
    }

    private static int blanks(byte[] line, int at) {
        while (at < line.length && line[at] == ' ') {
            at++;
        }
        return at;
    }
}
