"""report.html as a real browser lays it out; skipped where none is installed."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report_run import build_run, read_frames
from test_report import HOSTILE

from aot.reporting.report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser to open reports in: none of {', '.join(NAMES)}")
SIZES = {1280: 900, 400: 800}
LOOK = """<title>nobody</title><body>FRAMES<pre id="seen"></pre><script>
onload = () => {
  const looks = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, all = page.querySelectorAll.bind(page)
    const pictures = [...all("svg[role=img]")].map(one => one.getBoundingClientRect().toJSON())
    return {
      elements: all("*").length, foreign: all("script,img").length, thumbs: all("use").length, wide: root.scrollWidth,
      verdict: all("section.verdict")[0].getBoundingClientRect().top, picture: pictures.find(one => one.height > 0),
      shown: page.body.innerText.length, background: getComputedStyle(page.body).backgroundColor,
    }
  })
  document.querySelector("#seen").textContent = JSON.stringify({title: document.title, looks})
}
</script>"""


def looks(report: Path, folder: Path, *flags: str) -> dict[int, dict[str, Any]]:
    """What the browser made of a page, for each width in pixels; a page around it measures, since it has no script."""
    frames = (f'<iframe src="{report.as_uri()}" width="{w}" height="{h}" frameborder="0"></iframe>'
              for w, h in SIZES.items())  # fmt: skip
    (folder / "look.html").write_text(LOOK.replace("FRAMES", "".join(frames)))
    quiet = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-extensions", *(["--no-sandbox"] if os.geteuid() == 0 else []))  # fmt: skip
    command = [BROWSER, "--headless", *quiet, *flags, f"--user-data-dir={folder / 'browser'}",
               "--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom",
               (folder / "look.html").as_uri()]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, timeout=200)
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(unescape(found[1]))
    assert seen["title"] == "nobody"
    return dict(zip(SIZES, seen["looks"], strict=True))


def test_a_report_of_hostile_texts_fits_its_screen_and_begins_with_verdict_and_picture(tmp_path: Path) -> None:
    run, config = build_run(tmp_path / "run", hostile=HOSTILE)
    write_report(run, config, frames=read_frames)
    light, dark = (looks(run.report, tmp_path, *flags) for flags in ((), ("--force-dark-mode",)))
    for width, seen in light.items():
        assert seen["foreign"] == 0 and seen["elements"] > 500 and seen["thumbs"] > 10
        assert seen["wide"] <= width, f"at {width} pixels the page is {seen['wide']} wide"
        assert 0 <= seen["verdict"] < seen["picture"]["top"] < SIZES[width], "both stand on the first screen"
        assert 100 < seen["picture"]["width"] <= width and seen["shown"] > 3000
        assert seen["background"] != dark[width]["background"], "dark is dark"
