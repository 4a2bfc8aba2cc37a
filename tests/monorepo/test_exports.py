"""What a package offers is what it lists, documents and installs."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Iterator
from importlib import metadata

import pytest

from tests.monorepo.checkout import MODULES, PACKAGES

every_package = pytest.mark.parametrize("package", PACKAGES)


def is_class(thing: object) -> bool:
    """Say whether *thing* is a class; inspect takes an alias such as `Callable[..., int]` for one on Python 3.10."""
    return issubclass(type(thing), type)


def members(thing: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that a class itself defines, as plain functions.

    None of a protocol: it has no code of its own, and says as a whole what others must have.
    """
    for name, value in vars(thing).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(function) and not getattr(thing, "_is_protocol", False):
            yield name, function


def undocumented(name: str, thing: object) -> Iterator[str]:
    """Yield the names of *thing* and of its members where a docstring is missing."""
    if is_class(thing):
        for member, function in members(thing):
            yield from undocumented(f"{name}.{member}", function)
    if is_class(thing) or inspect.isfunction(thing):
        docstring = vars(thing)["__doc__"] if is_class(thing) else thing.__doc__
        if not docstring or docstring.startswith(f"{name}("):  # the latter is written by dataclass and NamedTuple
            yield name


@every_package
def test_all_is_exact(package: str) -> None:
    """A name that is bound but not listed, or listed but not bound, is a mistake."""
    module = importlib.import_module(MODULES[package])
    bound = {name for name, value in vars(module).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert set(module.__all__) == bound - {"annotations"}


@every_package
def test_public_objects_are_documented(package: str) -> None:
    """Signature and docstring are all that a user sees in an editor."""
    module = importlib.import_module(MODULES[package])
    assert [fault for name in module.__all__ for fault in undocumented(name, getattr(module, name))] == []


@every_package
def test_version_has_one_source(package: str) -> None:
    """The module knows its version without metadata, because a vendored copy has none; the wheel must agree."""
    assert metadata.version(package) == importlib.import_module(MODULES[package]).__version__


@every_package
def test_wheel_is_typed(package: str) -> None:
    """Without py.typed in the wheel no type checker looks at the annotations."""
    assert f"{MODULES[package]}/py.typed" in map(str, metadata.files(package) or [])


def test_no_path_is_shipped_twice() -> None:
    """Installers overwrite a file that two packages ship, and uninstalling one then breaks the other."""
    shipped = list(itertools.chain(*({str(path) for path in metadata.files(package) or []} for package in PACKAGES)))
    assert len(shipped) == len(set(shipped)) > 0


def test_undocumented_sees_what_is_missing() -> None:
    """The check itself: classes, methods, properties and functions without a docstring are found."""

    class Sound:
        """Documented."""

        def method(self) -> None:
            """Documented."""

    class Faulty:
        def method(self) -> None: ...

        @property
        def value(self) -> None: ...

    assert list(undocumented("Sound", Sound)) == []
    assert list(undocumented("Faulty", Faulty)) == ["Faulty.method", "Faulty.value", "Faulty"]
