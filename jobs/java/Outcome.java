package io.tidegate.flink;

/**
 * The outcome of a request, from its response code, flags, details and gRPC status: the first that fits, in the order of
 * {@link #of}.
 *
 * <p>gRPC statuses by OpenTelemetry's semantic conventions: 2, 4, 12, 13, 14 and 15 are errors of the server.
 */
final class Outcome {

    /** Values of the column outcome. */
    static final byte OK = 0;

    static final byte ERROR_4XX = 1;
    static final byte ERROR_5XX = 2;
    static final byte ABORTED = 3;
    static final byte RATE_LIMITED = 4;

    /** By gRPC status, 0 to 16. */
    private static final byte[] OF_GRPC_STATUS = {
        OK, ABORTED, ERROR_5XX, ERROR_4XX, ERROR_5XX, ERROR_4XX, ERROR_4XX, ERROR_4XX, ERROR_4XX,
        ERROR_4XX, ERROR_4XX, ERROR_4XX, ERROR_5XX, ERROR_5XX, ERROR_5XX, ERROR_5XX, ERROR_4XX,
    };

    private Outcome() {}

    static byte of(LineFields fields) {
        int flags = fields.flags == null ? 0 : fields.flags.decidedByFlags;
        if ((flags & ResponseFlags.RATE_LIMITED) != 0 || (fields.details != null && fields.details.saysRateLimited)) {
            return RATE_LIMITED;
        }
        long code = fields.responseCode;
        byte byStatus = fields.hasGrpcStatus() ? OF_GRPC_STATUS[(int) fields.grpcStatus] : OK;
        if (code == 0 || (flags & ResponseFlags.ABORTED) != 0 || byStatus == ABORTED) {
            return ABORTED;
        }
        if ((code >= 500 && code < 600) || (flags & ResponseFlags.FAILED) != 0 || byStatus == ERROR_5XX) {
            return ERROR_5XX;
        }
        return (code >= 400 && code < 500) || byStatus == ERROR_4XX ? ERROR_4XX : OK;
    }
}
