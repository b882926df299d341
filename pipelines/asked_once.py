"""What Beam asks again and again of the same flags and functions is found out once. Flags were a quarter of what a small build
took, functions a third (docs/log.md)."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core, userstate

ArgsAndDefaults = tuple[list[str], list[Any]]
Specs = tuple[set[Any], set[Any]]  # of state and of timers


class Options(PipelineOptions):  # type: ignore[misc]
    """Beam's options, each view of which is made once. Beam asks for a view at every step of a pipeline that it builds, and for
    each parses all flags anew."""

    def view_as(self, cls: type[Any]) -> Any:
        """The view: all of them share their values."""
        views = self.__dict__.setdefault("views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def remember_functions() -> None:
    """Makes this process read the signature of a function once, and look for state and timers once in a class of DoFns: Beam does
    both at each of a dozen steps of a run, with every method of every DoFn, and no DoFn of ours has any."""
    if not hasattr(core.get_function_args_defaults, "__wrapped__"):
        core.get_function_args_defaults = _signatures(core.get_function_args_defaults)
        userstate.get_dofn_specs = _specs(userstate.get_dofn_specs)


def _specs(real: Callable[[core.DoFn], Specs]) -> Callable[[core.DoFn], Specs]:
    @functools.cache
    def may_have(kind: type) -> bool:
        methods = [method for name in dir(kind) if inspect.isfunction(method := getattr(kind, name, None))]
        is_plain = kind.__getattribute__ is object.__getattribute__ and not any(
            hasattr(m, "__wrapped__") for m in methods
        )
        defaults = [[*(m.__defaults__ or ()), *(m.__kwdefaults__ or {}).values()] for m in methods]
        return not is_plain or any(map(_has_any, defaults))

    @functools.wraps(real)
    def remembering(dofn: core.DoFn) -> Specs:
        given = dofn._inspect_process()[1] if isinstance(dofn, core.CallableWrapperDoFn) else ()
        return real(dofn) if may_have(type(dofn)) or _has_any(given) else (set(), set())

    return remembering


def _has_any(defaults: Iterable[object]) -> bool:
    return any(isinstance(one, core._StateDoFnParam | core._TimerDoFnParam) for one in defaults)


def _signatures(real: Callable[[Any], ArgsAndDefaults]) -> Callable[[Any], ArgsAndDefaults]:
    known: dict[bool, weakref.WeakKeyDictionary[Any, ArgsAndDefaults]] = {
        is_bound: weakref.WeakKeyDictionary() for is_bound in (False, True)
    }

    @functools.wraps(real)
    def remembering(function: Any) -> ArgsAndDefaults:
        is_bound = inspect.ismethod(function)
        own = function.__func__ if is_bound else function
        if not isinstance(own, types.FunctionType):
            return real(function)
        found = known[is_bound].get(own)
        if found is None:
            found = known[is_bound][own] = real(function)
        args, defaults = found
        return [*args], [*defaults]

    return remembering
