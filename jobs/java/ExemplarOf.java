package io.tidegate.flink;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.types.Row;

/**
 * {@code EXEMPLAR_OF(latency_us, request_id, traceparent)}: the slowest request that has an id, with its trace; null where
 * none has.
 *
 * <p>Of equally slow ones the one with the least id, then the least trace id, so that a replay names the same. An id has 1 to
 * 128 visible ASCII characters; a trace id is read from a W3C {@code traceparent}.
 */
@FunctionHint(output = @DataTypeHint(ExemplarOf.TYPE))
public final class ExemplarOf extends AggregateFunction<Row, ExemplarOf.Slowest> {

    static final String TYPE = "ROW<latency_us BIGINT, request_id STRING, trace_id STRING>";
    static final int MAX_ID_LENGTH = 128;
    static final int TRACEPARENT_LENGTH = 55;

    private static final long serialVersionUID = 1L;
    private static final String NO_TRACE = "0".repeat(32);

    /** The slowest request so far; requestId is null before there is one. */
    public static final class Slowest {
        public long latencyUs;
        public String requestId;
        public String traceId;

        void add(long otherUs, String otherRequest, String otherTrace) {
            if (requestId == null || isBefore(otherUs, otherRequest, otherTrace)) {
                latencyUs = otherUs;
                requestId = otherRequest;
                traceId = otherTrace;
            }
        }

        private boolean isBefore(long otherUs, String otherRequest, String otherTrace) {
            if (otherUs != latencyUs) {
                return otherUs > latencyUs;
            }
            int order = otherRequest.compareTo(requestId);
            if (order != 0) {
                return order < 0;
            }
            return otherTrace != null && (traceId == null || otherTrace.compareTo(traceId) < 0);
        }

        Row toRow() {
            return requestId == null ? null : Row.of(latencyUs, requestId, traceId);
        }
    }

    @Override
    public Slowest createAccumulator() {
        return new Slowest();
    }

    public void accumulate(
            Slowest slowest,
            Long latencyUs,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData requestId,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData traceparent) {
        if (latencyUs == null || requestId == null) {
            return;
        }
        if (slowest.requestId != null && latencyUs < slowest.latencyUs) {
            return; // as nearly all: the texts aren't looked at
        }
        String id = requestId.toString();
        if (isId(id)) {
            slowest.add(latencyUs, id, traceparent == null ? null : traceId(traceparent.toString()));
        }
    }

    public void merge(Slowest slowest, Iterable<Slowest> others) {
        for (Slowest other : others) {
            if (other.requestId != null) {
                slowest.add(other.latencyUs, other.requestId, other.traceId);
            }
        }
    }

    public void resetAccumulator(Slowest slowest) {
        slowest.latencyUs = 0;
        slowest.requestId = null;
        slowest.traceId = null;
    }

    @Override
    public Row getValue(Slowest slowest) {
        return slowest.toRow();
    }

    private static boolean isId(String text) {
        for (int at = 0; at < text.length(); at++) {
            if (text.charAt(at) <= ' ' || text.charAt(at) > '~') {
                return false;
            }
        }
        return !text.isEmpty() && !text.equals("-") && text.length() <= MAX_ID_LENGTH;
    }

    /** The trace id of a traceparent, or null where it has another form. */
    private static String traceId(String traceparent) {
        if (traceparent.length() != TRACEPARENT_LENGTH) {
            return null;
        }
        for (int at = 0; at < TRACEPARENT_LENGTH; at++) {
            char c = traceparent.charAt(at);
            boolean isDash = at == 2 || at == 35 || at == 52;
            if (isDash ? c != '-' : (c < '0' || c > '9') && (c < 'a' || c > 'f')) {
                return null;
            }
        }
        String id = traceparent.substring(3, 35);
        return id.equals(NO_TRACE) ? null : id;
    }
}
