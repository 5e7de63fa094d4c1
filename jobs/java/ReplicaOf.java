package io.tidegate.flink;

import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code REPLICA_OF(upstream_host)}: the endpoint itself where the text names one of Envoy's own listeners before it, as in
 * {@code envoy://connect_originate/10.0.0.1:8080}; any other text as it is.
 */
public final class ReplicaOf extends ScalarFunction {

    private static final long serialVersionUID = 1L;
    private static final String INTERNAL_ADDRESS = "envoy://";

    public String eval(String upstreamHost) {
        String replica = upstreamHost;
        while (replica != null && replica.startsWith(INTERNAL_ADDRESS)) {
            int slash = replica.indexOf('/', INTERNAL_ADDRESS.length());
            if (slash < 0 || slash + 1 == replica.length()) {
                break;
            }
            replica = replica.substring(slash + 1);
        }
        return replica;
    }
}
