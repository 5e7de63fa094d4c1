package io.tidegate.flink;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.TableFunction;
import org.apache.flink.types.Row;

/**
 * {@code IDENTITY_OF(name, settings)}: one row with the department, task and version that the gateway's name means, and
 * whether its form folded it. A table function, since the planner would call a scalar one once for each column.
 */
@FunctionHint(
        output =
                @DataTypeHint(
                        "ROW<department STRING NOT NULL, task STRING NOT NULL, version STRING, folded BOOLEAN NOT NULL>"))
public final class IdentityOf extends TableFunction<Row> {

    private static final long serialVersionUID = 1L;

    private transient String settings;
    private transient IdentityTable table;

    public void eval(String name, String settings) {
        if (!settings.equals(this.settings)) {
            this.settings = settings;
            table = IdentityTable.from(settings);
        }
        IdentityTable.Identity found = table.of(name);
        collect(Row.of(found.department(), found.task(), found.version(), found.folded()));
    }
}
