"""Text in the character sets that hospitals use (PS3.5 H, I, J, K)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.dicom.text import decode, encodings_of


@pytest.mark.parametrize(
    ("character_set", "raw", "text"),
    [
        (b"\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= ", "Zhang^XiaoDong=张^小东="),
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"GBK", "王^小东".encode("gbk"), "王^小东"),
        (b"ISO_IR 192", "王^小东".encode(), "王^小东"),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"", b"Plain^Name ", "Plain^Name"),
    ],
)
def test_examples_of_the_standard(character_set: bytes, raw: bytes, text: str) -> None:
    assert decode(raw, encodings_of(character_set), person_name=True) == text


@given(st.binary(max_size=40), st.binary(max_size=60), st.booleans())
def test_any_bytes_give_text(character_set: bytes, raw: bytes, person_name: bool) -> None:
    assert isinstance(decode(raw, encodings_of(character_set), person_name=person_name), str)
