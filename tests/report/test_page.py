"""The page of a report: what stands in its HTML, that nothing of a record is markup, and what its data hold."""

import json
import re
from html.parser import HTMLParser

import pytest
from written_runs import a_record, write_records

from minuteloop.report import command
from minuteloop.report.page import render
from minuteloop.report.page.charts import pareto
from minuteloop.report.report import read_report, sections_of
from minuteloop.report.section import Section
from minuteloop.validation import ConfigError

ARMS = {"plain": [0.60, 0.61, 0.62], "gelu": [0.70, 0.71, 0.72], "<b>bold</b>": [0.65, 0.66, 0.67]}
QUESTION = "Is <i>GELU</i> worth it & why?"


def write_study(folder, arms=ARMS, budgets=("60s",)):
    """Write records of arms, {label: accuracies}, whose i-th arm trains at 1000 / (i + 1) images/s; return the file."""
    records = [
        a_record(
            [f"recipe.lr={index + 1}"],
            accuracy,
            seed,
            budget,
            config__recipe__lr=index + 1,
            asked={"recipe.lr": index + 1, "budget": budget},
            cost__images_per_second=1000 / (index + 1),
            steps=990 + 10 * index,
        )
        for budget in budgets
        for index, accuracies in enumerate(arms.values())
        for seed, accuracy in enumerate(accuracies)
    ]
    study = {
        "name": "gelu",
        "question": QUESTION,
        "baseline": next(iter(arms)),
        "arms": {label: [f"recipe.lr={index + 1}"] for index, label in enumerate(arms)},
        "kind": "arms",
    }
    file = write_records(folder / "runs.jsonl", records)
    (folder / "study.json").write_text(json.dumps(study))
    return file


class Elements(HTMLParser):
    """The elements of a page as [(tag, attributes, text)], in order; texts are those directly inside."""

    def __init__(self, html):
        super().__init__()
        self.all, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.all.append([tag, dict(attrs), ""])
        if tag not in ("meta", "img", "br"):
            self.open.append(self.all[-1])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def of(self, tag, **attributes):
        return [item for item in self.all if item[0] == tag and attributes.items() <= item[1].items()]

    def texts(self, tag, **attributes):
        return [text.strip() for _, _, text in self.of(tag, **attributes)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the study, its elements, and the sections that it was made from."""
    report = read_report([write_study(tmp_path_factory.mktemp("study"))])
    sections = sections_of(report)
    html = render.page(report, sections)
    return html, Elements(html), sections


def test_question_is_the_heading_and_verdicts_come_before_the_table(page):
    _, elements, _ = page
    assert elements.texts("h1") == [QUESTION]
    tags = [tag for tag, _, _ in elements.all]
    assert tags.index("li") < tags.index("section") < tags.index("table")
    # both differences are about 30 standard errors; the larger comes first
    assert [attributes["class"] for _, attributes, _ in elements.of("li") if "class" in attributes] == ["better"] * 2
    assert [text[:15] for text in elements.texts("span")[-2:]] == ["better by 10.00", "better by 5.00 "]
    assert elements.texts("b", **{"data-arm": "gelu"}) == ["gelu"]


def test_table_holds_the_sections_rows_with_the_numbers_to_sort_by(page):
    _, elements, sections = page
    table = sections[0].table
    cells = elements.of("td")
    width = len(table.columns)
    assert [text for _, _, text in cells[: 3 * width]] == [text for row in table.rows for text in row]
    accuracy = table.columns.index("accuracy")
    values = [float(attributes["data-value"]) for _, attributes, _ in cells[accuracy : 3 * width : width]]
    assert values == pytest.approx([61, 71, 66])
    assert "data-value" not in cells[0][1]
    configs = [attributes["data-config"] for _, attributes, _ in elements.of("tr") if "data-config" in attributes]
    assert configs == table.hover and configs[1] == "recipe.lr=2"


def test_nothing_of_a_record_is_markup(page):
    html, elements, _ = page
    assert "<b>bold" not in html and "<i>GELU" not in html
    assert elements.texts("b", **{"data-arm": "<b>bold</b>"}) == ["<b>bold</b>"]
    assert not elements.of("i")


def test_embedded_data_are_what_json_prints(page, tmp_path):
    _, elements, _ = page
    (embedded,) = elements.texts("script", id="data")
    assert json.loads(embedded) == json.loads(command.run([str(write_study(tmp_path)), "--json"], "report", ""))


def test_page_loads_nothing_and_is_small(page):
    html, elements, _ = page
    loaded = [value for _, attributes, _ in elements.all for key in ("src", "href") if (value := attributes.get(key))]
    assert loaded == ["#table", "#compare"]
    assert not re.search(r"@import|url\(", "".join(elements.texts("style")))
    (policy,) = (item["content"] for _, item, _ in elements.of("meta") if item.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert 500_000 < len(html) < 1_500_000


def specs(elements):
    return json.loads(elements.texts("script", id="specs")[0])


def values_of(spec, field):
    """Return the values of a field in the last layer of a chart whose rows have it."""
    rows = [layer.get("data", spec.get("data"))["values"] for layer in spec["layer"]]
    return next([row[field] for row in data] for data in reversed(rows) if field in data[0])


def test_charts_show_means_intervals_runs_and_effects(page):
    _, elements, _ = page
    drawn = specs(elements)
    assert list(drawn) == ["accuracy-0", "speed-0", "effects-0"]
    assert values_of(drawn["accuracy-0"], "mean") == pytest.approx([61, 71, 66])
    # std 1, n = 3: t(0.975, 2) / sqrt(3) = 4.302653 / 1.732051
    assert values_of(drawn["accuracy-0"], "low") == pytest.approx([61 - 2.484138, 71 - 2.484138, 66 - 2.484138])
    assert values_of(drawn["accuracy-0"], "accuracy") == pytest.approx([60, 61, 62, 70, 71, 72, 65, 66, 67])
    assert values_of(drawn["effects-0"], "difference") == pytest.approx([10, 5])
    assert values_of(drawn["effects-0"], "outcome") == ["better", "better"]
    assert values_of(drawn["effects-0"], "arm") == ["gelu", "<b>bold</b>"]
    # at 1000, 500 and 333 images/s with 61, 71 and 66 %: the third is slower and worse than the second
    assert values_of(drawn["speed-0"], "is_best") == [True, True, False]


def test_speeds_of_arms_far_apart_are_on_a_logarithmic_axis(tmp_path):
    arms = {str(index): [0.6, 0.61] for index in range(5)}
    report = read_report([write_study(tmp_path, arms)])
    (_, (_, speed)), *_ = render._charts(report, sections_of(report, "table")[0])
    assert speed.spec()["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"  # 1000 to 200 images/s


def test_pareto_keeps_arms_that_no_other_beats_in_speed_and_accuracy():
    arms = [{"arm": arm, "images/s": rate, "mean": mean} for arm, rate, mean in (("a", 3, 1), ("b", 2, 2), ("c", 1, 2))]
    assert pareto(arms) == {"a", "b"}  # c is slower than b and as good
    assert pareto([*arms, {"arm": "d", "images/s": 4, "mean": 2.5}]) == {"d"}


def test_budgets_have_charts_of_their_own(tmp_path):
    report = read_report([write_study(tmp_path, budgets=("15s", "60s"))])
    elements = Elements(render.page(report, sections_of(report)))
    assert elements.texts("h3") == ["15s", "60s"] * 2
    assert elements.texts("h2", **{"class": "answer"}) == ["Against plain, 15s", "Against plain, 60s"]
    assert len(specs(elements)) == 6


def test_arms_of_one_verdict_share_a_line(tmp_path):
    report = read_report([write_study(tmp_path, {"a": [0.6], "b": [0.7], "c": [0.5]})])
    elements = Elements(render.page(report, sections_of(report)))
    (line,) = [attributes for _, attributes, _ in elements.of("li") if "class" in attributes]
    assert line["class"] == "unresolved"
    assert elements.texts("b", **{"data-arm": "b"}) == ["b"] and elements.texts("b", **{"data-arm": "c"}) == ["c"]


def test_all_pairs_have_a_row_each(tmp_path):
    report = read_report([write_study(tmp_path)], pairs=True)
    drawn = specs(Elements(render.page(report, sections_of(report))))
    assert len(values_of(drawn["effects-0"], "row")) == 3
    assert all(" - " in row for row in values_of(drawn["effects-0"], "row"))


def test_figure_of_a_section_is_drawn_in_the_colours_of_the_page(tmp_path):
    from matplotlib.figure import Figure

    def figure():
        drawn = Figure(figsize=(2, 1))
        drawn.text(0.5, 0.5, "<b>ms</b> a step", color="#666666")
        drawn.text(0.5, 0.2, "blue", color="#0072b2")
        drawn.text(0.5, 0.1, "red", color="#d55e00")
        return drawn

    report = read_report([write_study(tmp_path)])
    html = render.page(report, [Section("ladder", "The ladder", ["One sentence."], {"rungs": 1}, figure=figure)])
    elements = Elements(html)
    grey, blue, red = elements.of("text")
    assert grey[2] == "<b>ms</b> a step" and not elements.of("b")
    assert "fill: color-mix(in srgb, var(--ink) 60%, var(--card))" in grey[1]["style"]  # 0x66 is 40 % of white
    assert "fill: var(--accent)" in blue[1]["style"] and "fill: #d55e00" in red[1]["style"]
    assert "var(--ink) 0%" in html  # the white paper
    assert "DejaVu" not in html
    assert len(html) < 100_000  # no chart, so no library


# --- the command ------------------------------------------------------------------------------------------------


def test_command_writes_the_page_and_prints_where_it_is(tmp_path, capsys):
    file = tmp_path / "new" / "page.html"
    printed = command.run([str(write_study(tmp_path)), "--html", str(file), "--json"], "report", "")
    assert json.loads(printed).keys() == {"table", "compare"}
    assert capsys.readouterr().err == f"page: {file}\n"
    assert file.read_text().startswith("<!DOCTYPE html>")


def test_missing_package_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "find_spec", lambda name: None if name == "altair" else True)
    with pytest.raises(ConfigError) as error:
        command.run([str(write_study(tmp_path)), "--html", "page.html"], "report", "")
    assert str(error.value) == "--html page.html: needs altair; run pip install 'minuteloop[report]'"


def test_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^--html \S+: cannot be written \(Is a directory\)$"):
        command.run([str(write_study(tmp_path)), "--html", str(tmp_path)], "report", "")
