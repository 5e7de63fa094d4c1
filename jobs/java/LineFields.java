package io.tidegate.flink;

/** The fields of one line that the metrics need, as a reader of lines found them. */
final class LineFields {

    /** A number that is absent, null, "-" or blank. */
    static final long UNKNOWN = Long.MIN_VALUE;

    /** A value is given and is not what its field holds. */
    static final long UNREADABLE = Long.MIN_VALUE + 1;

    static final long OUT_OF_RANGE = Long.MIN_VALUE + 2;

    /** null where it is unknown or no text. */
    String startTime;

    /** In µs, half up; or UNKNOWN, UNREADABLE, OUT_OF_RANGE. */
    long durationUs;

    /** In ms, cut off; 0 where durationUs is no time. */
    long durationMs;

    /** In µs; below 0 where it is unknown or no time. */
    long serviceTimeUs;

    long responseCode;
    long bytesReceived;
    long bytesSent;
    boolean limitedByDetails;
    boolean periodic;

    /** These are null where the value is absent or no text. */
    Texts.Text flags;

    Texts.Text cluster;

    /** Of the key that names department and task, where that isn't the cluster's. */
    Texts.Text name;

    Texts.Text host;

    /** Read only where it is asked for: callers choose it, and may send ever new ones. */
    Texts.Text client;

    void clear() {
        startTime = null;
        durationUs = UNKNOWN;
        durationMs = 0;
        serviceTimeUs = UNKNOWN;
        responseCode = UNKNOWN;
        bytesReceived = UNKNOWN;
        bytesSent = UNKNOWN;
        limitedByDetails = false;
        periodic = false;
        flags = null;
        cluster = null;
        name = null;
        host = null;
        client = null;
    }

    /** Sets periodic by the line's access_log_type, which may be null. */
    void setLogType(Texts.Text type) {
        periodic = type != null && type.known != null && !type.is("DownstreamEnd");
    }
}
