"""What stands for a character in the texts of tweets: HTML entities and typographic punctuation. Imports nothing.

Spark's expressions (``text``) and the compiled reader of messages (``compiled.messages``) are both made from it.
"""

# Twice escaped entities occur in the corpus ("&amp;lt;3"), so "&amp;" is undone first.
ENTITIES = (
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#39;", "'"),
    ("&apos;", "'"),
    ("&nbsp;", " "),
)
"""Each entity and the character it stands for, in the order in which they are undone."""
# Phones write typographic quotes; the corpus of 2009 has the plain ones.
TYPOGRAPHY = (("\u2019", "'"), ("\u2018", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2026", "..."))
"""Each typographic character and the plain ones that are put in its place."""
