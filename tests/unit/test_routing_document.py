"""``routing.toml``: what is written is what is meant, and every fault is named with its line and what to do."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic.app.routing import load_routing
from polyclinic.app.routing_cli import routing_app
from polyclinic.core.errors import Rejected
from polyclinic.departments.routing.contracts import Content, RoutingTable, TlsFiles, Trigger, Window
from polyclinic.departments.routing.document import read_routing

WHOLE = """
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "10.0.0.7"
port = 104
tls = { ca_file = "/etc/pki/hospital.pem", certificate_file = "/etc/pki/us.pem", key_file = "/etc/pki/us.key" }
transfer_syntaxes = ["jpeg-2000-lossless", "1.2.840.10008.1.2.1"]
hours = { start = "20:00", end = "06:00", days = ["mon", "tue"], timezone = "Asia/Shanghai" }
connections = 2
issuer = "SITE-A"

[[destination]]
name = "web"
kind = "dicomweb"
url = "https://images.example.org/dicom-web"
tls = true

[[rule]]
name = "ct"
when = "arrival-settled"
to = "pacs"
priority = 3
[rule.match]
modality = "CT"
series_description = ["*lung*", "*thin*"]

[[rule]]
name = "reports"
when = "report-signed"
send = ["derived", "report"]
to = ["pacs", "web"]

[priors]
most_recent = 2
retrieve = "c-move"
[[priors.relevant]]
modality = ["CT"]
prior_modality = ["CT", "PT"]
"""


def test_a_whole_table() -> None:
    table = read_routing(WHOLE)
    pacs, web = table.destinations
    assert pacs.tls == TlsFiles(
        ca_file="/etc/pki/hospital.pem", certificate_file="/etc/pki/us.pem", key_file="/etc/pki/us.key"
    )
    assert web.tls == TlsFiles()
    assert pacs.transfer_syntaxes == ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1")
    assert pacs.hours == Window(start=time(20), end=time(6), days=frozenset({0, 1}), timezone="Asia/Shanghai")
    ct, reports = table.rules
    assert (ct.when, ct.match.modality, ct.send) == (Trigger.SETTLED, ("CT",), (Content.ORIGINALS,))
    assert reports.send == (Content.DERIVED, Content.REPORT)
    assert table.priors.relevant[0].prior_modality == ("CT", "PT")


def test_nothing_written_routes_nothing() -> None:
    assert read_routing("") == RoutingTable() == load_routing(None)


def test_the_command_line_shows_a_table_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    file = tmp_path / "routing.toml"
    file.write_text(WHOLE)
    shown = CliRunner().invoke(routing_app, ["check", str(file)])
    assert shown.exit_code == 0
    assert "2 destinations, 2 rules: no fault found" in shown.output
    assert "reports: report-signed -> derived, report to pacs, web" in shown.output
    file.write_bytes(b"\xff")
    refused = CliRunner().invoke(routing_app, ["check", str(file)])
    assert isinstance(refused.exception, Rejected)
    assert "save it as" in refused.exception.message


PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
RULE = '[[rule]]\nname = "r"\nwhen = "arrival-settled"\nto = "pacs"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule", "no TOML"),
        (PACS + RULE + 'colour = "red"', "line 6, rule 'r': colour is no key that is known here"),
        (PACS + RULE.replace('to = "pacs"', ""), "line 6, rule 'r': to is missing"),
        (PACS + RULE.replace("settled", "setled"), "line 6, rule 'r': when Input should be 'arrival-settled'"),
        (PACS + RULE.replace('"pacs"', '"pax"'), "there is no destination 'pax': add it or correct the name"),
        (PACS + PACS, "line 6, destination 'pacs': the name is given twice"),
        (PACS.replace("port = 104", ""), "a DICOM destination needs port"),
        (PACS.replace("104", "104000"), "port Input should be less than or equal to 65535"),
        (PACS + 'tls = { key_file = "k" }', "certificate_file and key_file go together"),
        (PACS + 'hours = { start = "25:00" }', 'hours.start write it as "HH:MM"'),
        (PACS + 'hours = { timezone = "Mars/Olympus" }', "hours.timezone there is no such time zone"),
        (PACS + "hours = { days = [] }", "hours.days"),
        (PACS + 'transfer_syntaxes = ["fast"]', "write a transfer syntax UID or one of"),
        ('[[destination]]\nname = "w"\nkind = "dicomweb"\n', "needs url"),
        (PACS + RULE + 'send = "report"', 'set when = "report-signed"'),
        (PACS + RULE + 'match.finding = "1"', 'set when = "agent-result"'),
        (
            PACS
            + 'hours = { start = "08:00", end = "09:00" }\n'
            + RULE
            + 'window = { start = "20:00", end = "21:00" }',
            "never open together",
        ),
        ("[priors]\nretrieve = 'ftp'", "line 1, priors: retrieve Input should be 'c-get' or 'c-move'"),
        ("[[priors]]", "priors"),
        ("rule = 3", "rule"),
    ],
)
def test_faults_are_named(text: str, said: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_routing(text)
    assert caught.value.code == "routing.invalid"
    assert said in caught.value.message
