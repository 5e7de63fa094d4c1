package io.tidegate.flink;

/**
 * {@code SLICED_HISTOGRAM_MERGE(histogram)}: as {@link HistogramMerge}, for windows that are put together from slices
 * (CUMULATE), which can't be without a merge method.
 */
public final class SlicedHistogramMerge extends HistogramMerge {

    private static final long serialVersionUID = 1L;

    public void merge(Histogram histogram, Iterable<Histogram> others) {
        others.forEach(histogram::add);
    }
}
