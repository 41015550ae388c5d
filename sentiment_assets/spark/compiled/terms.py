"""The compiled loops of learning: counting the terms of texts, spelling them, and making vectors of them.

The terms are those of ``kernel``, known by their 64-bit hashes; a term gets letters only once it is in the vocabulary.
Importing this module imports numba; ``counting`` and ``vectors`` do, in a Python worker, after ``worker.use_cache``.
Does not belong here: files, Arrow, Spark (``counting``, ``vectors``), scores (``kernel``).
"""

import numpy as np
import numpy.typing as npt

from sentiment_assets.spark.compiled.jit import compiled, leaf
from sentiment_assets.spark.compiled.kernel import (
    _BEYOND_BMP,
    _END,
    _LAST,
    _NEGATIONS,
    _NONE,
    _NOT,
    _QUESTION,
    _SEED,
    _START,
    LINE_END,
    WORD,
    _clean,
    _fold,
    _fold_lines,
    _join,
    _last_clause,
    _negates,
    _piece_hashes,
    _tokenise,
    _word_hashes,
    fill_slots,
    find_slot,
    hash_piece,
    hash_words,
    most_characters,
    most_terms,
)


@leaf
def _count(hashes, found, row, positive, keys, counts, stamps):
    """Count each distinct hash once; returns how many were new."""
    fresh = 0
    for term in range(found):
        slot = find_slot(hashes[term], keys)
        if keys[slot] == _NONE:
            keys[slot] = hashes[term]
            fresh += 1
        elif stamps[slot] == row:
            continue
        stamps[slot] = row
        counts[slot, 0] += 1
        counts[slot, 1] += positive
    return fresh


@compiled
def count_terms(
    data,
    offsets,
    labels,
    first,
    classes,
    order,
    stamp,
    word_keys,
    word_counts,
    word_stamps,
    piece_keys,
    piece_counts,
    piece_stamps,
    used,
    lacking,
):
    """Count in how many texts each term occurs, and in how many positive ones.

    Parameters
    ----------
    data, offsets
        UTF-8 of all lower-cased texts, and where each begins; one more than texts.
    labels
        1.0 or 0.0 of each text, float64.
    first
        Text to begin with.
    classes, order
        Class bits of each code point; length of the character n-grams, 0: none.
    stamp
        Number of the first text of ``data``; grows from call to call.
    word_keys, word_counts, word_stamps, piece_keys, piece_counts, piece_stamps
        Hash tables with open addressing: hash or 0; (texts, positive texts) as int32; the last text that counted.
    used
        Slots taken of both tables, int64; updated.
    lacking
        Filled with the room that each table lacks for the next text, int64; 0 where there is enough.

    Returns
    -------
    int
        The text to go on with: less than their number when a table may become more than half full.
    """
    rows = offsets.size - 1
    codes = np.empty(most_characters(offsets), np.uint32)
    begins = np.empty(codes.size, np.int32)
    ends = np.empty(codes.size, np.int32)
    negations = _fold_lines(_NEGATIONS)
    padded = np.empty(0, np.uint64)
    joined = np.empty(0, np.uint32)
    hashes = np.empty(0, np.uint64)
    for row in range(first, rows):
        count = _clean(data, offsets[row], offsets[row + 1], classes, codes)
        tokens = _tokenise(codes, count, classes, begins, ends)
        room = most_terms(tokens, count)
        if hashes.size < room:
            padded = np.empty(room, np.uint64)
            joined = np.empty(room, np.uint32)
            hashes = np.empty(room, np.uint64)
        lacking[0] = room if used[0] + room > word_keys.size // 2 else 0
        lacking[1] = room if used[1] + room > piece_keys.size // 2 else 0
        if lacking[0] or lacking[1]:
            return row
        positive = np.int32(1 if labels[row] > 0.5 else 0)
        found = _word_hashes(codes, classes, begins, ends, tokens, negations, padded, hashes)
        used[0] += _count(hashes, found, stamp + row, positive, word_keys, word_counts, word_stamps)
        if order:
            length = _join(codes, begins, ends, tokens, joined)
            found = _piece_hashes(joined, length, classes, order, hashes)
            used[1] += _count(hashes, found, stamp + row, positive, piece_keys, piece_counts, piece_stamps)
    return rows


@leaf
def grow(keys, counts, stamps, new_keys, new_counts, new_stamps):
    """Move a table into a larger, empty one."""
    for old in range(keys.size):
        if keys[old] != _NONE:
            slot = find_slot(keys[old], new_keys)
            new_keys[slot] = keys[old]
            new_counts[slot, 0] = counts[old, 0]
            new_counts[slot, 1] = counts[old, 1]
            new_stamps[slot] = stamps[old]


def indexed(hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Hash table with open addressing, at most half full: hashes by slot, and the place of each in ``hashes``."""
    slots = 1 << max(1, int(2 * len(hashes)).bit_length())
    keys, taken = np.zeros(slots, np.uint64), np.empty(len(hashes), np.int64)
    fill_slots(hashes, keys, taken)
    places = np.zeros(slots, np.int32)
    places[taken] = np.arange(len(hashes), dtype=np.int32)
    return keys, places


@compiled
def _place_of(hashes, found, keys, indices, places):
    """Positions of the distinct known terms, ascending; returns how many."""
    known = 0
    for term in range(found):
        slot = find_slot(hashes[term], keys)
        if keys[slot] != _NONE:
            places[known] = indices[slot]
            known += 1
    ordered = np.sort(places[:known])
    distinct = 0
    for term in range(known):
        if distinct == 0 or places[distinct - 1] != ordered[term]:
            places[distinct] = ordered[term]
            distinct += 1
    return distinct


@leaf
def _weigh(places, distinct, shift, idf, ratio, indices, values, length):
    """Append binary x idf with L2 norm 1, x ratio; returns the new length."""
    square = 0.0
    for term in range(distinct):
        square += idf[places[term]] * idf[places[term]]
    norm = np.sqrt(square)
    for term in range(distinct):
        place = places[term]
        indices[length] = place + shift
        values[length] = (idf[place] / norm if norm > 0 else idf[place]) * ratio[place + shift]
        length += 1
    return length


@compiled
def make_vectors(
    data,
    offsets,
    classes,
    order,
    word_keys,
    word_places,
    word_idf,
    piece_keys,
    piece_places,
    piece_idf,
    ratio,
):
    """The features of texts, as rows of a sparse matrix.

    Parameters
    ----------
    data, offsets, classes, order
        See :func:`count_terms`.
    word_keys, word_places, piece_keys, piece_places
        Of :func:`indexed`, over the hashes of each vocabulary.
    word_idf, piece_idf
        Inverse document frequencies by position in each vocabulary.
    ratio
        Weight of each feature, words first.

    Returns
    -------
    tuple of array
        Where each row begins (int32, one more than texts), feature numbers (int32, ascending in a row), values.
    """
    rows = offsets.size - 1
    codes = np.empty(most_characters(offsets), np.uint32)
    begins = np.empty(codes.size, np.int32)
    ends = np.empty(codes.size, np.int32)
    negations = _fold_lines(_NEGATIONS)
    padded = np.empty(0, np.uint64)
    joined = np.empty(0, np.uint32)
    hashes = np.empty(0, np.uint64)
    places = np.empty(0, np.int32)
    starts = np.zeros(rows + 1, np.int32)
    numbers = np.empty(1 << 16, np.int32)
    values = np.empty(1 << 16, np.float64)
    length = 0
    for row in range(rows):
        count = _clean(data, offsets[row], offsets[row + 1], classes, codes)
        tokens = _tokenise(codes, count, classes, begins, ends)
        room = most_terms(tokens, count)
        if hashes.size < room:
            padded = np.empty(room, np.uint64)
            joined = np.empty(room, np.uint32)
            hashes = np.empty(room, np.uint64)
            places = np.empty(room, np.int32)
        while length + 2 * room > numbers.size:
            numbers = np.concatenate((numbers, np.empty(numbers.size, np.int32)))
            values = np.concatenate((values, np.empty(values.size, np.float64)))
        found = _word_hashes(codes, classes, begins, ends, tokens, negations, padded, hashes)
        distinct = _place_of(hashes, found, word_keys, word_places, places)
        length = _weigh(places, distinct, 0, word_idf, ratio, numbers, values, length)
        if order:
            size = _join(codes, begins, ends, tokens, joined)
            found = _piece_hashes(joined, size, classes, order, hashes)
            distinct = _place_of(hashes, found, piece_keys, piece_places, places)
            length = _weigh(places, distinct, word_idf.size, piece_idf, ratio, numbers, values, length)
        starts[row + 1] = length
    return starts, numbers[:length], values[:length]


@leaf
def _copy(source, begin, end, target, length):
    for position in range(begin, end):
        target[length] = source[position]
        length += 1
    return length


@leaf
def _copy_token(codes, begins, ends, tokens, place, artefact, target, length):
    """A token of the padded text: 0 is the start, tokens + 1 the end; an artefact begins with "?"."""
    if place == 0:
        return _copy(_START, 0, _START.size, target, length)
    if place == tokens + 1:
        return _copy(_END, 0, _END.size, target, length)
    begin = begins[place - 1]
    if artefact:
        target[length] = _QUESTION
        length, begin = length + 1, begin + 1
    return _copy(codes, begin, ends[place - 1], target, length)


@leaf
def _copy_marked(mark, codes, begin, end, target, length):
    length = _copy(mark, 0, mark.size, target, length)
    if codes[begin] > _BEYOND_BMP:
        target[length] = _QUESTION
        length = _copy(mark, 0, mark.size, target, length + 1)
        target[length] = _QUESTION
        length, begin = length + 1, begin + 1
    return _copy(codes, begin, end, target, length)


@leaf
def _keep(letters, begin, end, by_words, keys, places, done, spelled, found):
    """Note a term just spelled if it is wanted and new; returns whether."""
    wanted = hash_words(letters, begin, end) if by_words else hash_piece(letters, begin, end)
    slot = find_slot(wanted, keys)
    if keys[slot] == _NONE or done[places[slot]]:
        return False
    done[places[slot]] = True
    spelled[found, 0] = places[slot]
    spelled[found, 1] = begin
    spelled[found, 2] = end
    return True


@leaf
def _spell_words(
    codes, classes, begins, ends, tokens, negations, keys, places, done, letters, length, spelled, found
):
    """Spell the terms of ``kernel._word_hashes``; returns letters and terms so far."""
    for place in range(tokens + 1 if tokens else 0):
        if place:
            end = _copy(codes, begins[place - 1], ends[place - 1], letters, length)
            if _keep(letters, length, end, True, keys, places, done, spelled, found):
                length, found = end, found + 1
        astral = place > 0 and codes[begins[place - 1]] > _BEYOND_BMP
        for variant in range(2 if astral else 1):
            end = _copy_token(codes, begins, ends, tokens, place, variant == 1, letters, length)
            letters[end] = 32
            end = _copy_token(codes, begins, ends, tokens, place + 1, False, letters, end + 1)
            pair = end - length
            if _keep(letters, length, end, True, keys, places, done, spelled, found):
                # The longer one begins with the same letters.
                end = _copy(letters, length, end, letters, length + pair)
                length, found = length + pair, found + 1
            if place < tokens:
                letters[end] = 32
                end = _copy_token(codes, begins, ends, tokens, place + 2, False, letters, end + 1)
                if _keep(letters, length, end, True, keys, places, done, spelled, found):
                    length, found = end, found + 1
    for token in range(tokens - 1):
        folded = _fold(_SEED, codes, begins[token], ends[token])
        if _negates(codes, begins[token], ends[token], folded, negations):
            for word in range(token + 1, min(token + 4, tokens)):
                if not classes[codes[begins[word]]] & WORD:
                    break
                end = _copy_marked(_NOT, codes, begins[word], ends[word], letters, length)
                if _keep(letters, length, end, True, keys, places, done, spelled, found):
                    length, found = end, found + 1
    for token in range(_last_clause(codes, classes, begins, ends, tokens), tokens):
        end = _copy_marked(_LAST, codes, begins[token], ends[token], letters, length)
        if _keep(letters, length, end, True, keys, places, done, spelled, found):
            length, found = end, found + 1
    return length, found


@leaf
def _spell_pieces(joined, count, classes, order, keys, places, done, letters, length, spelled, found):
    """Spell the terms of ``kernel._piece_hashes``; returns letters and terms so far."""
    run = 0
    for last in range(count):
        if classes[joined[last]] & LINE_END:
            run = last + 1
        begin = last - order + 1
        if begin < run:
            continue
        for variant in range(2 if joined[begin] > _BEYOND_BMP else 1):
            end = _copy(joined, begin, last + 1, letters, length)
            if variant:
                letters[length] = _QUESTION
            if _keep(letters, length, end, False, keys, places, done, spelled, found):
                length, found = end, found + 1
    return length, found


@leaf
def letters_needed(count, tokens, order):
    """Most letters that the terms of one text can have: a token stands in six n-grams, twice if it is an artefact."""
    return 16 * (count + 8 * tokens + 16) + 2 * (order + 1) * (count + tokens + 2)


@compiled
def spell_terms(
    data,
    offsets,
    first,
    classes,
    order,
    word_keys,
    word_places,
    word_done,
    piece_keys,
    piece_places,
    piece_done,
    letters,
    words,
    pieces,
    state,
):
    """Spell the wanted terms that were not spelled before.

    Parameters
    ----------
    data, offsets, first, classes, order
        See :func:`count_terms`.
    word_keys, word_places, piece_keys, piece_places
        Of :func:`indexed`, over the wanted hashes.
    word_done, piece_done
        Which of them have been spelled, bool; updated.
    letters
        Room for the characters of all terms found, uint32.
    words, pieces
        Filled with (place among the wanted, begin and end in ``letters``) of each term, int64.
    state
        Letters, words and pieces so far, int64; updated.

    Returns
    -------
    int
        The text to go on with: less than their number when the room for letters might not suffice.
    """
    rows = offsets.size - 1
    codes = np.empty(most_characters(offsets), np.uint32)
    begins = np.empty(codes.size, np.int32)
    ends = np.empty(codes.size, np.int32)
    negations = _fold_lines(_NEGATIONS)
    joined = np.empty(0, np.uint32)
    for row in range(first, rows):
        count = _clean(data, offsets[row], offsets[row + 1], classes, codes)
        tokens = _tokenise(codes, count, classes, begins, ends)
        if state[0] + letters_needed(count, tokens, order) > letters.size:
            return row
        state[0], state[1] = _spell_words(
            codes,
            classes,
            begins,
            ends,
            tokens,
            negations,
            word_keys,
            word_places,
            word_done,
            letters,
            state[0],
            words,
            state[1],
        )
        if order:
            if joined.size < count + tokens + 2:
                joined = np.empty(2 * (count + tokens + 2), np.uint32)
            size = _join(codes, begins, ends, tokens, joined)
            state[0], state[2] = _spell_pieces(
                joined,
                size,
                classes,
                order,
                piece_keys,
                piece_places,
                piece_done,
                letters,
                state[0],
                pieces,
                state[2],
            )
    return rows
