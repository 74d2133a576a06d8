"""Character sets of HL7 messages (MSH-18, HL7 table 0211)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polyclinic.core.errors import Rejected

UTF_8 = "UNICODE UTF-8"

_CODECS: dict[str, str] = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{number}": f"iso8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    UTF_8: "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5hkscs",
    "KS X 1001": "cp949",
    "ISO IR14": "iso2022_jp_2",
    "ISO IR87": "iso2022_jp_2",
    "ISO IR159": "iso2022_jp_2",
}
"""Python codec of each value. cp949 extends KS X 1001 (EUC-KR) by the syllables that it lacks."""

KNOWN = tuple(_CODECS)
"""The values that are understood."""

_SPELLINGS = {
    "UTF-8": UTF_8,
    "UTF8": UTF_8,
    "ISO-8859-1": "8859/1",
    "GB18030": "GB 18030-2000",
    "GB 18030": "GB 18030-2000",
    "GBK": "GB 18030-2000",
    "GB2312": "GB 18030-2000",
    "BIG5": "BIG-5",
    "KSC5601": "KS X 1001",
    "ISO IR 14": "ISO IR14",
    "ISO IR 87": "ISO IR87",
    "ISO IR 159": "ISO IR159",
    "ISO IR 6": "ISO IR6",
}
"""What senders write instead; GB18030 contains GBK and GB2312."""

_BYTE_ESCAPE = re.compile(rb"\\[CM]((?:[0-9A-Fa-f]{2}){2,3})\\")
"""``\\Cxxyy\\`` and ``\\Mxxyyzz\\``: an ISO 2022 escape sequence written in hexadecimal (HL7 v2.5.1 2.7.3)."""
_HALF_WIDTH_KATAKANA = re.compile(rb"[\xa1-\xdf]+")


def codec_of(names: Sequence[str], default: str = UTF_8) -> str:
    """Python codec for the repetitions of MSH-18; any Japanese set among them makes the message ISO 2022.

    Raises
    ------
    Rejected
        ``hl7.charset`` when one is not known here.
    """
    known = [_SPELLINGS.get(name.strip().upper(), name.strip().upper()) for name in names if name.strip()]
    codecs = [_CODECS.get(name) for name in known or [default]]
    if None in codecs:
        raise Rejected(
            "hl7.charset", "MSH-18 names a character set that this receiver does not know; use UNICODE UTF-8"
        )
    chosen = [codec for codec in codecs if codec]
    return "iso2022_jp_2" if "iso2022_jp_2" in chosen else chosen[0]


def decode(raw: bytes, codec: str) -> str:
    """The message as text. A byte order mark is passed over.

    Raises
    ------
    Rejected
        ``hl7.charset`` when the bytes are none of that character set.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        if codec == "iso2022_jp_2":
            raw = _BYTE_ESCAPE.sub(lambda found: b"\x1b" + bytes.fromhex(found[1].decode("ascii")), raw)
            # Eight-bit katakana (ISO IR14) becomes the same set behind its own escape sequence
            raw = _HALF_WIDTH_KATAKANA.sub(_escaped_katakana, raw)
            return raw.decode("iso2022_jp_ext" if b"\x1b(I" in raw else codec)
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        raise Rejected("hl7.charset", "The bytes of the message are not of the character set in MSH-18") from error


def _escaped_katakana(found: re.Match[bytes]) -> bytes:
    return b"\x1b(I" + bytes(byte & 0x7F for byte in found[0]) + b"\x1b(B"
