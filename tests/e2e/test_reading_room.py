"""A radiologist's way through the page on the real platform: worklist, images, decisions, report, signature."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningPlatform, SyntheticStudy

PictureTaker = Callable[..., Path]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
READY_MS = 240_000
expect.set_options(timeout=20_000)


def row(page: Page, study: SyntheticStudy) -> Locator:
    return page.locator(f'[data-uid="{study.uid}"]')


def findings(page: Page) -> Locator:
    return page.locator("[data-finding]")


def selected(page: Page) -> Locator:
    return page.locator('[data-finding][aria-current="true"]')


def wait_for_stack(page: Page) -> None:
    page.wait_for_selector('[data-testid="stack"][data-ready="true"]', timeout=60_000)


def open_study(page: Page, platform: RunningPlatform, study: SyntheticStudy) -> None:
    platform.wait_until(study.uid, "ready")
    page.goto(f"{platform.address}/study/{study.uid}")
    wait_for_stack(page)


def slice_index(page: Page) -> int:
    return int(page.locator('[data-testid="stack"]').get_attribute("data-index") or -1)


def shows_an_image(page: Page, taken: Path, area: str) -> bool:
    """Whether that part of the screenshot holds many grey values."""
    box = page.locator(area).bounding_box()
    assert box is not None
    corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    with Image.open(taken) as picture:
        histogram = picture.convert("L").crop(tuple(map(int, corners))).histogram()
    return sum(count > 20 for count in histogram) > 60


def test_a_study_arrives_before_the_readers_eyes(
    page: Page, platform: RunningPlatform, english_study: SyntheticStudy, picture: PictureTaker
) -> None:
    page.goto(platform.address)
    expect(page.get_by_text("No studies yet")).to_be_visible()

    platform.send(english_study.folder)
    in_work = page.locator(
        f'[data-uid="{english_study.uid}"]:is([data-row-state="settling"], [data-row-state="running"])'
    )
    expect(in_work).to_be_visible()
    expect(in_work.get_by_role("progressbar")).to_be_visible()
    ready = page.locator(f'[data-uid="{english_study.uid}"][data-row-state="ready"]')
    expect(ready).to_be_visible(timeout=READY_MS)
    expect(ready).to_contain_text(re.compile(r"\d+ open"))
    picture(page, "worklist-one")


def test_reads_decides_and_signs_by_keyboard(
    page: Page, platform: RunningPlatform, english_study: SyntheticStudy, picture: PictureTaker
) -> None:
    page.goto(platform.address)
    row(page, english_study).wait_for(timeout=READY_MS)
    platform.wait_until(english_study.uid, "ready")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    wait_for_stack(page)
    assert findings(page).count() >= 2, "the agent proposes something to decide"
    assert selected(page).count() == 1
    mark = page.locator('[data-mark][data-selected="true"]')
    expect(mark.first).to_be_attached()
    assert shows_an_image(page, picture(page, "study-opened"), '[data-testid="stack"]')

    first = selected(page).get_attribute("data-finding")
    page.keyboard.press("a")
    accepted = page.locator(f'[data-finding="{first}"]')
    expect(accepted).to_have_attribute("data-state", "accepted")
    expect(selected(page)).not_to_have_attribute("data-finding", first or "")
    expect(page.locator(f'[data-section="findings"] [data-chip="{first}"]').first).to_be_visible()

    second = selected(page).get_attribute("data-finding")
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="1 Vessel")).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator(f'[data-finding="{second}"]')).to_have_attribute("data-state", "rejected")
    expect(page.locator(f'[data-chip="{second}"]')).to_have_count(0)

    page.goto(f"{platform.address}/study/{english_study.uid}?finding={first}")
    wait_for_stack(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("17.3")
    page.keyboard.press("Enter")
    expect(page.locator(f'[data-finding="{first}"]')).to_have_attribute("data-state", "edited")
    expect(page.locator('[data-section="findings"]')).to_contain_text("17.3")
    expect(page.locator('.thumbnail[data-drawn="true"]')).to_be_attached()
    picture(page, "study", documentation=True)

    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_contain_text("still undecided")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    decide_the_rest(page)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_contain_text("17.3")
    expect(page.get_by_test_id("sign-confirm")).to_be_enabled()
    picture(page, "sign")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Signed by Demo Radiologist")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)

    page.keyboard.press("a")
    expect(page.get_by_text("The report is signed")).to_be_visible()


def decide_the_rest(page: Page) -> None:
    for _ in range(60):
        if page.locator('[data-finding][data-state="proposed"]').count() == 0:
            return
        if selected(page).get_attribute("data-state") != "proposed":
            page.locator('[data-finding][data-state="proposed"] button').first.click()
            expect(selected(page)).to_have_attribute("data-state", "proposed")
        before = page.locator('[data-finding][data-state="proposed"]').count()
        page.keyboard.press("a")
        expect(page.locator('[data-finding][data-state="proposed"]')).to_have_count(before - 1)
    pytest.fail("findings stay undecided")


def test_a_signed_report_outlives_reload_and_leaves_the_house(
    page: Page, platform: RunningPlatform, english_study: SyntheticStudy, picture: PictureTaker, tmp_path: Path
) -> None:
    page.goto(f"{platform.address}/study/{english_study.uid}")
    wait_for_stack(page)
    expect(page.locator('[data-report-state="final"]')).to_contain_text("17.3")
    expect(page.get_by_text("Signed by Demo Radiologist")).to_be_visible()
    expect(page.get_by_role("button", name="Sign report")).to_have_count(0)
    for kind in ("SEG", "SR", "KO", "PDF"):
        expect(page.locator(f'[data-object="{kind}"]').first).to_be_visible(timeout=60_000)
    expect(page.locator(".delivered").get_by_text("Sent").first).to_be_visible(timeout=60_000)
    picture(page, "signed")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download SR").first.click()
    kept = tmp_path / "sr.dcm"
    downloading.value.save_as(kept)
    assert pydicom.dcmread(kept).StudyInstanceUID == english_study.uid


def test_reads_in_chinese_while_another_window_looks_on(
    page: Page,
    context: BrowserContext,
    platform: RunningPlatform,
    chinese_study: SyntheticStudy,
    other_patients: list[SyntheticStudy],
    picture: PictureTaker,
) -> None:
    for study in other_patients:
        platform.send(study.folder)
    platform.send(chinese_study.folder)
    for study in other_patients[:2]:
        platform.wait_until(study.uid, "ready")
    page.goto(platform.address)
    expect(row(page, chinese_study)).to_be_visible()
    page.wait_for_timeout(1000)
    picture(page, "worklist", documentation=True)
    open_study(page, platform, chinese_study)
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(page.locator('[data-section="technique"]')).to_contain_text("层厚")
    expect(page.locator('[data-section="impression"] h3')).to_have_text(re.compile("印象"))
    assert english_words(page.locator(".decide .panel-head, .finding-title, .finding-state, .toolbar")) == set()

    other = context.new_page()
    other.goto(f"{platform.address}/study/{chinese_study.uid}")
    wait_for_stack(other)
    first = selected(page).get_attribute("data-finding")
    page.bring_to_front()
    page.keyboard.press("a")
    expect(other.locator(f'[data-finding="{first}"]')).to_have_attribute("data-state", "accepted")
    other.close()

    page.locator(f'[data-chip="{first}"]').first.click()
    expect(page.locator(f'[data-finding="{first}"]')).to_have_attribute("aria-current", "true")
    page.keyboard.press("u")
    expect(page.locator(f'[data-finding="{first}"]')).to_have_attribute("data-state", "proposed")
    picture(page, "study-zh")
    decide_the_rest(page)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_contain_text("签署报告")
    expect(page.get_by_test_id("sign-confirm")).to_be_enabled()
    page.keyboard.press("Enter")
    expect(page.get_by_text("签署人")).to_be_visible()
    page.reload()
    expect(page.get_by_text("签署人")).to_be_visible()


def english_words(parts: Locator) -> set[str]:
    words = " ".join(parts.all_inner_texts())
    return set(re.findall(r"[A-Za-z]{3,}", words)) - {"PDF", "MPR", "Enter"}


def test_tells_when_somebody_else_was_first(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy
) -> None:
    open_study(page, platform, measured_study)
    first = selected(page).get_attribute("data-finding")
    stale = page.request.get(f"{platform.address}/api/v1/studies/{measured_study.uid}?lang=en").text()
    # The page keeps reading the past, as it does for a moment in a busy hospital.
    address = re.compile(r"/api/v1/studies/[\d.]+\?lang=en$")
    page.route(address, lambda route: route.fulfill(body=stale, content_type="application/json"))
    decide(page, platform, measured_study, first or "", "reject")
    page.keyboard.press("a")
    expect(page.get_by_text("Somebody else decided this first")).to_be_visible()
    page.unroute(address)
    # The page asks again by itself every 15 s.
    expect(page.locator(f'[data-finding="{first}"]')).to_have_attribute("data-state", "rejected", timeout=40_000)


def decide(page: Page, platform: RunningPlatform, study: SyntheticStudy, finding_id: str, decision: str) -> None:
    session = page.request.get(f"{platform.address}/api/v1/session").json()
    answer = page.request.post(
        f"{platform.address}/api/v1/studies/{study.uid}/findings/{finding_id}/decision",
        headers={"X-CSRF-Token": session["csrf"], "Origin": platform.address},
        data={"decision": decision, "version": 0},
    )
    assert answer.ok, answer.text()


def test_scrolls_windows_and_cuts_planes(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy, picture: PictureTaker
) -> None:
    open_study(page, platform, measured_study)
    page.keyboard.press("Home")
    expect(page.locator('[data-testid="stack"]')).to_have_attribute("data-index", "0")
    page.keyboard.press("PageDown")
    expect(page.locator('[data-testid="stack"]')).to_have_attribute("data-index", "1")
    page.locator('[data-testid="stack"]').hover()
    page.mouse.wheel(0, 120)
    expect(page.locator('[data-testid="stack"]')).to_have_attribute("data-index", "2")
    page.keyboard.press("End")
    expect(page.locator('[data-testid="stack"]')).to_have_attribute("data-index", str(measured_study.images - 1))
    page.keyboard.press("3")
    expect(page.locator(".corner.br")).to_contain_text("W 2000")
    loaded = page.locator(f'.slicebar .here[data-loaded="{measured_study.images}"]')
    expect(loaded).to_be_attached(timeout=60_000)

    page.keyboard.press("n")
    page.keyboard.press("v")
    page.wait_for_selector('[data-testid="mpr"][data-ready="true"]')
    for plane in ("Axial", "Coronal", "Sagittal"):
        expect(page.get_by_text(plane, exact=True)).to_be_visible()
    expect(page.locator('.mpr [data-mark][data-selected="true"]')).to_have_count(3)
    page.keyboard.press("1")
    page.wait_for_timeout(1500)
    taken = picture(page, "mpr", documentation=True)
    for plane in ("axial", "coronal", "sagittal"):
        assert shows_an_image(page, taken, f'[data-plane="{plane}"]'), plane
    page.keyboard.press("v")
    wait_for_stack(page)


def test_a_measurement_becomes_the_readers_own_finding(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy, picture: PictureTaker
) -> None:
    open_study(page, platform, measured_study)
    before = findings(page).count()
    page.keyboard.press("m")
    expect(page.get_by_text("Draw the long and short axis")).to_be_visible()
    page.keyboard.press("b")
    box = page.locator('[data-testid="stack"]').bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.down()
    page.mouse.move(x, y + 4, steps=4)
    page.mouse.move(x + 30, y + 8, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    picture(page, "measuring")
    page.keyboard.press("m")
    expect(findings(page)).to_have_count(before + 1)
    expect(selected(page)).to_have_attribute("data-state", "accepted")
    expect(selected(page)).to_contain_text("Reader")
    picture(page, "own-finding")


def patched(change: Callable[[Any], Any]) -> Callable[[Route], None]:
    """Let the answer of the platform through with one thing changed."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps(change(answer.json())))

    return handle


def test_thousands_of_rows_scroll_and_names_stay_text(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy, picture: PictureTaker
) -> None:
    def many(body: dict[str, Any]) -> dict[str, Any]:
        known = body["rows"][0]
        name, markup = "Wang^<b>Eve</b>=王^小东", "<img src=x onerror=document.title='run'>"
        rows = [
            known | {"study_instance_uid": f"1.2.{i}", "patient_name": name, "description": markup, "urgency": "stat"}
            for i in range(5000)
        ]
        return {"rows": rows, "next_cursor": None, "total": len(rows)}

    page.route("**/api/v1/worklist?*", patched(many))
    page.goto(platform.address)
    expect(page.get_by_text("5000 studies")).to_be_visible()
    expect(page.locator("[data-uid]").first).to_contain_text("王小东")
    expect(page.locator("[data-uid]").first).to_contain_text("<b>Eve</b>")
    expect(page.locator("[data-uid]").first).to_contain_text("<img src=x")
    assert page.locator("[data-uid]").count() < 100
    page.locator(".worklist-scroll").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(page.locator('[data-uid="1.2.4999"]')).to_be_visible()
    assert page.title() == "Polyclinic"
    picture(page, "worklist-long")


def test_failed_and_abstained_runs_say_why_and_run_again(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy
) -> None:
    def failed(body: dict[str, Any]) -> dict[str, Any]:
        run = body["runs"][0]
        abstained = run | {"id": "other", "state": "abstained", "reason": "This is no chest CT."}
        return body | {"runs": [run | {"state": "failed", "reason": "The worker stopped in the middle."}, abstained]}

    asked: list[str] = []
    page.route(re.compile(r"/api/v1/studies/[\d.]+\?lang="), patched(failed))
    page.route("**/retry", lambda route: (asked.append(route.request.url), route.fulfill(json={}))[1])
    open_study(page, platform, measured_study)
    broken = page.locator('[data-run-state="failed"]')
    expect(broken).to_contain_text("The worker stopped in the middle.")
    expect(page.locator('[data-run-state="abstained"]')).to_contain_text("This is no chest CT.")
    broken.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("The agent runs again.")).to_be_visible()
    assert len(asked) == 1


def test_empty_search_broken_list_and_unknown_study_are_told(page: Page, platform: RunningPlatform) -> None:
    page.goto(platform.address)
    expect(page.locator("[data-uid]").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("nobody has this name")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear search and filter").click()
    expect(page.get_by_text("Nothing matches")).to_have_count(0)

    page.goto(f"{platform.address}/study/1.2.3")
    expect(page.get_by_text("This study does not exist")).to_be_visible()

    page.route("**/api/v1/worklist?*", lambda route: route.abort())
    page.goto(platform.address)
    expect(page.get_by_text("The worklist could not be read.")).to_be_visible(timeout=20_000)
    page.unroute("**/api/v1/worklist?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("[data-uid]").first).to_be_visible()


def test_signed_out_means_sign_in_and_back(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy
) -> None:
    nobody = {"person": None, "csrf": None, "demo": False, "version": "0"}
    page.route("**/api/v1/session", lambda route: route.fulfill(json=nobody))
    page.goto(f"{platform.address}/study/{measured_study.uid}")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    refusal = {"code": "access.wrong", "message": "no"}
    page.route("**/api/v1/session", lambda route: route.fulfill(json=refusal, status=401))
    page.get_by_label("Name").fill("reader")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Name or password is wrong.")).to_be_visible()
    page.unroute("**/api/v1/session")
    page.keyboard.press("Enter")
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
