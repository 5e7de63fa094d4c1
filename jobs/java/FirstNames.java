package io.tidegate.flink;

import java.util.ArrayList;
import java.util.List;

/** The first distinct names that came, at most {@link #MOST}; a longer name is cut. An accumulator of Flink's. */
public final class FirstNames {

    static final int MOST = 20;
    static final int MAX_LENGTH = 256;

    /** In the order in which they came. */
    public List<String> names = new ArrayList<>();

    void add(String name) {
        if (name == null || names.size() == MOST) {
            return;
        }
        String kept = name.length() <= MAX_LENGTH ? name : cut(name);
        if (!names.contains(kept)) {
            names.add(kept);
        }
    }

    void addAll(Iterable<FirstNames> others) {
        others.forEach(other -> other.names.forEach(this::add));
    }

    /** null where no name came. */
    String[] get() {
        return names.isEmpty() ? null : names.toArray(new String[0]);
    }

    /** Never between the halves of a surrogate pair. */
    private static String cut(String name) {
        int end = MAX_LENGTH - 1;
        return name.substring(0, Character.isHighSurrogate(name.charAt(end - 1)) ? end - 1 : end) + "…";
    }
}
