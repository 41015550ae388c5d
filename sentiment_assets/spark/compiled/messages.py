"""Compiled reading of plain messages: the JSON that producers write, from the bytes as Kafka has them.

Much faster than Spark's parser, and it decides only what leaves no room for doubt: an object of strings, numbers,
``true``, ``false`` and ``null``, sound UTF-8, no field twice, an ISO 8601 time in UTC, a text of characters whose lower
case is one character wherever they stand (``lower_cases``). Of such a message it says just what ``streaming.parsing``
and ``text.lowered`` say. All else it leaves to them: bad messages, nested ones, the letters of few.
Importing this module imports numba: it is imported inside functions, after ``worker.use_cache``.
Does not belong here: files, Arrow, Spark, the score.
"""

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sentiment_assets.spark.characters import ENTITIES, TYPOGRAPHY
from sentiment_assets.spark.compiled.jit import leaf

MAX_BYTES = 16_384
"""Longest message that is read here."""

_ID, _AUTHOR, _CREATED_AT, _TEXT, _MESSAGE, _OTHER = 0, 1, 2, 3, 4, 5
_NAMES = (b"id", b"author", b"created_at", b"text", b"message")
_KEYS = tuple(np.frombuffer(name, np.uint8) for name in _NAMES)
_NULL, _TRUE, _FALSE = (np.frombuffer(name, np.uint8) for name in (b"null", b"true", b"false"))
_MAX_NAMES = 100
"""Most names in an object; Jackson refuses hundreds that are made to collide in its table of names."""
_DIGITS = 18
"""Longest id without quotes: so many fit into 64 bits."""
_DAY_MICROS = 86_400_000_000
_QUOTE, _BACKSLASH, _COMMA, _COLON, _OPEN, _CLOSE, _AMPERSAND = 34, 92, 44, 58, 123, 125, 38

_ESCAPES, _BEYOND_ASCII, _AMPERSANDS = 1, 2, 4
"""What a string has, as bits."""

_OLD = tuple(np.frombuffer(old.encode(), np.uint8) for old, _ in ENTITIES)
_NEW = np.frombuffer("".join(new for _, new in ENTITIES).encode(), np.uint8)

_LETTERS_END = 0x1FB00
"""First code point behind the blocks of ``_BLOCKS``."""
_BLOCKS = (
    (0x80, 0x10A0),
    (0x1100, 0x13A0),
    (0x1400, 0x1C80),
    (0x1CC0, 0x2C00),
    (0x2E00, 0xA640),
    (0xA800, 0xAB30),
    (0xAC00, 0xD800),
    (0xE000, 0x10000),
    (0x1F000, _LETTERS_END),
)
"""Code points from, up to: what tweets are written in, without blocks to whose letters Unicode still adds a case."""
_FINAL_SIGMA = 0x3A3
"""The only letter whose lower case depends on where it stands, of those with one character of it."""
_AGAIN = 24
"""From this bit on of an entry of ``lower_cases``: how often the character is repeated."""


@leaf
def _skip_space(data, position, end):
    while position < end and (
        data[position] == 32 or data[position] == 10 or data[position] == 13 or data[position] == 9
    ):
        position += 1
    return position


@leaf
def _stands(data, begin, end, word):
    if end - begin < word.size:
        return False
    for place in range(word.size):
        if data[begin + place] != word[place]:
            return False
    return True


@leaf
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


@lru_cache(maxsize=1)
def lower_cases() -> npt.NDArray[np.uint32]:
    """Of each code point beyond ASCII what ``text.lowered`` makes of it; 0: that is Spark's to say.

    Only of characters that Unicode has assigned, whose lower case is one character and takes no more bytes.
    """
    table = np.zeros(_LETTERS_END, np.uint32)
    for begin, end in _BLOCKS:
        for code in range(begin, end):
            character = chr(code)
            lower = character.lower()
            if len(lower) == 1 and len(lower.encode()) <= len(character.encode()):
                table[code] = ord(lower) if unicodedata.category(character) != "Cn" else 0
    table[_FINAL_SIGMA] = 0
    for old, new in TYPOGRAPHY:
        table[ord(old)] = ord(new[0]) | (len(new) - 1) << _AGAIN
    return table


@leaf
def _decode(data, position, end):
    """Code point of the character beyond ASCII at ``position``, and where the next begins; -1: it is no sound UTF-8."""
    first = np.int64(data[position])
    if first < 0xC2 or first > 0xF4:
        return -1, position
    width = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if position + width > end:
        return -1, position
    code = first & (0x7F >> width)
    for offset in range(1, width):
        byte = np.int64(data[position + offset])
        if byte & 0xC0 != 0x80:
            return -1, position
        code = code << 6 | byte & 0x3F
    # Longer than it has to be, half of a surrogate pair, or beyond Unicode.
    if (
        (width == 3 and code < 0x800)
        or 0xD800 <= code < 0xE000
        or (width == 4 and code < 0x10000)
        or code > 0x10FFFF
    ):
        return -1, position
    return code, position + width


@leaf
def _encode(code, out, place):
    """Write the UTF-8 of a code point; returns where it ends."""
    if code < 0x80:
        out[place] = code
        return place + 1
    if code < 0x800:
        out[place] = 0xC0 | code >> 6
        out[place + 1] = 0x80 | code & 0x3F
        return place + 2
    if code < 0x10000:
        out[place] = 0xE0 | code >> 12
        out[place + 1] = 0x80 | code >> 6 & 0x3F
        out[place + 2] = 0x80 | code & 0x3F
        return place + 3
    out[place] = 0xF0 | code >> 18
    out[place + 1] = 0x80 | code >> 12 & 0x3F
    out[place + 2] = 0x80 | code >> 6 & 0x3F
    out[place + 3] = 0x80 | code & 0x3F
    return place + 4


@leaf
def _unit(data, position, end):
    r"""The code unit of ``\uXXXX`` whose ``u`` is at ``position``; -1: it is none."""
    if position + 5 > end:
        return -1
    unit = np.int64(0)
    for place in range(position + 1, position + 5):
        digit = np.int64(data[place])
        if 48 <= digit <= 57:
            digit -= 48
        elif 65 <= digit <= 70:
            digit -= 55
        elif 97 <= digit <= 102:
            digit -= 87
        else:
            return -1
        unit = unit << 4 | digit
    return unit


@leaf
def _escaped(data, position, end):
    r"""The code point of an escape whose backslash is before ``position``, and where the next begins; -1: not plain."""
    byte = np.int64(data[position])
    if byte == 34 or byte == 92 or byte == 47:
        return byte, position + 1
    if byte == 98:
        return np.int64(8), position + 1
    if byte == 102:
        return np.int64(12), position + 1
    if byte == 110:
        return np.int64(10), position + 1
    if byte == 114:
        return np.int64(13), position + 1
    if byte == 116:
        return np.int64(9), position + 1
    if byte != 117:
        return np.int64(-1), position
    unit = _unit(data, position, end)
    # The second half of a pair without the first.
    if unit < 0 or 0xDC00 <= unit < 0xE000:
        return np.int64(-1), position
    position += 5
    if unit < 0xD800 or unit >= 0xE000:
        return unit, position
    if position + 6 > end or data[position] != _BACKSLASH or data[position + 1] != 117:
        return np.int64(-1), position
    second = _unit(data, position + 1, end)
    if second < 0xDC00 or second >= 0xE000:
        return np.int64(-1), position
    return 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00), position + 6


@leaf
def _string_end(data, position, end):
    """Where the string ends whose first character is at ``position``, and what it has; -1: not plain.

    What it has is not looked at here (``_is_sound``): the few texts that have any would cost all others a third.
    """
    has = 0
    while position < end:
        byte = data[position]
        if byte == _QUOTE:
            return position, has
        if byte < 32:
            return -1, has
        if byte > 127:
            has |= _BEYOND_ASCII
        if byte == _BACKSLASH:
            has |= _ESCAPES
            position += 1
            if position >= end:
                return -1, has
        if byte == _AMPERSAND:
            has |= _AMPERSANDS
        position += 1
    return -1, has


@leaf
def _is_sound(data, position, end):
    """Whether what is beyond ASCII is UTF-8, and each escape a plain one."""
    while position < end:
        byte = data[position]
        if byte == _BACKSLASH:
            if position + 1 >= end:
                return False
            code, position = _escaped(data, position + 1, end)
            if code < 0:
                return False
        elif byte > 127:
            code, position = _decode(data, position, end)
            if code < 0:
                return False
        else:
            position += 1
    return True


@leaf
def _digits_end(data, position, end):
    while position < end and 48 <= data[position] <= 57:
        position += 1
    return position


@leaf
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


@leaf
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


@leaf
def read_fields(data, position, end, begins, ends, have):
    """Find the fields of a message: where each known one begins and ends, and what it has.

    One that is missing or null begins at -1.

    Returns
    -------
    int
        What the message has; -1: it is no plain one.
    """
    begins[:] = -1
    if end - position > MAX_BYTES:
        return -1
    seen = all_have = names = 0
    position = _skip_space(data, position, end)
    if position >= end or data[position] != _OPEN:
        return -1
    position += 1
    while True:
        position = _skip_space(data, position, end)
        if position >= end or data[position] != _QUOTE:
            return -1
        begin = position + 1
        close, has = _string_end(data, begin, end)
        if close < 0 or has & _ESCAPES:
            return -1
        all_have |= has
        name = _name_of(data, begin, close)
        names += 1
        if names > _MAX_NAMES:
            return -1
        if name != _OTHER:
            if seen & (1 << name):
                return -1
            seen |= 1 << name
        position = _skip_space(data, close + 1, end)
        if position >= end or data[position] != _COLON:
            return -1
        position = _skip_space(data, position + 1, end)
        if position >= end:
            return -1
        if data[position] == _QUOTE:
            begin = position + 1
            close, has = _string_end(data, begin, end)
            if close < 0:
                return -1
            all_have |= has
            if name != _OTHER:
                begins[name], ends[name], have[name] = begin, close, has
            position = close + 1
        else:
            begin = position
            is_null = data[position] == 110
            position = _word_end(data, position, end)
            if position < 0:
                return -1
            if name != _OTHER and not is_null:
                # A number or a truth value is no text, and how but plain digits are written is Spark's to say.
                if name != _ID or _digits_end(data, begin, end) != position or position - begin > _DIGITS:
                    return -1
                begins[name], ends[name], have[name] = begin, position, 0
        position = _skip_space(data, position, end)
        if position >= end:
            return -1
        if data[position] == _CLOSE:
            return all_have if _skip_space(data, position + 1, end) == end else -1
        if data[position] != _COMMA:
            return -1
        position += 1


@leaf
def _two(data, position):
    """The number of two digits, or -1."""
    tens, ones = data[position] - 48, data[position + 1] - 48
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1
    return tens * 10 + ones


@leaf
def _days(year, month, day):
    """Days since 1970 of a date of the Gregorian calendar (Howard Hinnant, chrono-compatible date algorithms)."""
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    shifted = month - 3 if month > 2 else month + 9
    of_year = (153 * shifted + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@leaf
def _days_of(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@leaf
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


@leaf
def _copy(data, begin, end, out, place):
    """Append bytes; returns where they end."""
    for position in range(begin, end):
        out[place] = data[position]
        place += 1
    return place


@leaf
def _copy_string(data, begin, end, has, out, place):
    """Append the characters of a string; returns where they end."""
    if not has & _ESCAPES:
        return _copy(data, begin, end, out, place)
    position = begin
    while position < end:
        if data[position] == _BACKSLASH:
            code, position = _escaped(data, position + 1, end)
            place = _encode(code, out, place)
        else:
            out[place] = data[position]
            place += 1
            position += 1
    return place


@leaf
def _is_blank(text, begin, end):
    r"""Whether there is nothing but what Java's ``\s`` finds."""
    for position in range(begin, end):
        if text[position] != 32 and (text[position] < 9 or text[position] > 13):
            return False
    return True


@leaf
def _unescape(text, begin, end):
    """Undo the entities in place, one after the other as SQL does; returns where the text ends then."""
    while begin < end and text[begin] != _AMPERSAND:
        begin += 1
    if begin == end:
        return end
    for entity in range(len(_OLD)):
        old = _OLD[entity]
        source = target = begin
        while source < end:
            if text[source] == _AMPERSAND and _stands(text, source, end, old):
                text[target] = _NEW[entity]
                source += old.size
            else:
                text[target] = text[source]
                source += 1
            target += 1
        end = target
    return end


@leaf
def _lower(text, begin, end, lower):
    """Plain punctuation and lower case in place; returns where the text ends then, or -1: that is Spark's to say."""
    source = target = begin
    while source < end:
        byte = text[source]
        if byte < 0x80:
            text[target] = byte + 32 if 65 <= byte <= 90 else byte
            source += 1
            target += 1
            continue
        code, source = _decode(text, source, end)
        to = np.int64(lower[code]) if code < lower.size else 0
        if to == 0:
            return -1
        for _ in range(1 + (to >> _AGAIN)):
            target = _encode(to & 0xFFFFFF, text, target)
    return target


@leaf
def read_messages(
    data,
    offsets,
    lower,
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
    lowered,
    lowered_ends,
    fields,
):
    """Read the plain ones among some messages.

    Parameters
    ----------
    data, offsets
        Bytes of all messages, uint8, and where each begins and the last one ends, int64.
    lower
        :func:`lower_cases`.
    plain
        Filled: whether each message is a plain one.
    ids, authors, texts
        Filled: characters of these fields of the plain messages, one after the other.
    lowered
        Filled: of the texts as ``text.lowered`` makes them.
    id_ends, author_ends, text_ends, lowered_ends
        Filled: where they begin, and where the last one ends, int32, one more than plain messages.
    has_id, has_author, has_time
        Filled: whether a plain message has that field.
    times
        Filled: microseconds since 1970.
    fields
        Room for where each of the five fields of a message begins and ends and what it has, int64, 3 x 5.

    Returns
    -------
    int
        Plain messages.
    """
    begins, ends, have = fields[0], fields[1], fields[2]
    count = id_place = author_place = text_place = lowered_place = 0
    id_ends[0] = author_ends[0] = text_ends[0] = lowered_ends[0] = 0
    for row in range(plain.size):
        plain[row] = False
        has = read_fields(data, offsets[row], offsets[row + 1], begins, ends, have)
        if has < 0:
            continue
        if has & (_ESCAPES | _BEYOND_ASCII) and not _is_sound(data, offsets[row], offsets[row + 1]):
            continue
        field = _TEXT if begins[_TEXT] >= 0 else _MESSAGE
        if begins[field] < 0 or begins[field] == ends[field]:
            continue
        time = np.int64(0)
        if begins[_CREATED_AT] >= 0:
            if have[_CREATED_AT]:
                continue
            time = read_time(data, begins[_CREATED_AT], ends[_CREATED_AT])
            if time < 0:
                continue
        has = have[field]
        text_end = _copy_string(data, begins[field], ends[field], has, texts, text_place)
        if texts[text_place] <= 32 and _is_blank(texts, text_place, text_end):
            continue
        lowered_end = lowered_place
        if has:
            lowered_end = _copy(texts, text_place, text_end, lowered, lowered_place)
            lowered_end = _unescape(lowered, lowered_place, lowered_end)
            lowered_end = _lower(lowered, lowered_place, lowered_end, lower)
            if lowered_end < 0:
                continue
        else:
            for position in range(text_place, text_end):
                byte = texts[position]
                lowered[lowered_end] = byte + 32 if 65 <= byte <= 90 else byte
                lowered_end += 1
        text_place, lowered_place = text_end, lowered_end
        has_time[count], times[count] = begins[_CREATED_AT] >= 0, time
        has_id[count] = begins[_ID] >= 0
        if has_id[count]:
            id_place = _copy_string(data, begins[_ID], ends[_ID], have[_ID], ids, id_place)
        has_author[count] = begins[_AUTHOR] >= 0
        if has_author[count]:
            author_place = _copy_string(
                data, begins[_AUTHOR], ends[_AUTHOR], have[_AUTHOR], authors, author_place
            )
        plain[row] = True
        count += 1
        id_ends[count], author_ends[count] = id_place, author_place
        text_ends[count], lowered_ends[count] = text_place, lowered_place
    return count
