"""Text from the data in HTML and in scripts."""

from __future__ import annotations

import html
import re
from typing import Any

import msgspec

# Control characters but line feed and tab, soft hyphen, and what turns or hides text (Unicode's
# Bidi_Control, zero-width space, word joiner and its kin, byte order mark). page.js has the same.
_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def text(value: object) -> str:
    """A value for HTML, in an element or a quoted attribute; what is not seen shows its code."""
    return html.escape(_UNSEEN.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", str(value)))


def script_json(value: Any) -> str:
    """A value as JSON that is also JavaScript and holds no character that could end a script or
    begin markup."""
    return msgspec.json.encode(value).decode().translate(_IN_SCRIPT)
