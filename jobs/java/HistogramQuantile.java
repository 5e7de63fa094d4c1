package io.tidegate.flink;

import java.math.BigDecimal;
import java.math.MathContext;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code HISTOGRAM_QUANTILE_MS(histogram, q, min_us, max_us)}: the nearest-rank quantile in ms, null where nothing was
 * counted; to six digits, and never outside the extremes.
 */
public final class HistogramQuantile extends ScalarFunction {

    private static final long serialVersionUID = 1L;

    private static final MathContext SIX_DIGITS = new MathContext(6);

    public Double eval(byte[] encoded, Double q, Long minUs, Long maxUs) {
        if (encoded == null || minUs == null || maxUs == null) {
            return null;
        }
        double middle = new BigDecimal(Histogram.decode(encoded).quantileMs(q)).round(SIX_DIGITS).doubleValue();
        return Math.min(Math.max(middle, minUs / 1000.0), maxUs / 1000.0);
    }
}
