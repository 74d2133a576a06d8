"""DICOM over TLS with dcmtk on the other side: who is let in, and what is refused before a byte of DICOM is read."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import KnownPeer, Peer
from polyclinic.edges.dimse.sender import Sender, send
from polyclinic.edges.dimse.tls import TlsSettings, server_context

Make = Callable[..., bytes]
pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("storescu") is None, reason="openssl or dcmtk is not installed"
)


class Authority:
    """A certificate authority of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.certificate = folder / "ca.pem"
        self._openssl("req", "-x509", *self._new_key("ca"), "-out", "ca.pem", "-subj", "/CN=Authority", "-days", "2")

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of somebody."""
        self._openssl("req", *self._new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext",
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    @staticmethod
    def _new_key(name: str) -> list[str]:
        return ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls") / "ours")
    for name in ("node", "ct1", "ct2"):
        authority.issue(name)
    return authority


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls") / "theirs")
    authority.issue("ct1")
    return authority


def certificates(authority: Authority, name: str, trusted: Authority | None = None, **more: Any) -> TlsSettings:
    return TlsSettings(
        certificate=authority.folder / f"{name}.pem",
        key=authority.folder / f"{name}.key",
        authorities=(trusted or authority).certificate,
        **more,
    )


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path / "archive")


@contextmanager
def served(archive: SqlArchive, tls: TlsSettings, *, port: int | None = 0, **policy: Any) -> Iterator[DimseNode]:
    policy = {"ae_title": "POLYCLINIC", "pdu_s": 2.0, **policy}
    node = DimseNode(archive, port=port, policy=Policy(**policy), tls=tls, tls_port=0)
    node.start()
    try:
        yield node
    finally:
        node.stop()
        assert node.open_associations == 0


def dcmtk(tool: str, node: DimseNode, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [tool, "-v", *map(str, arguments[:-1]), "127.0.0.1", str(node.tls_port), str(arguments[-1])]
    return subprocess.run(
        [part for part in command if part],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"TCP_NODELAY": "1"},
        check=False,
    )


def shows(authority: Authority, name: str, trusted: Authority | None = None) -> list[str | Path]:
    certificate, key = authority.folder / f"{name}.pem", authority.folder / f"{name}.key"
    return ["+tls", key, certificate, "+cf", (trusted or authority).certificate]


def test_dcmtk_stores_over_tls(archive: SqlArchive, ours: Authority, part10: Make, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(part10(Rows=900, Columns=700, PixelData=bytes(range(252)) * 5000))
    with served(archive, certificates(ours, "node")) as node:
        assert dcmtk("echoscu", node, *shows(ours, "ct1"), "").returncode == 0
        done = dcmtk("storescu", node, *shows(ours, "ct1"), path)
        assert done.returncode == 0, done.stderr
    (record,) = archive.instances(stable_uid("study", "1"))
    assert archive.read(record.sop_instance_uid)[-1_260_000:] == path.read_bytes()[-1_260_000:]


def test_without_a_certificate_or_with_one_of_somebody_else_nobody_comes_in(
    archive: SqlArchive, ours: Authority, theirs: Authority
) -> None:
    with served(archive, certificates(ours, "node")) as node:
        assert dcmtk("echoscu", node, "+tla", "+cf", ours.certificate, "").returncode != 0
        assert dcmtk("echoscu", node, *shows(theirs, "ct1", ours), "").returncode != 0
        plain = subprocess.run(
            ["echoscu", "127.0.0.1", str(node.tls_port)], capture_output=True, timeout=20, check=False
        )
        assert plain.returncode != 0
        assert dcmtk("echoscu", node, *shows(ours, "ct1"), "").returncode == 0


def test_a_node_that_asks_for_no_certificates_takes_clients_without(archive: SqlArchive, ours: Authority) -> None:
    tls = TlsSettings(certificate=ours.folder / "node.pem", key=ours.folder / "node.key")
    with served(archive, tls) as node:
        assert dcmtk("echoscu", node, "+tla", "+cf", ours.certificate, "").returncode == 0


@pytest.mark.parametrize(
    ("version", "ciphers", "agreed"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA", False),  # neither forward secrecy nor authenticated
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA384", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_3, "", True),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_and_weak_ciphers_are_refused(
    archive: SqlArchive, ours: Authority, version: ssl.TLSVersion, ciphers: str, agreed: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(ours.folder / "ct1.pem", ours.folder / "ct1.key")
    with (
        served(archive, certificates(ours, "node")) as node,
        socket.create_connection(("127.0.0.1", node.tls_port), 5) as plain,
    ):
        if agreed:
            with context.wrap_socket(plain) as secure:
                assert secure.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        else:
            with pytest.raises(ssl.SSLError) as refused:
                context.wrap_socket(plain)
            assert "ALERT" in str(refused.value.reason), "it is the node that refuses"


def test_we_send_over_tls_both_ways_checked(
    archive: SqlArchive, ours: Authority, theirs: Authority, part10: Make
) -> None:
    with served(archive, certificates(ours, "node"), port=None) as node:
        assert node.port == 0

        def to(tls: TlsSettings | None, host: str = "127.0.0.1") -> Peer:
            return Peer(ae_title="POLYCLINIC", host=host, port=node.tls_port, tls=tls)

        data = part10(Rows=900, Columns=700, PixelData=bytes(range(252)) * 5000)
        statuses = send([data, part10(2)], to(certificates(ours, "ct1")))
        assert [one.status for one in statuses] == [0, 0]
        with pytest.raises(Unavailable, match=r"dimse\.peer-not-trusted.*|.*certificate"):
            send([part10(3)], to(certificates(ours, "ct1", theirs)))
        with pytest.raises(Unavailable):  # TLS 1.3 tells a client of its bad certificate after the handshake
            send([part10(3)], to(certificates(theirs, "ct1", ours)))
        with pytest.raises(Unavailable, match=r"dimse\.peer-lost"):
            send([part10(3)], to(None))
    assert archive.study(stable_uid("study", "1")).instance_count == 2


def test_we_send_to_dcmtk_over_tls(ours: Authority, part10: Make, tmp_path: Path) -> None:
    received = tmp_path / "received"
    received.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    certificate, key = ours.folder / "ct2.pem", ours.folder / "ct2.key"
    command = ["storescp", "+xa", "+tls", key, certificate, "+cf", ours.certificate, "-od", received, port]
    server = subprocess.Popen([str(part) for part in command])
    try:
        to = Peer(ae_title="STORESCP", host="127.0.0.1", port=port, tls=certificates(ours, "ct1"))
        end = time.monotonic() + 10
        while True:
            try:
                with Sender(to) as sender:
                    sender.echo()
                break
            except Unavailable:
                assert time.monotonic() < end
                time.sleep(0.1)
        assert send([part10()], to)[0].status == 0
    finally:
        server.terminate()
        server.wait(10)
    (path,) = received.iterdir()
    assert dcmread(path).PatientName == "Wang^XiaoDong=王^小东"


def test_an_ae_title_belongs_to_its_certificate(archive: SqlArchive, ours: Authority) -> None:
    der = ssl.PEM_cert_to_DER_cert((ours.folder / "ct1.pem").read_text())
    known = {
        "CT1": KnownPeer(ae_title="CT1", certificates=frozenset({hashlib.sha256(der).hexdigest()})),
        "SECURE": KnownPeer(ae_title="SECURE", needs_tls=True),
        "ANY": KnownPeer(ae_title="ANY"),
    }
    with served(archive, certificates(ours, "node"), known_peers=known) as node, capture_logs() as logs:

        def echo(ae_title: str, name: str | None) -> bool:
            tls = None if name is None else certificates(ours, name)
            port = node.port if name is None else node.tls_port
            try:
                with Sender(
                    Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=port, tls=tls), ae_title=ae_title
                ) as one:
                    one.echo()
            except Unavailable as error:
                if error.code != "dimse.peer-rejected":
                    raise
                return False
            return True

        assert echo("CT1", "ct1")
        assert not echo("CT1", "ct2")
        assert not echo("CT1", None)
        assert echo("SECURE", "ct2")
        assert not echo("SECURE", None)
        assert echo("ANY", None)
    assert [entry["peer"] for entry in logs if entry["event"] == "dimse.not-itself"] == ["CT1", "CT1", "SECURE"]


def test_a_peer_that_never_shakes_hands_holds_nobody_up_and_is_let_go(archive: SqlArchive, ours: Authority) -> None:
    with served(archive, certificates(ours, "node"), pdu_s=1.0, max_associations=20) as node:
        silent = [socket.create_connection(("127.0.0.1", node.tls_port), 5) for _ in range(10)]
        silent[0].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        begun = time.monotonic()
        to = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.tls_port, tls=certificates(ours, "ct1"))
        with Sender(to) as sender:
            sender.echo()
        assert time.monotonic() - begun < 0.9
        while node.open_associations:
            assert time.monotonic() - begun < 6
            time.sleep(0.05)
        for one in silent:
            one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dimse-association"]


def test_files_that_are_no_certificates(tmp_path: Path, ours: Authority) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for settings in (
        TlsSettings(),
        TlsSettings(certificate=bad),
        TlsSettings(certificate=tmp_path / "none.pem"),
        TlsSettings(certificate=ours.folder / "node.pem", key=ours.folder / "ct1.key"),
        TlsSettings(certificate=ours.folder / "node.pem", key=ours.folder / "node.key", authorities=bad),
    ):
        with pytest.raises(Rejected, match=r"dimse\.bad-certificate"):
            server_context(settings)
