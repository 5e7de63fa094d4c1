package io.tidegate.flink;

import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.table.functions.ScalarFunction;

/** {@code HISTOGRAM_BUCKETS(histogram)}: index to count of the buckets that counted anything, by rising index. */
public final class HistogramBuckets extends ScalarFunction {

    private static final long serialVersionUID = 1L;

    public Map<String, Long> eval(byte[] encoded) {
        Map<String, Long> buckets = new LinkedHashMap<>();
        if (encoded != null) {
            Histogram histogram = Histogram.decode(encoded);
            for (int i = 0; i < histogram.size; i++) {
                buckets.put(Integer.toString(histogram.indexes[i]), histogram.counts[i]);
            }
        }
        return buckets;
    }
}
