"""The compiled function: from the bytes of lower-cased texts to P(positive), one text after the other.

It does what the SQL of ``text`` does from the links on, to the letter: links and mentions, elongations, tokens,
word 1-2-3-grams with both ends, negated words, last clause, character n-grams; then looks each distinct term up by
a 64-bit hash, adds the weights of each view and divides by its norm. Lower case and what comes before it are Spark's,
or of ``messages``. Numba compiles it when it is first called and keeps the result on disk (``worker`` says where).

Importing this module imports numba, which takes a second: it is imported inside functions, after ``worker.use_cache``.
Does not belong here: files, Arrow, Spark.

Notes
-----
Java's regular expressions see UTF-16. After an empty match they go on one code unit further, which is the middle of
a character beyond U+FFFF, and match again there; Java then writes the half character as "?". So a word that begins
with an emoji makes the terms of "?" and its rest too. These artefacts are part of what the model has learned.

Two terms of one model never share a hash (``export`` refuses such a model). A term the model does not know is taken
for a known one with a chance of 1.5 M / 2^64, about 1e-13.
"""

import numpy as np
import numpy.typing as npt

from sentiment_assets.spark.compiled.jit import compiled, inlined, leaf

LETTER, WORD, SPACE, LINE_END = 1, 2, 4, 8
r"""Bits of a character's class: ``\p{L}``; ``[\p{L}\p{N}_]``; ``[\s\p{Z}]``; what ``.`` does not match."""

CODE_POINTS = 0x110000
CLAUSE_TOKENS = 64
"""The last clause is looked for in so many tokens (``text.scoped_terms``)."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINAL = np.uint64(0xD6E8FEB86659FD93)
_SEED = np.uint64(0xA0761D6478BD642F)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_SIX, _SIX_BITS = np.uint64(6), np.uint64(63)
_CELLS = 64
"""Numbers of 64 bits that note which slots were seen."""
_FEW = 512
"""Known terms of a text of a few hundred characters: so many are told apart sooner by those bits than by a table."""
_NONE = np.uint64(0)

_QUESTION = np.uint32(ord("?"))
_BEYOND_BMP = np.uint32(0xFFFF)
_REPLACEMENT = np.uint32(0xFFFD)


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _lines(words: tuple[str, ...]) -> npt.NDArray[np.uint32]:
    return _codes("\n".join(words) + "\n")


_URL = _codes(" <url> ")
_USER = _codes(" <user> ")
_PLACEHOLDERS = (_codes("<url>"), _codes("<user>"))
_START = _codes("<s>")
_END = _codes("</s>")
_NOT = _codes("not:")
_LAST = _codes("last:")
_NEGATIONS = _lines(
    ("not", "no", "never", "cannot", "nothing", "without", "aint", "cant", "dont", "isnt", "wont")
)
_CLAUSE_ENDS = np.uint64(sum(1 << ord(mark) - 32 for mark in ".!?,;:-"))
"""A bit for each of them, counted from the space on."""


@leaf
def _absorb(state, value):
    state = (state ^ np.uint64(value)) * _MULTIPLIER
    return state ^ (state >> _HALF)


@leaf
def _finish(state):
    """A hash that is never 0, which marks an empty slot."""
    state = (state ^ (state >> np.uint64(29))) * _FINAL
    state ^= state >> _HALF
    return state if state != _NONE else _ONE


@inlined
def _fold(state, codes, begin, end):
    for position in range(begin, end):
        state = _absorb(state, codes[position])
    return state


@leaf
def hash_words(codes, begin, end):
    """Hash of a term of words joined by single spaces: the hashes of its words, combined in order."""
    state, word = _SEED, _SEED
    for position in range(begin, end):
        if codes[position] == 32:
            state, word = _absorb(state, word), _SEED
        else:
            word = _absorb(word, codes[position])
    return _finish(_absorb(state, word))


@leaf
def hash_piece(codes, begin, end):
    """Hash of a character n-gram, spaces included."""
    return _finish(_fold(_SEED, codes, begin, end))


@leaf
def hash_terms(codes, by_words, hashes):
    """Hashes of terms that each end in a line feed; ``by_words`` says which of the two functions."""
    begin = term = 0
    for position in range(codes.size):
        if codes[position] == 10:
            hashes[term] = (
                hash_words(codes, begin, position) if by_words else hash_piece(codes, begin, position)
            )
            begin, term = position + 1, term + 1


@leaf
def find_slot(wanted, slots):
    """Where a hash stands in a table with open addressing, or the free slot where it would."""
    mask = np.uint64(slots.size - 1)
    slot = wanted & mask
    while slots[slot] != wanted and slots[slot] != _NONE:
        slot = (slot + _ONE) & mask
    return slot


@leaf
def fill_slots(hashes, slots, places):
    """Put each hash into the first free slot from its place on; returns the index of one that occurs twice, or -1."""
    for term in range(hashes.size):
        slot = find_slot(hashes[term], slots)
        if slots[slot] != _NONE:
            return term
        slots[slot] = hashes[term]
        places[term] = slot
    return -1


@leaf
def _at(data, position, end, text):
    """Whether ``text`` stands at ``position``."""
    if position + text.size > end:
        return False
    for offset in range(text.size):
        if data[position + offset] != text[offset]:
            return False
    return True


_HTTP, _HTTPS, _WWW = _codes("http://"), _codes("https://"), _codes("www.")


@leaf
def _link_at(data, position, end):
    first = data[position]
    if first == 104:
        return _at(data, position, end, _HTTP) or _at(data, position, end, _HTTPS)
    return first == 119 and _at(data, position, end, _WWW)


@leaf
def _is_name(byte):
    return 97 <= byte <= 122 or 48 <= byte <= 57 or byte == 95


@leaf
def _is_ascii_space(byte):
    return byte == 32 or 9 <= byte <= 13


@leaf
def _put(codes, count, code, classes):
    """Append a character, unless it would be the third of a run."""
    if count >= 2 and codes[count - 1] == code and codes[count - 2] == code and not classes[code] & LINE_END:
        return count
    codes[count] = code
    return count + 1


@leaf
def _decode(data, position, end):
    """Code point at ``position`` and where the next one begins. Spark and ``messages`` hand over sound UTF-8."""
    first = np.uint32(data[position])
    if first < 0x80:
        return first, position + 1
    width = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if position + width > end:
        return _REPLACEMENT, end
    code = first & np.uint32(0x7F >> width)
    for offset in range(1, width):
        code = (code << np.uint32(6)) | np.uint32(data[position + offset] & 0x3F)
    return code if code < CODE_POINTS else _REPLACEMENT, position + width


@leaf
def _clean(data, begin, end, classes, codes):
    """Characters of a text with links and mentions as placeholders and runs cut to two; returns how many."""
    count, position = 0, begin
    last = before = np.uint32(0xFFFFFFFF)
    while position < end:
        byte = data[position]
        placed = False
        if (byte == 104 or byte == 119) and _link_at(data, position, end):
            for code in _URL:
                count = _put(codes, count, code, classes)
            while position < end and not _is_ascii_space(data[position]):
                position += 1
            placed = True
        elif byte == 64:
            after = position + 1
            # The rule for links came first: a name ends where a link begins.
            while after < end and _is_name(data[after]) and not _link_at(data, after, end):
                after += 1
            if after > position + 1:
                for code in _USER:
                    count = _put(codes, count, code, classes)
                position = after
                placed = True
        if placed:
            last, before = codes[count - 1], codes[count - 2]
            continue
        if byte < 0x80:
            code = np.uint32(byte)
            position += 1
        else:
            code, position = _decode(data, position, end)
        if code == last and code == before and not classes[code] & LINE_END:
            continue
        codes[count] = code
        count += 1
        before = last
        last = code
    return count


@leaf
def _tokenise(codes, count, classes, begins, ends):
    """Where each token begins and ends; returns how many there are."""
    tokens = position = 0
    while position < count:
        kind = classes[codes[position]]
        if kind & SPACE:
            position += 1
            continue
        begins[tokens] = position
        if kind & WORD:
            while position < count and classes[codes[position]] & WORD:
                position += 1
            if position + 1 < count and codes[position] == 39 and classes[codes[position + 1]] & LETTER:
                position += 1
                while position < count and classes[codes[position]] & LETTER:
                    position += 1
        elif _at(codes, position, count, _PLACEHOLDERS[0]):
            position += _PLACEHOLDERS[0].size
        elif _at(codes, position, count, _PLACEHOLDERS[1]):
            position += _PLACEHOLDERS[1].size
        else:
            position += 1
        ends[tokens] = position
        tokens += 1
    return tokens


@compiled
def _fold_lines(codes):
    """Hash table of the words of a list, at most a quarter full; a word ends in a line feed."""
    folded = np.empty(codes.size, np.uint64)
    begin = words = 0
    for position in range(codes.size):
        if codes[position] == 10:
            folded[words] = _fold(_SEED, codes, begin, position)
            begin, words = position + 1, words + 1
    size = 1
    while size < 4 * words:
        size *= 2
    slots = np.zeros(size, np.uint64)
    fill_slots(folded[:words], slots, np.empty(words, np.int64))
    return slots


@inlined
def _negates(codes, begin, end, folded, negations):
    if end - begin >= 3 and codes[end - 3] == 110 and codes[end - 2] == 39 and codes[end - 1] == 116:
        return True
    return negations[find_slot(folded, negations)] != _NONE


@inlined
def _ends_clause(codes, begin, end):
    if end - begin == 1:
        mark = np.uint64(codes[begin]) - np.uint64(32)
        return mark < np.uint64(64) and (_CLAUSE_ENDS >> mark) & _ONE == _ONE
    # "but"
    return end - begin == 3 and codes[begin] == 98 and codes[begin + 1] == 117 and codes[begin + 2] == 116


@leaf
def _last_clause(codes, classes, begins, ends, tokens):
    """First token of the last clause: behind the last clause mark that a word follows."""
    first = max(tokens - CLAUSE_TOKENS, 0)
    word = tokens - 1
    while word >= first and not (classes[codes[begins[word]]] & WORD or ends[word] - begins[word] > 1):
        word -= 1
    for token in range(word - 1, first, -1):
        if _ends_clause(codes, begins[token], ends[token]):
            return token + 1
    return first


@inlined
def _marked(mark, state, codes, begin, end):
    """Hash of a word behind a mark, whose hash so far is ``state``; see the notes on characters beyond U+FFFF."""
    if codes[begin] > _BEYOND_BMP:
        state = _absorb(state, _QUESTION)
        state = _absorb(_fold(state, mark, 0, mark.size), _QUESTION)
        begin += 1
    return _finish(_absorb(_SEED, _fold(state, codes, begin, end)))


@leaf
def _word_hashes(codes, classes, begins, ends, tokens, negations, padded, hashes):
    """Hashes of all terms of ``text.scoped_terms``; returns how many. ``padded`` is room for two more than tokens."""
    found = 0
    padded[0] = _fold(_SEED, _START, 0, _START.size)
    for token in range(tokens):
        padded[token + 1] = _fold(_SEED, codes, begins[token], ends[token])
        hashes[found] = _finish(_absorb(_SEED, padded[token + 1]))
        found += 1
    padded[tokens + 1] = _fold(_SEED, _END, 0, _END.size)
    if tokens == 0:
        return 0
    for place in range(tokens + 1):
        astral = place > 0 and codes[begins[place - 1]] > _BEYOND_BMP
        for variant in range(2 if astral else 1):
            head = padded[place]
            if variant:
                begin, end = begins[place - 1], ends[place - 1]
                head = _fold(_absorb(_SEED, _QUESTION), codes, begin + 1, end)
            pair = _absorb(_absorb(_SEED, head), padded[place + 1])
            hashes[found] = _finish(pair)
            found += 1
            if place < tokens:
                hashes[found] = _finish(_absorb(pair, padded[place + 2]))
                found += 1
    negated = _fold(_SEED, _NOT, 0, _NOT.size)
    for token in range(tokens - 1):
        if _negates(codes, begins[token], ends[token], padded[token + 1], negations):
            for word in range(token + 1, min(token + 4, tokens)):
                if not classes[codes[begins[word]]] & WORD:
                    break
                hashes[found] = _marked(_NOT, negated, codes, begins[word], ends[word])
                found += 1
    last = _fold(_SEED, _LAST, 0, _LAST.size)
    for token in range(_last_clause(codes, classes, begins, ends, tokens), tokens):
        hashes[found] = _marked(_LAST, last, codes, begins[token], ends[token])
        found += 1
    return found


@leaf
def _join(codes, begins, ends, tokens, joined):
    """The tokens with one space before, between and after them; returns the length."""
    joined[0] = 32
    count = 1
    for token in range(tokens):
        for position in range(begins[token], ends[token]):
            joined[count] = codes[position]
            count += 1
        joined[count] = 32
        count += 1
    return count


@leaf
def _piece_hashes(joined, count, classes, order, hashes):
    """Hashes of all terms of ``text.character_ngrams``; returns how many."""
    odd = False
    for position in range(count):
        odd |= joined[position] > _BEYOND_BMP or classes[joined[position]] & LINE_END != 0
    if odd:
        return _odd_piece_hashes(joined, count, classes, order, hashes)
    found = max(count - order + 1, 0)
    # A character of all pieces at a time: the processor takes several pieces at once.
    for piece in range(found):
        hashes[piece] = _SEED
    for place in range(order):
        for piece in range(found):
            hashes[piece] = _absorb(hashes[piece], joined[piece + place])
    for piece in range(found):
        hashes[piece] = _finish(hashes[piece])
    return found


@leaf
def _odd_piece_hashes(joined, count, classes, order, hashes):
    """The same, of tokens with line ends or characters beyond U+FFFF."""
    found = 0
    # Where the run without a line end began that reaches up to here.
    run = 0
    for last in range(count):
        if classes[joined[last]] & LINE_END:
            run = last + 1
        begin = last - order + 1
        if begin < run:
            continue
        hashes[found] = hash_piece(joined, begin, last + 1)
        found += 1
        if joined[begin] > _BEYOND_BMP:
            hashes[found] = _finish(_fold(_absorb(_SEED, _QUESTION), joined, begin + 1, last + 1))
            found += 1
    return found


@leaf
def _view(hashes, count, terms, probed, places, seen):
    """Sum of the weights of the distinct known terms over their norm.

    Loops of little each, so that the slots of many terms are on their way from memory at once.
    """
    mask = np.uint64(terms.size - 1)
    for term in range(count):
        probed[term] = terms[hashes[term] & mask].hash
    known = 0
    for term in range(count):
        slot = hashes[term] & mask
        if probed[term] != hashes[term] and probed[term] != _NONE:
            while terms[slot].hash != hashes[term] and terms[slot].hash != _NONE:
                slot = (slot + _ONE) & mask
            probed[term] = terms[slot].hash
        # Without a branch, which the processor could only guess.
        places[known] = slot
        known += probed[term] != _NONE
    distinct = _distinct_of_few(places, known, seen) if known <= _FEW else _distinct(places, known, seen)
    weight = square = 0.0
    for term in range(distinct):
        weight += terms[places[term]].weight
        square += terms[places[term]].square
    return weight / np.sqrt(square) if square > 0 else 0.0


@inlined
def _distinct_of_few(places, count, seen):
    """Move each distinct place to the front; returns how many. A place whose bit is set is looked for."""
    seen[:_CELLS] = _NONE
    distinct = 0
    for term in range(count):
        place = places[term]
        cell, bit = place >> _SIX & _SIX_BITS, _ONE << (place & _SIX_BITS)
        if seen[cell] & bit:
            again = False
            for before in range(distinct):
                again |= places[before] == place
            if again:
                continue
        seen[cell] |= bit
        places[distinct] = place
        distinct += 1
    return distinct


@leaf
def _distinct(places, count, seen):
    """The same of any number, by a hash table of them: looking for each would take the square of a long text."""
    size = np.uint64(_CELLS)
    while size < np.uint64(2 * count):
        size += size
    mask = size - _ONE
    seen[:size] = _NONE
    distinct = 0
    for term in range(count):
        # One more, as 0 is an empty cell.
        place = places[term] + _ONE
        cell = place * _MULTIPLIER >> _HALF & mask
        while seen[cell] != _NONE and seen[cell] != place:
            cell = (cell + _ONE) & mask
        if seen[cell] == _NONE:
            seen[cell] = place
            places[distinct] = places[term]
            distinct += 1
    return distinct


@leaf
def most_characters(offsets):
    """Characters that the longest of some texts has at most once it is cleaned."""
    longest = 0
    for row in range(offsets.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # A placeholder is at most four times as long as what it stands for ("@a", "www.").
    return 4 * longest + 16


@leaf
def most_terms(tokens, characters):
    """Terms that a text has at most, in either view."""
    # Of each token: itself, two n-grams and their artefacts, three negated words at most, one in the last clause.
    return max(9 * tokens + 16, 2 * (characters + tokens) + 16)


@compiled
def score_texts(data, offsets, classes, words, pieces, order, intercept, result):
    """P(positive) of each text.

    Parameters
    ----------
    data
        UTF-8 of all texts as ``text.lowered`` makes them, uint8.
    offsets
        Where each text begins in it, and where the last one ends; one more than texts.
    classes
        Class bits of each code point, uint8.
    words, pieces
        Of each view: (hash, weight, square of the value before normalisation) by slot (``tables.interleaved``).
    order
        Length of the character n-grams; 0: there is no such view.
    intercept
        Log-odds of a text without any known term.
    result
        Filled, float64.
    """
    codes = np.empty(most_characters(offsets), np.uint32)
    begins = np.empty(codes.size, np.int32)
    ends = np.empty(codes.size, np.int32)
    negations = _fold_lines(_NEGATIONS)
    padded = np.empty(0, np.uint64)
    joined = np.empty(0, np.uint32)
    hashes = np.empty(0, np.uint64)
    probed = np.empty(0, np.uint64)
    places = np.empty(0, np.uint64)
    seen = np.empty(0, np.uint64)
    for row in range(result.size):
        count = _clean(data, offsets[row], offsets[row + 1], classes, codes)
        tokens = _tokenise(codes, count, classes, begins, ends)
        room = most_terms(tokens, count)
        if hashes.size < room:
            padded = np.empty(room, np.uint64)
            joined = np.empty(room, np.uint32)
            hashes = np.empty(room, np.uint64)
            probed = np.empty(room, np.uint64)
            places = np.empty(room, np.uint64)
            seen = np.empty(4 * room + _CELLS, np.uint64)
        found = _word_hashes(codes, classes, begins, ends, tokens, negations, padded, hashes)
        odds = intercept + _view(hashes, found, words, probed, places, seen)
        if order:
            length = _join(codes, begins, ends, tokens, joined)
            found = _piece_hashes(joined, length, classes, order, hashes)
            odds += _view(hashes, found, pieces, probed, places, seen)
        # As MLlib computes it: from the probability of the other class.
        result[row] = 1.0 - 1.0 / (1.0 + np.exp(odds))
