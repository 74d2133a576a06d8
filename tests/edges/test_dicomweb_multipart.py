"""A multipart body means the same in whatever pieces the network brings it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.edges.dicomweb.multipart import MultipartReader

BOUNDARY = "Bound"
CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r\n--Boun", b"\r\n--bound", b"d", b"\r", bytes(40), b"--Bound"]), max_size=12
).map(b"".join)


def lies_within(content: bytes) -> bool:
    return b"\r\n--Bound" not in b"\r\n" + content + b"\r"


@settings(max_examples=150, deadline=None)
@given(
    contents=st.lists(CONTENT.filter(lies_within), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 300), min_size=1, max_size=20),
)
def test_pieces_do_not_matter(contents: list[bytes], cuts: list[int]) -> None:
    head = b"--Bound\r\nContent-Type: application/dicom\r\nContent-Location: here\r\n\r\n"
    body = b"".join(head + content + b"\r\n" for content in contents) + b"--Bound--\r\n"
    reader = MultipartReader(BOUNDARY)
    found = []
    position = step = 0
    while position < len(body):
        size = cuts[step % len(cuts)]
        found += [(bytes(part.view()), part.location) for part in reader.feed(body[position : position + size])]
        position, step = position + size, step + 1
    reader.finish()
    assert found == [(content, "here") for content in contents]
