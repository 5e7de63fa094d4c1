package io.tidegate.flink;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** Whether bytes are UTF-8; Jackson alone would let some pass that aren't. */
final class Utf8 {

    private static final long HIGH_BITS = 0x8080808080808080L;

    private Utf8() {}

    static boolean isValid(byte[] text) {
        int at = 0;
        for (; at + 8 <= text.length; at += 8) {
            if (((long) Words.LONGS.get(text, at) & HIGH_BITS) != 0) {
                return decodes(text);
            }
        }
        for (; at < text.length; at++) {
            if (text[at] < 0) {
                return decodes(text);
            }
        }
        return true;
    }

    private static boolean decodes(byte[] text) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text));
            return true;
        } catch (CharacterCodingException error) {
            return false;
        }
    }
}
