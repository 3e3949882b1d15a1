"""Drives a whole review by keyboard in Chromium, looks whether the verdicts are right, and takes pictures of the page.

    python scripts/check_review.py OUT                # makes a small run of the synthetic kitchen in OUT/run first
    python scripts/check_review.py OUT --chromium /usr/bin/chromium

Needs playwright (`pip install playwright`; its own browsers are not needed) and a Chromium. The review has traces of
the run, a request that waits with pictures, and served answers whose every field holds hostile text. It is done by keys
alone: approve, correct by a choice and by words, reject with a note, go back and give another verdict. Then the script
compares the rows in the run folder with the keys that it pressed, looks whether any script of a stranger ran, and that
nothing is wider than a screen of 400 pixels. Pictures at 1280 and 400 pixels, light and dark, lie in OUT for people to
look at. Ends with 1 where something is wrong.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aot.files.parts import Part
from aot.files.run_folder import RunFolder
from aot.review.rows import read_reviews
from aot.review_records import AskedQuestion, PendingRow, Picture

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script> \u202egnp.exe {{7*7}}"
ME = "ann <b>o'neill</b>"
SIZES = {"1280": (1280, 900), "400": (400, 800)}


def main() -> int:
    """0 where all is right, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    run = RunFolder(options.out / "run")
    if not run.funnel.exists():
        make_run(run)
    rows_before = len(read_reviews(run))
    log = write_served(options.out / "served.jsonl")
    add_pending(run)
    problems: list[str] = []
    with reviewing(run, log) as url:
        problems += border_problems(url)
        pressed = review(url, options.out, options.chromium, problems)
    rows = read_reviews(run)[rows_before:]
    seen = [(row.subject, row.verdict, row.correction, row.note) for row in rows]
    if seen != pressed:
        problems.append(f"pressed {pressed}\nbut noted {seen}")
    if any(row.reviewer != ME for row in rows):
        problems.append(f"reviewers are {[row.reviewer for row in rows]}")
    print(f"{len(rows)} verdicts noted; pictures are in {options.out}")
    print("\n".join(f"WRONG: {one}" for one in problems) or "everything is right")
    return 1 if problems else 0


def make_run(run: RunFolder) -> None:
    """Clips, traces and filters of a small run."""
    few = "data.toy={train_clips: 6, test_clips: 2, test_ood_clips: 1}"
    for stage in ("prepare", "generate", "filter"):
        command = [sys.executable, "-m", "aot", stage, str(ROOT / "configs/video/toy_kitchen_tiny.yaml"), few]
        subprocess.run([*command, "filter.min_kept=1", f"run.dir={run.root}"], check=True)


def write_served(path: Path) -> Path:
    """A log with answers in words, hostile in every field."""
    rows = [
        {"id": "chatcmpl-1", "question": f"What is left? {HOSTILE}", "answer": f"11 {HOSTILE}", "kind": HOSTILE,
         "model": HOSTILE, "route": HOSTILE, "confidence": 0.41},
        {"id": HOSTILE, "question": "Ann has 24 eggs and gives 13 away. How many are left?", "answer": "12",
         "kind": "sum", "model": "tiny-text", "confidence": 0.62},
        {"question": "no answer", "confidence": 1},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def add_pending(run: RunFolder) -> None:
    """A request that waits, with three pictures."""
    import numpy as np

    from aot.serving.review.items import jpeg_of

    run.pending_pictures.mkdir(parents=True, exist_ok=True)
    pictures = []
    for k, grey in enumerate((60, 120, 200)):
        frame = np.full((90, 160, 3), grey, np.uint8)
        frame[30:60, 20 + 40 * k : 50 + 40 * k] = (200, 80, 40)
        (run.pending_pictures / f"waits-{k}.jpg").write_bytes(jpeg_of(frame))
        pictures.append(Picture(name=f"waits-{k}.jpg", time_s=1.5 * k))
    part = Part(run.pending, "check")
    part.append(
        PendingRow(
            id=f"request-{len(read_reviews(run))}", time_s=0.0, route="/v1/decide",
            question=AskedQuestion(text="Which step comes next?", choices=("boil water", "add tea", "pour milk"),
                                   kind="next_choice"),
            pictures=tuple(pictures), answer="add tea", confidence=0.55, model="tiny-video",
        )
    )  # fmt: skip
    part.close()


@contextmanager
def reviewing(run: RunFolder, log: Path) -> Iterator[str]:
    """The address that `aot review` prints, while it runs."""
    command = [sys.executable, "-u", "-m", "aot", "review", str(run.root), "--served", str(log), "--limit", "6"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            raise SystemExit("aot review ended before it was ready")
    finally:
        process.terminate()
        print(process.communicate(timeout=30)[0], end="")
    if process.returncode:
        raise SystemExit(f"aot review ended with {process.returncode}")


def border_problems(url: str) -> Iterator[str]:
    """What others got, who should get nothing."""
    parts = urlsplit(url)
    token = {"X-Aot-Token": parts.query.removeprefix("token=")}
    body = json.dumps({"place": 0, "digest": "x", "reviewer": "x", "verdict": "approved"})
    kind = {"Content-Type": "application/json"}
    tries: dict[str, tuple[str, str, str | None, dict[str, str]]] = {
        "no token": ("GET", "/api/state", None, {}),
        "page without token": ("GET", "/", None, {}),
        "another host": ("GET", "/api/state", None, {**token, "Host": "evil.example"}),
        "another origin": ("POST", "/api/verdicts", body, {**token, **kind, "Origin": "http://evil.example"}),
        "a form of another site": ("POST", "/api/verdicts", body, {**kind, "Sec-Fetch-Site": "cross-site"}),
    }
    for name, (method, path, sent, headers) in tries.items():
        with closing(HTTPConnection(parts.netloc, timeout=10)) as connection:
            connection.request(method, path, sent, headers)
            if (status := connection.getresponse().status) not in (403, 421):
                yield f"{name} got status {status}"


def review(url: str, out: Path, chromium: str, problems: list[str]) -> list[tuple[str, str, str, str]]:
    """Do the review; returns the subject, verdict, correction and note of each row that must have been written."""
    from playwright.sync_api import sync_playwright

    pressed: list[tuple[str, str, str, str]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda error: problems.append(f"the page says {error}"))
        page.on("console", lambda one: problems.append(f"console: {one.text}") if one.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("#item:not([hidden])")
        page.keyboard.press("a")  # nobody yet
        until(page, "document.getElementById('said').textContent.includes('who you are')")
        page.keyboard.type(ME)
        page.keyboard.press("Enter")
        until(page, "document.activeElement.id === 'question'")
        for keys, words, expected in plan_of(page):
            pressed.append(expected)
            shot_before(page, out, len(pressed), problems)
            press(page, keys, words)
        pictures_of_all(page, out, problems)
        if page.title() == "pwned":
            problems.append("a script of a stranger ran")
        browser.close()
    return pressed


def plan_of(page: Any) -> Iterator[tuple[list[str], str, tuple[str, str, str, str]]]:  # noqa: ANN401 - of playwright
    """Keys, words to type after the first of them, and the row that follows; depends on what is shown."""
    yield ["c", "3"], "", ("served", "corrected", "pour milk", "")  # the request that waits stands first
    yield ["c", "Enter"], f"11 {HOSTILE}".replace("11", "13"), ("served", "corrected", f"13 {HOSTILE}", "")
    yield ["n", "Escape", "r"], f"wrong sum {HOSTILE}", ("served", "rejected", "", f"wrong sum {HOSTILE}")
    yield ["a"], "", ("trace", "approved", "", "")
    yield ["r"], "", ("trace", "rejected", "", "")
    yield ["k", "k", "r"], "", ("trace", "rejected", "", "")  # two back: the approved one, which he takes back


def press(page: Any, keys: list[str], words: str) -> None:  # noqa: ANN401
    """Press keys; words are typed after the first one."""
    before = page.evaluate("document.getElementById('said').textContent")
    for number, key in enumerate(keys):
        where = page.evaluate("at")
        page.keyboard.press(key)
        if number == 0 and words:
            page.keyboard.type(words)
        if key in ("j", "k"):
            until(page, f"at !== {where}")
    until(page, "!busy")
    until(page, f"document.getElementById('said').textContent !== {json.dumps(before)}")
    until(page, "!document.getElementById('said').className")


def until(page: Any, condition: str, *, limit_s: float = 15.0) -> None:  # noqa: ANN401
    """Wait until a condition holds; asked again and again, since the page's policy lets nothing be put into it."""
    end_s = time.monotonic() + limit_s
    while not page.evaluate(condition):
        if time.monotonic() > end_s:
            said = page.evaluate("document.getElementById('said').textContent")
            raise SystemExit(f"waited in vain for {condition}; the page says {said!r}")
        page.wait_for_timeout(20)


def shot_before(page: Any, out: Path, number: int, problems: list[str]) -> None:  # noqa: ANN401
    """The page as it was before a verdict, at 1280 pixels."""
    page.wait_for_timeout(150)
    page.screenshot(path=str(out / f"step-{number}.png"))
    if page.evaluate("document.querySelectorAll('main img:not(.frames img), main script').length"):
        problems.append(f"step {number}: the page holds an element of a stranger")


def pictures_of_all(page: Any, out: Path, problems: list[str]) -> None:  # noqa: ANN401
    """Request, trace, hostile answer, correction and keys, in both sizes and both colours."""
    for name, size in SIZES.items():
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for colour in ("light", "dark"):
            page.emulate_media(color_scheme=colour)
            for what, place in (("request", 0), ("hostile", 1), ("trace", 3)):
                page.evaluate(f"show({place})")
                until(page, f"at === {place}")
                page.wait_for_timeout(300)
                page.screenshot(path=str(out / f"{what}-{name}-{colour}.png"), full_page=what == "trace")
                for part in ("html", ".bar > div", "main", "header"):
                    if page.evaluate(f"(p => p.scrollWidth - p.clientWidth)(document.querySelector('{part}'))") > 0:
                        problems.append(f"{what}: {part} is wider than a screen of {size[0]} pixels")
            page.evaluate("show(0)")
            until(page, "at === 0")
            page.wait_for_timeout(300)
            page.keyboard.press("c")
            page.screenshot(path=str(out / f"correct-{name}-{colour}.png"))
            page.keyboard.press("Escape")
            page.keyboard.press("?")
            page.screenshot(path=str(out / f"keys-{name}-{colour}.png"))
            page.keyboard.press("Escape")


if __name__ == "__main__":
    sys.exit(main())
