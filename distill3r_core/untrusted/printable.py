"""Show text that came from files: control characters are escaped, never sent to a terminal."""

import re

# C0 without the line break and the tab, DEL and C1, line separators, marks and overrides of the
# direction of writing, and halves of characters, which no stream can encode.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_CONTROL}]")
_IN_NAME = re.compile(f"[{_CONTROL}\n\t]")
_LONGEST_REASON = 200  # characters
_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text of several lines, with control characters escaped as in `\\x1b`."""
    return _IN_TEXT.sub(_escaped, text)


def printable_name(name: str) -> str:
    """One line: a name with control characters and line breaks escaped."""
    return _IN_NAME.sub(_escaped, name)


def printable_json(text: str) -> str:
    """The same JSON, with the control characters escaped that JSON leaves as they are."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def reason_of(error: BaseException) -> str:
    """What a library says is wrong with a file: one line, cut, as it may quote the file."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= _LONGEST_REASON else f"{lines[0][:_LONGEST_REASON]} ..."


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
