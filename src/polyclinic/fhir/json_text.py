"""FHIR JSON text <-> plain values, bounded, with numbers kept as they were written.

FHIR R4 2.4: the precision of a decimal counts, ``0.010`` is not ``0.01``.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from polyclinic.core.errors import Rejected

Json = dict[str, Any]
MAX_DEPTH = 40
MAX_NODES = 100_000


class WrittenNumber(float):
    """A decimal that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """From its text."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def parse_json(body: bytes | str) -> Json:
    """One JSON object.

    Raises
    ------
    Rejected
        ``fhir.not-json`` when the text is none or is no object, ``fhir.too-deep`` when it is nested or long beyond
        what a resource can be.
    """
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
        value = json.loads(text, parse_float=WrittenNumber, parse_constant=_no_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise Rejected("fhir.not-json", "The body is not JSON in UTF-8; send one FHIR resource as JSON") from error
    if not isinstance(value, dict):
        raise Rejected("fhir.not-json", "The body is no JSON object; send one FHIR resource as JSON")
    _measure(value)
    return value


def write_json(value: object) -> bytes:
    """Plain values as JSON text; numbers that were read come out as they were."""
    return orjson.dumps(value, default=_as_written)


def _as_written(value: object) -> orjson.Fragment:
    if isinstance(value, WrittenNumber):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def _no_constant(_: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _too_deep() -> Rejected:
    return Rejected("fhir.too-deep", "The resource is nested deeper or longer than allowed; send it in parts")


def _measure(value: object) -> None:
    level: list[object] = [value]
    nodes = 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise _too_deep()
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        if not below:
            return
        level = below
    raise _too_deep()
