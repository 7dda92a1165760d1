"""report.html in a real browser: on a telephone and a desk, by day and night, and on paper."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmclf.report.html import html
from tests.report.example import example, hostile

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)
WIDTHS = (390, 1280)
PAGES = ("main", "hostile", "many")
CONTRAST = Path(__file__).with_name("contrast.js")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    many = example(methods=12, labels=77)
    # Without figures that "main" has as well, for speed.
    few = tuple(replace(m, calibration=None, coverage=None) for m in many.methods[:3])
    analyses = {"main": example(), "hostile": hostile(), "many": replace(many, methods=few)}
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, analysis in analyses.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(html(analysis), encoding="utf-8")
    return found


def show(browser: webdriver.Chrome, page: Path, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}], "media": ""}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    # On a busy machine the driver comes back while the page is still being read.
    WebDriverWait(browser, 60).until(
        lambda b: b.execute_script("return document.readyState") == "complete"
    )


def open_all(browser: webdriver.Chrome) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_only_tables_scroll(browser, pages, name, width):
    show(browser, pages[name], width)
    open_all(browser)
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert wide <= inner == width
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg') "
        "&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))"
    )
    assert outside == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_refused_requested_or_run(browser, pages, name):
    show(browser, pages[name], 1280)
    assert browser.get_log("browser") == []
    requests = [
        entry["message"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert len(requests) == 1 and pages[name].as_uri() in requests[0]
    made = "return document.querySelectorAll('script, img, iframe, link, [style]').length"
    assert browser.execute_script(made) == 0
    with pytest.raises(Exception, match="no such alert"):
        _ = browser.switch_to.alert.text


def test_the_policy_is_in_force(browser, pages):
    show(browser, pages["main"], 1280)
    browser.execute_script(
        "const s = document.createElement('style'); s.textContent = 'h1 { color: red }'; "
        "document.head.append(s)"
    )
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) == 1 and "Content Security Policy" in refused[0]


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_and_scrolling_box_has_a_name(browser, pages, name):
    show(browser, pages[name], 1280)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    for role, selector in (("image", "main svg"), ("region", ".scroll")):
        named = [n for n in tree if n.get("role", {}).get("value") == role and not n["ignored"]]
        assert all(n["name"]["value"].strip() for n in named)
        shown = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility({"
            "contentVisibilityAuto: true})).length",
            selector,
        )
        assert len(named) >= shown > 0
    assert len(browser.find_elements("css selector", "h1")) == 1


def test_a_command_is_copied_with_its_lines(browser, pages):
    show(browser, pages["main"], 1280)
    open_all(browser)
    copied = browser.execute_script(
        "return [...document.querySelectorAll('pre code')].map(e => e.innerText)"
    )
    assert copied == [m.command for m in example().methods]
    assert "\n" in copied[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser, pages, scheme):
    show(browser, pages["main"], 1280, scheme)
    open_all(browser)
    checked, weak = browser.execute_script(CONTRAST.read_text())
    assert checked > 500
    assert weak == []
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    bright = sum(int(part) for part in paper[4:-1].split(",")) / 3
    assert bright > 200 if scheme == "light" else bright < 60


def test_figures_take_the_colours_of_the_page(browser, pages):
    inks = []
    for scheme in ("light", "dark"):
        show(browser, pages["main"], 1280, scheme)
        inks.append(
            browser.execute_script(
                "return [...document.querySelectorAll('svg text, svg path')]"
                ".map(e => getComputedStyle(e).fill + getComputedStyle(e).stroke)"
            )
        )
    light, dark = inks
    assert len(light) == len(dark) > 100
    same = [a for a, b in zip(light, dark, strict=True) if a == b and "rgb" in a]
    assert same == []


def test_figures_need_no_label_outside_their_box_on_a_telephone(browser, pages):
    show(browser, pages["main"], 390)
    outside = browser.execute_script(
        "return [...document.querySelectorAll('svg text')].filter(e => { "
        "const b = e.getBoundingClientRect(); return b.left < 0 || b.right > innerWidth; })"
        ".map(e => e.textContent)"
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_verdict_and_first_score_are_on_the_first_screen_of_a_telephone(browser, tmp_path, scheme):
    """Of a title and a verdict as long as they become."""
    whole = example()
    sentence = (
        "No clear winner: logistic-regression-tuned leads with macro-F1 0.548 [0.530, 0.565], but "
        "8,000 test rows, 5 folds and 3 to 5 seeds can neither tell it from lora-rank-16, few-shot "
        "or random-forest nor show that they are within 0.01 of each other; few-shot is the "
        "cheapest of these by price."
    )
    title = "Comparison of few-shot, full, head, last-2, logistic-regression, lora, majority, knn"
    page = tmp_path / "page.html"
    verdict = replace(whole.verdict, sentence=sentence, recommended=None)
    page.write_text(html(replace(whole, verdict=verdict, title=title)), encoding="utf-8")
    show(browser, page, 390, scheme)
    tops = browser.execute_script(
        "return ['h1', '.facts dd', '.facts dt'].map(s => "
        "document.querySelector(s).getBoundingClientRect().bottom)"
    )
    assert max(tops) < 600  # of 844, of which a browser takes some
    assert browser.find_element("css selector", ".facts dd").text == "0.872"


def test_on_paper_all_is_open_and_dark_becomes_light(browser, pages):
    show(browser, pages["main"], 690, "dark")  # A4 without its margins
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    closed, paper, wide = browser.execute_script(
        "return [[...document.querySelectorAll('details.block')].filter(d => "
        "d.querySelector('.scroll').getBoundingClientRect().height < 10).length, "
        "getComputedStyle(document.body).backgroundColor, document.documentElement.scrollWidth]"
    )
    assert wide <= 690
    assert closed == 0
    assert paper == "rgb(255, 255, 255)"
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    pdf = base64.b64decode(printed)
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
