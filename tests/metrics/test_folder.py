"""A folder that several processes share: files torn and missing, workers killed, and nothing counted twice or lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from mcp_metrics import Registry, compact, folder, is_gone, read, snapshot, write
from mcp_metrics.testing import assert_metric, find

FAMILY = [["counter", "jobs", "Jobs.", "", ["kind"], [], "sum"], []]


def worker(amount=1):
    registry = Registry(now=lambda: 1000.0)
    registry.counter("jobs", "Jobs.").bind().inc(amount)
    registry.gauge("depth", "Depth.").bind().set(amount)
    registry.info("build", "The build.", labels=["v"]).bind("1")
    registry.histogram("wait", "Wait.", buckets=[1], native=3).bind().observe(amount)
    return registry


def total(path):
    return sum(sample.value for sample in find(read(path), "jobs_total"))


def names(path):
    return sorted(file.name for file in path.iterdir())


def signed(body):
    return f"mcp-metrics 1 {zlib.crc32(body.encode()):08x}\n{body}".encode()


def test_workers_add_up(tmp_path):
    """What each wrote last; other files are not read."""
    registry = worker(2)
    write(registry, tmp_path, "one")
    write(worker(3), tmp_path, "two")
    (tmp_path / "notes.txt").write_text("x", "utf-8")
    assert total(tmp_path) == 5
    registry.counter("more", "More.").bind().inc()
    assert write(registry, tmp_path, "one") == tmp_path / "one.metrics"
    assert_metric(read(tmp_path), "more_total", 1)
    assert total(tmp_path) == 5
    assert names(tmp_path) == ["notes.txt", "one.metrics", "two.metrics"]
    assert_metric(read(tmp_path), "mcp_metrics_snapshots_skipped", 0)


def test_an_empty_folder_says_nothing(tmp_path):
    """Before the first worker has written."""
    assert read(tmp_path).families == {}
    assert compact(tmp_path) == 0


def test_a_process_has_one_name(tmp_path):
    """It begins with its id, so that others can see whether it lives, and is no other's."""
    registry = worker()
    path = write(registry, tmp_path)
    assert write(registry, tmp_path) == path
    assert path.stem.split("-")[0] == str(os.getpid())
    assert folder._own_name(1) != folder._own_name(2)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, "a b", "a\n"])
def test_worker_names_stay_in_the_folder(tmp_path, name):
    """A name from outside must not write elsewhere."""
    with pytest.raises(ValueError, match="worker must be 1 to 64 letters"):
        write(worker(), tmp_path, name)
    assert write(worker(), tmp_path, "x" * 64).stem == "x" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"mcp-metrics 1 00000000\n[{},[]]x",
        b"mcp-metrics 2 00000000\n[{},[]]",
        signed("{"),
        signed("7"),
        signed("[7,[]]"),
        signed("[{}]"),
        signed('[{},[["x"]]]'),
        signed(json.dumps([{}, [[FAMILY[0], [[[], 0, 1, [], [], None]]]]])),
        signed(json.dumps([{}, [[FAMILY[0], [[["a"], 0, 10**400, [], [], None]]]]])),
        signed("[" * 100_000),
    ],
)
def test_broken_files_are_skipped_and_counted(tmp_path, content):
    """One bad file must not end the scrape of all; it stays, to be looked at."""
    write(worker(), tmp_path, "good")
    (tmp_path / "bad.metrics").write_bytes(content)
    for _ in range(2):
        assert total(tmp_path) == 1
        assert_metric(read(tmp_path), "mcp_metrics_snapshots_skipped", 1)
        compact(tmp_path, lambda name: True)
    assert names(tmp_path) == ["1.retired", "bad.metrics"]


def test_torn_at_every_length(tmp_path):
    """A disk that is full, or a kill: whatever the length, it is seen."""
    path = write(worker(), tmp_path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert read(tmp_path).skipped == 1


def test_a_file_that_vanishes_is_no_fault(tmp_path):
    """A worker's file may be taken in between the list and the reading."""
    (tmp_path / "gone.metrics").symlink_to(tmp_path / "nowhere")
    assert read(tmp_path).skipped == 0
    assert compact(tmp_path, lambda name: True) == 0


@pytest.mark.parametrize("written", [b"half", None])
def test_a_disk_that_is_full_leaves_the_last_file(tmp_path, monkeypatch, written):
    """And no draft, or the disk would be fuller each time."""
    path = write(worker(1), tmp_path, "one")

    def full(self, body):
        if written:
            self.write_text(written.decode(), "utf-8")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write(worker(2), tmp_path, "one")
    assert names(tmp_path) == [path.name]
    assert total(tmp_path) == 1


def test_dead_workers_become_one_file(tmp_path):
    """Counters and histograms stay, gauges and facts go, the living are left alone; and again, and again."""
    for amount, name in enumerate(["a", "b", "alive", "c", "d"]):
        write(worker(amount), tmp_path, name)
    before = read(tmp_path)
    assert compact(tmp_path, {"a", "b"}.__contains__) == 2
    assert names(tmp_path) == ["1.retired", "alive.metrics", "c.metrics", "d.metrics"]
    assert compact(tmp_path, {"a", "b", "c", "d"}.__contains__) == 2
    assert names(tmp_path) == ["2.retired", "alive.metrics"]
    assert compact(tmp_path, {"a", "b", "c", "d"}.__contains__) == 0
    after = read(tmp_path)
    for name in ("jobs_total", "wait_count", "wait_sum", "wait_created"):
        assert find(after, name) == find(before, name)
    assert_metric(after, "depth", 2)
    assert compact(tmp_path, lambda name: True) == 1
    assert total(tmp_path) == 10
    assert find(read(tmp_path), "depth") == find(read(tmp_path), "build_info") == []


def test_one_after_the_other_is_the_same_as_all_at_once(tmp_path):
    """In any order: adding up is associative."""
    results = []
    for order in itertools.permutations("abc"):
        path = tmp_path / "".join(order)
        path.mkdir()
        for amount, name in enumerate("abc", 1):
            write(worker(amount), path, name)
        for name in order:
            compact(path, name.__eq__)
        results.append(read(path).families)
    together = tmp_path / "together"
    together.mkdir()
    for amount, name in enumerate("abc", 1):
        write(worker(amount), together, name)
    compact(together, lambda name: True)
    texts = {str(sorted((about, point[:4]) for about, points in each.items() for point in points.values()))
             for each in [*results, read(together).families]}  # fmt: skip
    assert len(texts) == 1


class Killed(BaseException):
    """At once, and nothing more."""


def killed_after(monkeypatch, operations):
    """Let the process die before the given operation on the file system, and after it."""
    count = itertools.count()

    def guarded(name, operation):
        def run(*args, **kwargs):
            if next(count) == operations:
                raise Killed
            result = operation(*args, **kwargs)
            if next(count) == operations:
                raise Killed
            return result

        return run

    monkeypatch.setattr(Path, "write_bytes", guarded("write", Path.write_bytes))
    monkeypatch.setattr(Path, "unlink", guarded("unlink", Path.unlink))
    monkeypatch.setattr(os, "link", guarded("link", os.link))


def test_killed_at_each_step(tmp_path, monkeypatch):
    """Invariant 2: whatever is left behind, the sum is right, and the next one finishes the work."""
    for step in itertools.count():
        path = tmp_path / f"{step}"
        path.mkdir()
        write(worker(1), path, "first")
        compact(path, lambda name: True)
        for amount, name in enumerate("ab", 2):
            write(worker(amount), path, name)
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            try:
                compact(path, lambda name: True)
            except Killed:
                finished = False
            else:
                finished = True
        assert total(path) == 6
        compact(path, lambda name: True)
        assert total(path) == 6
        assert [name for name in names(path) if not name.endswith(".draft")] == ["2.retired"]
        if finished:
            break
    assert step > 10


def test_old_drafts_are_removed(tmp_path, monkeypatch):
    """Those of processes that were killed over them, older than an hour; not those that are being written."""
    monkeypatch.setattr(time, "time", lambda: 10_000.0)
    for age in (0, 3600, 3601):
        (tmp_path / f"{age}.draft").write_text("x", "utf-8")
        os.utime(tmp_path / f"{age}.draft", (10_000 - age,) * 2)
    compact(tmp_path)
    assert names(tmp_path) == ["0.draft", "3600.draft"]


def test_another_process_may_be_faster_to_remove(tmp_path, monkeypatch):
    """Anyone may remove what is superfluous: a worker's file, an older generation, a draft."""
    unlink = Path.unlink

    def late(self, missing_ok=False):
        if self.suffix != ".draft":
            unlink(self)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", late)
    (tmp_path / "gone.draft").symlink_to(tmp_path / "nowhere")
    for amount in (1, 2):
        write(worker(amount), tmp_path, f"{amount}")
        assert compact(tmp_path, lambda name: True) == 1
    assert names(tmp_path) == ["2.retired", "gone.draft"]
    assert total(tmp_path) == 3


def test_files_of_others_stay(tmp_path):
    """A name that is no number is no generation."""
    (tmp_path / "notes.retired").write_text("x", "utf-8")
    for amount in (1, 2):
        write(worker(amount), tmp_path, f"{amount}")
        assert compact(tmp_path, lambda name: True) == 1
    assert names(tmp_path) == ["2.retired", "notes.retired"]
    assert total(tmp_path) == 3


def test_the_faster_of_two_wins(tmp_path, monkeypatch):
    """Both take in the same files; the slower one leaves everything as it is."""
    write(worker(1), tmp_path, "a")
    link = os.link
    inner = []

    def slow(draft, path):
        monkeypatch.setattr(os, "link", link)
        inner.append(compact(tmp_path, lambda name: True))
        link(draft, path)

    monkeypatch.setattr(os, "link", slow)
    assert compact(tmp_path, lambda name: True) == 0
    assert inner == [1]
    assert names(tmp_path) == ["1.retired"]
    assert total(tmp_path) == 1


def test_one_that_is_two_generations_behind_removes_nothing(tmp_path, monkeypatch):
    """Its number is free again, but what it says is out of date."""
    write(worker(1), tmp_path, "a")
    link = os.link

    def slow(draft, path):
        monkeypatch.setattr(os, "link", link)
        compact(tmp_path, lambda name: True)
        write(worker(2), tmp_path, "b")
        compact(tmp_path, lambda name: True)
        write(worker(4), tmp_path, "a")
        link(draft, path)

    monkeypatch.setattr(os, "link", slow)
    assert compact(tmp_path, lambda name: True) == 0
    assert total(tmp_path) == 7
    assert compact(tmp_path, lambda name: True) == 1
    assert total(tmp_path) == 7
    assert names(tmp_path) == ["3.retired"]


def test_a_generation_that_vanished_is_another_processs_work(tmp_path, monkeypatch):
    """Whoever finds its base gone, or broken, takes nothing in."""
    write(worker(1), tmp_path, "a")
    compact(tmp_path, lambda name: True)
    write(worker(2), tmp_path, "b")
    (tmp_path / "1.retired").write_bytes(b"broken")
    assert compact(tmp_path, lambda name: True) == 0
    assert names(tmp_path) == ["1.retired", "b.metrics"]
    assert read(tmp_path).skipped == 1


def test_a_worker_that_comes_back_under_its_name_counts(tmp_path, monkeypatch):
    """Only the file that was taken in is left out, by its checksum."""
    write(worker(1), tmp_path, "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        compact(tmp_path, lambda name: True)
    assert total(tmp_path) == 1
    write(worker(5), tmp_path, "a")
    assert total(tmp_path) == 6
    compact(tmp_path, lambda name: False)
    assert total(tmp_path) == 6


def test_a_reader_begins_again(tmp_path, monkeypatch):
    """Invariant 3: a generation that comes while it reads would be counted beside what it has taken in."""
    for amount, name in enumerate(["a", "b", "c"], 1):
        write(worker(amount), tmp_path, name)
    reading = folder._read_file

    def slow(path):
        found = reading(path)
        if path.stem == "b":
            monkeypatch.setattr(folder, "_read_file", reading)
            compact(tmp_path, lambda name: True)
        return found

    monkeypatch.setattr(folder, "_read_file", slow)
    assert total(tmp_path) == 6


def test_a_reader_does_not_try_for_ever(tmp_path, monkeypatch):
    """A scrape that is a little off is better than one that hangs."""
    write(worker(3), tmp_path, "a")
    numbers = itertools.count()
    monkeypatch.setattr(folder, "_newest", lambda path: next(numbers))
    assert total(tmp_path) == 3
    assert next(numbers) == 2 * folder.PATIENCE


@pytest.mark.parametrize("name", ["worker", "-1", "", "one-1", "9" * 30, "½"])
def test_names_that_are_no_process_are_not_gone(name):
    """Their death must be told."""
    assert not is_gone(name)


def test_processes(tmp_path):
    """This one lives, one that has ended does not, one of another user is not ours to judge."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert is_gone(f"{done.pid}-ab12")
    assert is_gone(f"{done.pid}-host-1")
    assert is_gone(f"{done.pid}")
    assert not is_gone(f"{os.getpid()}-ab12")


def test_who_may_not_ask_does_not_call_it_gone(monkeypatch):
    """Permission denied means that it is there."""

    asked = []

    def refuse(process, signal):
        asked.append((process, signal))
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_gone("1-ab12")
    assert asked == [(1, 0)]  # which asks, and sends nothing


def test_windows_cannot_tell(monkeypatch):
    """There the question would end the process."""
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "kill", None)
    assert not is_gone("1-ab12")


WORKER = """
import sys
from pathlib import Path
from mcp_metrics import Registry, compact, write
registry = Registry()
jobs = registry.counter("jobs", "Jobs.").bind()
folder = Path(sys.argv[1])
while True:
    jobs.inc()
    write(registry, folder)
    print(flush=True)
    compact(folder)
"""


@pytest.mark.uninstrumented
def test_workers_killed_at_any_time(tmp_path):
    """Invariants 2 and 3 with kill -9: workers that count, and all of which compact, die and are followed by others."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    rng = random.Random(1)
    least, seen = 0, [0]
    for _ in range(3):
        workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
        for process in workers:
            process.stdout.readline()
        for process in workers:
            until = time.monotonic() + rng.uniform(0.02, 0.1)
            while time.monotonic() < until:
                seen.append(total(tmp_path))
            process.send_signal(signal.SIGKILL)
            least += 1 + len(process.communicate()[0])
            seen.append(total(tmp_path))
    assert seen == sorted(seen)
    assert least <= seen[-1] <= least + 9  # what was written, and not yet told of
    while compact(tmp_path):
        pass
    assert total(tmp_path) == seen[-1]
    assert [name for name in names(tmp_path) if name.endswith(".metrics")] == []
    assert snapshot(read(tmp_path)).skipped == 0
