package io.tidegate.flink;

import com.google.re2j.Matcher;
import com.google.re2j.Pattern;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.type.TypeReference;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * The gateway's decision as department, task and version: the contract's table of identity.
 *
 * <p>Results are kept by name, at most {@link #CAPACITY}, none of more than {@link #MAX_KEPT_LENGTH} characters: a name is read once, not once a second. Not thread safe.
 */
final class IdentityTable {

    static final String UNROUTED = "__unrouted__";
    static final String OVERFLOW = "__overflow__";
    static final String EXTERNAL = "external";
    static final String DEFAULT = "default";

    private static final int CAPACITY = 20_000;
    private static final int MAX_KEPT_LENGTH = 1024;
    private static final int MAX_NAME_LENGTH = 128;
    private static final int HASH_DIGITS = 8;
    private static final String POOL = "-ip-";
    private static final Set<String> DIRECTIONS = Set.of("outbound", "inbound-vip");
    private static final Set<String> WAYPOINT_PROTOCOLS = Set.of("http", "tcp", "internal");
    private static final Set<String> ROUTE_KINDS =
            Set.of("httproute", "grpcroute", "tcproute", "tlsroute", "udproute");

    /** What a name means. folded: whether the form of a part made it OVERFLOW. */
    record Identity(String department, String task, String version, boolean folded) {
        Identity(String department, String task, String version) {
            this(department, task, version,
                    OVERFLOW.equals(department) || OVERFLOW.equals(task) || OVERFLOW.equals(version));
        }
    }

    private final Map<String, Identity> known = new HashMap<>();
    private final String servicePrefix;
    private final Map<String, String> departments;

    /** null: names are read by their forms only. */
    private final Pattern pattern;

    private IdentityTable(String servicePrefix, Map<String, String> departments, Pattern pattern) {
        this.servicePrefix = servicePrefix;
        this.departments = departments;
        this.pattern = pattern;
    }

    /** settings: JSON with service_prefix, departments and name_pattern, which may be null. */
    static IdentityTable from(String settings) {
        try {
            ObjectMapper json = new ObjectMapper();
            var read = json.readTree(settings);
            var pattern = read.get("name_pattern");
            return new IdentityTable(
                    read.get("service_prefix").textValue(),
                    json.convertValue(read.get("departments"), new TypeReference<Map<String, String>>() {}),
                    pattern.isNull() ? null : Pattern.compile(pattern.textValue()));
        } catch (IOException error) {
            throw new IllegalArgumentException("settings of identity: not JSON: " + settings, error);
        }
    }

    /** The identity of a name; null: no cluster was chosen. */
    Identity of(String name) {
        if (name == null) {
            return new Identity(UNROUTED, UNROUTED, null);
        }
        Identity found = known.get(name);
        if (found == null) {
            found = read(withoutEnding(name, ";")); // what Istio ends a cluster's alternative name for statistics with
            if (known.size() == CAPACITY) {
                known.clear();
            }
            if (name.length() <= MAX_KEPT_LENGTH) {
                known.put(name, found);
            }
        }
        return found;
    }

    private Identity read(String name) {
        Identity found = byPattern(name);
        if (found == null) {
            found = byIstio(name);
        }
        if (found == null) {
            found = byRoute(name);
        }
        if (found != null) {
            return found;
        }
        boolean unrouted =
                name.equals("PassthroughCluster")
                        || name.equals("BlackHoleCluster")
                        || name.startsWith("InboundPassthroughCluster");
        return new Identity(unrouted ? UNROUTED : DEFAULT, form(name), null);
    }

    private Identity byPattern(String name) {
        if (pattern == null) {
            return null;
        }
        Matcher matcher = pattern.matcher(name);
        if (!matcher.matches()) {
            return null;
        }
        String task = group(matcher, "task");
        if (task.isEmpty()) {
            return null;
        }
        String namespace = group(matcher, "department");
        String department = namespace.isEmpty() ? DEFAULT : department(namespace);
        return new Identity(department, form(task), version(group(matcher, "version")));
    }

    private String group(Matcher matcher, String name) {
        String found = pattern.namedGroups().containsKey(name) ? matcher.group(name) : null;
        return found == null ? "" : found;
    }

    /** {@code outbound|port|subset|host}, or with {@code _.} for the bars. */
    private Identity byIstio(String name) {
        String[] parts = name.split("\\|", -1);
        if (!isIstios(parts)) {
            parts = name.split("_\\.", 4);
        }
        if (!isIstios(parts)) {
            return null;
        }
        String host = withoutEnding(parts[3], ";.");
        if (host.isEmpty()) {
            return null;
        }
        String version = version(parts[0].equals("outbound") ? parts[2] : withoutProtocol(parts[2]));
        String[] labels = host.split("\\.", -1);
        for (int place = 2; place <= 3 && place < labels.length; place++) {
            if (labels[place].equals("svc") && noneEmpty(labels, 0, place)) {
                return new Identity(department(labels[place - 1]), form(task(labels[place - 2])), version);
            }
        }
        return new Identity(EXTERNAL, form(host), version);
    }

    private static boolean isIstios(String[] parts) {
        return parts.length == 4 && DIRECTIONS.contains(parts[0]);
    }

    /** A waypoint has the protocol in the subset's place, then the subset. */
    private static String withoutProtocol(String subset) {
        int slash = subset.indexOf('/');
        String first = slash < 0 ? subset : subset.substring(0, slash);
        if (!WAYPOINT_PROTOCOLS.contains(first)) {
            return subset;
        }
        return slash < 0 ? "" : subset.substring(slash + 1);
    }

    /** A service without the prefix; the service that Istio makes for an InferencePool is the pool's name. */
    private String task(String service) {
        int end = service.length() - HASH_DIGITS - POOL.length();
        if (end > 0 && service.startsWith(POOL, end) && isHexadecimal(service, end + POOL.length())) {
            return service.substring(0, end);
        }
        boolean prefixed = service.startsWith(servicePrefix) && service.length() > servicePrefix.length();
        return prefixed ? service.substring(servicePrefix.length()) : service;
    }

    /** Envoy Gateway's {@code httproute/namespace/name/rule/…}. */
    private Identity byRoute(String name) {
        String[] parts = name.split("/", -1);
        boolean route =
                parts.length >= 5
                        && ROUTE_KINDS.contains(parts[0])
                        && parts[3].equals("rule")
                        && noneEmpty(parts, 1, 5);
        return route ? new Identity(department(parts[1]), form(parts[2]), null) : null;
    }

    private String department(String namespace) {
        return form(departments.getOrDefault(namespace, namespace));
    }

    private static String version(String subset) {
        return subset.isEmpty() ? null : form(subset);
    }

    /** The name as rows have it: / and | as dots; OVERFLOW for another form. */
    private static String form(String name) {
        if (name.isEmpty() || name.length() > MAX_NAME_LENGTH) {
            return OVERFLOW;
        }
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            boolean letter = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
            if (!letter && "._-/|".indexOf(c) < 0) {
                return OVERFLOW;
            }
        }
        return name.replace('/', '.').replace('|', '.');
    }

    private static boolean noneEmpty(String[] parts, int from, int to) {
        for (int i = from; i < to; i++) {
            if (parts[i].isEmpty()) {
                return false;
            }
        }
        return true;
    }

    private static boolean isHexadecimal(String text, int from) {
        for (int i = from; i < text.length(); i++) {
            if ("0123456789abcdef".indexOf(text.charAt(i)) < 0) {
                return false;
            }
        }
        return true;
    }

    private static String withoutEnding(String text, String characters) {
        int end = text.length();
        while (end > 0 && characters.indexOf(text.charAt(end - 1)) >= 0) {
            end--;
        }
        return text.substring(0, end);
    }
}
