package io.tidegate.flink;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.table.data.RowData;

/** Never fails and never drops a line: what it can't read becomes a row of kind DEAD, with the reason. */
public final class AccessLogDeserializationSchema implements DeserializationSchema<RowData> {

    private static final long serialVersionUID = 1L;
    private static final byte[] NO_VALUE = new byte[0];

    private final TypeInformation<RowData> produced;
    private final boolean withClient;
    private final String nameKey;
    private transient AccessLogLine reader;

    AccessLogDeserializationSchema(TypeInformation<RowData> produced, boolean withClient, String nameKey) {
        this.produced = produced;
        this.withClient = withClient;
        this.nameKey = nameKey;
    }

    @Override
    public void open(InitializationContext context) {
        reader = new AccessLogLine(withClient, nameKey);
    }

    @Override
    public RowData deserialize(byte[] line) {
        return reader.read(line == null ? NO_VALUE : line);
    }

    @Override
    public boolean isEndOfStream(RowData next) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return produced;
    }
}
