"""Take the picture of the status page for the documentation.

    python tools/status_picture.py docs/pictures/status.png

It needs Chromium, the packages, and what `nox -s demo` installs, and a minute: the page shows the last one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import PROGRAMS, browser  # noqa: E402  # the root is no package

SHOWN = 57  # seconds: the page keeps sixty


def main(file: Path) -> None:
    """Let the demo serve, watch for a minute, and keep what is to be seen."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None) or sys.exit("Chromium is not on the PATH")
    command = [sys.executable, "-m", "examples.demo", "--serve"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout
        url = demo.stdout.readline().split()[1]
        try:
            with browser(program) as page:
                page.open(url)
                time.sleep(SHOWN)
                file.write_bytes(page.picture())
        finally:
            demo.send_signal(signal.SIGTERM)
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
