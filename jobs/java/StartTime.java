package io.tidegate.flink;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.util.regex.Pattern;

/**
 * Reads the moments that gateways write: RFC 3339 with any number of digits of a second's fraction, Z, ±hh:mm or ±hhmm,
 * also with a blank for the T and slashes in the date; or an epoch number in s, ms, µs or ns. schemas/timestamps.py reads
 * the same forms.
 *
 * <p>Written by hand since java.time's formatter would cost as much as the rest of the line. Not thread safe.
 */
final class StartTime {

    static final long UNREADABLE = Long.MIN_VALUE;

    private static final int DATE_LENGTH = 10;
    private static final Pattern EPOCH = Pattern.compile("(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE]\\+?[0-9]{1,2})?");
    private static final int MAX_EPOCH_LENGTH = 64;
    private static final BigDecimal MIN_EPOCH = BigDecimal.TEN.pow(8);

    /** Below these powers of ten an epoch number is in s, ms, µs, ns: from March 1973 on, no unit is taken for another. */
    private static final int[] UNIT_ENDS = {11, 14, 17, 20};

    private String day = "";
    private long dayMs;

    /** Milliseconds since the epoch, finer digits cut off; UNREADABLE for any other form. */
    long epochMs(String text) {
        long ms = calendarMs(text);
        if (ms != UNREADABLE) {
            return ms;
        }
        String inner = Texts.withoutBlanks(text);
        return inner.length() < text.length() ? epochMs(inner) : numberMs(text);
    }

    /** The reason of a dead letter, with the refused text or its beginning. */
    static String unreadable(String text) {
        String shown = text.length() > MAX_EPOCH_LENGTH ? text.substring(0, MAX_EPOCH_LENGTH) + "…" : text;
        return "start_time: '" + shown + "' is neither RFC 3339 with an offset nor an epoch number in s, ms, µs or ns";
    }

    private static long numberMs(String text) {
        if (text.length() > MAX_EPOCH_LENGTH || !EPOCH.matcher(text).matches()) {
            return UNREADABLE;
        }
        BigDecimal number = new BigDecimal(text);
        if (number.compareTo(MIN_EPOCH) < 0) {
            return UNREADABLE;
        }
        for (int unit = 0; unit < UNIT_ENDS.length; unit++) {
            if (number.compareTo(BigDecimal.TEN.pow(UNIT_ENDS[unit])) < 0) {
                return number.movePointRight(3 - 3 * unit).setScale(0, RoundingMode.FLOOR).longValueExact();
            }
        }
        return UNREADABLE;
    }

    private long calendarMs(String text) {
        int length = text.length();
        if (length < 20 || !isBetweenDateAndTime(text.charAt(10)) || text.charAt(13) != ':' || text.charAt(16) != ':') {
            return UNREADABLE;
        }
        if (!text.regionMatches(0, day, 0, DATE_LENGTH) && !readDay(text)) {
            return UNREADABLE;
        }
        int hour = two(text, 11);
        int minute = two(text, 14);
        int second = two(text, 17);
        if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
            return UNREADABLE;
        }
        long ms = dayMs + ((hour * 60L + minute) * 60L + second) * 1000L;
        int at = 19;
        if (text.charAt(at) == '.') {
            int scale = 100;
            int digits = 0;
            for (at++; at < length && isDigit(text.charAt(at)); at++, digits++) {
                ms += (long) (text.charAt(at) - '0') * scale;
                scale /= 10;
            }
            if (digits == 0) {
                return UNREADABLE;
            }
        }
        if (at == length - 1 && (text.charAt(at) == 'Z' || text.charAt(at) == 'z')) {
            return ms;
        }
        boolean colon = at == length - 6 && text.charAt(at + 3) == ':';
        return colon || at == length - 5 ? withOffset(text, at, at + (colon ? 4 : 3), ms) : UNREADABLE;
    }

    private static long withOffset(String text, int at, int minutesAt, long ms) {
        char sign = text.charAt(at);
        int hours = two(text, at + 1);
        int minutes = two(text, minutesAt);
        boolean readable =
                (sign == '+' || sign == '-')
                        && hours >= 0
                        && hours <= 23
                        && minutes >= 0
                        && minutes <= 59;
        if (!readable) {
            return UNREADABLE;
        }
        long offsetMs = (hours * 60L + minutes) * 60_000L;
        return sign == '+' ? ms - offsetMs : ms + offsetMs;
    }

    private boolean readDay(String text) {
        int century = two(text, 0);
        int years = two(text, 2);
        int month = two(text, 5);
        int dayOfMonth = two(text, 8);
        boolean readable =
                century >= 0 && years >= 0 && month >= 0 && dayOfMonth >= 0 && isDateSeparator(text.charAt(4)) && text.charAt(7) == text.charAt(4);
        if (!readable) {
            return false;
        }
        try {
            dayMs = LocalDate.of(century * 100 + years, month, dayOfMonth).toEpochDay() * 86_400_000L;
        } catch (DateTimeException error) {
            return false;
        }
        day = text.substring(0, DATE_LENGTH);
        return true;
    }

    private static boolean isBetweenDateAndTime(char c) {
        return c == 'T' || c == 't' || c == ' ';
    }

    private static boolean isDateSeparator(char c) {
        return c == '-' || c == '/';
    }

    private static int two(String text, int at) {
        char tens = text.charAt(at);
        char ones = text.charAt(at + 1);
        return isDigit(tens) && isDigit(ones) ? (tens - '0') * 10 + (ones - '0') : -1;
    }

    private static boolean isDigit(char c) {
        return c >= '0' && c <= '9';
    }
}
