"""Text from data as it may be shown: on a terminal, in a log, in a message."""


def printable(text: str, *, keep: str = "\n") -> str:
    """The text with control characters, lone surrogates and invisible marks escaped, so that data
    cannot move the cursor, colour or clear the terminal. Characters in `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
