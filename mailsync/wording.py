"""How messages show foreign words and suggest better ones. Knows no terminal and no subject."""

from __future__ import annotations

from collections.abc import Iterable


def quoted(text: str) -> str:
    """The text in quotes: short, and without what a terminal would obey."""
    return f"'{clean(text)}'" if len(text) <= 40 else f"'{clean(text[:37])}...'"


def clean(text: str) -> str:
    """The text with a '?' for each character that does not print; tabs stay. As long as it was."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


def many(number: int, thing: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known word is near."""
    import difflib  # only ever needed for an error

    near = difflib.get_close_matches(word[:80].lower(), list(known), n=1)
    return f"; did you mean {quoted(near[0])}?" if near else ""
