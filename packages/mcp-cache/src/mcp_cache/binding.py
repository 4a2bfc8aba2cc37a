"""The arguments of a cached call, bound by Python itself: the wrapper is compiled with the function's own parameters.

Whatever way an argument is passed, by place, by name or not at all, it is then a local variable, at no cost; binding by
``inspect.Signature`` would cost fifty awaits. For ``async def price(item, *, currency="EUR")``, this is compiled::

    async def __cached__(item, *, currency):  # the default is put in place afterwards
        __entry__ = __find__((item, currency)) if __type__(item) in __raw__ and __type__(currency) in __raw__ else None
        if __entry__ is not None and __entry__.fast_until > __clock__():
            return __entry__.value
        return await __missed__((item, currency))

Names of the form ``__name__`` are Python's own, so no parameter has one. A function with ``*args`` or ``**kwargs`` has
no fast way: a tuple and a dictionary are never raw.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Hashable
from typing import Any
from weakref import ref

from .entries import Entry
from .keys import RAW, Unkeyable

__all__ = ["Binding"]

Values = tuple[Any, ...]

TEMPLATE = """
def __make__(__find__, __clock__, __missed__):
    __hits__ = 0

    async def __cached__{parameters}:
        nonlocal __hits__
        try:
            __entry__ = __find__({key}) if {is_raw} else None
        except TypeError:  # an instance without a hash, or that cannot be referred to weakly
            __entry__ = None
        if __entry__ is not None and __entry__.fast_until > __clock__():
            __entry__.hits += 1
            __hits__ += 1
            return __entry__.value
        return await __missed__({values})

    return __cached__, lambda: __hits__

def __values__{parameters}:
    return {values}

def __call__(__fn__, {names}):
    return __fn__({arguments})
"""


class Binding:
    """The parameters of *fn*, and what is made of them; *freeze* makes the part of the key that stands for an argument.

    The instance of a method is held by a weak reference, so that the cache does not keep it alive. Arguments that *fn*
    would not take raise the TypeError that Python has for them.
    """

    def __init__(self, fn: Callable[..., Any], freeze: Callable[[Any], Hashable]) -> None:
        parameters = inspect.signature(fn).parameters
        self._fn = fn
        self._freeze = freeze
        self._names = tuple(parameters)
        self.is_method: bool = self._names[:1] == ("self",)
        self._defaults = tuple(
            p.default for p in parameters.values() if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY
        )
        self._keyword_defaults = {
            name: p.default for name, p in parameters.items() if p.default is not p.empty and p.kind is p.KEYWORD_ONLY
        }
        self._namespace: dict[str, Any] = {"__raw__": RAW, "__ref__": ref, "__type__": type}
        exec(compile(self._source(parameters), f"<the cached {fn.__qualname__}>", "exec"), self._namespace)  # noqa: S102  # the names are those of a function that Python has compiled before
        self.values: Callable[..., Values] = self._with_defaults(self._namespace["__values__"])
        """Takes what *fn* takes; returns the arguments in the order of the parameters, defaults filled in."""

    def wrapper(
        self,
        find: Callable[[Any], Entry | None],
        clock: Callable[[], float],
        missed: Callable[[Values], Coroutine[Any, Any, Any]],
    ) -> tuple[Callable[..., Any], Callable[[], int]]:
        """Return a function that takes what *fn* takes and asks *find*, then *missed*; and one that counts its hits."""
        cached, hits = self._namespace["__make__"](find, clock, missed)
        return self._with_defaults(cached), hits

    def key(self, values: Values) -> Hashable:
        """Return the key of one call: one argument alone, or a tuple. Raises Unkeyable, naming the argument."""
        parts: list[Hashable] = []
        for value in values:
            try:
                part = ref(value) if self.is_method and not parts else self._freeze(value)
                hash(part)
            except TypeError as error:
                name = self._names[len(parts)]
                raise Unkeyable(f"argument {name!r} of {self._fn.__qualname__}(): {error}", name) from None
            parts.append(part)
        return parts[0] if len(parts) == 1 else tuple(parts)

    def call(self, values: Values) -> Any:
        """Call *fn* with what ``values`` returned."""
        return self._namespace["__call__"](self._fn, *values)

    def _with_defaults(self, compiled: Any) -> Any:
        compiled.__defaults__, compiled.__kwdefaults__ = self._defaults, self._keyword_defaults
        return compiled

    def _source(self, parameters: Any) -> str:
        """Fill in the template."""
        passed = {
            inspect.Parameter.VAR_POSITIONAL: "*{0}",
            inspect.Parameter.KEYWORD_ONLY: "{0}={0}",
            inspect.Parameter.VAR_KEYWORD: "**{0}",
        }
        names = self._names
        keys = ["__ref__(self)", *names[1:]] if self.is_method else names
        checks = [f"__type__({name}) in __raw__" for name in names[self.is_method :]]
        return TEMPLATE.format(
            parameters=inspect.Signature([inspect.Parameter(p.name, p.kind) for p in parameters.values()]),
            is_raw=" and ".join(checks) or "True",
            key=f"({', '.join(keys)})",  # of one alone, no tuple
            values=f"({''.join(f'{name}, ' for name in names)})",
            names=", ".join(names),
            arguments=", ".join(passed.get(p.kind, "{0}").format(p.name) for p in parameters.values()),
        )
