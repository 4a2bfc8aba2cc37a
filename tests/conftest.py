"""Every async test runs on asyncio and trio in virtual time and on uvloop in real time.

A test that asks for ``clock`` runs on the two virtual backends alone. Each test has its own event loop. To narrow a
test further: ``@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)``. The variable TEST_BACKENDS names
those to which all others are narrowed, as mutation testing does for speed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import hypothesis
import pytest

from tests.support.clock import VirtualClock, guarded
from tests.support.servers import RedisServer

CHOSEN = os.environ.get("TEST_BACKENDS", "asyncio,trio,uvloop").split(",")
VIRTUAL = tuple(backend for backend in ("asyncio", "trio") if backend in CHOSEN)
REAL = tuple(backend for backend in ("uvloop",) if backend in CHOSEN)

# `--hypothesis-profile=fuzz` chooses another. A property may share fixtures between its examples: each has its own
# event loop, and its clock starts at zero.
COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.function_scoped_fixture]}
hypothesis.settings.register_profile("default", **COMMON)
hypothesis.settings.register_profile("ci", **COMMON, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("fuzz", **COMMON, max_examples=10_000)
QUICK = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # what fails need not be made small
hypothesis.settings.register_profile("mutants", **COMMON, derandomize=True, max_examples=30, phases=QUICK)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of a test."""
    marks = metafunc.definition.iter_markers("parametrize")
    narrowed = any(re.search(r"\banyio_backend\b", str(mark.args[0])) for mark in marks)
    if "anyio_backend" in metafunc.fixturenames and not narrowed:
        backends = VIRTUAL if "clock" in metafunc.fixturenames else VIRTUAL + REAL
        metafunc.parametrize("anyio_backend", backends, indirect=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Iterator[None]:
    """Let every async test fail on a deadlock and on a task left behind."""
    in_hypothesis = hasattr(pyfuncitem.obj, "hypothesis")
    holder, name = (pyfuncitem.obj.hypothesis, "inner_test") if in_hypothesis else (pyfuncitem, "obj")
    test = getattr(holder, name)
    if iscoroutinefunction(test):
        setattr(holder, name, guarded(test))
    try:
        return (yield)
    finally:
        setattr(holder, name, test)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest, _virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    """The backend and its options, fresh for each test."""
    if request.param == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return request.param, _virtual_clock.options


@pytest.fixture
def clock(anyio_backend: object, _virtual_clock: VirtualClock) -> VirtualClock:
    """The virtual time of this test: call it for the seconds, ``await clock.advance(seconds)`` to move it."""
    return _virtual_clock


@pytest.fixture
def _virtual_clock(request: pytest.FixtureRequest) -> VirtualClock:
    return VirtualClock(request.node.callspec.params["anyio_backend"])


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A private Redis or Valkey, running and empty; the test may freeze or kill it."""
    _redis_process.start()
    _redis_process.thaw()
    _redis_process.flush()
    return _redis_process


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()
