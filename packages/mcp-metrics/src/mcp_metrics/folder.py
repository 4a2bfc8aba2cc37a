"""Share a folder: each process writes its metrics to a file, and whoever is scraped reads them all.

    worker ── write(registry, folder) ──▶ 4711-9f3c51b0.metrics ──┐
    worker ── write(registry, folder) ──▶ 4712-a01be277.metrics ──┼── read(folder) ──▶ Snapshot ──▶ MetricsApp
    dead workers ─── compact(folder) ───▶ 3.retired ──────────────┤
                                                                  └── torn or garbage: skipped and counted

A worker's file is replaced in one step and carries a checksum, so a reader sees the old or the new one, and knows when
a full disk or a kill has left something else.

``compact`` adds the files of dead workers to one, a *generation*, which never changes: the next one is linked under the
next number, and the link fails if another process was faster. A generation says which files it has taken in. From the
moment it is there these no longer count, whether or not the process lives long enough to remove them. A reader begins
again when a generation came while it was reading.

Rejected: locks on files, which network file systems keep badly; adding up in place, where a kill between the sum and
the removal counts a worker twice.

Invariants, each tested in ``tests/metrics/test_folder.py``:

1. What one worker wrote is read back equal; nothing that a file holds makes ``read`` raise.
2. Counters and histograms of dead workers stay in the sum, however many processes call ``compact``, and wherever they
   are killed; gauges and infos of dead workers are dropped by it.
3. A counter that is read never falls, unless a worker begins anew under an old name.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, reduce
from pathlib import Path
from typing import NamedTuple

from .exposition import Source
from .snapshots import Snapshot, dump, lasting, load, merge, snapshot

__all__ = ["compact", "is_gone", "read", "write"]

MAGIC = "mcp-metrics 1"
SUFFIX, RETIRED, DRAFT = ".metrics", ".retired", ".draft"
WORKER = re.compile(r"[A-Za-z0-9_-]{1,64}")
DRAFT_LIFE = 3600  # seconds, where milliseconds are usual
PATIENCE = 100  # readings; one is not enough only when a generation came while it was going on


class _File(NamedTuple):
    """What a file says, its checksum, and the checksums of the workers' files that a generation has taken in."""

    told: Snapshot
    checksum: str = ""
    taken: Mapping[str, str] = {}


def write(source: Source, folder: Path, worker: str | None = None) -> Path:
    """Write what *source* says now to its file in *folder*, replacing the last one, and return the path.

    *worker* names the file: letters, digits, ``-`` and ``_``; by default the process id and a random end. Waits for the
    disk: call it from a thread. Raises OSError, and then the last file is still there.

    Let no series go (``Registry(idle=...)``): a sum from which one worker drops a series looks like a new beginning.
    """
    name = _own_name(os.getpid()) if worker is None else worker
    if not WORKER.fullmatch(name):
        raise ValueError(f"worker must be 1 to 64 letters, digits, '-' or '_', got {worker!r}")
    return _draft(folder, snapshot(source), {}).replace(folder / f"{name}{SUFFIX}")


def read(folder: Path) -> Snapshot:
    """Return the sum of all files in *folder*; waits for the disk: call it from a thread."""
    found = Snapshot()
    for _ in range(PATIENCE):
        number = _newest(folder)
        retired = _read_file(_generation(folder, number))
        found = reduce(merge, _counting(folder, retired.taken), retired.told)
        if _newest(folder) == number:
            break
    return found


def is_gone(worker: str) -> bool:
    """Say whether *worker* begins with the id of a process that no longer runs on this machine, or in this container.

    False for names of another form, and on Windows, where there is no way to ask.
    """
    process = worker.partition("-")[0]
    if not process.isdecimal() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no process id at all
        return False
    return False


def compact(folder: Path, is_dead: Callable[[str], bool] = is_gone) -> int:
    """Add the files of dead workers to the generation of those before, and return how many they were.

    *is_dead* is asked about the name of each worker; one that is dead must not write again. Files that cannot be read
    stay where they are. Any process may call this at any time; it waits for the disk: call it from a thread. Raises
    OSError where the file system has no hard links.
    """
    number = _newest(folder)
    retired = _read_file(_generation(folder, number))
    if number and not retired.checksum:  # garbage, or removed since: another process is further
        return 0
    _tidy(folder, number, retired.taken)
    names = [path.stem for path in folder.glob(f"*{SUFFIX}") if is_dead(path.stem)]  # first: nothing changes after it
    files = {name: file for name in names if (file := _read_file(folder / f"{name}{SUFFIX}")).checksum}
    if not files:
        return 0
    total = reduce(merge, (lasting(file.told) for file in files.values()), retired.told)
    taken = {name: file.checksum for name, file in files.items()}
    if not _link(_draft(folder, total, taken), _generation(folder, number + 1)) or _newest(folder) > number + 1:
        return 0
    _tidy(folder, number + 1, taken)
    return len(files)


def _counting(folder: Path, taken: Mapping[str, str]) -> Iterator[Snapshot]:
    """Yield what each worker's file says that no generation has taken in."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        file = _read_file(path)
        if not file.checksum or taken.get(path.stem) != file.checksum:
            yield file.told


def _tidy(folder: Path, number: int, taken: Mapping[str, str]) -> None:
    """Remove what generation *number* has made superfluous, and the drafts of those who died over them."""
    for name, checksum in taken.items():
        path = folder / f"{name}{SUFFIX}"
        if _read_file(path).checksum == checksum:  # not a new worker's of the same name
            path.unlink(missing_ok=True)
    for older in _generations(folder):
        if older < number:
            _generation(folder, older).unlink(missing_ok=True)
    for path in folder.glob(f"*{DRAFT}"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - DRAFT_LIFE:
                path.unlink()


def _newest(folder: Path) -> int:
    return max(_generations(folder), default=0)


def _generations(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob(f"*{RETIRED}") if path.stem.isdecimal()]


def _generation(folder: Path, number: int) -> Path:
    return folder / f"{number}{RETIRED}"


def _link(draft: Path, path: Path) -> bool:
    """Give *draft* its name, unless that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


@lru_cache(maxsize=1)
def _own_name(process: int) -> str:
    """Return the same name for the life of a process; its children have ids, and so names, of their own."""
    return f"{process}-{secrets.token_hex(4)}"


def _draft(folder: Path, told: Snapshot, taken: Mapping[str, str]) -> Path:
    body = json.dumps([taken, dump(told)]).encode()
    path = folder / f"{os.getpid()}-{secrets.token_hex()}{DRAFT}"
    try:
        path.write_bytes(f"{MAGIC} {zlib.crc32(body):08x}\n".encode() + body)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _read_file(path: Path) -> _File:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        checksum = f"{zlib.crc32(body):08x}"
        if head != f"{MAGIC} {checksum}".encode():
            return _File(Snapshot(skipped=1))
        taken, families = json.loads(body)
        return _File(load(families), checksum, dict(taken))
    except FileNotFoundError:  # removed since it was listed
        return _File(Snapshot())
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return _File(Snapshot(skipped=1))
