package io.tidegate.flink;

import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code FLAG_COUNTS_MERGE(flag_counts)}: the sum of what {@link FlagCounts} gave.
 *
 * <p>Without a merge method of its own, as {@link HistogramMerge}.
 */
public final class FlagCountsMerge extends AggregateFunction<Map<String, Long>, FlagCounts.Counts> {

    private static final long serialVersionUID = 1L;

    @Override
    public FlagCounts.Counts createAccumulator() {
        return new FlagCounts.Counts();
    }

    public void accumulate(FlagCounts.Counts counts, Map<String, Long> others) {
        if (others != null) {
            others.forEach((flag, count) -> counts.byFlag.merge(flag, count, Long::sum));
        }
    }

    public void resetAccumulator(FlagCounts.Counts counts) {
        counts.byFlag.clear();
    }

    @Override
    public Map<String, Long> getValue(FlagCounts.Counts counts) {
        return new TreeMap<>(counts.byFlag);
    }
}
