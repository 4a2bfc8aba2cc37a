"""HostStore: the model again, processes that are killed or stopped, and a file that is full, foreign or old."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from mcp_ratelimit import (
    Limit,
    RateLimited,
    RateLimiter,
    RateLimitMiddleware,
    Refused,
    StoreFailed,
    StoreRecovered,
    _hostlocks,
    _hosttable,
)
from mcp_ratelimit._standins import MAX_KEYS, OVERFLOW, stand_in
from mcp_ratelimit.hostfile import HostStore

from tests.ratelimit.walks import ALGORITHMS, Time, limit_of, walk
from tests.ratelimit.workers import hammer, worst

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl locks")


@pytest.fixture
def store_of(tmp_path):
    time = Time()
    stores = []

    def make(**options):
        stores.append(HostStore(tmp_path / "limits", **{"keys": 64, "clock": time, "wall_clock": time, **options}))
        return stores[-1]

    make.time = time
    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_answer_equals_that_of_the_model(store_of, algorithm):
    """The same walk as in memory."""
    walk(limit_of(algorithm, 5, 7.0, 3), store_of(), store_of.time, 1500)


def test_two_processes_see_one_state(store_of):
    """Two stores on one folder are as two processes are: nothing but the file connects them."""
    one, other = (RateLimiter("3/h", "5/h", store=store_of()) for _ in range(2))
    assert [one.try_acquire(("ann", "all")), other.try_acquire(("ann", "all"), 2)] == [True, True]
    assert not one.try_acquire(("ann", "all"))
    assert other.peek(("bob", "all"), 3).violated == ("5/h",)
    other.refund(("ann", "all"))
    assert one.try_acquire(("ann", "all"))
    one.reset(("ann", "all"))
    one.reset("stranger")
    assert other.take_up_to(("ann", "all"), 9) == 3
    assert one.statistics().keys == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_short_way_decides_as_the_long_one(store_of, algorithm):
    """try_acquire takes it, or leaves all but GCRA to the long one; check never does, and they must agree."""
    rng = random.Random(4)
    time = store_of.time
    stores = store_of(), HostStore(store_of().folder / "other", keys=64, clock=time, wall_clock=time)
    quick, long = (RateLimiter(limit_of(algorithm, 5, 1.0, 3), store=store) for store in stores)
    for _ in range(1000):
        time.now += rng.choice((0.0, 0.05, 0.2, 2.5))
        key = rng.choice("ab")
        assert quick.try_acquire(key) is long.check(key).allowed
        assert quick.peek(key) == long.peek(key)
    stores[1].close()


@pytest.mark.parametrize("key", ["key", "k" * 1000])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_short_way_is_for_token_buckets(store_of, algorithm, key):
    """It charges what is there already."""
    store = store_of()
    limiter = RateLimiter(limit_of(algorithm, 5, 1.0, 3), store=store)
    table = store.table(limiter.limits[0])
    limiter.check(key)
    quick, is_bucket = store.quickly([table]), algorithm in {"gcra", "strict_gcra"}
    assert (quick is not None and quick(key)) is is_bucket
    assert limiter.peek(key).remaining == limiter.limits[0].burst - 1 - is_bucket
    assert store.quickly([table, table]) is None


def test_a_bucket_keeps_its_keys_apart(store_of):
    """Both ways find each key's own state, wherever in the bucket it is."""
    store = store_of(keys=1)
    limiter = RateLimiter("4/h", store=store)
    quick, keys = store.quickly([store.table(limiter.limits[0])]), [f"key {number}" for number in range(16)]
    for number, key in enumerate(keys):
        assert limiter.check(key, number % 2 + 1).allowed
    assert all(quick(key) for key in keys)
    assert [limiter.check(key).remaining for key in keys] == [1, 0] * 8


@pytest.mark.parametrize("way", ["quick", "long"])
def test_a_key_is_kept_until_it_owes_nothing(store_of, way):
    """Not a tick less, and not much longer: its place is for others then."""
    store, time = store_of(), store_of.time
    limiter = RateLimiter("4/h", store=store)
    keys = [f"key {number}" for number in range(9)]
    for key in keys:
        limiter.check(key)
        assert limiter.try_acquire(key) if way == "quick" else limiter.check(key).allowed
    begin, hz = time.now, store.table(limiter.limits[0]).algorithm.hz
    time.now = begin + 1800 - 1 / hz
    assert limiter.statistics().keys == 9
    assert limiter.peek("key 0").reset_after > 0
    time.now = begin + 1800 + 3 / hz
    assert limiter.statistics().keys == 0


def test_the_short_way_leaves_a_clock_that_lags_to_the_long_one(store_of):
    """Which decides by the latest time that anybody has seen, and does not set it back."""
    early, late = (store_of(clock=Time(seconds)) for seconds in (1000.0, 4600.0))
    quick = early.quickly([early.table(Limit("2/h burst 2"))])
    limiter = RateLimiter("2/h burst 2", store=late)
    RateLimiter("2/h burst 2", store=early).check("idle")
    assert limiter.peek("idle").remaining == 2
    limiter.check("key")
    assert not quick("key")
    assert not quick("idle")
    assert limiter.peek("key").remaining == 1


def test_a_share_that_stands_in_counts_together_what_it_has_no_room_for():
    """The buckets that stopped processes hold are few, but their keys need not be."""
    table = stand_in("local", Limit("2/h burst 2"), 1, Time())
    for number in range(MAX_KEYS):
        assert table.place(f"key {number}") == f"key {number}"
        table.write(f"key {number}", 1e12)
    assert table.place("new") == OVERFLOW


def test_calendar_windows_go_by_the_wall_clock(store_of):
    """The other clock counts from the machine's start."""
    limiter = RateLimiter(
        Limit("2/day", algorithm="fixed_window"), store=store_of(clock=Time(5.0), wall_clock=Time(86400 * 3 + 80000.0))
    )
    assert limiter.check("key").reset_after == 6400
    other = RateLimiter("2/h burst 2", store=store_of(clock=Time(5.0), wall_clock=list))
    assert other.check("key", 2).reset_after == 3600


def test_the_files_are_for_this_user_alone(tmp_path):
    """Whatever the user's mask allows; folders above are made too."""
    mask = os.umask(0)
    try:
        HostStore(tmp_path / "a" / "limits", keys=16).table(Limit("2/h")).close()
    finally:
        os.umask(mask)
    folder = tmp_path / "a" / "limits"
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700, 0o600]


def test_reset_forgets_on_the_short_way_too(store_of):
    """What is left in the file of a state that was removed counts for nothing."""
    limiter = RateLimiter("3/h", store=store_of())
    for _ in range(3):
        assert [limiter.try_acquire("key") for _ in range(4)] == [True, True, True, False]
        limiter.reset("key")


def test_a_clock_that_lags_lets_nothing_more_pass(store_of):
    """The latest time that any process has seen counts for all."""
    early, late = Time(1000.0), Time(4600.0)
    one, other = (RateLimiter("2/h burst 2", store=store_of(clock=clock)) for clock in (early, late))
    assert other.try_acquire("key", 2)
    assert not one.try_acquire("key")
    early.now += 1800
    assert not one.try_acquire("key")
    late.now += 1800
    assert other.try_acquire("key")
    assert not one.try_acquire("key")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_changed_limit_keeps_what_was_used(store_of, algorithm):
    """Also for a process that is told later."""
    limiter, late = (RateLimiter(limit_of(algorithm, 20, 6000.0, 20), store=store_of()) for _ in range(2))
    store_of.time.now = 6000.0
    limiter.check("key", 6)
    limiter.set_limit(limit_of(algorithm, 8, 6000.0, 8))
    assert limiter.peek("key").remaining == 2
    assert late.peek("key").remaining == 14
    assert [limiter.try_acquire("key"), limiter.try_acquire("key")] == [True, True]
    assert late.peek("key").remaining == 12


def test_a_log_has_the_room_it_was_made_with(store_of):
    """More entries than the file has room for are refused where they are asked for."""
    limiter = RateLimiter(Limit("5/h", algorithm="sliding_log"), store=store_of())
    with pytest.raises(ValueError, match="has room for 5 entries a key, '5/h' needs more"):
        limiter.set_limit(Limit("6/h", algorithm="sliding_log"))
    for amount in (2, 5):
        limiter.set_limit(Limit(f"{amount}/h", algorithm="sliding_log"))
    assert limiter.take_up_to("key", 9) == 5


@pytest.mark.parametrize("on_full", ["overflow", "deny"])
def test_a_full_bucket_keeps_every_debt(store_of, on_full):
    """New keys share an allowance, or are refused until there is room; nobody in debt makes place."""
    limiter = RateLimiter("2/min burst 2", store=store_of(keys=1, on_full=on_full))
    keys = [f"key {number}" for number in range(16)]
    assert all(limiter.try_acquire(key, 2) for key in keys)
    assert not any(limiter.try_acquire(key) for key in keys)
    new = [limiter.try_acquire(f"new {number}") for number in range(3)]
    assert new == ([True, True, False] if on_full == "overflow" else [False] * 3)
    limiter.reset("new 1")
    refused = limiter.check("new 1")
    assert refused.retry_after == pytest.approx(30 if on_full == "overflow" else 60, abs=1e-3)
    assert limiter.check("new 1", 0).allowed
    passes_at = store_of.time.now + refused.retry_after
    store_of.time.now = passes_at - 2e-6
    assert not limiter.try_acquire("new 1")
    store_of.time.now = passes_at
    assert limiter.try_acquire("new 1")
    assert limiter.statistics().keys <= 16


def test_a_hash_may_lie_across_two_others(store_of):
    """A match between two hashes is none; found by making one on purpose."""
    store = store_of(keys=1)
    limiter = RateLimiter("2/min burst 2", store=store)
    limiter.check("a")
    table = limiter._tables[0]
    with store.locked([table], ("b",)):
        crossing = table._digest
    table._map[table._hashes + 8 : table._hashes + 24] = crossing
    assert not store.quickly([table])("b")
    assert limiter.peek("b").remaining == 2
    assert [limiter.check("b").remaining for _ in range(2)] == [1, 0]


def test_foreign_and_other_files_are_refused(tmp_path, store_of):
    """What is not ours is not written over."""
    RateLimiter("1/s", store=store_of())
    with pytest.raises(ValueError, match="made for other keys= or another amount"):
        RateLimiter("1/s", store=store_of(keys=128))
    (tmp_path / "limits" / "2%2Fs.gcra").write_text("X" * 99)
    with pytest.raises(ValueError, match="remove it or its folder"):
        RateLimiter("2/s", store=store_of())
    with pytest.raises(ValueError, match="another limit named 'x'"):
        (
            RateLimiter(Limit("2/s", name="x"), store=(store := store_of())),
            RateLimiter(Limit("3/s", name="x"), store=store),
        )


def test_a_file_that_was_left_without_a_header_is_new(tmp_path, store_of):
    """Its maker was killed between two calls of the kernel."""
    store = store_of()
    (tmp_path / "limits" / "1%2Fs.gcra").write_bytes(bytes(99))
    assert RateLimiter("1/s", store=store).try_acquire("key")


def test_a_file_of_an_earlier_boot_is_empty(store_of, monkeypatch):
    """The clock began anew, and what it said before means nothing."""
    assert RateLimiter("1/h", store=store_of()).try_acquire("key")
    monkeypatch.setattr(_hosttable, "_boot", lambda: b"another boot 123")
    assert RateLimiter("1/h", store=store_of()).try_acquire("key")
    assert not RateLimiter("1/h", store=store_of()).try_acquire("key")


def test_systems_that_do_not_tell_their_boot(monkeypatch):
    """There, a folder that a start empties is the user's part."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError))
    assert _hosttable._boot() == bytes(16)


HOLDER = """
import sys, time
from mcp_ratelimit import HostStore, RateLimiter
store = HostStore(sys.argv[1], keys=64)
limiter = RateLimiter("2/h", store=store)
limiter.try_acquire("key")
with store.locked(limiter._tables, ("key",)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of "key" under "2/h", of which it has used one, and does not go on."""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "limits")], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()


def killed(process):
    process.kill()
    process.wait()


def test_a_killed_holder_blocks_nobody(store_of, holder):
    """Invariant 2: the kernel frees the lock of whoever dies."""
    killed(holder)
    limiter = RateLimiter("2/h", store=store_of(clock=time.monotonic))
    assert [limiter.try_acquire("key"), limiter.try_acquire("key")] == [True, False]


def test_a_stopped_holder_is_waited_for_once(store_of, holder, monkeypatch):
    """Invariant 4: then each decision tries the lock, without a wait, until it is free; an event each way."""
    naps, events = [], []
    monkeypatch.setattr(_hostlocks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=naps.append))
    limiter = RateLimiter("2/h", store=store_of(clock=time.monotonic, on_event=events.append))
    assert not limiter.try_acquire("key")
    assert events == [StoreFailed("TimeoutError")]
    assert {0, _hostlocks.NAP} == set(naps)
    naps.clear()
    refused = limiter.check("key")
    assert (refused.allowed, refused.remaining, refused.violated) == (False, 0, ("2/h",))
    assert refused.retry_after == pytest.approx(0.1, abs=1e-3)
    assert limiter.check("key", 0).allowed
    other = next(name for name in map(str, range(99)) if _bucket(name) != _bucket("key"))
    assert limiter.try_acquire(other)
    assert limiter.peek(other).remaining == 1
    assert naps == []
    assert len(events) == 1
    killed(holder)
    assert limiter.try_acquire(other)
    assert [type(event) for event in events] == [StoreFailed, StoreRecovered]
    assert 0 < events[1].after < 60
    assert [limiter.try_acquire("key"), limiter.try_acquire("key")] == [True, False]
    assert len(events) == 2


def _bucket(key):
    return _hosttable._hash(key)[1] % (64 // 16)


@pytest.mark.parametrize(("policy", "passing"), [("local", 2), ("open", 9), ("closed", 0)])
def test_decides_without_the_lock(store_of, holder, policy, passing):
    """As AsyncRateLimiter does without its store: by a share, by nothing, or not at all; then by the file again."""
    store = store_of(clock=time.monotonic, on_store_error=policy, workers=2)
    limiter = RateLimiter(Limit("4/h", name="2/h"), store=store)
    assert sum(limiter.try_acquire("key") for _ in range(9)) == passing
    assert limiter.take_up_to("key", 9) == (4 if policy == "open" else 0)
    limiter.refund("key", 2)
    assert limiter.check("key", 3).allowed is (policy != "closed")  # the share is less, and is all taken
    limiter.reset("key")
    assert limiter.check("key").allowed is (policy != "closed")
    killed(holder)
    assert limiter.peek("key").remaining == 3


def test_the_share_changes_with_the_limit(store_of, holder):
    """And keeps what was used of it, as the file does."""
    limiter = RateLimiter("2/h", store=store_of(clock=time.monotonic, on_store_error="local"))
    limiter.check("key", 2)
    limiter.set_limit("5/h")
    assert limiter.take_up_to("key", 9) == 3


def test_all_limits_are_charged_or_none_without_a_lock_too(store_of, holder):
    """The others must not pay for the one that cannot be asked."""
    limiter = RateLimiter("2/h", "5/h", store=store_of(clock=time.monotonic))
    assert limiter.check("key").violated == ("2/h",)
    killed(holder)
    assert RateLimiter("5/h", store=limiter._store).peek("key").remaining == 5


async def test_waits_for_a_lock_as_for_an_allowance(store_of, holder, clock):
    """A waiter asks again from time to time, and passes when the holder has gone on or died."""
    limiter = RateLimiter("2/h", store=store_of(clock=time.monotonic))
    with pytest.raises(RateLimited):
        await limiter.acquire("key", timeout=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        await clock.advance(1)
        assert limiter.statistics().waiting == 1
        killed(holder)
    assert 1 < clock() < 1.2


async def test_the_middleware_refuses_what_it_cannot_decide(store_of, holder):
    """With the error of any refusal, and not with one that it has not made."""
    limits = RateLimitMiddleware(
        "2/h", make=partial(RateLimiter, store=store_of(clock=time.monotonic)), key=lambda ctx: "key"
    )

    async def answer(ctx):
        return {}

    with pytest.raises(Refused, match="Rate limit '2/h' exceeded; try again in 1 s"):
        await limits(SimpleNamespace(method="tools/call", params={"name": "x"}), answer)
    killed(holder)
    assert await limits(SimpleNamespace(method="tools/call", params={"name": "x"}), answer) == {}


def test_a_lock_that_is_let_go_in_time_is_taken(store_of, monkeypatch):
    """Who has waited holds the lock while it decides, as one who found it free."""
    monkeypatch.setattr(_hostlocks, "PATIENCE", 60.0)
    store = store_of()
    limiter = RateLimiter("3/h", store=store)
    limiter.try_acquire("key")
    fcntl, lockf, asked = store._fcntl, store._fcntl.lockf, []

    def busy(file, command, *where):
        asked.append((command, *where))
        if len(asked) <= 2:
            raise BlockingIOError
        lockf(file, command, *where)

    monkeypatch.setattr(fcntl, "lockf", busy)
    assert limiter.try_acquire("key")
    bucket = (1, _hostlocks._FIRST + _bucket("key"))
    assert asked == 3 * [(fcntl.LOCK_EX | fcntl.LOCK_NB, *bucket)] + [(fcntl.LOCK_UN, *bucket)]
    assert limiter.peek("key").remaining == 1


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("algorithm", "most"), [("gcra", 200), ("sliding_log", 100)])
def test_four_processes_never_pass_the_bound(tmp_path, algorithm, most):
    """Invariant 1, with real processes on a real file; wall clocks may differ, the monotonic one is the kernel's."""
    job = {"host": str(tmp_path), "amount": 100, "period": 0.5, "algorithm": algorithm, "seconds": 1.2}
    passed = hammer(job, (0, 1, 1, 2))
    assert 0 < worst(passed, 0.5) <= most
    assert len(passed) >= 150


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keys": 0}, ValueError, "keys >= 1, got 0"),
        ({"keys": True}, TypeError, "keys to be a whole number, got True"),
        ({"on_full": "evict"}, ValueError, "on_full to be one of ('overflow', 'deny'), got 'evict'"),
        (
            {"on_store_error": "allow"},
            ValueError,
            "on_store_error to be one of ('local', 'open', 'closed'), got 'allow'",
        ),
        ({"workers": 0}, ValueError, "workers >= 1, got 0"),
        ({"on_event": 3}, TypeError, "on_event to be a function of the event, got 3"),
        ({"clock": 3}, TypeError, "clock to be a function that returns seconds, got 3"),
        ({"wall_clock": None}, TypeError, "wall_clock to be a function that returns seconds, got None"),
    ],
)
def test_nonsense(tmp_path, options, error, message):
    """Refused at construction."""
    with pytest.raises(error, match=f"^{re.escape(f'HostStore needs {message}')}$"):
        HostStore(tmp_path, **options)
