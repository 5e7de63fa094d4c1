package io.tidegate.flink;

import java.util.HashSet;
import java.util.Set;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.functions.FunctionContext;

/**
 * {@code FIRST_NAMES_MERGE(names)}: the {@link FirstNames} of several windows' names.
 *
 * <p>Each name is a gauge {@code tidegate.name.NAME.folded} of value 1 too, which Flink's Prometheus reporter writes
 * with the label {@code name}.
 */
public final class FirstNamesMerge extends AggregateFunction<String[], FirstNames> {

    private static final long serialVersionUID = 1L;

    /** A class, since Flink's REST server knows metrics by their objects, and of a lambda there is only one. */
    private static final class One implements Gauge<Integer> {
        @Override
        public Integer getValue() {
            return 1;
        }
    }

    private transient MetricGroup metrics;
    private transient Set<String> registered;

    @Override
    public void open(FunctionContext context) {
        metrics = context.getMetricGroup().addGroup("tidegate");
        registered = new HashSet<>();
    }

    @Override
    public FirstNames createAccumulator() {
        return new FirstNames();
    }

    public void accumulate(FirstNames first, String[] names) {
        if (names != null) {
            for (String name : names) {
                first.add(name);
            }
        }
    }

    public void merge(FirstNames first, Iterable<FirstNames> others) {
        first.addAll(others);
    }

    public void resetAccumulator(FirstNames first) {
        first.names.clear();
    }

    @Override
    public String[] getValue(FirstNames first) {
        // Here and not where a name is added: after a restart the names come from the state.
        if (metrics != null && registered.size() < first.names.size()) {
            for (String name : first.names) {
                if (registered.add(name)) {
                    metrics.addGroup("name", name).gauge("folded", new One());
                }
            }
        }
        return first.get();
    }
}
