package io.tidegate.flink;

import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.flink.table.functions.AggregateFunction;

/** {@code FLAG_COUNTS(response_flags)}: Envoy's comma-joined flags to the requests that had them, unknown flags too. */
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

    public void accumulate(Counts counts, String flags) {
        if (flags == null) {
            return;
        }
        if (flags.indexOf(',') < 0 && flags.indexOf(' ') < 0) {
            counts.byFlag.merge(flags, 1L, Long::sum); // as nearly all; "-" alone is read as null
            return;
        }
        Set<String> once = new HashSet<>();
        for (String part : flags.split(",")) {
            String flag = Texts.withoutBlanks(part);
            if (!flag.isEmpty() && !flag.equals("-") && once.add(flag)) {
                counts.byFlag.merge(flag, 1L, Long::sum);
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
