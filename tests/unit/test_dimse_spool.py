"""Where datasets are gathered: right content, and no memory held by who has none."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.edges.dimse.spool import FIRST_BYTES, KEPT_BUFFERS, Buffers, Spool, TooLarge


@settings(max_examples=40, deadline=None)
@given(
    datasets=st.lists(st.lists(st.binary(min_size=1, max_size=5000), min_size=1, max_size=8), min_size=1, max_size=6),
    memory_bytes=st.sampled_from([1000, 20_000, 1_000_000]),
)
def test_a_dataset_is_what_was_put_in_whatever_came_before(datasets: list[list[bytes]], memory_bytes: int) -> None:
    spool = Spool(memory_bytes=memory_bytes, buffers=Buffers())
    for pieces in datasets:
        for piece in pieces:
            spool.room(len(piece))[:] = piece
            spool.filled(len(piece))
        assert spool.view() == b"".join(pieces)
        spool.clear()


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        Spool(limit_bytes=10).room(11)


def test_associations_without_a_dataset_hold_no_memory() -> None:
    buffers = Buffers()
    spools = [Spool(buffers=buffers) for _ in range(200)]
    tracemalloc.start()
    try:
        for spool in spools:
            spool.room(3 * FIRST_BYTES)
            spool.filled(3 * FIRST_BYTES)
            spool.clear()
        one_after_the_other, _ = tracemalloc.get_traced_memory()
        for spool in spools[:20]:
            spool.room(3 * FIRST_BYTES)
        for spool in spools[:20]:
            spool.clear()
        after_a_crowd, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert one_after_the_other < 4 * FIRST_BYTES
    assert after_a_crowd < (KEPT_BUFFERS + 1) * 3 * FIRST_BYTES
