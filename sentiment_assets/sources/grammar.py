"""A grammar of made-up English tweets with an opinion, for the generated sample.

Belongs here: the lexicon, the sentences, the noise. Does not belong here: the file (``generated``).

The tweets are hard on purpose. One says nothing about its label with probability ``AMBIGUOUS``, and the
opposite with probability ``FLIPPED``, so that no model can expect more than
``(1 - AMBIGUOUS) * (1 - FLIPPED) + AMBIGUOUS / 2``: above 0.90 something leaks.
"""

from random import Random

AMBIGUOUS = 0.12
FLIPPED = 0.06

_NEGATED = 0.12
_MIXED = 0.10
_SARCASTIC = 0.06
_ELONGATED = 0.10
_MISSPELT = 0.08
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split("|"))


_LEXICON: dict[str, tuple[str, ...]] = {
    "thing": _words(
        "phone laptop song movie show book game coffee pizza cake sandwich dinner breakfast haircut "
        "jacket dress car bike garden kitchen sofa bed shower weather sunshine rain beach view party "
        "concert band album video photo blog website camera printer keyboard class homework exam "
        "essay project meeting job shift weekend holiday trip flight hotel train bus traffic gym run "
        "walk dog cat puppy kitten episode season finale trailer playlist recipe soup salad "
        "chocolate tea beer wine birthday wedding roommate neighbour boss teacher team match race "
        "score update"
    ),
    "place": _words(
        "work school home church town london chicago sydney toronto boston dublin college uni office "
        "library airport station mall cinema park lake pool pub cafe bakery market hospital dentist "
        "stadium studio museum theatre"
    ),
    "person": _phrases(
        "mom|dad|my sister|my brother|my best friend|the kids|grandma|the girls|the boys|my cousin|"
        "my boyfriend|my girlfriend|my husband|my wife|my roommate|the team|everyone|nobody|some old "
        "friends|my aunt"
    ),
    "time": _phrases(
        "today|tonight|tomorrow|this morning|this afternoon|this week|last night|all day|all night|"
        "right now|again|already|at last|this weekend|on monday|on friday|on sunday|next week|in an "
        "hour|since noon|before lunch|after work|at 6 am|until midnight||||"
    ),
    "opener": _phrases(
        "omg|ok|so|well|hey|wow|lol|hmm|oh|good morning|good night|hello twitter|btw|haha|oh man|yes|"
        "no|guess what|ok so|right then|anyway|and|but|just"
    ),
    "neutral": _phrases(
        "watching the {thing} with {person}|on my way to {place}|at the {place} with {person}|"
        "heading to {place} {time}|anyone else going to {place} {time}?|just got home from {place}|"
        "what is everyone doing {time}?|reading about the {thing}|listening to the new {thing}|"
        "{person} is coming over {time}|thinking about the {thing}|back at {place} {time}|getting "
        "ready for {place}|making {thing} with {person}|is it {thing} time yet?|talking to {person} "
        "about the {thing}|about to leave for {place}|the {thing} is on {time}|going to bed {time}|"
        "up early {time}|waiting for {person} at the {place}|have you seen the {thing}?|where did "
        "you get that {thing}?|i think it is {time}|packing for {place}|working on the {thing} "
        "{time}|looking for a new {thing}|who has a {thing}?"
    ),
}

_POLAR: dict[str, dict[bool, tuple[str, ...]]] = {
    "adjective": {
        True: _words(
            "great awesome amazing lovely good nice cool fun perfect wonderful fantastic beautiful "
            "sweet cute brilliant delicious gorgeous hilarious incredible excellent adorable yummy "
            "superb fabulous impressive refreshing cosy charming magical stunning tasty epic "
            "outstanding marvellous glorious splendid heavenly inspiring delightful phenomenal"
        ),
        False: _words(
            "bad terrible awful horrible sad boring gross annoying lame ugly painful stupid "
            "disgusting depressing broken slow useless rubbish dreadful crappy pathetic miserable "
            "nasty scary disappointing ridiculous noisy expensive smelly bland soggy mouldy tragic "
            "frustrating unfair overrated dull rotten hideous unbearable"
        ),
    },
    "feeling": {
        True: _words(
            "happy excited thrilled proud relaxed grateful blessed pumped hopeful inspired refreshed "
            "lucky glad giddy content stoked ecstatic cheerful delighted rested"
        ),
        False: _words(
            "tired sick bored lonely annoyed exhausted upset worried stressed heartbroken hungover "
            "grumpy jealous nervous sleepy freezing miserable devastated homesick sore"
        ),
    },
    "verb": {
        True: _phrases(
            "love|adore|really like|enjoyed|can't wait for|am looking forward to|just won|finally "
            "found|am so into|so needed|had fun at|am thankful for|recommend|got tickets for|am "
            "addicted to"
        ),
        False: _phrases(
            "hate|miss|lost|just broke|can't stand|am dreading|can't find|am sick of|regret|ran out "
            "of|am stuck with|had to sell|dropped|am over|can't afford"
        ),
    },
    "event": {
        True: _phrases(
            "passed my exam|got the job|slept like a baby|finished the {thing}|{person} made me "
            "breakfast|the sun is out|no work {time}|found my {thing}|my {thing} finally arrived|we "
            "won the match|got front row seats|{person} surprised me with a {thing}|booked a trip to "
            "{place}|{person} is home|had the best time at {place}|laughed so hard at the {thing}|"
            "free {thing} at {place}|got an upgrade"
        ),
        False: _phrases(
            "failed my exam|my head hurts|got no sleep|my {thing} just died|missed the bus|have to "
            "work {time}|it won't stop raining|someone stole my {thing}|my {thing} got cancelled|we "
            "lost the match|got a parking ticket|{person} is leaving {time}|can't go to {place}|"
            "stuck in traffic near {place}|caught a cold {time}|no {thing} left at {place}|spilled "
            "{thing} on my {thing}|my flight is delayed"
        ),
    },
    "closer": {
        True: _phrases(
            "yay|woohoo|life is good|thank you so much|best day ever|good times|hooray|made my day|"
            "can't stop smiling|much love|you rock|so worth it|yes please|thanks {person}|win"
        ),
        False: _phrases(
            "ugh|sigh|this sucks|why me|not fair|fail|i want to cry|poor me|make it stop|i give up|"
            "what a waste|so done|boo|help|never again"
        ),
    },
}


def tweet(positive: bool, random: Random) -> str:
    """One made-up tweet, at most 140 characters, that a careful reader would mostly take for its label."""
    parts: list[str] = []
    if random.random() < 0.35:
        parts.append(_pick("opener", random))
    ambiguous = random.random() < AMBIGUOUS
    says_positive = positive != (random.random() < FLIPPED)
    if ambiguous or random.random() < 0.5:
        parts.append(_pick("neutral", random))
    if ambiguous:
        parts.append(_pick("neutral", random))
    else:
        clauses = [_opinion(says_positive, random)]
        if random.random() < 0.35:
            clauses.append(_polar("closer", says_positive, random))
        random.shuffle(clauses)
        parts += clauses
    text = _join([_fill(part, random) for part in parts], random)
    return _decorate(text, random)[:140].strip()


def author(random: Random) -> str:
    """A made-up account name."""
    return f"{random.choice(_LETTERS)}{random.choice(_LEXICON['thing'])}{random.randrange(900)}"


def _opinion(positive: bool, random: Random) -> str:
    roll = random.random()
    if roll < _MIXED:
        return f"{_plain_opinion(not positive, random)} but {_plain_opinion(positive, random)}"
    if roll < _MIXED + _SARCASTIC and not positive:
        return f"oh {_polar('adjective', True, random)}, {_polar('event', False, random)}"
    return _plain_opinion(positive, random)


def _plain_opinion(positive: bool, random: Random) -> str:
    if random.random() < _NEGATED:
        opposite = _polar("adjective", not positive, random)
        return random.choice(
            (
                f"the {{thing}} was not {opposite} at all",
                f"this {{thing}} isn't {opposite}",
                f"not feeling {_polar('feeling', not positive, random)} {{time}}",
                f"i don't think the {{thing}} is {opposite}",
            )
        )
    adjective, feeling = _polar("adjective", positive, random), _polar("feeling", positive, random)
    return random.choice(
        (
            f"the {{thing}} is {adjective}",
            f"what a {adjective} {{thing}}",
            f"{{place}} was {adjective} {{time}}",
            f"such a {adjective} {{thing}} {{time}}",
            f"i'm so {feeling} {{time}}",
            f"feeling {feeling} after the {{thing}}",
            f"{{person}} is {feeling}",
            f"i {_polar('verb', positive, random)} the {{thing}}",
            f"i {_polar('verb', positive, random)} my {{thing}} {{time}}",
            _polar("event", positive, random),
            _polar("event", positive, random),
        )
    )


def _pick(kind: str, random: Random) -> str:
    """A word or phrase, the early ones far more often than the late ones, as words are in the wild."""
    return _skewed(_LEXICON[kind], random)


def _polar(kind: str, positive: bool, random: Random) -> str:
    return _skewed(_POLAR[kind][positive], random)


def _skewed(choices: tuple[str, ...], random: Random) -> str:
    return choices[int(len(choices) * random.random() ** 1.6)]


def _fill(part: str, random: Random) -> str:
    while (start := part.find("{")) >= 0:
        end = part.index("}", start)
        part = part[:start] + random.choice(_LEXICON[part[start + 1 : end]]) + part[end + 1 :]
    return part.strip()


def _join(parts: list[str], random: Random) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += random.choice((". ", "... ", ", ", " - ", "! ", " ", " &amp; ")) + part
    if random.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + random.choice(("", "", "", ".", "!", "!!", "...", " lol", " haha"))


def _decorate(text: str, random: Random) -> str:
    words = text.split(" ")
    at = random.randrange(len(words))
    word = words[at]
    if len(word) > 2 and word.isalpha():
        letter = random.randrange(1, len(word))
        if random.random() < _ELONGATED:
            words[at] = word[:letter] + word[letter] * random.randint(2, 5) + word[letter:]
        elif random.random() < _MISSPELT:
            words[at] = word[:letter] + random.choice(_LETTERS) + word[letter + 1 :]
        elif random.random() < 0.03:
            words[at] = f"&quot;{word}&quot;"
        elif random.random() < 0.03:
            words[at] = f"#{word}"
    text = " ".join(words)
    if random.random() < 0.4:
        text = f"@{random.choice(_LEXICON['thing'])}{random.randrange(9000)} {text}"
    if random.random() < 0.05:
        text += " http://example.com/" + "".join(random.choices(_LETTERS, k=5))
    return text
