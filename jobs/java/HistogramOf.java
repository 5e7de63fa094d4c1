package io.tidegate.flink;

import org.apache.flink.table.functions.AggregateFunction;

/** {@code HISTOGRAM_OF(latency_us)}: the latencies' {@link Histogram}, encoded; unknown latencies don't count. */
public final class HistogramOf extends AggregateFunction<byte[], Histogram> {

    private static final long serialVersionUID = 1L;

    @Override
    public Histogram createAccumulator() {
        return new Histogram();
    }

    public void accumulate(Histogram histogram, Long latencyUs) {
        if (latencyUs != null) {
            histogram.add(latencyUs);
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
