"""Which bytes make which frame, for every way in which pixel data can be cut."""

from __future__ import annotations

from struct import pack

import pytest
from pydicom.encaps import encapsulate, encapsulate_extended

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.dicom.header import Encoding, Header, Span
from polyclinic.edges.dicomweb.frames import encapsulated_frames, native_frames, read_fragments, swapped

FRAMES = [bytes([n]) * (100 + 2 * n) for n in range(4)]


def cut(value: bytes, count: int, extended: list[int] | None = None) -> list[bytes]:
    table, fragments = read_fragments(lambda start, stop: value[start:stop], 0, len(value))
    offsets = extended or [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), 4)]
    return [b"".join(value[a:b] for a, b in spans) for spans in encapsulated_frames(fragments, offsets, count)]


@pytest.mark.parametrize("has_table", [True, False])
def test_one_fragment_a_frame(has_table: bool) -> None:
    assert cut(encapsulate(FRAMES, has_bot=has_table), 4) == FRAMES


def test_several_fragments_a_frame_by_offset_table() -> None:
    assert cut(encapsulate(FRAMES, fragments_per_frame=3, has_bot=True), 4) == FRAMES


def test_several_fragments_a_frame_by_extended_offset_table() -> None:
    value, table, _ = encapsulate_extended(FRAMES)
    offsets = [int.from_bytes(table[i : i + 8], "little") for i in range(0, len(table), 8)]
    assert cut(value, 4, offsets) == FRAMES


def test_one_frame_in_many_fragments() -> None:
    assert cut(encapsulate(FRAMES[:1], fragments_per_frame=5, has_bot=False), 1) == FRAMES[:1]


def test_no_table_says_nothing() -> None:
    assert cut(encapsulate(FRAMES, fragments_per_frame=2, has_bot=False), 4) == []


def test_nonsense_in_the_table_says_nothing() -> None:
    assert cut(encapsulate(FRAMES, fragments_per_frame=2, has_bot=False), 4, [0, 9_999, 5, 7]) == []
    with pytest.raises(NotFound):
        encapsulated_frames([], [], 1)


def header(rows: int, columns: int, bits: int, samples: int = 1) -> Header:
    values = {0x00280002: samples, 0x00280010: rows, 0x00280011: columns, 0x00280100: bits}
    data = b"".join(pack("<H", value) for value in values.values())
    spans = {tag: Span("US", 2 * i, 2 * i + 2) for i, tag in enumerate(values)}
    return Header(data, Encoding(explicit=True, little=True), spans)


def test_native_frames_lie_behind_each_other() -> None:
    assert tuple(native_frames(header(4, 5, 16), 100, 1000, 3)) == (((100, 140),), ((140, 180),), ((180, 220),))
    assert tuple(native_frames(header(4, 5, 8, 3), 0, 1000, 1)) == (((0, 60),),)
    assert tuple(native_frames(header(8, 8, 1), 0, 1000, 2)) == (((0, 8),), ((8, 16),))
    assert tuple(native_frames(header(3, 5, 1), 0, 1000, 1)) == (((0, 2),),)
    with pytest.raises(NotFound):
        native_frames(header(4, 5, 16), 100, 219, 3)
    with pytest.raises(NotFound):
        native_frames(header(0, 5, 16), 100, 219, 1)
    with pytest.raises(Rejected):
        native_frames(header(3, 5, 1), 0, 1000, 2)


def test_words_are_swapped() -> None:
    assert swapped(b"\1\2\3\4", 2) == b"\2\1\4\3"
    assert swapped(b"\1\2\3\4", 4) == b"\4\3\2\1"


def test_words_that_are_cut_are_kept() -> None:
    assert swapped(b"\1\2\3", 2) == b"\2\1\3"
