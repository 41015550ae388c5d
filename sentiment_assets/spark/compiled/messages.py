"""Compiled reading of plain messages: the JSON that producers write, from the bytes as Kafka has them.

Ten times as fast as Spark's parser, and it decides only what leaves no room for doubt: an object of strings, numbers,
``true``, ``false`` and ``null``, ASCII alone, no field twice, an ISO 8601 time in UTC, a text without HTML entities.
Of such a message it says just what ``streaming.parsing`` and ``text.lowered`` say. All else it leaves to them: bad
messages, other alphabets, emoji.
Importing this module imports numba: it is imported inside functions, after ``worker.use_cache``.
Does not belong here: files, Arrow, Spark, the score.
"""

from typing import Any

import numba
import numpy as np

MAX_BYTES = 16_384
"""Longest message that is read here."""

_compiled: Any = numba.njit(cache=True, nogil=True)
_inlined: Any = numba.njit(cache=True, nogil=True, inline="always")

_ID, _AUTHOR, _CREATED_AT, _TEXT, _MESSAGE, _OTHER = 0, 1, 2, 3, 4, 5
_NAMES = (b"id", b"author", b"created_at", b"text", b"message")
_KEYS = tuple(np.frombuffer(name, np.uint8) for name in _NAMES)
_NULL, _TRUE, _FALSE = (np.frombuffer(name, np.uint8) for name in (b"null", b"true", b"false"))
_DAY_MICROS = 86_400_000_000
_QUOTE, _BACKSLASH, _COMMA, _COLON, _OPEN, _CLOSE, _AMPERSAND = 34, 92, 44, 58, 123, 125, 38


@_compiled
def _skip_space(data, position, end):
    while position < end and (
        data[position] == 32 or data[position] == 10 or data[position] == 13 or data[position] == 9
    ):
        position += 1
    return position


@_compiled
def _stands(data, begin, end, word):
    if end - begin < word.size:
        return False
    for place in range(word.size):
        if data[begin + place] != word[place]:
            return False
    return True


@_compiled
def _name_of(data, begin, end):
    """Which field a name is."""
    size = end - begin
    if size == _KEYS[_ID].size and _stands(data, begin, end, _KEYS[_ID]):
        return _ID
    if size == _KEYS[_TEXT].size and _stands(data, begin, end, _KEYS[_TEXT]):
        return _TEXT
    if size == _KEYS[_AUTHOR].size and _stands(data, begin, end, _KEYS[_AUTHOR]):
        return _AUTHOR
    if size == _KEYS[_MESSAGE].size and _stands(data, begin, end, _KEYS[_MESSAGE]):
        return _MESSAGE
    if size == _KEYS[_CREATED_AT].size and _stands(data, begin, end, _KEYS[_CREATED_AT]):
        return _CREATED_AT
    return _OTHER


@_compiled
def _string_end(data, position, end):
    """Where the string ends whose first character is at ``position``, and whether it has escapes; -1: not plain."""
    escaped = False
    while position < end:
        byte = data[position]
        if byte == _QUOTE:
            return position, escaped
        if byte < 32 or byte >= 127:
            return -1, escaped
        if byte == _BACKSLASH:
            escaped = True
            position += 1
            if position >= end:
                return -1, escaped
            after = data[position]
            # " \ / b f n r t; a code point is left to Spark.
            if not (
                after == 34
                or after == 92
                or after == 47
                or after == 98
                or after == 102
                or after == 110
                or after == 114
                or after == 116
            ):
                return -1, escaped
        position += 1
    return -1, escaped


@_compiled
def _digits_end(data, position, end):
    while position < end and 48 <= data[position] <= 57:
        position += 1
    return position


@_compiled
def _number_end(data, position, end):
    """Where a JSON number ends; -1: it is none, or a long one."""
    begin = position
    if data[position] == 45:
        position += 1
    whole = _digits_end(data, position, end)
    if whole == position or (whole > position + 1 and data[position] == 48):
        return -1
    position = whole
    if position < end and data[position] == 46:
        fraction = _digits_end(data, position + 1, end)
        if fraction == position + 1:
            return -1
        position = fraction
    if position < end and (data[position] == 101 or data[position] == 69):
        position += 1
        if position < end and (data[position] == 43 or data[position] == 45):
            position += 1
        power = _digits_end(data, position, end)
        if power == position:
            return -1
        position = power
    return position if position - begin <= 100 else -1


@_compiled
def _word_end(data, position, end):
    """Where ``null``, ``true``, ``false`` or a number ends; -1: none of them."""
    byte = data[position]
    if byte == 110:
        return position + 4 if _stands(data, position, end, _NULL) else -1
    if byte == 116:
        return position + 4 if _stands(data, position, end, _TRUE) else -1
    if byte == 102:
        return position + 5 if _stands(data, position, end, _FALSE) else -1
    if byte == 45 or 48 <= byte <= 57:
        return _number_end(data, position, end)
    return -1


@_compiled
def read_fields(data, position, end, begins, ends, escapes):
    """Find the fields of a message: where each known one begins and ends, -1 for one that is missing or null.

    Returns
    -------
    bool
        Whether the message is a plain one.
    """
    begins[:] = -1
    if end - position > MAX_BYTES:
        return False
    seen = 0
    position = _skip_space(data, position, end)
    if position >= end or data[position] != _OPEN:
        return False
    position += 1
    while True:
        position = _skip_space(data, position, end)
        if position >= end or data[position] != _QUOTE:
            return False
        begin = position + 1
        close, escaped = _string_end(data, begin, end)
        if close < 0 or escaped:
            return False
        name = _name_of(data, begin, close)
        if name != _OTHER:
            if seen & (1 << name):
                return False
            seen |= 1 << name
        position = _skip_space(data, close + 1, end)
        if position >= end or data[position] != _COLON:
            return False
        position = _skip_space(data, position + 1, end)
        if position >= end:
            return False
        if data[position] == _QUOTE:
            begin = position + 1
            close, escaped = _string_end(data, begin, end)
            if close < 0:
                return False
            if name != _OTHER:
                begins[name], ends[name], escapes[name] = begin, close, escaped
            position = close + 1
        else:
            is_null = data[position] == 110
            position = _word_end(data, position, end)
            # A number or a truth value is no text, and as an id it is Spark's to say how it is written.
            if position < 0 or (name != _OTHER and not is_null):
                return False
        position = _skip_space(data, position, end)
        if position >= end:
            return False
        if data[position] == _CLOSE:
            return _skip_space(data, position + 1, end) == end
        if data[position] != _COMMA:
            return False
        position += 1


@_compiled
def _two(data, position):
    """The number of two digits, or -1."""
    tens, ones = data[position] - 48, data[position + 1] - 48
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1
    return tens * 10 + ones


@_compiled
def _days(year, month, day):
    """Days since 1970 of a date of the Gregorian calendar (Howard Hinnant, chrono-compatible date algorithms)."""
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    shifted = month - 3 if month > 2 else month + 9
    of_year = (153 * shifted + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@_compiled
def _days_of(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@_compiled
def read_time(data, begin, end):
    """Microseconds since 1970 of ``2009-04-06T22:19:45Z``, with up to six decimals; -1: it is written otherwise."""
    size = end - begin
    if size < 20 or size > 27 or data[end - 1] != 90:
        return -1
    if data[begin + 4] != 45 or data[begin + 7] != 45 or data[begin + 13] != 58 or data[begin + 16] != 58:
        return -1
    if data[begin + 10] != 84 and data[begin + 10] != 32:
        return -1
    century, of_century = _two(data, begin), _two(data, begin + 2)
    month, day = _two(data, begin + 5), _two(data, begin + 8)
    hour, minute, second = _two(data, begin + 11), _two(data, begin + 14), _two(data, begin + 17)
    if century < 0 or of_century < 0 or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return -1
    year = century * 100 + of_century
    if year < 1970 or year > 9998 or month < 1 or month > 12 or second < 0 or second > 59:
        return -1
    if day < 1 or day > _days_of(year, month):
        return -1
    micros = 0
    if size > 20:
        if data[begin + 19] != 46 or size == 21:
            return -1
        for place in range(6):
            digit = data[begin + 20 + place] - 48 if begin + 20 + place < end - 1 else 0
            if digit < 0 or digit > 9:
                return -1
            micros = micros * 10 + digit
    return _days(year, month, day) * _DAY_MICROS + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros


@_compiled
def _copy(data, begin, end, escaped, out, place):
    """Append the characters of a string; returns where they end."""
    if not escaped:
        for position in range(begin, end):
            out[place] = data[position]
            place += 1
        return place
    position = begin
    while position < end:
        byte = data[position]
        if byte == _BACKSLASH:
            position += 1
            byte = data[position]
            if byte == 98:
                byte = np.uint8(8)
            elif byte == 102:
                byte = np.uint8(12)
            elif byte == 110:
                byte = np.uint8(10)
            elif byte == 114:
                byte = np.uint8(13)
            elif byte == 116:
                byte = np.uint8(9)
        out[place] = byte
        place += 1
        position += 1
    return place


@_compiled
def _may_have_entity(text, begin, end):
    """Whether an ampersand is followed by what an entity of ``text._ENTITIES`` begins with."""
    for position in range(begin, end - 1):
        if text[position] == _AMPERSAND:
            after = text[position + 1]
            if after == 97 or after == 108 or after == 103 or after == 113 or after == 110 or after == 35:
                return True
    return False


@_compiled
def read_messages(
    data,
    offsets,
    plain,
    ids,
    id_ends,
    has_id,
    authors,
    author_ends,
    has_author,
    times,
    has_time,
    texts,
    text_ends,
):
    """Read the plain ones among some messages.

    Parameters
    ----------
    data, offsets
        Bytes of all messages, uint8, and where each begins and the last one ends, int64.
    plain
        Filled: whether each message is a plain one.
    ids, authors, texts
        Filled: characters of these fields of the plain messages, one after the other.
    id_ends, author_ends, text_ends
        Filled: where they begin, and where the last one ends, int32, one more than plain messages.
    has_id, has_author, has_time
        Filled: whether a plain message has that field.
    times
        Filled: microseconds since 1970.

    Returns
    -------
    int
        Plain messages.
    """
    begins = np.empty(5, np.int64)
    ends = np.empty(5, np.int64)
    escapes = np.zeros(5, np.bool_)
    count = id_place = author_place = text_place = 0
    id_ends[0] = author_ends[0] = text_ends[0] = 0
    for row in range(plain.size):
        plain[row] = False
        if not read_fields(data, offsets[row], offsets[row + 1], begins, ends, escapes):
            continue
        field = _TEXT if begins[_TEXT] >= 0 else _MESSAGE
        if begins[field] < 0 or begins[field] == ends[field]:
            continue
        time = np.int64(0)
        if begins[_CREATED_AT] >= 0:
            if escapes[_CREATED_AT]:
                continue
            time = read_time(data, begins[_CREATED_AT], ends[_CREATED_AT])
            if time < 0:
                continue
        text_end = _copy(data, begins[field], ends[field], escapes[field], texts, text_place)
        # Nothing but space in front may be nothing but space at all.
        if texts[text_place] <= 32 or _may_have_entity(texts, text_place, text_end):
            continue
        text_place = text_end
        has_time[count], times[count] = begins[_CREATED_AT] >= 0, time
        has_id[count] = begins[_ID] >= 0
        if has_id[count]:
            id_place = _copy(data, begins[_ID], ends[_ID], escapes[_ID], ids, id_place)
        has_author[count] = begins[_AUTHOR] >= 0
        if has_author[count]:
            author_place = _copy(
                data, begins[_AUTHOR], ends[_AUTHOR], escapes[_AUTHOR], authors, author_place
            )
        plain[row] = True
        count += 1
        id_ends[count], author_ends[count], text_ends[count] = id_place, author_place, text_place
    return count


@_compiled
def lower_ascii(texts, lowered):
    """The same characters with A to Z in lower case."""
    for place in range(texts.size):
        byte = texts[place]
        lowered[place] = byte + 32 if 65 <= byte <= 90 else byte
