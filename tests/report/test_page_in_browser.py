"""The page of a report in headless Chromium without a network: charts, sorting, hover, tap, themes, downloads."""

import json
import re
import shutil
import time

import pytest
from test_page import write_study

from minuteloop.report.page import render
from minuteloop.report.report import read_report, sections_of
from minuteloop.report.section import Section

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its chromedriver")

DESK, PHONE = (1280, 800), (390, 844)
ARMS = {
    "plain": [0.60, 0.61, 0.62],
    "gelu": [0.70, 0.71, 0.72],
    "<b>bold</b><img src=x onerror=alert(1)>": [0.65, 0.66, 0.67],
    "late": [0.62, 0.66, 0.61],
}


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "host-resolver-rules=MAP * ~NOTFOUND")
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A page of four arms, the third without a measured memory, and a figure; and the data of its sections."""
    from matplotlib.figure import Figure

    def figure():
        drawn = Figure(figsize=(8, 2))
        drawn.text(0.2, 0.5, "gelu", color="black")
        return drawn

    folder = tmp_path_factory.mktemp("page")
    file = write_study(folder, ARMS)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for index, record in enumerate(records):
        memory = None if index // 3 == 2 else (index // 3 + 1) * 100 * 2**20
        record["cost"]["peak_memory_bytes"] = memory
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = read_report([file])
    sections = [*sections_of(report), Section("ladder", "Ladder", [], {"rungs": 1}, figure=figure)]
    (folder / "page.html").write_text(render.page(report, sections))
    return folder / "page.html", {section.name: section.data for section in sections}


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.fixture
def opened(browser, study):
    """Return a function that opens the page at a size, in a theme, and waits for its charts."""

    def open_page(size=DESK, theme="light"):
        width, height = size
        touch = {"enabled": size == PHONE, "maxTouchPoints": 1}
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(study[0].as_uri())
        wait_for(lambda: len(all_of(browser, ".chart svg")) == len(all_of(browser, ".chart")) == 3)
        return browser

    return open_page


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def column(browser, name, table="table"):
    """Return the texts of a column of a section's table, from top to bottom."""
    heads = [head.text for head in all_of(browser, f"#{table} th")]
    index = next(number for number, head in enumerate(heads) if head.startswith(name)) + 1
    return [cell.text for cell in all_of(browser, f"#{table} tbody td:nth-child({index})")]


def head(browser, name):
    return next(item for item in all_of(browser, "#table th") if item.text.startswith(name))


def hover(browser, element):
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(browser).move_to_element(element).perform()


def brightness(element, name):
    """Return the mean of a colour's channels, from 0 to 255; 'rgb(1, 2, 3)' and 'color(srgb 0.1 0.2 0.3)' are read."""
    colour = element.value_of_css_property(name)
    channels = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    return sum(channels) / 3 * (255 if colour.startswith("color(") else 1)


def opacities(browser, chart, arms=4):
    """Return the opacity of each arm's mean in a chart, in the order of the arms."""
    marks = all_of(browser, f"#{chart} svg .mark-symbol path")
    shown = [mark for mark in marks if mark.get_attribute("fill") != "transparent"]
    assert len(shown) == arms
    return [float(mark.get_attribute("opacity") or 1) for mark in shown]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_page_is_drawn_without_console_messages_or_requests(opened, size, theme):
    browser = opened(size, theme)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert len(asked) == 1 and asked[0].startswith("file://")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]  # nothing but the tables scrolls sideways
    for chart in all_of(browser, ".chart"):
        drawn = chart.find_element("css selector", "svg").rect["width"]
        assert 0.9 * chart.rect["width"] < drawn <= chart.rect["width"] + 1


def test_themes_change_paper_and_the_charts_letters(opened):
    colours = []
    for theme in ("light", "dark"):
        browser = opened(theme=theme)
        paper = brightness(all_of(browser, "body")[0], "background-color")
        inks = [brightness(all_of(browser, f"{place} text")[0], "fill") for place in (".role-axis-label", ".drawing")]
        colours.append([paper, *inks])
    (light_paper, *light_inks), (dark_paper, *dark_inks) = colours
    assert light_paper > 200 and max(light_inks) < 60
    assert dark_paper < 60 and min(dark_inks) > 200


def test_click_on_a_head_sorts_by_the_numbers_behind_the_texts(opened):
    browser = opened()
    steps = head(browser, "steps")
    assert steps.get_attribute("aria-sort") == "none"
    assert column(browser, "steps") == ["990", "1,000", "1,010", "1,020"]
    steps.find_element("tag name", "button").click()
    assert steps.get_attribute("aria-sort") == "descending"
    assert column(browser, "steps") == ["1,020", "1,010", "1,000", "990"]
    steps.find_element("tag name", "button").click()
    assert steps.get_attribute("aria-sort") == "ascending"
    assert column(browser, "steps") == ["990", "1,000", "1,010", "1,020"]
    head(browser, "accuracy").find_element("tag name", "button").click()
    assert steps.get_attribute("aria-sort") == "none"
    assert [text[:5] for text in column(browser, "accuracy")] == ["71.00", "66.00", "63.00", "61.00"]


def test_keyboard_sorts_and_cells_without_a_number_come_last(opened):
    browser = opened()
    button = head(browser, "memory").find_element("tag name", "button")
    button.send_keys("\ue007")  # enter
    assert column(browser, "memory") == ["400", "200", "100", "-"]
    button.send_keys(" ")
    assert column(browser, "memory") == ["100", "200", "400", "-"]
    head(browser, "arm").find_element("tag name", "button").send_keys("\ue007")
    assert column(browser, "arm")[1:] == ["gelu", "late", "plain"]


def test_hover_on_a_row_shows_its_config_and_highlights_its_arm_in_the_charts(opened):
    browser = opened()
    (details,) = all_of(browser, "#details")
    assert not details.is_displayed() and opacities(browser, "accuracy-0") == [1] * 4
    hover(browser, all_of(browser, "#table tbody tr")[1])
    wait_for(lambda: opacities(browser, "accuracy-0") == [0.2, 1, 0.2, 0.2])
    wait_for(lambda: opacities(browser, "speed-0") == [0.2, 1, 0.2, 0.2])
    wait_for(lambda: opacities(browser, "effects-0", 3) == [1, 0.2, 0.2])
    assert details.text.split("\n") == ["gelu", "recipe.lr=2"]
    hover(browser, all_of(browser, "h1")[0])
    wait_for(lambda: opacities(browser, "accuracy-0") == [1] * 4)
    assert not details.is_displayed()


def test_hover_on_a_point_highlights_its_row_and_shows_its_figures(opened):
    browser = opened()
    marks = all_of(browser, "#speed-0 svg .mark-symbol path")
    hover(browser, [mark for mark in marks if mark.get_attribute("fill") != "transparent"][3])
    (details,) = all_of(browser, "#details")
    wait_for(details.is_displayed)
    active = [row.get_attribute("data-arm") for row in all_of(browser, "tr.active")]
    assert active == ["late", "late"]  # in the table and in the comparison
    lines = details.text.split("\n")
    assert lines[0] == "late" and "images/s: 250" in lines and "mean: 63.00" in lines and lines[-1] == "recipe.lr=4"


def test_hover_on_a_label_of_a_figure_highlights_its_arm(opened):
    browser = opened()
    (label,) = all_of(browser, ".drawing text")
    assert label.get_attribute("data-arm") == "gelu"
    hover(browser, label)
    wait_for(lambda: opacities(browser, "accuracy-0") == [0.2, 1, 0.2, 0.2])
    assert all_of(browser, "#details")[0].text.startswith("gelu")


def test_focus_shows_a_row_and_escape_hides_it(opened):
    browser = opened()
    row = all_of(browser, "#table tbody tr")[3]
    browser.execute_script("arguments[0].focus()", row)
    (details,) = all_of(browser, "#details")
    assert details.text.startswith("late")
    row.send_keys("\ue00c")  # escape
    assert not details.is_displayed()


def test_tap_on_a_phone_shows_a_row_at_the_foot_and_a_tap_elsewhere_hides_it(opened):
    browser = opened(PHONE)
    row = all_of(browser, "#table tbody tr")[1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    (details,) = all_of(browser, "#details")
    assert details.text.startswith("gelu")
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", details)
    assert box["left"] == 12 and box["bottom"] == PHONE[1] - 12
    all_of(browser, "#compare .sentences li")[0].click()
    assert not details.is_displayed()


def test_labels_of_records_are_text(opened):
    browser = opened()
    label = list(ARMS)[2]
    assert column(browser, "arm")[2] == label
    assert not all_of(browser, "#table td b") and not all_of(browser, "img")
    hover(browser, all_of(browser, "#table tbody tr")[2])
    (details,) = all_of(browser, "#details")
    wait_for(lambda: details.text.startswith(label))
    assert not all_of(browser, "#details img")


def test_downloads_hold_the_sections_data(opened, study, tmp_path):
    browser = opened()
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    for button in all_of(browser, "button.download"):
        browser.execute_script("arguments[0].click()", button)
    names = {"table.json", "compare.json", "ladder.json", "report.json"}
    wait_for(lambda: {file.name for file in tmp_path.iterdir()} == names)
    data = json.loads(json.dumps(study[1]))
    wait_for(lambda: json.loads((tmp_path / "report.json").read_text() or "0") == data)
    assert json.loads((tmp_path / "compare.json").read_text()) == data["compare"]
