package io.tidegate.flink;

import org.apache.flink.table.functions.ScalarFunction;

/** {@code HISTOGRAM_ZERO(histogram)}: how many requests took 0 ms. */
public final class HistogramZero extends ScalarFunction {

    private static final long serialVersionUID = 1L;

    public Long eval(byte[] encoded) {
        return encoded == null ? 0L : Histogram.decode(encoded).zero;
    }
}
