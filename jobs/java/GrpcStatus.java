package io.tidegate.flink;

import java.util.HashMap;
import java.util.Map;

/** gRPC's status codes, 0 to 16, by number and by the names that Envoy's {@code %GRPC_STATUS%} writes. */
final class GrpcStatus {

    /** In the order of their numbers. Source: gRPC's list of status codes. */
    private static final String[] NAMES = {
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    };

    static final int MAX = NAMES.length - 1;

    private static final Map<String, Long> BY_NAME = byName();

    private GrpcStatus() {}

    /** The code with this name, in snake or camel case; or LineFields.UNKNOWN. */
    static long named(String name) {
        return BY_NAME.getOrDefault(name, LineFields.UNKNOWN);
    }

    private static Map<String, Long> byName() {
        Map<String, Long> found = new HashMap<>();
        for (int status = 0; status <= MAX; status++) {
            StringBuilder camel = new StringBuilder();
            for (String word : NAMES[status].split("_")) {
                camel.append(word.charAt(0)).append(word.substring(1).toLowerCase());
            }
            found.put(NAMES[status], (long) status);
            found.put(camel.toString(), (long) status);
        }
        found.put("Canceled", 1L); // as Envoy spells it
        found.put("CANCELED", 1L);
        return found;
    }
}
