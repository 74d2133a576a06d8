"""Rows of an index as a hospital's would be after ten years; no files belong to them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from polyclinic.core.names import fold_name
from polyclinic.departments.archive import schema

DAYS = 3652
FIRST_DAY = datetime(2016, 1, 1, tzinfo=UTC)
BUSY_DAY = "20240613"
"""A day with exactly `BUSY_STUDIES` studies at every size, so that answers of one length can be compared."""
BUSY_STUDIES = 120
RARE_MODALITY, RARE_STUDIES = "ES", 110
_INSERT_ROWS = 20_000

_CHINESE = (
    ("Wang", "王"), ("Li", "李"), ("Zhang", "张"), ("Liu", "刘"), ("Chen", "陈"), ("Yang", "杨"), ("Huang", "黄"),
    ("Zhao", "赵"), ("Wu", "吴"), ("Zhou", "周"), ("Xu", "徐"), ("Sun", "孙"), ("Ma", "马"), ("Zhu", "朱"),
    ("Ouyang", "欧阳"), ("Guo", "郭"), ("He", "何"), ("Lin", "林"), ("Gao", "高"), ("Luo", "罗"),
)  # fmt: skip
_GIVEN = (
    ("Xiao", "小"), ("Dong", "东"), ("Wei", "伟"), ("Fang", "芳"), ("Na", "娜"), ("Min", "敏"), ("Jing", "静"),
    ("Li", "丽"), ("Qiang", "强"), ("Lei", "磊"), ("Jun", "军"), ("Yang", "洋"), ("Yan", "艳"), ("Yong", "勇"),
    ("Jie", "杰"), ("Juan", "娟"), ("Tao", "涛"), ("Ming", "明"), ("Chao", "超"), ("Xiu", "秀"),
)  # fmt: skip
_WESTERN = (
    "Müller",
    "Schmidt",
    "Smith",
    "Jones",
    "García",
    "Rossi",
    "Dubois",
    "Novák",
    "Kowalski",
    "Jensen",
    "O'Brien",
)
_WESTERN_GIVEN = ("Jürgen", "Anna", "John", "María", "Luca", "Zoë", "Jan", "Piotr", "Mette", "Seán", "Eva", "Karl")
_JAPANESE = (
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Satou^Hanako=佐藤^花子=さとう^はなこ",
    "Suzuki^Ichirou=鈴木^一郎=すずき^いちろう",
)
_KOREAN = ("Hong^Gildong=洪^吉洞=홍^길동", "Kim^Minjun=金^民俊=김^민준")
_MODALITIES = ["CT"] * 30 + ["DX"] * 25 + ["US"] * 15 + ["MR"] * 12 + ["CR"] * 8 + ["MG"] * 5 + ["NM"] * 3 + ["PT"] * 2


def _name(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.80:
        (family, family_hanzi), given = chance.choice(_CHINESE), chance.choices(_GIVEN, k=chance.choice((1, 2, 2)))
        latin = f"{family}^{''.join(g[0] for g in given)}"
        return f"{latin}={family_hanzi}^{''.join(g[1] for g in given)}" if chance.random() < 0.7 else latin
    if kind < 0.92:
        return f"{chance.choice(_WESTERN)}^{chance.choice(_WESTERN_GIVEN)}"
    return chance.choice(_JAPANESE if kind < 0.96 else _KOREAN)


def _uid(chance: random.Random, kind: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.{kind}.{chance.getrandbits(96)}"


def _days(chance: random.Random, studies: int) -> list[int]:
    """A day for each study, in order of arrival; the busy day gets its number and no more."""
    busy = (datetime.strptime(BUSY_DAY, "%Y%m%d").replace(tzinfo=UTC) - FIRST_DAY).days
    others = [
        day if day != busy else day + 1 for day in (chance.randrange(DAYS) for _ in range(studies - BUSY_STUDIES))
    ]
    return sorted([busy] * BUSY_STUDIES + others)


def fill(path: Path, studies: int, instances_each: int) -> None:
    """Insert `studies` studies of one or two series into the index at `path`, whose tables exist.

    Indexes are dropped and made again around the load. Three studies belong to each patient on average.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    made = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN "
        "('archive_study', 'archive_series', 'archive_instance')"
    ).fetchall()
    for name, _ in made:
        connection.execute(f'DROP INDEX "{name}"')
    connection.execute("BEGIN")
    for table, rows in _batches(studies, instances_each):
        columns = [column.name for column in table.columns]
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({', '.join(f'{c!r}' for c in columns)}) VALUES ({places})".replace(
            "'", '"'
        )
        connection.executemany(statement, [[row[c] for c in columns] for row in rows])
    connection.execute("COMMIT")
    for _, statement in made:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _batches(studies: int, instances_each: int) -> Iterator[tuple[object, list[dict[str, object]]]]:
    chance = random.Random(studies)
    patients = [(f"P{n:08}", _name(chance)) for n in range(max(studies // 3, 1))]
    rare = set(chance.sample(range(studies), RARE_STUDIES))
    pending: dict[object, list[dict[str, object]]] = {schema.study: [], schema.series: [], schema.instance: []}
    for number, day in enumerate(_days(chance, studies)):
        _add(chance, pending, number, day, chance.choice(patients), instances_each, rare=number in rare)
        if sum(map(len, pending.values())) >= _INSERT_ROWS:
            yield from pending.items()
            pending = {table: [] for table in pending}
    yield from pending.items()


def _add(
    chance: random.Random,
    pending: dict[object, list[dict[str, object]]],
    number: int,
    day: int,
    patient: tuple[str, str],
    instances_each: int,
    *,
    rare: bool,
) -> None:
    moment = FIRST_DAY + timedelta(days=day, seconds=chance.randrange(7 * 3600, 20 * 3600))
    received_us = schema.to_microseconds(moment + timedelta(seconds=chance.randrange(60, 1800)))
    study = _uid(chance, 2)
    modality = RARE_MODALITY if rare else chance.choice(_MODALITIES)
    modalities = [modality, "SR"] if modality in ("CT", "MR", "US") and chance.random() < 0.2 else [modality]
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    pending[schema.study].append(
        {
            "study_instance_uid": study, "patient_id": patient[0], "issuer": "HOSPITAL", "patient_name": patient[1],
            "patient_name_folded": fold_name(patient[1]), "birth_date": f"19{number % 90 + 10}0102",
            "sex": "MF"[number % 2], "study_date": date, "study_time": time, "accession_number": f"A{number:09}",
            "study_id": str(number), "referring_physician_name": "Doe^Jane", "description": f"{modality} examination",
            "modalities": "".join(f"{m}\\" for m in sorted(modalities)), "series_count": len(modalities),
            "instance_count": instances_each, "primary_count": instances_each, "settled_count": instances_each,
            "kept_aside_count": 0, "first_received_at_us": received_us, "last_received_at_us": received_us,
        }
    )  # fmt: skip
    for place, kind in enumerate(modalities):
        series = _uid(chance, 3)
        of_series = instances_each - 1 if place == 0 and len(modalities) > 1 else instances_each if place == 0 else 1
        pending[schema.series].append(
            {
                "study_instance_uid": study, "series_instance_uid": series, "modality": kind,
                "series_number": place + 1,
                "description": f"{kind} series", "body_part": "CHEST", "station_name": f"{kind}1", "series_date": date,
                "series_time": time, "instance_count": of_series, "derived": False,
            }
        )  # fmt: skip
        for instance in range(of_series):
            pending[schema.instance].append(
                {
                    "sop_instance_uid": _uid(chance, 1), "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
                    "series_instance_uid": series, "study_instance_uid": study,
                    "transfer_syntax_uid": "1.2.840.10008.1.2.1", "instance_number": instance + 1, "rows": 512,
                    "columns": 512, "number_of_frames": 1, "sha256": "0" * 64, "source": "GENERATOR", "derived": False,
                    "received_at_us": received_us, "segment": f"{day}.tar", "offset_bytes": 512 + number * 525_312,
                    "size_bytes": 524_800, "dataset_offset": 340, "pixel_offset": 1100,
                }
            )  # fmt: skip
