"""Figures of a report: their caption, and files that are the same for every reader."""

import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image
from report_records import record

from minuteloop.records.machine import machine_of
from minuteloop.records.plots.figure import Canvas
from minuteloop.report.arms import Arm
from minuteloop.report.plots.style import WIDTH, caption, shorten, svg, write_figure
from minuteloop.report.runs import Run


def arm(seeds, **changed):
    runs = [Run(record([], seed, **changed), [], None) for seed in range(seeds)]
    return Arm("a", runs[0].budget, machine_of(runs[0].record), runs, "val/acc")


def test_caption_has_seeds_hardware_commit_and_dates():
    assert caption([arm(2), arm(3)]) == [
        "cifar10, budget 60s",
        "n = 2 to 3 seeds an arm",
        "AMD EPYC (family 26, model 2), cpu, 2 threads, fp32, torch 2.14.1, timm 1.0.31",
        "commit 0123456",
        "2026-11-28 to 2026-11-29",
    ]


def test_caption_names_what_differs():
    other = arm(1, host={"cpu": "Xeon"}, code={"commit": "fedcba9876", "dirty": True}, budget="15s")
    assert caption([arm(1), other]) == [
        "cifar10, budget 60s, 15s",
        "n = 1 seed an arm",
        "cpu, 2 threads, fp32, torch 2.14.1, timm 1.0.31; arms differ in hardware",
        "commit 0123456, fedcba9+",
        "2026-11-28",
    ]


def figure():
    canvas = Canvas(WIDTH, 2, "A <title> & more", caption=caption([arm(2)]))
    canvas.axes(1, 0.5, 2, 1).fill_between([0, 1], [0, 0], [1, 2])  # SVG names its clip paths
    return canvas.figure


def test_svg_is_the_same_each_time_and_its_text_is_text():
    text = svg(figure())
    assert text == svg(figure()) and "<dc:date>" not in text
    texts = [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert "A <title> & more" in texts and any("2026-11-28" in each for each in texts if each)


def test_files_are_1200_pixels_wide(tmp_path):
    write_figure(figure(), tmp_path, "mine")
    with Image.open(tmp_path / "mine.png") as image:
        assert image.width == pytest.approx(1200, abs=1)
    assert (tmp_path / "mine.svg").read_text() == svg(figure())


def test_long_labels_are_shortened():
    assert shorten("a" * 30) == "a" * 30 and shorten("a" * 31) == "a" * 27 + "..."
