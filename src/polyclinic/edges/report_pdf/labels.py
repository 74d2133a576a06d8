"""The fixed words of the printed page."""

from __future__ import annotations

from collections.abc import Mapping

from polyclinic.departments.reading.contracts import Language

LABELS: Mapping[Language, Mapping[str, str]] = {
    Language.ENGLISH: {
        "title": "Imaging report",
        "patient": "Patient",
        "patient_id": "Patient ID",
        "birth_date": "Date of birth",
        "sex": "Sex",
        "study_date": "Study date",
        "accession": "Accession number",
        "description": "Study",
        "revision": "Report revision",
        "key_images": "Key images",
        "draft": "DRAFT - not signed",
        "signed": "Signed by {name}",
        "signed_at": "Signed at {time}",
        "sha256": "SHA-256 of the signed content: {sha256}",
        "undecided": "Findings that await review: {count}.",
        "research": "Research software, not a medical device.",
        "page": "Page {page} of {pages}",
        "M": "male",
        "F": "female",
        "O": "other",
    },
    Language.CHINESE: {
        "title": "影像检查报告",
        "patient": "姓名",
        "patient_id": "患者编号",
        "birth_date": "出生日期",
        "sex": "性别",
        "study_date": "检查日期",
        "accession": "检查号",
        "description": "检查项目",
        "revision": "报告版本",
        "key_images": "关键图像",
        "draft": "草稿 - 未签名",
        "signed": "签名医师：{name}",
        "signed_at": "签名时间：{time}",
        "sha256": "签名内容SHA-256：{sha256}",
        "undecided": "尚有{count}项所见待审核。",
        "research": "研究用软件，非医疗器械。",
        "page": "第{page}页，共{pages}页",
        "M": "男",
        "F": "女",
        "O": "其他",
    },
}
