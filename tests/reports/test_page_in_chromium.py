"""report.html in a real browser: what a person does with it. One browser for all tests of this module."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from pytest_gpueval.reports.session_page import CasePage, Given, page
from tests.chromium import chromium
from tests.reports import pages


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(pages.record(), pages.cases(), redact=pages.redact), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, file):
    """The page on its overview, wide and light; afterwards nothing was said on the console, and nothing was asked of a network."""
    show(browser)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"].partition("#")[0] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("about:")} <= {file.as_uri()}
    assert browser.execute_script("return window.evil") is None


def show(browser, width=1280, height=900, *, dark=False, media=""):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})


def until(browser, condition, what="something"):
    return WebDriverWait(browser, 20, 0.02).until(lambda _: condition(), what)


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, f".view.here {selector}")


def case(browser, number):
    """Go to a case, and wait for its samples."""
    Select(browser.find_element(By.ID, "jump")).select_by_value(f"case-{number}")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".view.here .item:first-child .pill, .view.here .detail h4")) == 2, "samples")


def told(browser):
    return one(browser, "output").text


def filtered(browser, words):
    until(browser, lambda: told(browser) == words, f"{words}, not {told(browser)}")


def listed(browser, column=2):
    """The texts of a column of the samples that are in the page, from the top."""
    items = "[...document.querySelectorAll('.view.here .item')].sort((a, b) => a.dataset.place - b.dataset.place)"
    return browser.execute_script(f"return {items}.map(item => item.children[{column - 1}].textContent)")


def detail(browser):
    return one(browser, ".detail").text


def test_the_overview_comes_first_and_leads_to_cases_and_back(opened):
    assert [view.get_attribute("id") for view in opened.find_elements(By.CSS_SELECTOR, ".view") if view.is_displayed()] == ["overview"]
    assert "4 of 4" not in opened.find_element(By.CSS_SELECTOR, ".tiles").text
    assert "2 of 4" in opened.find_element(By.CSS_SELECTOR, ".tiles").text
    opened.find_element(By.LINK_TEXT, "classes-fast").click()
    until(opened, lambda: one(opened, "h2").text == "classes-fast")
    opened.find_element(By.ID, "after").click()
    until(opened, lambda: one(opened, "h2").text.startswith("answers"))
    opened.back()
    until(opened, lambda: one(opened, "h2").text == "classes-fast")
    Select(opened.find_element(By.ID, "jump")).select_by_value("overview")
    until(opened, lambda: one(opened, "h2").text == "Cases")


def test_tables_sort_by_a_click_and_say_so(opened):
    head = one(opened, "#cases th button")
    names = lambda: [cell.text[:5] for cell in opened.find_elements(By.CSS_SELECTOR, "#cases tbody th")]  # noqa: E731
    assert names() == ["spans", "class", "answe", "none-"]
    head.click()
    assert names() == ["answe", "class", "none-", "spans"]
    head.click()
    assert names() == ["spans", "none-", "class", "answe"]
    assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def test_samples_are_searched_filtered_and_sorted(opened):
    case(opened, 0)
    assert told(opened) == "3,000 of 3,000"
    assert len(listed(opened)) < 60, "only what is seen is in the page"
    outcome, label, search = Select(one(opened, "[aria-label=Outcome]")), Select(one(opened, "[aria-label=Label]")), one(opened, "input[type=search]")
    assert [option.text for option in outcome.options] == ["All outcomes", "right (2,698)", "wrong (300)", "error (1)", "skipped (1)"]
    outcome.select_by_visible_text("wrong (300)")
    filtered(opened, "300 of 3,000")
    label.select_by_visible_text("PERSON")
    filtered(opened, "299 of 3,000")
    label.select_by_visible_text("DATE")  # which is never wrong
    filtered(opened, "0 of 3,000")
    assert "No sample fits" in one(opened, ".rows").text
    one(opened, ".tools button").click()
    filtered(opened, "3,000 of 3,000")
    search.send_keys("ROW 2345.")
    filtered(opened, "1 of 3,000")
    until(opened, lambda: "doc-02345" in detail(opened))
    assert "sample 2,346" in detail(opened)
    one(opened, ".tools button").click()
    filtered(opened, "3,000 of 3,000")
    one(opened, "[data-by=ms] button").click()
    assert listed(opened, 5)[:2] == ["900 ms", "54 ms"], "the slowest first"
    one(opened, "[data-by=id] button").click()
    one(opened, "[data-by=id] button").click()
    assert one(opened, "[data-by=id]").get_attribute("aria-sort") == "descending"
    until(opened, lambda: listed(opened)[1] == "doc-02999", "sorted by id")


def test_a_sample_shows_what_was_found_missed_and_false(opened):
    case(opened, 0)
    marks = lambda: {(mark.get_attribute("class"), mark.text) for mark in opened.find_elements(By.CSS_SELECTOR, ".view.here .detail mark")}  # noqa: E731
    until(opened, lambda: marks() == {("both", "Ada"), ("missed", " Lovelace"), ("hit", "1800")}, "offsets count characters, smileys as one")
    rows = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in opened.find_elements(By.CSS_SELECTOR, ".view.here .detail tbody tr")]
    assert rows == [
        ["false", "PERSON", "Ada", "0–3", "0.55"],
        ["missed", "PERSON", "Ada Lovelace", "0–12", "–"],
        ["found", "DATE", "1800", "23–27", "0.80"],
    ]
    search = one(opened, "input[type=search]")
    for name, words in (("doc-00005", "no answer"), ("doc-00006", "a bad row"), ("doc-00007", "<redacted>")):
        search.clear()
        search.send_keys(name)
        until(opened, lambda name=name, words=words: name in detail(opened) and words in detail(opened), name)


def test_the_keyboard_is_enough(opened):
    case(opened, 0)
    opened.find_element(By.TAG_NAME, "body").send_keys("/")
    assert opened.switch_to.active_element == one(opened, "input[type=search]")
    opened.switch_to.active_element.send_keys("x", Keys.BACKSPACE)
    filtered(opened, "3,000 of 3,000")
    for _ in range(8):  # outcome, label, (clear), five headers, the list
        opened.switch_to.active_element.send_keys(Keys.TAB)
    assert opened.switch_to.active_element == one(opened, ".rows")
    opened.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    until(opened, lambda: "doc-00001" in detail(opened))
    opened.switch_to.active_element.send_keys(Keys.END)
    until(opened, lambda: "doc-02999" in detail(opened))
    active = one(opened, ".rows").get_attribute("aria-activedescendant")
    assert opened.find_element(By.ID, active).get_attribute("aria-selected") == "true"
    opened.switch_to.active_element.send_keys(Keys.PAGE_UP)
    until(opened, lambda: "doc-029" in detail(opened) and "doc-02999" not in detail(opened))
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert opened.switch_to.active_element == one(opened, ".detail")
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert opened.switch_to.active_element == one(opened, ".rows")


def test_a_cell_of_the_confusion_matrix_lists_its_samples(opened):
    case(opened, 1)
    opened.find_element(By.CSS_SELECTOR, ".view.here .matrix [data-gold*=bad][data-predicted*=odd] button").click()
    until(opened, lambda: told(opened).startswith("10 of 40: bad taken for odd"), "the cell's samples")
    assert "confidence" in detail(opened)
    one(opened, ".tools button").click()
    filtered(opened, "40 of 40")


def test_samples_that_changed_most_are_one_click_away(opened):
    case(opened, 0)
    assert "-0.040 [-0.050, -0.030]" in opened.find_element(By.CSS_SELECTOR, ".view.here [aria-label=Comparison]").text
    opened.find_element(By.CSS_SELECTOR, ".view.here [data-sample*=doc-00020] button").click()
    until(opened, lambda: "doc-00020" in detail(opened))


def test_curves_of_one_label_are_chosen_with_the_keyboard(opened):
    case(opened, 0)
    until(opened, lambda: opened.find_elements(By.CSS_SELECTOR, ".view.here [data-curves] select"), "the choice of labels")
    choice = one(opened, "[data-curves] select")
    assert choice.get_attribute("aria-label") == "Label of the curves"
    assert [option.text for option in Select(choice).options] == ["All labels", "PERSON", "DATE"], "the third has one prediction"
    figures = lambda: [part.text for part in opened.find_elements(By.CSS_SELECTOR, ".view.here [data-curves] figure") if part.is_displayed()]  # noqa: E731
    (whole,) = figures()
    assert "Precision and recall over the threshold\nIf only predictions with this score or more counted, all labels together." in whole
    opened.execute_script("arguments[0].focus()", choice)
    choice.send_keys(Keys.ARROW_DOWN)
    until(opened, lambda: "threshold: PERSON\nIf only predictions of this label" in figures()[0])
    plot = "[data-curves] figure:not([hidden]) .plot"
    drawn = lambda: [line.get_attribute("points").split() for line in opened.find_elements(By.CSS_SELECTOR, f".view.here {plot} .line")]  # noqa: E731
    ends = lambda: [(line[0], line[-1]) for line in drawn()]  # noqa: E731
    # Scores 0.55, all false, and 0.9, all right: precision 2,698/2,997 and 1.
    assert [len(line) for line in drawn()] == [2, 2, 2]
    assert ends()[0] == ("44.0,31.9", "628.0,10.0")
    assert [tick.text for tick in opened.find_elements(By.CSS_SELECTOR, f".view.here {plot} .tick")][-5:][::4] == ["0.550", "0.900"]
    choice.send_keys(Keys.ARROW_DOWN)
    until(opened, lambda: "threshold: DATE" in figures()[0])
    assert ends()[0] == ("44.0,10.0", "628.0,10.0")
    choice.send_keys(Keys.HOME)
    until(opened, lambda: figures() == [whole])
    case(opened, 1)
    until(opened, lambda: opened.find_elements(By.CSS_SELECTOR, ".view.here [data-curves] select"), "the choice of labels")
    Select(one(opened, "[data-curves] select")).select_by_visible_text("good")
    until(opened, lambda: "Precision and recall over the confidence: good" in figures()[0])
    assert [key.text for key in opened.find_elements(By.CSS_SELECTOR, ".view.here figure:not([hidden]) .key")] == ["precision", "recall", "F1"]


def test_a_hostile_label_of_curves_stays_text(browser, tmp_path):
    collector = pages.collector("span_detection")
    for number in range(40):
        gold = [(0, 4, pages.LABELS[1])]
        collector.add(pages.span_record(str(number), gold, [(*gold[0], number / 40)]), Given("text", gold))
    (tmp_path / "report.html").write_text(page(pages.record(), [CasePage(pages.row("evil"), samples=collector.done())]), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    case(browser, 0)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".view.here [data-curves] select"), "the choice of labels")
    Select(one(browser, "[data-curves] select")).select_by_index(1)
    until(browser, lambda: "EVIL </script><script>window.evil = 1</script><img src=x" in one(browser, "[data-curves] figure:not([hidden]) h3").text)
    assert "⟨U+202E⟩" in one(browser, "[data-curves] option:last-child").text
    assert browser.execute_script("return window.evil") is None


def test_prompts_and_answers_are_shown(opened):
    case(opened, 2)
    until(opened, lambda: "What is 0?" in detail(opened))
    for words in ("user", "accepted", "answer 1", "It is 0.", "answer 2", "12 tokens read, 5 written"):
        assert words in detail(opened)


def test_hostile_text_stays_text(opened):
    for number in range(3):
        case(opened, number)
        one(opened, "input[type=search]").send_keys("onerror")
        until(opened, lambda: told(opened)[:2] in ("2 ", "40", "12"), told(opened))
        until(opened, lambda: "window.evil = 1" in detail(opened))
        assert "<img src=x onerror=" in detail(opened)
        assert "{{ 7*7 }}" in detail(opened)
        assert "⟨U+202E⟩" in detail(opened)
    everything = opened.execute_script("return document.body.innerText")
    assert not set("\x1b\x00\u202e\u2066") & set(everything)
    assert opened.execute_script("return document.images.length + document.querySelectorAll('script:not([type])').length") == 1
    assert pages.SECRET not in opened.page_source


def test_dark_and_light(opened):
    background = lambda: opened.execute_script("return getComputedStyle(document.body).backgroundColor")  # noqa: E731
    assert background() == "rgb(255, 255, 255)"
    show(opened, dark=True)
    assert background() == "rgb(18, 21, 27)"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(opened, width):
    show(opened, width)
    for number in (None, 0, 1, 2, 3):
        if number in (0, 1, 2):
            case(opened, number)
        elif number is not None:
            Select(opened.find_element(By.ID, "jump")).select_by_value(f"case-{number}")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width


def test_all_cases_are_printed_without_what_one_cannot_click_on_paper(opened):
    show(opened, media="print")
    shown = opened.execute_script("return [...document.querySelectorAll('.view')].filter(view => view.checkVisibility()).length")
    hidden = opened.execute_script("return [...document.querySelectorAll('.samples, #nav')].filter(part => part.checkVisibility()).length")
    assert (shown, hidden) == (5, 0)


def test_without_javascript_all_but_the_samples_is_there(opened, file):
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.get(file.as_uri())
        words = opened.find_element(By.TAG_NAME, "body").text
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for text in ("spans-fast", "0.910 [0.900, 0.920]", "confusion", "gates failed", "needs JavaScript"):
        assert text in words
