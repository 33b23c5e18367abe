"""The page of a session: every section is there, nothing points elsewhere, and damage is said instead of hidden."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import mrcfile
import numpy as np
import pytest

from tumble.dashboard.report.make import make
from tumble.dashboard.report.material import ReportError, read

VOID = {"meta", "img", "br", "path", "rect", "circle", "ellipse", "polyline", "polygon", "image", "line"}
SECTIONS = {"P001", "field", "frames", "stream", "files", "configuration"}
HEADINGS = ("The map", "Slices", "Atoms", "Fourier shell correlation", "Directions it was seen from",
            "How the resolution came", "Its path", "How it turned", "How well the poses fit")  # fmt: skip


class Page(HTMLParser):
    """Balanced elements, identifiers, addresses, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.elements: dict[str, int] = {}
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data + " "


def parsed(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_holds_everything(session: Path) -> None:
    (path, *_) = make(session)
    assert path == session / "report.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    check_sections(page)
    check_nothing_is_loaded_from_anywhere(html, page)
    check_texts_are_no_markup(html)


def check_sections(page: Page) -> None:
    assert page.ids >= SECTIONS
    assert [heading for heading in HEADINGS if heading not in page.text] == []
    assert page.elements["img"] == 7  # portrait, three surfaces, three slices
    assert page.elements["image"] == 1  # the sphere
    assert page.elements["circle"] >= 3 * 55  # atoms, three times
    for words in ("1.07", "0.143", "zmq+tcp://127.0.0.1:31001", "numpy", "first line", "the books are right"):
        assert words in page.text


def test_what_the_daemon_judged_is_shown(session: Path, fakes: ModuleType) -> None:
    for path in (session / "particles/P001").glob("*.[cm]*"):
        path.unlink()
    moments = [replace(fakes.snapshot(seconds, 2), sequence=i) for i, seconds in enumerate((2.0, 8.0, 12.0, 16.0))]
    (session / "timeline.jsonl").write_text("".join(moment.to_json() + "\n" for moment in moments))
    text = parsed(make(session)[0]).text
    for words in (
        "CONTINUE",
        "the resolution still improves",
        "map trusted",
        "STARVED",
        "DO NOT TRUST the map",
        "two independent accounts agree on 61 % of the atoms only",
        "target 0.8 Å",
        "evenness of the views",
        "twinned fcc lattice constant",
        "The forecast",
        "verdict",
    ):
        assert words in text
    assert "ENOUGH" not in text


def test_the_strain_of_a_crystal_is_among_its_figures(session: Path, fakes: ModuleType) -> None:
    view = replace(fakes.snapshot(12.0, 1).particles[0], strain_percent=(1.833, -0.167, -1.667))
    last = replace(fakes.snapshot(12.0, 1), particles=(view,))
    (session / "timeline.jsonl").write_text(last.to_json() + "\n")
    text = parsed(make(session)[0]).text
    assert "principal strains" in text
    assert "+1.8, -0.2, -1.7 %" in text


def test_the_last_snapshot_is_believed_before_an_older_summary(session: Path, fakes: ModuleType) -> None:
    (session / "particles/P001/map.mrc").unlink()
    view = replace(fakes.snapshot(12.0, 1).particles[0], state="LOST", verdict="LOST", resolution_A=None)
    last = replace(fakes.snapshot(12.0, 1), particles=(view,))
    (session / "timeline.jsonl").write_text(last.to_json() + "\n")
    (session / "particles/P001/summary.json").write_text(
        '{"verdict": "ENOUGH", "state": "MAPPING", "resolution_A": 0.91}'
    )
    text = parsed(make(session)[0]).text
    assert "LOST" in text
    assert "ENOUGH" not in text
    assert "0.91" in text


def check_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    assert page.elements.get("script", 0) == page.elements.get("link", 0) == 0
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html
    for address in page.addresses:
        assert address.startswith(("data:image/png;base64,", "#P"))
        if address.startswith("data:"):
            assert base64.b64decode(address.partition(",")[2], validate=True)[:8] == b"\x89PNG\r\n\x1a\n"
    assert re.findall(r"https?://", html) == []


def check_texts_are_no_markup(html: str) -> None:
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html
    assert "<b>note</b>" not in html
    assert "night &lt;1&gt;" in html


def test_a_crashed_session_is_reported_as_far_as_it_went(session: Path) -> None:
    facts = json.loads((session / "session.json").read_text())
    facts |= {"ended": None, "accounting": None, "phase": "RUNNING"}
    (session / "session.json").write_text(json.dumps(facts))
    with (session / "timeline.jsonl").open("a") as file:
        file.write('{"version": 1, "uptime_s": 99')  # cut off while it was written
    (session / "particles/P001/map.mrc").write_bytes(b"not a map")
    (session / "particles/P001/poses.csv").unlink()
    page = parsed(make(session)[0])
    assert "INTERRUPTED" in page.text
    assert "did not end in order" in page.text
    assert "map.mrc cannot be read" in page.text
    assert "no poses.csv" in page.text
    assert "16\u202f000 received" in page.text  # from the timeline
    assert "Fourier shell correlation" in page.text


@pytest.mark.parametrize("name", ["session.json", "timeline.jsonl", "particles"])
def test_any_part_may_be_missing(session: Path, name: str) -> None:
    (session / "particles/P001/map.mrc").unlink()
    path = session / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = parsed(make(session)[0])
    assert "What is missing" in page.text


def test_an_empty_session(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text('{"phase": "WAITING", "ended": null, "log": []}')
    page = parsed(make(tmp_path)[0])
    assert "no particle was followed" in page.text
    assert "timeline.jsonl cannot be read" in page.text


@pytest.mark.parametrize("content", ["", "[]", "null", '{"series": 3, "accounting": [], "config": "x"}', "\x00\xff"])
def test_damaged_session_files_are_survived(session: Path, content: str) -> None:
    (session / "particles/P001/map.mrc").unlink()
    (session / "session.json").write_text(content)
    (session / "timeline.jsonl").write_text(content + '\n{"stream": 1, "particles": [1, {"name": 5}]}\n')
    for name in ("summary.json", "atoms.xyz", "coverage.csv", "fsc.csv", "poses.csv"):
        (session / "particles/P001" / name).write_text(content)
    parsed(make(session)[0])


def test_what_is_no_session_is_refused_in_one_line(tmp_path: Path, session: Path) -> None:
    for folder, out in ((tmp_path / "nothing", None), (session.parent, None), (session, tmp_path / "no" / "page.html")):
        with pytest.raises(ReportError) as caught:
            make(folder, out)
        assert "\n" not in str(caught.value)


def test_the_command_writes_or_says_in_one_line_why_not(tmp_path: Path) -> None:
    def call(*words: Path | str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tumble", "report", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    refused = call(tmp_path / "nothing")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith("tumble: no session folder")
    (tmp_path / "session.json").write_text("{}")
    done = call(tmp_path, "--out", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {tmp_path / 'page.html'}\n"


def test_a_long_timeline_is_thinned_and_keeps_its_end(session: Path) -> None:
    lines = (f'{{"uptime_s": {i}.5, "phase": "RUNNING", "stream": {{}}, "particles": []}}\n' for i in range(5000))
    (session / "timeline.jsonl").write_text("".join(lines))
    for limit, count in ((300, 5000), (3, 5000), (10_000, 5000)):
        moments = read(session, moments=limit).timeline
        assert len(moments) <= min(limit + 2, count)
        assert moments[-1].uptime_s == 4999.5
        assert moments[0].uptime_s == 0.5
        assert len({moment.uptime_s for moment in moments}) == len(moments)


def test_many_frames_and_a_line_that_was_cut_off(session: Path) -> None:
    path = session / "particles/P001/poses.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, "120,0.3,1.0,0.0"]))
    assert read(session).particles[0].poses.shape == (120, 10)
    path.write_text(lines[0])
    assert read(session).particles[0].poses.shape == (0, 10)
    path.write_text("".join([lines[0], *(1000 * lines[1:])]))
    before = time.process_time()
    assert read(session).particles[0].poses.shape == (120_000, 10)
    print(f"{time.process_time() - before:.2f} s of CPU for 120 000 frames")


def test_files_open_where_people_open_them(session: Path) -> None:
    ase = pytest.importorskip("ase.io")
    make(session)
    folder = session / "particles" / "P001"
    atoms = ase.read(folder / "atoms.xyz")
    assert set(atoms.get_chemical_symbols()) == {"Pt"}
    assert atoms.arrays["confidence"].max() <= 1
    pdb = ase.read(session / "report" / "P001_atoms.pdb")
    np.testing.assert_allclose(pdb.positions, atoms.positions, atol=6e-4)
    np.testing.assert_allclose(pdb.arrays["bfactor"], 100 * atoms.arrays["confidence"], atol=0.006)
    with mrcfile.open(folder / "map.mrc") as file:
        assert file.is_single_image() is False
        assert file.voxel_size.x == file.voxel_size.z == pytest.approx(0.5)
        middle = file.data.shape[0] // 2
        assert file.data[middle, middle, middle] == pytest.approx(1.0, rel=0.01)  # the atom at the origin
    script = (session / "report" / "P001.cxc").read_text()
    opened = re.findall(r'open "(.*)"', script)
    assert [(session / "report" / path).resolve().exists() for path in opened] == [True, True]
    assert f"originIndex {middle},{middle},{middle}" in script
    assert re.findall(r"level ([\d.e-]+)", script)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_it(session: Path, tmp_path: Path, scheme: str) -> None:
    image = pytest.importorskip("PIL.Image")
    page, picture = make(session)[0], tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1240,3000"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"]
    options += ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run([CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=600, check=False)
    assert picture.exists(), done.stderr[-2000:]
    assert "violates" not in done.stderr  # the page's own policy
    pixels = np.asarray(image.open(picture).convert("RGB")).astype(int)
    paper = np.median(pixels[:, :8].reshape(-1, 3), axis=0)
    assert (paper.mean() > 200) == (scheme == "light")
    band = pixels[500:1100, 60:1180]
    gold = (band[..., 0] > band[..., 2] + 40).mean()
    assert gold > 0.02  # the surfaces of the map
    assert np.abs(pixels - paper).max(axis=2).mean(axis=1)[-400:].max() > 1  # drawn to the end
