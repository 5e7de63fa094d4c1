package io.tidegate.flink;

import java.time.DateTimeException;
import java.time.LocalDate;

/**
 * Reads ISO 8601 moments: {@code 2026-11-24T10:00:00.123Z}, 0 to 9 digits of a second's fraction, Z or ±hh:mm.
 *
 * <p>Written by hand since java.time's formatter would cost as much as the rest of the line. Not thread safe.
 */
final class StartTime {

    static final long UNREADABLE = Long.MIN_VALUE;

    private static final int DATE_LENGTH = 10;

    private String day = "";
    private long dayMs;

    /** Milliseconds since the epoch, finer digits cut off; UNREADABLE for any other form. */
    long epochMs(String text) {
        int length = text.length();
        if (length < 20 || text.charAt(10) != 'T' || text.charAt(13) != ':' || text.charAt(16) != ':') {
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
            if (digits == 0 || digits > 9) {
                return UNREADABLE;
            }
        }
        if (at == length - 1 && text.charAt(at) == 'Z') {
            return ms;
        }
        return at == length - 6 ? withOffset(text, at, ms) : UNREADABLE;
    }

    private static long withOffset(String text, int at, long ms) {
        char sign = text.charAt(at);
        int hours = two(text, at + 1);
        int minutes = two(text, at + 4);
        boolean readable =
                (sign == '+' || sign == '-')
                        && text.charAt(at + 3) == ':'
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
                century >= 0 && years >= 0 && month >= 0 && dayOfMonth >= 0 && text.charAt(4) == '-' && text.charAt(7) == '-';
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

    private static int two(String text, int at) {
        char tens = text.charAt(at);
        char ones = text.charAt(at + 1);
        return isDigit(tens) && isDigit(ones) ? (tens - '0') * 10 + (ones - '0') : -1;
    }

    private static boolean isDigit(char c) {
        return c >= '0' && c <= '9';
    }
}
