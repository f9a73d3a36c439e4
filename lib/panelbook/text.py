r"""Foreign text made harmless at two borders: what a file cannot hold, and what a terminal would obey.

Completions, and whatever else comes out of a file, are foreign. Two things can go wrong before anyone reads them:

- A *lone surrogate* (``"\ud800"`` in JSON) is no character: UTF-8 cannot hold it, so no file, table or page can.
  `mend` puts U+FFFD, the replacement character, in its place; nothing else of a text is ever changed.
- A *control character* may move the cursor, recolour the screen, set the clipboard or reorder what is read.
  `show_controls` puts a visible sign in its place. That is for showing only: what is kept stays as it was.

What is *not* handled: markup. HTML is escaped where it is made, the markup of rich where it is printed.
"""

import re
from typing import Any

REPLACEMENT = "\ufffd"

_SURROGATE = re.compile("[\ud800-\udfff]")
# Controls but tab and newline; line and paragraph separators; the marks that change the direction of text.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def is_whole(value: Any) -> bool:
    r"""Return whether text, or JSON values with texts in them, can be written as UTF-8.

    Examples
    --------
    >>> is_whole({"a": ["4", 1, None]}), is_whole({"a": ["4\ud83d"]})
    (True, False)
    """
    if isinstance(value, str):
        return value.isascii() or not _SURROGATE.search(value)
    if isinstance(value, list):
        return all(map(is_whole, value))
    if isinstance(value, dict):
        return all(map(is_whole, value)) and all(map(is_whole, value.values()))
    return True


def mend(value: Any) -> Any:
    r"""Return text, or JSON values with texts in them, with U+FFFD in place of lone surrogates.

    Examples
    --------
    >>> mend("4\ud83d") == "4\ufffd", mend({"a": ["\udc80", 1, None]}) == {"a": ["\ufffd", 1, None]}
    (True, True)
    """
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [mend(item) for item in value]
    if isinstance(value, dict):
        return {mend(key): mend(item) for key, item in value.items()}
    return value


def show_controls(text: str) -> str:
    r"""Return text for a terminal: control characters become signs, newline and tab stay.

    Examples
    --------
    >>> show_controls("\x1b[2J red\x00\tone\n"), show_controls("\x9b31m \u202e4")
    ('␛[2J red␀\tone\n', '<9B>31m <202E>4')
    """
    return _CONTROL.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode
    return "␡" if code == 0x7F else f"<{code:02X}>"
