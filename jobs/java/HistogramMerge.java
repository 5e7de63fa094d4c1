package io.tidegate.flink;

import org.apache.flink.table.functions.AggregateFunction;

/** {@code HISTOGRAM_MERGE(histogram)}: the exact sum of encoded histograms. */
public final class HistogramMerge extends AggregateFunction<byte[], Histogram> {

    private static final long serialVersionUID = 1L;

    @Override
    public Histogram createAccumulator() {
        return new Histogram();
    }

    public void accumulate(Histogram histogram, byte[] encoded) {
        if (encoded != null) {
            histogram.addEncoded(encoded);
        }
    }

    public void merge(Histogram histogram, Iterable<Histogram> others) {
        others.forEach(histogram::add);
    }

    public void resetAccumulator(Histogram histogram) {
        histogram.clear();
    }

    @Override
    public byte[] getValue(Histogram histogram) {
        return histogram.encode();
    }
}
