package io.tidegate.flink;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.types.Row;

/**
 * {@code HISTOGRAM_SUMMARY(histogram, min_us, max_us)}: the sum of encoded histograms as a row has it, and its
 * nearest-rank quantiles in ms.
 *
 * <p>A quantile is its bucket's middle to six digits, never below the minimum nor above the maximum; null without a
 * latency. One aggregate gives all, so that a histogram is decoded once a row. As {@link HistogramMerge}, without merge.
 */
@FunctionHint(
        output =
                @DataTypeHint(
                        "ROW<zero BIGINT NOT NULL, buckets MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL,"
                                + " p50_ms DOUBLE, p90_ms DOUBLE, p95_ms DOUBLE, p99_ms DOUBLE>"))
public final class HistogramSummary extends AggregateFunction<Row, HistogramSummary.Range> {

    private static final long serialVersionUID = 1L;
    private static final double[] QUANTILES = {0.50, 0.90, 0.95, 0.99};
    private static final MathContext SIX_DIGITS = new MathContext(6);

    /** A histogram and the extremes of what it counted. */
    public static final class Range {
        public Histogram histogram = new Histogram();
        public long minUs = Long.MAX_VALUE;
        public long maxUs = Long.MIN_VALUE;
    }

    @Override
    public Range createAccumulator() {
        return new Range();
    }

    public void accumulate(Range range, byte[] encoded, Long minUs, Long maxUs) {
        if (encoded == null || minUs == null || maxUs == null) {
            return;
        }
        range.histogram.addEncoded(encoded);
        range.minUs = Math.min(range.minUs, minUs);
        range.maxUs = Math.max(range.maxUs, maxUs);
    }

    @Override
    public Row getValue(Range range) {
        Histogram histogram = range.histogram;
        Map<String, Long> buckets = new LinkedHashMap<>();
        for (int i = 0; i < histogram.size; i++) {
            buckets.put(Integer.toString(histogram.indexes[i]), histogram.counts[i]);
        }
        Row row = new Row(2 + QUANTILES.length);
        row.setField(0, histogram.zero);
        row.setField(1, buckets);
        boolean empty = range.minUs > range.maxUs;
        for (int i = 0; i < QUANTILES.length; i++) {
            row.setField(2 + i, empty ? null : (Object) quantileMs(range, QUANTILES[i]));
        }
        return row;
    }

    private static double quantileMs(Range range, double q) {
        double middle = new BigDecimal(range.histogram.quantileMs(q)).round(SIX_DIGITS).doubleValue();
        return Math.min(Math.max(middle, range.minUs / 1000.0), range.maxUs / 1000.0);
    }
}
