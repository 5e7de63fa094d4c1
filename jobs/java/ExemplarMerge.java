package io.tidegate.flink;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.types.Row;

/** {@code EXEMPLAR_MERGE(exemplar)}: the slowest of what {@link ExemplarOf} gave. As {@link HistogramMerge}, without merge. */
@FunctionHint(output = @DataTypeHint(ExemplarOf.TYPE))
public final class ExemplarMerge extends AggregateFunction<Row, ExemplarOf.Slowest> {

    private static final long serialVersionUID = 1L;

    @Override
    public ExemplarOf.Slowest createAccumulator() {
        return new ExemplarOf.Slowest();
    }

    public void accumulate(ExemplarOf.Slowest slowest, @DataTypeHint(ExemplarOf.TYPE) Row other) {
        if (other != null) {
            slowest.add((Long) other.getField(0), (String) other.getField(1), (String) other.getField(2));
        }
    }

    @Override
    public Row getValue(ExemplarOf.Slowest slowest) {
        return slowest.toRow();
    }
}
