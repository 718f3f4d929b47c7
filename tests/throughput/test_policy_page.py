"""The operators' page in a real browser: what it shows, on a phone, in the dark, and what it may load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from serving import BASE, FakeBroker, Served, calm, fake_broker, quick_policy, served
from workspaces import give_up, wait_for

OPERATE = "o" * 24


@pytest.fixture(scope="module")
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as one:
        yield one


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, broker: FakeBroker) -> Iterator[Served]:
    environment = {"STAGING_POLICY_TOKENS": f"ann operate {OPERATE}"}
    policy = quick_policy(broker.url, max_age_s=1.2)
    with served(tmp_path_factory.mktemp("page"), policy, environment=environment) as one:
        one.token = OPERATE
        wait_for(lambda: not one.status()["fail_safe"])
        yield one


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed; it is one of the extras test")
    if not program:
        give_up("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture
def phone(chromium: Any, api: Served) -> Iterator[Any]:
    """A page of a phone's size that is logged in; it fails the test when anything foreign is asked for or refused."""
    context = chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(api.url)
    page.wait_for_selector("#login:not([hidden])", timeout=20_000)
    problems.clear()  # the browser tells of the 401 that asked for the token
    page.fill("#token", OPERATE)
    page.click("#login button")
    page.wait_for_selector("#shown:not([hidden])", timeout=20_000)
    yield page
    assert [url for url in asked if not url.startswith((api.url, "data:"))] == []
    assert problems == []
    context.close()


def text_of(page: Any, selector: str, wanted: str) -> None:
    page.wait_for_function(
        "([where, what]) => document.querySelector(where).innerText.includes(what)", arg=[selector, wanted],
        timeout=20_000,
    )  # fmt: skip


def test_it_shows_state_classes_queues_override_and_audit(phone: Any, api: Served) -> None:
    """TP-03: the operators' page shows everything that the API knows, and names are text and not markup."""
    calm(api)
    text_of(phone, "#state", "No policy is active")
    wanted = {"preset": "conservative", "ttl_seconds": 600, "reason": "<img src=x onerror=alert(1)>"}
    api.call("PUT", "override", wanted)
    text_of(phone, "#state", "Override: conservative")
    text_of(phone, "#override", "left, by ann")
    text_of(phone, "#classes", "heavy")
    text_of(phone, "#queues", "jobs.quick")
    text_of(phone, "#audit", "<img src=x onerror=alert(1)>")
    assert phone.locator("#audit img").count() == 0
    rows = phone.locator("#classes tbody tr").all_inner_texts()
    assert "deferred" in rows[1]
    api.call("DELETE", "override")
    text_of(phone, "#state", "No policy is active")


def test_it_can_be_read_on_a_phone_in_the_dark(phone: Any) -> None:
    """TP-03: nothing is wider than the screen, and the colours follow the reader's."""
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    style = "getComputedStyle(document.body)"
    back, text = phone.evaluate(f"[{style}.backgroundColor, {style}.color]")
    assert (back, text) == ("rgb(20, 23, 27)", "rgb(232, 235, 238)")
    phone.emulate_media(color_scheme="light")
    assert phone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"


def test_fail_safe_is_what_one_sees_first(phone: Any, broker: FakeBroker) -> None:
    """TP-02: the operator is told why."""
    broker.status = 503
    text_of(phone, "#state", "Fail-safe")
    text_of(phone, "#why", "answered 503")
    broker.status = 200
    text_of(phone, "#state", "No policy is active")


def test_nothing_but_its_own_files_may_run(api: Served) -> None:
    """TP-03: the page's policy allows no foreign and no inline script, and no frame around it."""
    with api.client() as client:
        page = client.get("/")
        rules = page.headers["content-security-policy"]
        assert "default-src 'none'" in rules
        assert "script-src 'self';" in rules
        assert "frame-ancestors 'none'" in rules
        assert "unsafe" not in rules
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in client.get(f"{BASE}/status").headers
