"""Takes the picture of the live page that the README shows, with headless Chromium.

    apt-get install -y chromium
    python docs/screenshot.py "http://127.0.0.1:8600/?token=..." docs/live-page.png [HEIGHT]

The link is the one the hub prints (`fleetloop demo --keep` leaves a hub up). Exit code 0 and a file, or 1 and a reason.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1440, 1560
SETTLE_MS = 6_000
"""Virtual time for the page to build itself and draw its chart; the network is waited for."""
TIMEOUT_S = 90
SMALLEST_PNG_BYTES = 60_000
"""A page that was refused, or stayed empty, compresses to less."""


def main(arguments: list[str]) -> int:
    """Take one picture; returns the exit code."""
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 1
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("no Chromium found: apt-get install -y chromium", file=sys.stderr)
        return 1
    url, output = arguments[0], Path(arguments[1]).absolute()
    height = int(arguments[2]) if len(arguments) == 3 else HEIGHT
    with tempfile.TemporaryDirectory(prefix="fleetloop-screenshot-") as profile:
        picture = Path(profile) / "page.png"
        reason = _take(browser, url, picture, height)
        if reason:
            print(reason, file=sys.stderr)
            return 1
        shutil.copyfile(picture, output)
    print(f"{output}: {output.stat().st_size:,} bytes")
    return 0


def _take(browser: str, url: str, picture: Path, height: int) -> str:
    """Returns why it failed; empty when it did not."""
    command = [
        browser,
        "--headless",
        "--no-sandbox",  # Chromium refuses to run as root with one; only our own page is opened
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={picture.parent}",
        f"--window-size={WIDTH},{height}",
        f"--virtual-time-budget={SETTLE_MS}",
        f"--screenshot={picture}",
        url,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"Chromium took longer than {TIMEOUT_S} s"
    if done.returncode != 0 or not picture.exists():
        return f"Chromium failed with code {done.returncode}:\n{done.stderr[-2000:]}"
    if picture.stat().st_size < SMALLEST_PNG_BYTES:
        return "the picture is nearly empty: is the hub up, and is the token in the link the right one?"
    return ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
