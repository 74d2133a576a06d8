"""What the page says of something that failed, and how a reader takes it up again.

The page reads answers that were changed on the way, because nothing of these studies fails; what it
asks for then goes to the real platform, which refuses: so the addresses, the token and the words are real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, Route, expect

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningPlatform, SyntheticStudy

PictureTaker = Callable[..., Path]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
expect.set_options(timeout=20_000)
STUDY = re.compile(r"/api/v1/studies/[\d.]+\?lang=")
FULL = "The disk is full: 2 GB are needed"
REFUSED = "PACS refused the association"
SIGNED_ONE = {"revision": 1, "person_name": "Demo Radiologist", "at": "2026-01-31T09:15:00Z", "sha256": "a" * 64}
DELIVERIES = [
    {"destination": "PACS", "kind": "SEG", "state": "sent", "attempts": 1, "reason": "", "key": "1"},
    {"destination": "PACS", "kind": "SR", "state": "failed", "attempts": 8, "reason": REFUSED, "key": "999999"},
]


def patched(change: Callable[[Any], Any]) -> Callable[[Route], None]:
    """Let the answer of the platform through with one thing changed."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps(change(answer.json())))

    return handle


def with_row(**fields: object) -> Callable[[Any], Any]:
    return lambda body: body | {"row": body["row"] | fields}


def test_the_worklist_tells_quietly_what_there_is_to_know(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy, picture: PictureTaker
) -> None:
    def rows(body: dict[str, Any]) -> dict[str, Any]:
        known = body["rows"][0]
        told = [
            {"state": "ready", "reason": "No agent for this study", "kept_aside": 3},
            {"state": "signed", "reason": REFUSED, "kept_aside": 0},
            {"state": "running", "reason": FULL, "kept_aside": 0},
            {"state": "failed", "reason": FULL, "kept_aside": 0},
            {"state": "ready", "reason": "", "kept_aside": 0},
        ]
        changed = [known | one | {"study_instance_uid": f"1.2.{i}"} for i, one in enumerate(told)]
        return {"rows": changed, "next_cursor": None, "total": len(changed)}

    page.route("**/api/v1/worklist?*", patched(rows))
    page.goto(platform.address)
    for i, text in enumerate(("No agent for this study", REFUSED, FULL)):
        quiet = page.locator(f'[data-uid="1.2.{i}"]').get_by_role("img", name=text)
        expect(quiet).to_be_visible()
        expect(page.get_by_text(text, exact=True).filter(visible=True)).to_have_count(1 if text == FULL else 0)
    expect(page.locator('[data-uid="1.2.3"]').get_by_text(FULL)).to_be_visible()
    expect(page.locator('[data-uid="1.2.4"]').get_by_role("img")).to_have_count(0)
    expect(page.locator('[data-uid="1.2.0"] .note.warn')).to_have_text("3")
    page.locator('[data-uid="1.2.0"]').get_by_role("img").hover()
    expect(page.get_by_role("tooltip")).to_have_text("No agent for this study")
    picture(page, "worklist-reasons")


def test_a_failed_study_is_tried_again(page: Page, platform: RunningPlatform, measured_study: SyntheticStudy) -> None:
    told = {"state": "failed", "reason": FULL}
    page.route(STUDY, patched(lambda body: body | {"row": body["row"] | told}))
    page.goto(f"{platform.address}/study/{measured_study.uid}")
    notice = page.get_by_test_id("study-notice")
    expect(notice).to_contain_text(FULL)
    with page.expect_response(re.compile(r"/studies/[\d.]+/retry$")) as answered:
        notice.get_by_role("button", name="Try again").click()
    assert answered.value.json()["code"] == "reading.nothing-failed"
    expect(page.get_by_text("This changed meanwhile")).to_be_visible()
    told.clear()
    # The page asks again by itself every 15 s; nothing had failed.
    expect(notice).to_have_count(0, timeout=40_000)


def test_a_delivery_that_failed_is_sent_again_and_earlier_reports_stay_in_sight(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy, picture: PictureTaker
) -> None:
    def signed_twice(body: dict[str, Any]) -> dict[str, Any]:
        signature = {name: SIGNED_ONE[name] for name in ("person_name", "at", "sha256")}
        both = [SIGNED_ONE, SIGNED_ONE | {"revision": 2}]
        changed = with_row(state="signed", reason=f"SR was not delivered to PACS: {REFUSED}")(body)
        return changed | {"revision": 2, "signature": signature, "signed_revisions": both}

    page.route(STUDY, patched(signed_twice))
    page.route("**/report?lang=*", patched(lambda body: body | {"state": "final", "undecided": 0}))
    page.route("**/deliveries", lambda route: route.fulfill(json=DELIVERIES))
    page.goto(f"{platform.address}/study/{measured_study.uid}")
    failed = page.locator('[data-delivery-state="failed"]')
    expect(failed).to_contain_text(REFUSED)
    expect(page.get_by_role("button", name="Send again")).to_have_count(1)
    expect(page.get_by_test_id("study-notice")).to_contain_text("SR was not delivered to PACS")
    expect(page.get_by_test_id("study-notice").get_by_role("button")).to_have_count(0)
    failed.scroll_into_view_if_needed()
    picture(page, "delivery-failed")
    with page.expect_response("**/deliveries/999999/retry") as answered:
        failed.get_by_role("button", name="Send again").click()
    assert answered.value.json()["code"] == "reading.no-delivery"
    expect(page.get_by_text("It could not be sent again.")).to_be_visible()

    earlier = page.get_by_test_id("earlier-reports").get_by_role("link")
    expect(earlier).to_have_count(1)
    expect(earlier).to_have_text("Revision 1")
    address = earlier.get_attribute("href") or ""
    assert address.endswith("/report.pdf?lang=en&revision=1")
    assert page.request.get(platform.address + address).body().startswith(b"%PDF")
    unknown = page.request.get(platform.address + address.replace("revision=1", "revision=9"))
    assert unknown.json()["code"] == "reading.no-revision"
    earlier.scroll_into_view_if_needed()
    picture(page, "signed-before")


def test_a_signed_study_without_objects_is_tried_again(
    page: Page, platform: RunningPlatform, measured_study: SyntheticStudy
) -> None:
    asked: list[str] = []
    page.route(STUDY, patched(with_row(state="signed", reason=FULL)))
    page.route("**/report?lang=*", patched(lambda body: body | {"state": "final", "undecided": 0}))
    page.route("**/retry", lambda route: (asked.append(route.request.url), route.fulfill(json={}))[1])
    page.goto(f"{platform.address}/study/{measured_study.uid}")
    expect(page.locator(".delivered")).to_contain_text("Not made yet")
    page.get_by_test_id("study-notice").get_by_role("button", name="Try again").click()
    expect(page.get_by_text("It is tried again.")).to_be_visible()
    assert [address.rsplit("/", 2)[1:] for address in asked] == [[measured_study.uid, "retry"]]
