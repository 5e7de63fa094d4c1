package io.tidegate.flink;

import org.apache.flink.table.data.binary.BinaryStringData;

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

    /** In µs, from the request's start to the response's first byte; below 0 where it is unknown or no time. */
    long responseDurationUs;

    /** These are below 0 where they are unknown. */
    long responseCode;

    long grpcStatus;
    long attempts;
    long inputTokens;
    long outputTokens;
    long bytesReceived;
    long bytesSent;
    boolean periodic;

    /** Whether the line names an HTTP method, and a protocol. */
    boolean hasMethod;

    boolean hasProtocol;

    /** Whether the method is CONNECT. */
    boolean connects;

    /** These are null where the value is absent or no text. */
    Texts.Text flags;

    Texts.Text details;
    Texts.Text cluster;

    /** Of the key that names department and task, where that isn't the cluster's. */
    Texts.Text name;

    Texts.Text host;

    /** Read only where it is asked for: callers choose it, and may send ever new ones. */
    Texts.Text client;

    /** As they stand in the line, if their length is that of an id; {@link ExemplarOf} checks their characters. */
    BinaryStringData requestId;

    BinaryStringData traceparent;

    void clear() {
        startTime = null;
        durationUs = UNKNOWN;
        durationMs = 0;
        serviceTimeUs = UNKNOWN;
        responseDurationUs = UNKNOWN;
        responseCode = UNKNOWN;
        grpcStatus = UNKNOWN;
        attempts = UNKNOWN;
        inputTokens = UNKNOWN;
        outputTokens = UNKNOWN;
        bytesReceived = UNKNOWN;
        bytesSent = UNKNOWN;
        periodic = false;
        hasMethod = false;
        hasProtocol = false;
        connects = false;
        requestId = null;
        traceparent = null;
        flags = null;
        details = null;
        cluster = null;
        name = null;
        host = null;
        client = null;
    }

    /** Whether the gRPC status is one of the codes that gRPC defines. */
    boolean hasGrpcStatus() {
        return grpcStatus >= 0 && grpcStatus <= GrpcStatus.MAX;
    }

    /** Whether the line is that of a TCP connection: it names neither a method nor a protocol, and has no answer's code. */
    boolean isTcp() {
        return !hasMethod && !hasProtocol && (responseCode == 0 || responseCode == UNKNOWN);
    }

    /** Whether the connection became another protocol's, such as a websocket's. */
    boolean isUpgraded() {
        return responseCode == 101 || connects;
    }

    /** Sets what is asked of the method, which may be null. */
    void setMethod(String method) {
        hasMethod = method != null && !Texts.isUnknown(method);
        connects = "CONNECT".equals(method);
    }

    /** Sets periodic by the line's access_log_type, which may be null: any but the end of a request or a connection. */
    void setLogType(Texts.Text type) {
        periodic = type != null && type.known != null && !type.is("DownstreamEnd") && !type.is("TcpConnectionEnd");
    }
}
