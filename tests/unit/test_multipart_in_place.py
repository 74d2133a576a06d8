"""Parts received in place are those that the copying reader finds, however the network cuts the body."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected
from polyclinic.edges.dicomweb import multipart_in_place
from polyclinic.edges.dicomweb.multipart import MultipartReader, Part
from polyclinic.edges.dicomweb.multipart_in_place import Buffers, PartSink

Found = list[tuple[str, str, bytes]]
_content = st.lists(st.sampled_from([b"\r\n--B", b"\r\n-", b"--B--", b"\r\n", b"x" * 50, b"\r\n\r\n"])).map(b"".join)


def copied(body: bytes) -> Found:
    reader = MultipartReader("BOUND")
    parts = list(reader.feed(body))
    reader.finish()
    return [told(part) for part in parts]


def told(part: Part) -> tuple[str, str, bytes]:
    return part.content_type, part.location, bytes(part.view())


def received(body: bytes, sizes: list[int], *, late: bool = False) -> Found:
    """What the sink gives for a body in pieces of these sizes, over and over; `late`: read when all is received."""
    parts: list[Part] = []
    found: Found = []

    def keep(part: Part) -> None:
        parts.append(part)
        if not late:
            found.append(told(part))
            part.close()

    sink = PartSink("BOUND", keep, lambda: True, Buffers())
    position = turn = 0
    while position < len(body):
        space = sink.space()
        count = min(sizes[turn % len(sizes)], len(space), len(body) - position)
        space[:count] = body[position : position + count]
        sink.took(count)
        position, turn = position + count, turn + 1
    sink.finish()
    sink.close()
    return [told(part) for part in parts] if late else found


def body_of(contents: list[bytes], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    parts = b"".join(
        b"\r\n--BOUND\r\nContent-Type: application/dicom\r\nContent-Location: /%d\r\n\r\n%s" % (number, content)
        for number, content in enumerate(contents)
    )
    body = preamble + parts + b"\r\n--BOUND--" + epilogue
    return body if preamble else body.removeprefix(b"\r\n")


@settings(max_examples=150, deadline=None)
@given(st.lists(_content, max_size=5), st.lists(st.integers(1, 200), min_size=1), st.sampled_from([b"", b"hello"]))
def test_however_a_body_is_cut_its_parts_are_the_same(contents: list[bytes], sizes: list[int], around: bytes) -> None:
    body = body_of(contents, around, b"\r\n" + around if around else b"")
    assert received(body, sizes) == copied(body)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=12), st.lists(st.integers(1, 400), min_size=1), st.booleans())
def test_parts_of_any_size_go_through_small_buffers(lengths: list[int], sizes: list[int], late: bool) -> None:
    contents = [random.Random(length).randbytes(length) for length in lengths]
    before = multipart_in_place.BUFFER_BYTES
    multipart_in_place.BUFFER_BYTES = 256
    try:
        found = received(body_of(contents), sizes, late=late)
    finally:
        multipart_in_place.BUFFER_BYTES = before
    assert [content for _, _, content in found] == contents


def test_a_part_larger_than_a_buffer_and_than_memory_may_hold() -> None:
    content = bytes(40_000_000)
    ((_, _, found),) = received(body_of([content]), [300_000])
    assert hashlib.sha256(found).digest() == hashlib.sha256(content).digest()


def test_memory_is_used_again_only_when_its_parts_are_closed() -> None:
    buffers = Buffers()
    parts: list[Part] = []
    sink = PartSink("BOUND", parts.append, lambda: True, buffers)
    body = body_of([b"first", b"second"])
    sink.space()[: len(body)] = body
    sink.took(len(body))
    sink.close()
    other = buffers.take()
    other.view[:100] = b"?" * 100
    assert [bytes(part.view()) for part in parts] == [b"first", b"second"]
    memory = parts[0].view().obj
    for part in parts:
        part.close()
        part.close()
    assert buffers.take().memory is memory
    assert buffers.take().memory is not memory


def test_a_body_that_ends_early_and_endless_headers_are_refused() -> None:
    with pytest.raises(Rejected):
        received(body_of([b"content"])[:-2], [10])
    with pytest.raises(Rejected):
        received(b"--BOUND\r\n" + b"x" * 20_000, [1000])
