"""Messages made to break a parser: each is a prediction or a dead letter, and none stops the stream.

Random, but the same for the same seed. Does not belong here: sending them.
"""

import json
import random
from collections.abc import Callable, Iterator

from sentiment_assets.kafka.replay import Message

_CONTROLS = "".join(map(chr, [*range(32), 127, *range(0x80, 0xA0)]))
_RIGHT_TO_LEFT = "\u202e\u202d\u200f\u2067\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"
_MEGABYTE = 1_000_000


def adversarial(count: int, seed: int = 2000, *, large_every: int = 500) -> Iterator[Message]:
    """``count`` hostile messages.

    Parameters
    ----------
    large_every
        One in so many has a text of 1 MB.
    """
    chance = random.Random(seed)
    for number in range(count):
        if number % large_every == large_every - 1:
            yield Message(b"large", _tweet("x" * chance.choice((99_999, 100_001, _MEGABYTE))))
        else:
            kind = chance.choice(_KINDS)
            yield Message(chance.choice((None, b"", b"\xff\x00", b"key")), kind(chance))


def _tweet(text: object, **fields: object) -> bytes:
    return json.dumps({"id": "1", "text": text} | fields).encode()


def _letters(chance: random.Random, alphabet: str, most: int = 300) -> str:
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(most)))


def _random_bytes(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(2000))


def _nothing(_chance: random.Random) -> None:
    return None


def _deep(chance: random.Random) -> bytes:
    depth = chance.choice((10, 999, 1000, 1001, 5000))
    opening, closing = chance.choice((('{"a":', "}"), ("[", "]")))
    inner = opening * depth + "1" + (closing * depth if chance.random() < 0.7 else "")
    return f'{{"text":"deep","extra":{inner}}}'.encode() if chance.random() < 0.5 else inner.encode()


def _huge_number(chance: random.Random) -> bytes:
    digits = "9" * chance.choice((20, 400, 1000, 1001, 20_000))
    name = chance.choice(("id", "text", "created_at", "extra"))
    return f'{{"text":"n","{name}":{chance.choice(("", "-"))}{digits}{chance.choice(("", "e999999", ".5"))}}}'.encode()


def _surrogates(chance: random.Random) -> bytes:
    """Lone halves of pairs, as JSON escapes and as bytes that are no UTF-8."""
    escapes = "".join(chance.choice(("\\ud800", "\\udfff", "\\ud83d\\ude00", "a")) for _ in range(20))
    if chance.random() < 0.3:
        return b'{"text":"\xed\xa0\x80 half"}'
    return f'{{"text":"{escapes}"}}'.encode()


def _controls(chance: random.Random) -> bytes:
    text = _letters(chance, _CONTROLS + "abc ")
    # As JSON wants them, or raw, which strict JSON forbids.
    return _tweet(text) if chance.random() < 0.5 else b'{"text":"' + text.encode() + b'"}'


def _right_to_left(chance: random.Random) -> bytes:
    return _tweet(_letters(chance, _RIGHT_TO_LEFT + "abc "))


def _any_character(chance: random.Random) -> bytes:
    text = "".join(
        chr(chance.choice((chance.randrange(0xD800), chance.randrange(0xE000, 0x110000)))) for _ in range(60)
    )
    return _tweet(text)


def _wrong_types(chance: random.Random) -> bytes:
    value = chance.choice(
        (1, 1.5, True, None, [], {}, ["text"], {"text": "x"}, "", " \t\n", "\u00a0", "\u200b")
    )
    return _tweet(value, message=chance.choice((None, "instead", 7)))


def _cut_off(chance: random.Random) -> bytes:
    whole = _tweet("a whole message that is cut off somewhere", created_at="2009-04-07T05:19:45Z")
    return whole[: chance.randrange(len(whole))] + chance.choice((b"", b"\x00", b"}", b"]"))


def _odd_dates(chance: random.Random) -> bytes:
    dates = (
        "9999999-01-01",
        "2009-02-31",
        "0000-00-00T00:00:00Z",
        "now",
        "2009-04-07T05:19:45+99:99",
        "-1",
        "inf",
    )
    return _tweet("a good text", created_at=chance.choice(dates))


def _twice_the_key(chance: random.Random) -> bytes:
    return b'{"text":"first","text":' + chance.choice((b'"second"', b"7", b"null", b"{")) + b"}"


_KINDS: tuple[Callable[[random.Random], bytes | None], ...] = (
    _random_bytes,
    _nothing,
    _deep,
    _huge_number,
    _surrogates,
    _controls,
    _right_to_left,
    _any_character,
    _wrong_types,
    _cut_off,
    _odd_dates,
    _twice_the_key,
)
