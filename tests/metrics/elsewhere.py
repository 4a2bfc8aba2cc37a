"""Let other threads do it."""

from __future__ import annotations

import threading


def elsewhere(*fns):
    """Run each function in a thread of its own, all at once."""
    threads = [threading.Thread(target=fn) for fn in fns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
