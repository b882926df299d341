"""What is remembered of functions is what Beam finds out itself."""

import functools
from collections.abc import Callable

from apache_beam import DoFn
from apache_beam.coders import BytesCoder
from apache_beam.transforms import core, userstate

from pipelines import engine

STATE = userstate.BagStateSpec("seen", BytesCoder())


class Plain(DoFn):  # type: ignore[misc]
    def process(self, element: object, often: int = 2) -> object:
        return [element] * often


class Stateful(DoFn):  # type: ignore[misc]
    def process(self, element: object, seen: object = DoFn.StateParam(STATE)) -> object:
        return [element]


def decorated(method: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(method)
    def wrapped(*given: object, **named: object) -> object:
        return method(*given, **named)

    return wrapped


class Decorated(DoFn):  # type: ignore[misc]
    @decorated
    def process(self, element: object, seen: object = DoFn.StateParam(STATE)) -> object:
        return [element]


def with_state(element: object, seen: object = DoFn.StateParam(STATE)) -> object:
    return element


def test_signatures_and_state_are_those_that_beam_finds() -> None:
    assert engine.remember_functions is not None
    for remembered in (core.get_function_args_defaults, userstate.get_dofn_specs):
        assert hasattr(remembered, "__wrapped__"), "importing the engine remembers"
    for function in (Plain().process, Plain.process, with_state, print, Stateful().process):
        real = core.get_function_args_defaults.__wrapped__(function)
        for _ in range(2):
            args, defaults = core.get_function_args_defaults(function)
            assert (args, defaults) == tuple(real)
            args.append("changed"), defaults.append("changed")
    wrapped = [core.CallableWrapperDoFn(function) for function in (with_state, Plain().process)]
    for dofn in (Plain(), Stateful(), Decorated(), *wrapped):
        for _ in range(2):
            assert userstate.get_dofn_specs(dofn) == userstate.get_dofn_specs.__wrapped__(dofn)
    assert [userstate.is_stateful_dofn(one) for one in (Stateful(), Decorated(), Plain())] == [True, True, False]
