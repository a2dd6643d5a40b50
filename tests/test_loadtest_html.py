"""The report holds everything itself, escapes everything, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import wave
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from load_results import completed, refused, run_of, sample_run, turn, unanswered

from ringtrue.loadtest.capacity import Capacity, Trial
from ringtrue.loadtest.clips import Clip
from ringtrue.loadtest.figures import figures_of, series_of
from ringtrue.loadtest.html.charts import Curve, Mark, capacity_chart, cdf_chart, load_chart
from ringtrue.loadtest.html.markup import Markup, el, joined, style
from ringtrue.loadtest.html.page import Page, render
from ringtrue.loadtest.html.spectrogram import MAX_COLUMNS, palette, spectrogram
from ringtrue.loadtest.html.svg import Plot, rounded_up, ticks
from ringtrue.loadtest.html.turns import sound, typical, waterfall
from ringtrue.loadtest.report import Distribution
from ringtrue.loadtest.results import Expected, RunResult
from ringtrue.loadtest.slo import default_slo, judge

HOSTILE = "</style><script>alert('x')</script>\"'&<img src=//evil.example/x onerror=y>"


class Reader(HTMLParser):
    """Checks that elements close in order; notes every element, attribute and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(result: RunResult, directory: Path, capacity: Capacity | None = None) -> Page:
    return Page(
        result=result,
        figures=figures_of(result),
        series=series_of(result),
        verdicts=judge(result, default_slo()),
        capacity=capacity,
        directory=directory,
    )


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def links(reader: Reader) -> Iterator[str]:
    for _, attributes in reader.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if attributes.get(name):
                yield str(attributes[name])


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    html = render(page_of(sample_run(), tmp_path))
    reader = read(html)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(link.startswith("data:") for link in links(reader))
    names = {name for _, attributes in reader.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    (policy,) = (
        str(attributes["content"])
        for tag, attributes in reader.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    css = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert not re.search(r"url\(|@import", css)


def test_everything_from_outside_is_escaped(tmp_path: Path) -> None:
    bad = Expected(name=HOSTILE, text=HOSTILE, passed=False, evidence=HOSTILE)
    hostile = turn(900.0, prompt=HOSTILE)
    call = completed("a", [900.0], detail=HOSTILE, expectations=(bad,))
    assert call.heard is not None
    call = replace(call, heard=replace(call.heard, turns=(replace(hostile, text=HOSTILE),)))
    result = run_of(
        [call], scenario=HOSTILE, target=HOSTILE, notes=(HOSTILE,), versions={HOSTILE: HOSTILE}
    )
    html = render(page_of(result, tmp_path))
    reader = read(html)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in reader.elements)
    assert "".join(reader.text).count(HOSTILE) >= 8


def test_failures_come_before_everything_else(tmp_path: Path) -> None:
    text = "".join(read(render(page_of(sample_run(), tmp_path))).text)
    order = ["Failures", "Limits", "Latencies", "Stages of a turn", "Load", "The worst 10 turns"]
    places = [text.index(title) for title in order]
    assert places == sorted(places)
    for call in ("call-0003", "call-0011", "call-0017"):
        assert places[0] < text.index(call) < places[1]
    assert "Retry-After 4 s" in text
    assert "silence of 2.1 s at 7.0 s" in text
    assert "first_token took" in text


def test_runs_without_anything_in_them(tmp_path: Path) -> None:
    for calls in ([], [unanswered("a")], [refused("a")], [completed("a", [])]):
        reader = read(render(page_of(run_of(calls), tmp_path)))
        assert "Failures" in reader.text


def test_two_runs_beside_each_other(tmp_path: Path) -> None:
    with_it, without = sample_run(), sample_run(speculative=False, seed=9)
    html = render(page_of(with_it, tmp_path), page_of(without, tmp_path))
    text = " ".join(read(html).text)
    assert "with speculation (160)" in text
    assert "without speculation (160)" in text
    assert "share thrown away" in text
    assert "19.3 %" in text
    alike = render(page_of(with_it, tmp_path), page_of(sample_run(seed=3), tmp_path))
    assert "the other run (160)" in " ".join(read(alike).text)


def test_markup_is_made_by_elements_only() -> None:
    assert el("p", "a < b", 1.50, class_="x&y") == '<p class="x&amp;y">a &lt; b1.5</p>'
    assert el("p", el("b", "<")) == "<p><b>&lt;</b></p>"
    assert joined(["<", Markup("<br>")]) == "&lt;<br>"
    assert el("line", x1=1.0, aria_label=None) == '<line x1="1"/>'
    with pytest.raises(ValueError, match="style sheet"):
        style("a{}</style>")


def test_a_distribution_ends_below_100_percent_by_what_failed() -> None:
    half = cdf_chart([Curve("x", "c1", [100.0, 200.0, None, None])])
    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", half)]
    whole = cdf_chart([Curve("x", "c1", [100.0, 200.0])])
    tops = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", whole)]
    plot = Plot(1.0, 1.0)
    assert min(heights) == plot.y(0.5)
    assert min(tops) == plot.y(1.0)
    assert cdf_chart([Curve("x", "c1", [None])]) == ""
    marked = cdf_chart([Curve("x", "c1", [100.0])], [Mark("p95", 0.95, 800, False)])
    assert "limit bad" in marked


def test_ten_thousand_samples_make_no_larger_picture() -> None:
    chance = np.random.default_rng(1)
    large = cdf_chart([Curve("x", "c1", list(chance.lognormal(6, 0.4, 100_000)))])
    assert len(large) < 30_000


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 1000, 8) == [0, 200, 400, 600, 800, 1000]
    assert ticks(0, 7, 5) == [0, 2, 4, 6]
    assert ticks(3, 3, 5) == [3]
    assert [rounded_up(value) for value in (0, 0.013, 1, 1.1, 37, 801)] == pytest.approx(
        [1, 0.015, 1, 1.2, 40, 1000]
    )


def test_a_spectrogram_is_a_png_with_the_tone_where_it_was() -> None:
    rate, tone = 8000, 1000
    sine = 8000 * np.sin(2 * np.pi * tone / rate * np.arange(2 * rate))
    sine[rate:] = 0
    png = spectrogram(sine.astype("<i2").tobytes(), rate)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        check = int.from_bytes(png[at + 8 + size : at + 12 + size], "big")
        assert check == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + size
    width, height = (int.from_bytes(chunks[b"IHDR"][n : n + 4], "big") for n in (0, 4))
    assert width <= MAX_COLUMNS
    assert height == 129
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    pixels = np.flipud(rows[:, 1:])
    loudest = pixels[:, width // 4].argmax()
    assert abs(loudest * rate / 256 - tone) < 40
    assert pixels[:, -10:].max() == 0
    assert len(chunks[b"PLTE"]) == 768
    lightness = palette() @ np.array([0.3, 0.6, 0.1])
    assert (np.diff(lightness) >= -0.5).all()
    with pytest.raises(ValueError, match="too few"):
        spectrogram(bytes(20), rate)


def test_a_long_recording_keeps_its_width() -> None:
    assert len(spectrogram(bytes(2 * 16_000 * 60), 16_000)) < 20_000


def test_a_turns_sound_and_stages() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(32_000))
    clip = Clip(file.getvalue(), 8000, bytes(16_000), bytes(16_000), 0.0)
    drawn = sound(clip, turn(300.0, said_ms=500))
    assert drawn.count("data:image/png") == 2
    assert "data:audio/wav" in drawn
    assert "the turn&#x27;s latency" in drawn
    assert "svg" not in sound(replace(clip, caller=b"", agent=b""), turn(None))
    assert waterfall(turn(300.0), 300.0) == ""
    assert typical({"ear": [None]}) == ""
    assert "to the ear: p50 · p95 10 · 20 ms" in typical({"ear": [10.0, 20.0, None]})


def test_load_and_capacity() -> None:
    assert "peak 20" in load_chart(sample_run())
    ranks = Distribution(3, 0, 300, 400, 500, 500)
    failed = Distribution(3, 3, None, None, None, None)
    trials = (
        Trial(calls=4, seed=1, ok=True, turn_latency=ranks, failed_share=0, refused=0),
        Trial(calls=8, seed=1, ok=False, turn_latency=failed, failed_share=1, refused=0),
    )
    drawn = capacity_chart(Capacity(knee=4, breaks_at=8, certain=False, trials=trials))
    assert "knee: 4" in drawn
    assert "8 calls, p95 –" in drawn
