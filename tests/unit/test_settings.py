"""Settings: each is documented, wrong ones are refused by name, and they survive the way to a worker process."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from polyclinic.app.settings import Settings, is_loopback, load_settings
from polyclinic.core.errors import Rejected

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
ROOT = PAGE.parents[1]


def shown_default(name: str) -> str:
    default = Settings.model_fields[name].default
    assert default is not PydanticUndefined
    if isinstance(default, Path) and default.is_absolute():
        return f"`{default.relative_to(ROOT)}` of the project"
    if default is None or default in ("", ()):
        return ""
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def test_every_setting_stands_on_its_page_with_default_and_meaning() -> None:
    rows = re.findall(r"^\| `POLYCLINIC_(\w+)` \| (.*?) ?\| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    written = {name.lower(): (default, text) for name, default, text in rows}
    wanted = {name: (shown_default(name), f.description) for name, f in Settings.model_fields.items()}
    assert written == wanted


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POLYCLINIC_WEB_PORT", "seventy"),
        ("POLYCLINIC_WEB_PORT", "65536"),
        ("POLYCLINIC_SETTLE_QUIET_S", "-1"),
        ("POLYCLINIC_DICOM_AE_TITLE", "LONGER_THAN_16_CHARS"),
        ("POLYCLINIC_DESTINATIONS", "PACS@host"),
        ("POLYCLINIC_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Rejected, match=variable):
        load_settings()


@pytest.mark.parametrize("text", ["A@h:1,B@h:2", '["A@h:1", "B@h:2"]', " A@h:1 , B@h:2 ,"])
def test_several_values(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("POLYCLINIC_DESTINATIONS", text)
    assert load_settings().destinations == ("A@h:1", "B@h:2")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "hospital.example"])
def test_demo_signs_nobody_in_where_others_can_reach_it(host: str) -> None:
    with pytest.raises(Rejected, match="loopback"):
        load_settings({"demo": True, "web_host": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


def test_settings_reach_another_process_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings(
        {"data": tmp_path, "destinations": ("A@h:1",), "demo": True, "settle_quiet_s": 0.5, "workers": 3}
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_session_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path / "data"})
    key = settings.session_secret()
    assert len(key) == 32
    assert settings.session_secret() == key
    assert stat.S_IMODE((tmp_path / "data" / "session.key").stat().st_mode) == 0o600


def test_the_journeys_have_a_file_of_their_own_on_sqlite_but_share_postgresql(tmp_path: Path) -> None:
    own = load_settings({"data": tmp_path})
    assert own.journeys_url != own.database_url
    shared = load_settings({"database": "postgresql+psycopg://h/p"})
    assert shared.journeys_url == shared.database_url
