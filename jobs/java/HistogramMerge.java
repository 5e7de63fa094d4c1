package io.tidegate.flink;

import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code HISTOGRAM_MERGE(histogram)}: the exact sum of encoded histograms.
 *
 * <p>It has no merge method on purpose: with one, Flink would sum twice, before the exchange and after it, which pays
 * for lines and not for cells, of which there are too few a group.
 */
public class HistogramMerge extends AggregateFunction<byte[], Histogram> {

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

    public void resetAccumulator(Histogram histogram) {
        histogram.clear();
    }

    @Override
    public byte[] getValue(Histogram histogram) {
        return histogram.encode();
    }
}
