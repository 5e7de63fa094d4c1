package io.tidegate.flink;

import org.apache.flink.table.functions.AggregateFunction;

/** {@code FIRST_NAMES(name)}: the {@link FirstNames} of a window; null names don't count. */
public final class FirstNamesOf extends AggregateFunction<String[], FirstNames> {

    private static final long serialVersionUID = 1L;

    @Override
    public FirstNames createAccumulator() {
        return new FirstNames();
    }

    public void accumulate(FirstNames first, String name) {
        first.add(name);
    }

    public void merge(FirstNames first, Iterable<FirstNames> others) {
        first.addAll(others);
    }

    public void resetAccumulator(FirstNames first) {
        first.names.clear();
    }

    @Override
    public String[] getValue(FirstNames first) {
        return first.get();
    }
}
