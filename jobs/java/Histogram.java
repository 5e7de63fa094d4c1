package io.tidegate.flink;

import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * OpenTelemetry's base-2 exponential histogram at scale 5, of latencies in µs that are counted in ms buckets.
 *
 * <p>Bucket i counts the values in (γ^i, γ^(i+1)] ms with γ = 2^(1/32), zero those of 0. Source of the mapping:
 * OpenTelemetry's metrics data model, exponential histogram. The fields are public since Flink keeps them as state.
 */
public final class Histogram {

    static final int BUCKETS_PER_DOUBLING = 32;

    /** Upper bounds of a doubling's buckets: 2^(1/32) ... 2^(32/32). */
    private static final double[] BOUNDS = new double[BUCKETS_PER_DOUBLING];

    static {
        for (int i = 0; i < BUCKETS_PER_DOUBLING; i++) {
            BOUNDS[i] = Math.pow(2, (i + 1.0) / BUCKETS_PER_DOUBLING);
        }
    }

    /** Latencies in whole ms below this are looked up; longer or finer ones are computed. */
    private static final short[] INDEX_OF_WHOLE_MS = new short[4096];

    static {
        for (int ms = 1; ms < INDEX_OF_WHOLE_MS.length; ms++) {
            INDEX_OF_WHOLE_MS[ms] = (short) computeIndex(ms);
        }
    }

    public long zero;
    public int size;
    public int[] indexes = new int[0];
    public long[] counts = new long[0];

    public Histogram() {}

    /** The bucket of a latency above 0. */
    static int indexOf(long latencyUs) {
        long ms = latencyUs / 1000;
        return ms < INDEX_OF_WHOLE_MS.length && ms * 1000 == latencyUs
                ? INDEX_OF_WHOLE_MS[(int) ms]
                : computeIndex(latencyUs / 1000.0);
    }

    private static int computeIndex(double ms) {
        int exponent = Math.getExponent(ms);
        double mantissa = Math.scalb(ms, -exponent);
        if (mantissa == 1) {
            return exponent * BUCKETS_PER_DOUBLING - 1;
        }
        int found = Arrays.binarySearch(BOUNDS, mantissa);
        return exponent * BUCKETS_PER_DOUBLING + (found >= 0 ? found : -found - 1);
    }

    void add(long latencyUs) {
        if (latencyUs <= 0) {
            zero++;
        } else {
            add(indexOf(latencyUs), 1);
        }
    }

    void add(int index, long count) {
        int at = Arrays.binarySearch(indexes, 0, size, index);
        if (at >= 0) {
            counts[at] += count;
            return;
        }
        at = -at - 1;
        if (size == indexes.length) {
            int room = Math.max(8, size * 2);
            indexes = Arrays.copyOf(indexes, room);
            counts = Arrays.copyOf(counts, room);
        }
        System.arraycopy(indexes, at, indexes, at + 1, size - at);
        System.arraycopy(counts, at, counts, at + 1, size - at);
        indexes[at] = index;
        counts[at] = count;
        size++;
    }

    void add(Histogram other) {
        zero += other.zero;
        for (int i = 0; i < other.size; i++) {
            add(other.indexes[i], other.counts[i]);
        }
    }

    void clear() {
        zero = 0;
        size = 0;
    }

    long total() {
        long total = zero;
        for (int i = 0; i < size; i++) {
            total += counts[i];
        }
        return total;
    }

    /**
     * The nearest-rank quantile in ms: the middle of the bucket in which the value of rank ceil(q·n) lies.
     *
     * <p>The middle 2γ^(i+1)/(γ+1) is at most (γ-1)/(γ+1) = 1.083 % off any value of its bucket.
     */
    double quantileMs(double q) {
        long rank = Math.max(1, (long) Math.ceil(q * total()));
        long seen = zero;
        if (rank <= seen) {
            return 0;
        }
        for (int i = 0; i < size; i++) {
            seen += counts[i];
            if (rank <= seen) {
                double upper = Math.pow(2, (indexes[i] + 1.0) / BUCKETS_PER_DOUBLING);
                return 2 * upper / (BOUNDS[0] + 1);
            }
        }
        throw new IllegalStateException("the rank " + rank + " is past the histogram's end");
    }

    /** zero, then a (gap to the index before, count) pair a bucket, all as variable-length integers. */
    byte[] encode() {
        ByteBuffer out = ByteBuffer.allocate(10 + size * 15);
        putVarint(out, zero);
        int before = 0;
        for (int i = 0; i < size; i++) {
            int gap = indexes[i] - before;
            putVarint(out, ((long) gap << 1) ^ (gap >> 31));
            putVarint(out, counts[i]);
            before = indexes[i];
        }
        return Arrays.copyOf(out.array(), out.position());
    }

    /** Adds what {@link #encode} wrote. */
    void addEncoded(byte[] encoded) {
        ByteBuffer in = ByteBuffer.wrap(encoded);
        zero += getVarint(in);
        int index = 0;
        while (in.hasRemaining()) {
            long folded = getVarint(in);
            index += (int) ((folded >>> 1) ^ -(folded & 1));
            add(index, getVarint(in));
        }
    }

    static Histogram decode(byte[] encoded) {
        Histogram histogram = new Histogram();
        histogram.addEncoded(encoded);
        return histogram;
    }

    private static void putVarint(ByteBuffer out, long value) {
        while ((value & ~0x7FL) != 0) {
            out.put((byte) ((value & 0x7F) | 0x80));
            value >>>= 7;
        }
        out.put((byte) value);
    }

    private static long getVarint(ByteBuffer in) {
        long value = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = in.get();
            value |= (long) (next & 0x7F) << shift;
            if (next >= 0) {
                return value;
            }
        }
    }
}
