package io.tidegate.flink;

import java.io.DataInputStream;
import java.io.IOException;
import org.apache.flink.table.data.RowData;

/** Reads lines (each after its length) as the job does; prints for each its kind, event time in ms, and reason. */
public final class ReadLines {

    private ReadLines() {}

    public static void main(String[] arguments) throws IOException {
        AccessLogLine reader = new AccessLogLine(false, null);
        DataInputStream input = new DataInputStream(System.in);
        for (int lines = input.readInt(); lines > 0; lines--) {
            RowData row = reader.read(input.readNBytes(input.readInt()));
            String reason = row.isNullAt(2) ? "" : row.getString(2).toString();
            System.out.println(row.getByte(1) + "\t" + row.getTimestamp(3, 3).getMillisecond() + "\t" + reason);
        }
    }
}
