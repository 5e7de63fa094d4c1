package io.tidegate.flink;

import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code FLAG_COUNTS(response_flags, requests)}: Envoy's comma-joined response flags to the requests that had them.
 *
 * <p>A flag counts once a request, unknown flags too.
 */
public final class FlagCounts extends AggregateFunction<Map<String, Long>, FlagCounts.Counts> {

    private static final long serialVersionUID = 1L;

    /** Flag to count. */
    public static final class Counts {
        public Map<String, Long> byFlag = new HashMap<>();
    }

    @Override
    public Counts createAccumulator() {
        return new Counts();
    }

    public void accumulate(Counts counts, String flags, Long requests) {
        if (flags == null) {
            return;
        }
        Map<String, Boolean> once = new HashMap<>();
        for (String part : flags.split(",")) {
            String flag = part.trim();
            if (!flag.isEmpty() && !flag.equals("-") && once.put(flag, true) == null) {
                counts.byFlag.merge(flag, requests, Long::sum);
            }
        }
    }

    public void merge(Counts counts, Iterable<Counts> others) {
        for (Counts other : others) {
            other.byFlag.forEach((flag, count) -> counts.byFlag.merge(flag, count, Long::sum));
        }
    }

    public void resetAccumulator(Counts counts) {
        counts.byFlag.clear();
    }

    @Override
    public Map<String, Long> getValue(Counts counts) {
        return new TreeMap<>(counts.byFlag);
    }
}
