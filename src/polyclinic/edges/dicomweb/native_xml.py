"""DICOM JSON objects as Native DICOM Model documents (PS3.19 A.1), for clients that take XML only."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from polyclinic.edges.dicomweb.model import Json

_FORBIDDEN = re.compile("[^\\t\\n\\r\\u0020-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def native_xml(dataset: Json) -> bytes:
    """One document, in UTF-8."""
    inner = "".join(_attribute(tag, element) for tag, element in sorted(dataset.items()))
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
    return f"{head}{inner}</NativeDicomModel>".encode()


def _attribute(tag: str, element: Json) -> str:
    number = int(tag, 16)
    keyword = "" if number >> 16 & 1 else keyword_for_tag(number)
    named = f" keyword={quoteattr(keyword)}" if keyword else ""
    head = f'<DicomAttribute tag="{tag}" vr="{element["vr"]}"{named}>'
    return f"{head}{_content(element)}</DicomAttribute>"


def _content(element: Json) -> str:
    if "BulkDataURI" in element:
        return f"<BulkData uri={quoteattr(element['BulkDataURI'])}/>"
    if "InlineBinary" in element:
        return f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    return "".join(_value(n, value) for n, value in enumerate(element.get("Value", ()), start=1) if value is not None)


def _value(number: int, value: Any) -> str:
    if isinstance(value, dict):
        if any(name in value for name in ("Alphabetic", "Ideographic", "Phonetic")):
            return f'<PersonName number="{number}">{_name(value)}</PersonName>'
        inner = "".join(_attribute(tag, element) for tag, element in sorted(value.items()))
        return f'<Item number="{number}">{inner}</Item>'
    return f'<Value number="{number}">{_text(value)}</Value>'


def _name(groups: Json) -> str:
    out = []
    for group, text in groups.items():
        parts = zip(_COMPONENTS, str(text).split("^"), strict=False)
        inner = "".join(f"<{name}>{_text(part)}</{name}>" for name, part in parts if part)
        out.append(f"<{group}>{inner}</{group}>")
    return "".join(out)


def _text(value: Any) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", str(value)))
