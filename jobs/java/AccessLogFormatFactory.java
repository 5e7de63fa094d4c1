package io.tidegate.flink;

import java.util.List;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** The format {@code tidegate-access-log}: one line of an Envoy JSON access log to one row, whatever the line holds. */
public final class AccessLogFormatFactory implements DeserializationFormatFactory {

    /** The line's key that names department and task. */
    private static final ConfigOption<String> NAME_KEY =
            ConfigOptions.key("name-key").stringType().defaultValue("upstream_cluster");

    @Override
    public String factoryIdentifier() {
        return "tidegate-access-log";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(NAME_KEY);
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        String nameKey = options.get(NAME_KEY);
        return new DecodingFormat<>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(
                    DynamicTableSource.Context context, DataType physicalType) {
                List<String> columns = ((RowType) physicalType.getLogicalType()).getFieldNames();
                boolean withClient = columns.equals(AccessLogLine.columnsWithClient());
                if (!withClient && !columns.equals(AccessLogLine.COLUMNS)) {
                    throw new ValidationException(
                            "format tidegate-access-log: the columns must be "
                                    + AccessLogLine.COLUMNS + " in this order, and may end with client; not " + columns);
                }
                TypeInformation<RowData> produced = context.createTypeInformation(physicalType);
                return new AccessLogDeserializationSchema(produced, withClient, nameKey);
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }
}
