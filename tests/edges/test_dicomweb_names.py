"""Names and words in the world's character sets: stored as devices write them, read and found as UTF-8 (PS3.18 8.8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.router import dicomweb_router

STUDY = f"/dicom-web/studies/{stable_uid('study', '1')}"
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
NAMES = {
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东", "胸部平扫"),
    "GB18030, four bytes": ("GB18030", "Li^Yan=李^䶮", "肺结节"),
    "GBK": ("GBK", "Zhang^Wei=張^偉", "胸部"),
    "GB 2312": (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东", "第一行"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部"),
    "Japanese, katakana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "胸部"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "흉부"),
    "UTF-8": ("ISO_IR 192", "Wang^Fang=王^芳=ㄨㄤˊ^ㄈㄤ", "胸部 CT"),
    "Latin-1": ("ISO_IR 100", "Müller^Jürgen", "Schädel"),
    "Cyrillic": ("ISO_IR 144", "Люксембург^Роза", "Грудь"),
    "Greek": ("ISO_IR 126", "Διονυσιος", "Θώρακας"),
}


@pytest.fixture
def web(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> TestClient:
    app = FastAPI()
    app.include_router(dicomweb_router(open_archive(tmp_path), lambda *_: None), prefix="/dicom-web")
    return TestClient(app, base_url="http://archive")


def encoded(part10: Callable[..., bytes], terms: Any, name: str, words: str) -> bytes:
    """A DICOM file in these character sets."""
    if "ISO 2022 IR 58" not in terms:
        return part10(SpecificCharacterSet=terms, PatientName=name, StudyDescription=words, SeriesDescription=words)
    # pydicom leaves out the escape sequences (PS3.5 K.3): the text is put into a file that has room for it
    in_file = [re.sub("[^\x00-\x7f]+", lambda m: f"\x1b$)A{m[0]}", text).encode("gb2312") for text in (name, words)]
    in_file = [text + b" " * (len(text) % 2) for text in in_file]
    room = ["N" * len(in_file[0]), "W" * len(in_file[1])]
    data = part10(SpecificCharacterSet=terms, PatientName=room[0], StudyDescription=room[1], SeriesDescription=room[1])
    return data.replace(room[0].encode(), in_file[0]).replace(room[1].encode(), in_file[1])


@pytest.mark.parametrize(("terms", "name", "words"), list(NAMES.values()), ids=list(NAMES))
def test_names_come_back_and_are_found_by_each_group(
    web: TestClient, part10: Callable[..., bytes], terms: Any, name: str, words: str
) -> None:
    data = encoded(part10, terms, name, words)
    if terms != "ISO_IR 192":
        assert name.rsplit("=", maxsplit=1)[-1].encode() not in data  # it does lie there in another encoding
    sent = web.post("/dicom-web/studies", content=data, headers={"Content-Type": "application/dicom"})
    assert sent.status_code == 200

    groups = name.split("=")
    (metadata,) = web.get(f"{STUDY}/metadata").json()
    (study,) = web.get("/dicom-web/studies", params={"includefield": "StudyDescription"}).json()
    for found in (metadata, study):
        assert found["00100010"]["Value"] == [dict(zip(GROUPS, groups, strict=False))]
        assert found["00081030"]["Value"] == [words]
        assert found["00080005"]["Value"] == ["ISO_IR 192"]
    for group in groups:
        family, _, _ = group.partition("^")
        for asked in (group, f"{family}*", f"*{group[-1]}"):
            answer = web.get(f"/dicom-web/studies?PatientName={quote(asked, safe='')}")
            assert answer.status_code == 200, asked
            (one,) = answer.json()
            assert one["00100010"]["Value"] == study["00100010"]["Value"]
    assert web.get(f"/dicom-web/studies?StudyDescription={quote(words, safe='')}").status_code == 200
    assert web.get(f"/dicom-web/series?SeriesDescription={quote(words[0], safe='')}*").status_code == 200
    assert web.get(f"/dicom-web/studies?PatientName={quote('没有此人', safe='')}").status_code == 204


def test_names_in_native_dicom_model(web: TestClient, part10: Callable[..., bytes]) -> None:
    data = part10(SpecificCharacterSet="GB18030", PatientName="Wang^XiaoDong=王^小东", StudyDescription='a <b> & "c"')
    web.post("/dicom-web/studies", content=data, headers={"Content-Type": "application/dicom"})
    answer = web.get(f"{STUDY}/metadata", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    assert "<Ideographic><FamilyName>王</FamilyName><GivenName>小东</GivenName></Ideographic>" in answer.text
    assert "a &lt;b&gt; &amp; " in answer.text
