"""A reading room without a hospital behind it: the JSON API and DICOMweb over a folder of DICOM files, in memory.

The page's tests use it for what a real platform cannot be brought to at will: thousands of rows, an agent that fails,
somebody else deciding first, a server that goes away. Run by hand for work on the page::

    python tests/e2e/fake_api.py FOLDER --port 8042
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

DIST = Path(__file__).resolve().parents[2] / "web" / "dist"
CSP = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SNOMED = "http://snomed.info/sct"
BULK = {"PixelData", "IconImageSequence"}
Json = dict[str, Any]


def code(value: str, display: str, system: str = SNOMED) -> Json:
    return {"system": system, "code": value, "display": display}


@dataclass
class FakeRoom:
    """State of the fake: one study with images and any number of rows without."""

    folder: Path
    rows: list[Json] = field(default_factory=list)
    findings: list[Json] = field(default_factory=list)
    runs: list[Json] = field(default_factory=list)
    objects: list[Json] = field(default_factory=list)
    signature: Json | None = None
    listeners: list[asyncio.Queue[Json]] = field(default_factory=list)
    signed_in: bool = True
    conflict_next: bool = False
    """The next decision finds that somebody else was first."""

    def __post_init__(self) -> None:
        self.datasets = sorted(
            (pydicom.dcmread(p) for p in sorted(self.folder.rglob("*.dcm"))), key=lambda d: int(d.InstanceNumber)
        )
        first = self.datasets[0]
        self.uid = str(first.StudyInstanceUID)
        self.series_uid = str(first.SeriesInstanceUID)
        self.by_sop = {str(d.SOPInstanceUID): d for d in self.datasets}
        self.metadata = [self._metadata(d) for d in self.datasets]
        self.rows.insert(0, self.row(patient_name="Wang^XiaoDong=王^小东", patient_id="P-0063"))

    @staticmethod
    def _metadata(dataset: pydicom.Dataset) -> Json:
        kept = pydicom.Dataset()
        kept.update({e.tag: e for e in dataset if e.keyword not in BULK and not e.tag.is_private})
        return {**kept.to_json_dict(suppress_invalid_tags=True), "00083002": {"vr": "UI", "Value": [str(dataset.file_meta.TransferSyntaxUID)]}}

    def row(self, **over: Any) -> Json:
        first = self.datasets[0]
        return {
            "study_instance_uid": self.uid, "patient_id": "", "patient_name": "", "birth_date": "1958-03-14", "sex": "M",
            "study_date": str(first.get("StudyDate", "") or "20240613"), "study_time": "101530", "accession_number": "A1001",
            "description": str(first.get("StudyDescription", "") or "CT CHEST LOW DOSE"), "modalities": ["CT"],
            "instance_count": len(self.datasets), "series_count": 1, "state": "ready", "step": "", "fraction": 1.0,
            "urgency": "priority", "urgency_reason": "Solid nodule of 10 mm", "reason": "", "finding_count": 0, "undecided": 0,
            "received_at": datetime.now(UTC).isoformat(), "priors": 1, "kept_aside": 0, **over,
        }  # fmt: skip

    def point_mm(self, dataset: pydicom.Dataset, column: float, row: float) -> list[float]:
        x, y, z = map(float, dataset.ImagePositionPatient)
        down, across = map(float, dataset.PixelSpacing)
        return [x + column * across, y + row * down, z]

    def add_nodule(self, number: int, outlines: list[Json], long_mm: float, kind: str, confidence: float) -> None:
        """`outlines`: one per slice, ``{"z_mm", "column_row"}`` in pixels."""
        contours, points = [], []
        for outline in outlines:
            dataset = min(self.datasets, key=lambda d: abs(float(d.ImagePositionPatient[2]) - outline["z_mm"]))
            corners = [self.point_mm(dataset, c, r) for c, r in outline["column_row"]]
            contours.append({"image": self.image(dataset), "points_mm": corners})
            points += corners
        centre = [sum(p[i] for p in points) / len(points) for i in range(3)]
        left = centre[0] > 0
        self.findings.append(self.view(
            id=f"nodule-{number}", centre=centre, contours=contours, left=left, kind=kind, confidence=confidence,
            axes=(long_mm, round(long_mm * 0.78, 1)), source={"kind": "agent", "id": "chest_ct", "version": "0.1.0"},
        ))  # fmt: skip

    @staticmethod
    def image(dataset: pydicom.Dataset) -> Json:
        return {"series_instance_uid": str(dataset.SeriesInstanceUID), "sop_class_uid": str(dataset.SOPClassUID),
                "sop_instance_uid": str(dataset.SOPInstanceUID), "frame": 1}  # fmt: skip

    def view(self, *, id: str, centre: list[float], contours: list[Json], left: bool, kind: str, confidence: float | None,
             axes: tuple[float, float], source: Json, state: str = "proposed") -> Json:  # fmt: skip
        mm = {"unit": "mm", "method": "largest axial extent"}
        finding = {
            "id": id, "study_instance_uid": self.uid, "code": code("427359005", "Solitary nodule of lung"), "source": source,
            "state": state, "body_site": code("39607008", "Lung structure"),
            "laterality": code("7771000", "Left") if left else code("24028007", "Right"),
            "region": {"frame_of_reference_uid": "1.2.3", "centre_mm": centre, "bounds_mm": None, "contours": contours, "mask": "", "segment": 0},
            "measurements": [
                {"code": code("103339001", "Long axis"), "value": axes[0], **mm},
                {"code": code("103340004", "Short axis"), "value": axes[1], **mm},
                {"code": code("118565006", "Volume"), "value": axes[0] * axes[1] ** 2 * 0.52, "unit": "mm3", "method": "voxels of the mask"},
            ],
            "attributes": [{"code": code("nodule-attenuation", "Nodule attenuation type", "urn:polyclinic:codes"),
                            "value": code(kind, kind.title(), "urn:polyclinic:codes")}],
            "confidence": confidence,
            "limits": ["Slice thickness is 2.5 mm: volume is uncertain for nodules below 6 mm"] if axes[0] < 6 else [],
            "evidence": {"images": [], "rules": [], "prior_finding_ids": []}, "note": "",
        }  # fmt: skip
        return {"finding": finding, "version": 0, "decided_by": None, "decided_at": None, "reason": ""}

    def refresh(self) -> None:
        row = self.rows[0]
        row["finding_count"] = sum(f["finding"]["state"] != "rejected" for f in self.findings)
        row["undecided"] = sum(f["finding"]["state"] == "proposed" for f in self.findings)

    def titled(self, view: Json, lang: str) -> Json:
        left = view["finding"]["laterality"]["code"] == "7771000"
        english = f"Lung nodule, {'left' if left else 'right'} lung"
        return {**view, "title": f"{'左' if left else '右'}肺结节" if lang == "zh" else english}

    def report(self, lang: str) -> Json:
        zh = lang == "zh"
        counted = [f for f in self.findings if f["finding"]["state"] in ("accepted", "edited")]
        lines = []
        for view in counted:
            f = view["finding"]
            long, short = (m["value"] for m in f["measurements"][:2])
            left = f["laterality"]["code"] == "7771000"
            text = f"{'左' if left else '右'}肺结节，{long:.1f} × {short:.1f} mm。" if zh else f"{'Left' if left else 'Right'} lung nodule measuring {long:.1f} × {short:.1f} mm."
            lines.append({"text": text, "finding_ids": [f["id"]], "rules": [], "basis": ""})
        none = {"text": "未见已确认的肺结节。" if zh else "No nodule confirmed.", "finding_ids": [], "rules": [], "basis": "normal"}
        size = max((f["finding"]["measurements"][0]["value"] for f in counted), default=0)
        advice = {"text": f"最大结节 {size:.1f} mm，建议随访。" if zh else f"Largest nodule {size:.1f} mm; follow-up is advised.",
                  "finding_ids": [f["finding"]["id"] for f in counted],
                  "rules": [{"id": "fleischner-2017", "citation": "Fleischner 2017", "result": "CT in 3 months"}] if size > 8 else [], "basis": ""}  # fmt: skip
        sections = [
            {"id": "technique", "title": "检查技术" if zh else "Technique", "sentences": [
                {"text": "胸部低剂量 CT，层厚 2.5 mm，标准重建。" if zh else "Low-dose chest CT, 2.5 mm slices, standard kernel.", "finding_ids": [], "rules": [], "basis": "acquisition"}]},
            {"id": "comparison", "title": "对比" if zh else "Comparison", "sentences": [
                {"text": "无既往检查可供对比。" if zh else "No prior study was available.", "finding_ids": [], "rules": [], "basis": "comparison"}]},
            {"id": "findings", "title": "影像所见" if zh else "Findings", "sentences": lines or [none]},
            {"id": "impression", "title": "印象" if zh else "Impression", "sentences": [advice] if counted else [none]},
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps([sections, self.findings], sort_keys=True).encode()).hexdigest()
        return {"state": "final" if self.signature else "draft", "revision": 1, "language": lang,
                "undecided": self.rows[0]["undecided"], "sections": sections, "signature": self.signature, "content_sha256": digest}  # fmt: skip

    async def tell(self, row: Json) -> None:
        event = {k: row[k] for k in ("study_instance_uid", "state", "step", "fraction")}
        for queue in self.listeners:
            await queue.put(event)


def error(status: int, code_: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code_, "message": message}, status_code=status)


def make_app(room: FakeRoom) -> Starlette:  # noqa: PLR0915 - one closure per route
    person = {"id": "p1", "name": "Dr Demo", "roles": ["radiologist"]}

    def session_json() -> Json:
        return {"person": person if room.signed_in else None, "csrf": "t0ken", "demo": True, "version": "0.1.0"}

    async def session(request: Request) -> Response:
        if request.method == "POST":
            if (await request.json()).get("password") != "correct":
                return error(401, "access.wrong", "Name or password is wrong")
            room.signed_in = True
        if request.method == "DELETE":
            room.signed_in = False
            return Response(status_code=204)
        return JSONResponse(session_json())

    async def worklist(request: Request) -> Response:
        if not room.signed_in:
            return error(401, "access.signed-out", "Sign in")
        room.refresh()
        q = request.query_params
        text, state = q.get("search", "").lower(), q.get("state", "")
        rows = [r for r in room.rows if (not state or r["state"] == state)
                and text in f"{r['patient_name']} {r['patient_id']} {r['accession_number']} {r['description']}".lower()]  # fmt: skip
        start, limit = int(q.get("cursor") or 0), int(q.get("limit", 100))
        more = start + limit < len(rows)
        return JSONResponse({"rows": rows[start : start + limit], "next_cursor": str(start + limit) if more else None, "total": len(rows)})

    async def events(_: Request) -> Response:
        queue: asyncio.Queue[Json] = asyncio.Queue()
        room.listeners.append(queue)

        async def stream() -> AsyncIterator[str]:
            yield "event: hello\ndata: {}\n\n"
            try:
                while True:
                    yield f"event: study\ndata: {json.dumps(await queue.get())}\n\n"
            finally:
                room.listeners.remove(queue)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def study(request: Request) -> Response:
        row = next((r for r in room.rows if r["study_instance_uid"] == request.path_params["uid"]), None)
        if row is None:
            return error(404, "study.unknown", "There is no such study")
        room.refresh()
        mine = row is room.rows[0]
        series = {"series_instance_uid": room.series_uid, "modality": "CT", "series_number": 3, "description": "LUNG 2.5 STD",
                  "body_part": "CHEST", "instance_count": len(room.datasets), "derived": False}  # fmt: skip
        lang = request.query_params.get("lang", "en")
        return JSONResponse({
            "row": row, "revision": 1, "evidence": "association ended, quiet for 2.0 s", "series": [series] if mine else [],
            "runs": room.runs, "findings": [room.titled(f, lang) for f in room.findings] if mine else [],
            "priors": [{"study_instance_uid": "1.2.3.4", "study_date": "20220110", "description": "CT Chest", "modalities": ["CT"]}],
            "signature": room.signature,
        })  # fmt: skip

    async def decision(request: Request) -> Response:
        if request.headers.get("x-csrf-token") != "t0ken":
            return error(403, "access.csrf", "Reload the page")
        body = await request.json()
        view = next(f for f in room.findings if f["finding"]["id"] == request.path_params["fid"])
        if room.conflict_next:
            room.conflict_next = False
            view["finding"]["state"], view["version"], view["decided_by"] = "rejected", view["version"] + 1, "Dr Other"
            view["reason"] = "vessel"
        if room.signature or body["version"] != view["version"]:
            return error(409, "reading.stale", "The finding changed; read it again")
        verb, finding = body["decision"], view["finding"]
        finding["state"] = {"accept": "accepted", "reject": "rejected", "edit": "edited", "reopen": "proposed"}[verb]
        edit = body.get("edit") or {}
        for key, index in (("long_axis_mm", 0), ("short_axis_mm", 1)):
            if key in edit:
                finding["measurements"][index]["value"] = edit[key]
        if "attenuation" in edit:
            finding["attributes"][0]["value"]["code"] = edit["attenuation"]
        finding["note"] = edit.get("note", finding["note"])
        view.update(version=view["version"] + 1, decided_by=person["name"], decided_at=datetime.now(UTC).isoformat(), reason=body.get("reason", ""))
        room.refresh()
        await room.tell(room.rows[0])
        return JSONResponse(room.titled(view, request.query_params.get("lang", "en")))

    async def add(request: Request) -> Response:
        body = await request.json()
        ends = body["long_axis"]["points_mm"]
        long = sum((a - b) ** 2 for a, b in zip(*ends, strict=True)) ** 0.5
        centre = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        view = room.view(id=f"own-{len(room.findings)}", centre=centre, contours=[], left=centre[0] > 0, kind="solid", confidence=None,
                         axes=(long, long * 0.8), source={"kind": "person", "id": "p1", "version": ""}, state="accepted")  # fmt: skip
        room.findings.append(view)
        return JSONResponse(room.titled(view, "en"))

    async def report(request: Request) -> Response:
        return JSONResponse(room.report(request.query_params.get("lang", "en")))

    async def sign(request: Request) -> Response:
        body = await request.json()
        current = room.report(body["lang"])
        if current["undecided"]:
            return error(409, "reading.undecided", "Decide every finding first")
        if current["content_sha256"] != body["content_sha256"]:
            return error(409, "reading.changed", "The report changed; read it again")
        room.signature = {"person_name": person["name"], "at": datetime.now(UTC).isoformat(), "sha256": current["content_sha256"]}
        room.rows[0]["state"] = "signed"
        room.objects = [{"kind": k, "series_instance_uid": f"2.25.{i}", "sop_instance_uid": f"2.25.{i}1", "description": d, "size_bytes": s,
                         "created_at": room.signature["at"]} for i, (k, d, s) in enumerate(
                             [("SEG", "Lungs and nodules", 410_000), ("SR", "Measurement report", 18_000), ("KO", "Key images", 4_000), ("PDF", "Report", 52_000)])]  # fmt: skip
        await room.tell(room.rows[0])
        return JSONResponse(room.report(body["lang"]))

    async def objects(_: Request) -> Response:
        return JSONResponse(room.objects)

    async def deliveries(_: Request) -> Response:
        return JSONResponse([{"destination": "PACS@archive:104", "kind": "C-STORE", "state": "sent", "attempts": 1, "reason": ""}] if room.signature else [])

    async def retry(request: Request) -> Response:
        run = next(r for r in room.runs if r["id"] == request.path_params["rid"])
        run.update(state="queued", attempt=run["attempt"] + 1, fraction=0.0, step="", reason="")
        return JSONResponse(run)

    async def metadata(_: Request) -> Response:
        return JSONResponse(room.metadata, media_type="application/dicom+json")

    async def frame(request: Request) -> Response:
        dataset = room.by_sop[request.path_params["sop"]]
        syntax = dataset.file_meta.TransferSyntaxUID
        pixels = next(pydicom.encaps.generate_frames(dataset.PixelData)) if syntax.is_compressed else dataset.PixelData
        body = f"--b\r\nContent-Type: application/octet-stream; transfer-syntax={syntax}\r\n\r\n".encode() + pixels + b"\r\n--b--\r\n"
        return Response(body, media_type=f'multipart/related; type="application/octet-stream"; transfer-syntax={syntax}; boundary=b')

    async def page(request: Request) -> Response:
        file = (DIST / request.path_params["path"]).resolve()
        inside = file.is_relative_to(DIST) and file.is_file()
        return FileResponse(file if inside else DIST / "index.html")

    async def headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CSP
        return response

    api, s = "/api/v1", "/api/v1/studies/{uid}"
    wado = "/dicom-web/studies/{uid}/series/{series}"
    return Starlette(middleware=[Middleware(BaseHTTPMiddleware, dispatch=headers)], routes=[
        Route(f"{api}/session", session, methods=["GET", "POST", "DELETE"]), Route(f"{api}/worklist", worklist), Route(f"{api}/events", events),
        Route(s, study), Route(f"{s}/findings/{{fid}}/decision", decision, methods=["POST"]), Route(f"{s}/findings", add, methods=["POST"]),
        Route(f"{s}/report", report), Route(f"{s}/report/sign", sign, methods=["POST"]), Route(f"{s}/objects", objects),
        Route(f"{s}/deliveries", deliveries), Route(f"{s}/runs/{{rid}}/retry", retry, methods=["POST"]),
        Route(f"{wado}/metadata", metadata), Route(f"{wado}/instances/{{sop}}/frames/{{n}}", frame), Route("/{path:path}", page),
    ])  # fmt: skip


def furnish(room: FakeRoom, nodules: Path | None, many: int) -> None:
    """Findings, runs and a believable worklist."""
    kinds = ["solid", "part-solid", "ground-glass", "calcified"]
    known = json.loads(nodules.read_text()) if nodules else {}
    truth = next((v["nodules"] for v in known.values() if v["series_instance_uid"] == room.series_uid), [])
    for i, nodule in enumerate(truth):
        mark = nodule["annotations"][0]
        room.add_nodule(i + 1, mark["contours"], mark["largest_axial_diameter_mm"], kinds[i % 2], 0.94 - 0.13 * i)
    middle = room.datasets[len(room.datasets) // 2]
    ball = {"z_mm": float(middle.ImagePositionPatient[2]), "column_row": [[150, 250], [155, 248], [158, 252], [155, 257], [150, 255]]}
    room.add_nodule(len(truth) + 1, [ball], 5.2, "ground-glass", 0.41)
    room.runs = [
        {"id": "r1", "agent_id": "chest_ct", "agent_version": "0.1.0", "agent_title": "Chest CT", "state": "done", "step": "", "fraction": 1.0, "attempt": 1,
         "reason": "", "series_instance_uid": room.series_uid, "facts": [{"name": "Emphysema (LAA-950)", "value": "3.1 %"}, {"name": "Lung volume", "value": "5,120 mL"}],
         "not_assessed": ["Coronary calcium"], "seconds": [["read", 1.2], ["lungs", 2.1], ["nodules", 3.4]]},
        {"id": "r2", "agent_id": "bone", "agent_version": "0.2.0", "agent_title": "Vertebrae", "state": "abstained", "step": "", "fraction": 1.0, "attempt": 1,
         "reason": "The series does not cover the lumbar spine.", "series_instance_uid": room.series_uid, "facts": [], "not_assessed": [], "seconds": []},
    ]  # fmt: skip
    names = ["Müller^Anna", "Zhang^Wei=张^伟", "O'Brien^Séan", "Li^Na=李^娜", "<b>Bold</b>^Eve", "Yamada^Tarou=山田^太郎=やまだ^たろう", "García López^María"]
    states = [("running", "Nodules: refine candidates", 0.62), ("arriving", "87 images", 0.0), ("settling", "Quiet for 1.2 s", 0.5), ("failed", "", 0.4),
              ("ready", "", 1.0), ("signed", "", 1.0), ("delivered", "", 1.0)]  # fmt: skip
    now = datetime.now(UTC)
    for i in range(many):
        state, step, fraction = states[i % len(states)]
        found = state in ("ready", "signed", "delivered")
        room.rows.append(room.row(
            study_instance_uid=f"1.2.826.0.1.{i + 1}", patient_name=names[i % len(names)], patient_id=f"P-{i + 100:04}", sex="MF"[i % 2],
            birth_date=f"{1940 + i % 60}-05-17", state=state, step=step, fraction=fraction, description=["CT CHEST LOW DOSE", "CT THORAX ROUTINE"][i % 2],
            urgency=["routine", "routine", "stat", "priority"][i % 4], urgency_reason=["", "", "Ordered as emergency", "Nodule of 12 mm"][i % 4],
            finding_count=i % 5 if found else 0, undecided=i % 3 if state == "ready" else 0, priors=i % 3, kept_aside=i % 11 // 10, instance_count=133 + i % 200,
            reason="The agent stopped answering three times (worker lost)" if state == "failed" else "", received_at=(now - timedelta(minutes=7 * i)).isoformat(),
        ))  # fmt: skip
    room.refresh()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodules", type=Path)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--port", type=int, default=8042)
    options = parser.parse_args()
    room = FakeRoom(options.folder)
    furnish(room, options.nodules, options.rows)
    uvicorn.run(make_app(room), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
