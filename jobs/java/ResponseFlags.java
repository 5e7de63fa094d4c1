package io.tidegate.flink;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

/** What Envoy's response flags decide about a request's outcome, by the table {@code schemas/response_flags.csv}. */
final class ResponseFlags {

    /** Bits of {@link #decided}. */
    static final int RATE_LIMITED = 1;

    static final int ABORTED = 2;
    static final int FAILED = 4;

    private static final Map<String, Integer> DECIDED_BY = read();

    private ResponseFlags() {}

    /** The bits of all flags in a comma-joined text, in their short or long form; 0 where the code decides. */
    static int decided(String flags) {
        int bits = 0;
        for (String flag : flags.split(",")) {
            bits |= DECIDED_BY.getOrDefault(Texts.withoutBlanks(flag), 0);
        }
        return bits;
    }

    private static Map<String, Integer> read() {
        Map<String, Integer> bits = Map.of("rate_limited", RATE_LIMITED, "aborted", ABORTED, "errors_5xx", FAILED, "", 0);
        Map<String, Integer> found = new HashMap<>();
        try (BufferedReader table =
                new BufferedReader(
                        new InputStreamReader(
                                ResponseFlags.class.getResourceAsStream("response_flags.csv"), StandardCharsets.UTF_8))) {
            table.readLine(); // the header
            for (String row = table.readLine(); row != null; row = table.readLine()) {
                String[] columns = row.split(",", 4);
                found.put(columns[0], bits.get(columns[2]));
                found.put(columns[1], bits.get(columns[2]));
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return found;
    }
}
