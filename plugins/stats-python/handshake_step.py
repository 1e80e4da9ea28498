"""Write a Handshake workflow step in Python: typed input and output, their schemas, and errors as the host expects them.

    from dataclasses import dataclass
    from handshake_step import step

    @dataclass
    class Input:
        text: str

    @dataclass
    class Output:
        words: int

    def run(context, input: Input) -> Output:
        return Output(words=len(input.text.split()))

    Handler = step(run, name="count-words", version="0.1.0", capabilities=[])

The host's interfaces are modules of `wit_world.imports`: `models`, `artifacts`, `documents`, `secrets`, `config`, `log`,
`progress`. Files are read and written with `open`, below `/<mount>`; a refusal there is a `PermissionError`. Requests are sent with
`handshake_http`.

A call that the host refuses raises `Err`. Left alone, it ends the step as what it is: a denial stays one, what may pass
by itself may be retried, the rest, an `OSError` too, is final.
"""

import dataclasses
import json
import types as python_types
import typing

from componentize_py_types import Err
from wit_world.exports import handler

try:
    from wit_world.imports import types
except ImportError:  # The world imports another interface of that name, such as WASI's.
    from wit_world.imports import handshake_step_types as types


class StepError(Exception):
    """The step failed for good; trying again will not mend it."""

    def raw(self):
        return handler.StepError_Permanent(str(self))


class TransientError(StepError):
    """The step failed, but trying again may help."""

    def raw(self):
        return handler.StepError_Transient(str(self))


class InvalidInput(StepError):
    """The input is not what the step takes."""

    def raw(self):
        return handler.StepError_InvalidInput(str(self))


def denial(error):
    """The denial in an error of a call, with `capability`, `resource`, `reason` and `remedy`; None if it is no refusal."""
    value = error.value if isinstance(error, Err) else None
    return value.value if isinstance(value, types.CallError_Denied) else None


def step(run, *, name, version, capabilities=()):
    """Makes a function the step that this component exports; the result must be called `Handler`.

    The function's annotations are its schemas: dataclasses of `str`, `int`, `float`, `bool`, lists, dictionaries with
    text as keys, `X | None` and other dataclasses. Name, version and capabilities must agree with plugin.toml.
    """
    hints = typing.get_type_hints(run)
    parameters = [hint for name, hint in hints.items() if name != "return"]
    if not parameters or "return" not in hints:
        raise TypeError("the step needs annotations: def run(context, input: Input) -> Output")
    takes, gives = parameters[-1], hints["return"]
    input_schema, output_schema = json.dumps(schema(takes, True)), json.dumps(schema(gives, False))

    class Handler:
        def describe(self):
            return handler.Descriptor(name, version, input_schema, output_schema, list(capabilities))

        def run(self, context, input):
            try:
                value = run(context, read(takes, json.loads(input), "input"))
            except StepError as error:
                raise Err(error.raw()) from error
            except Err as error:
                raise Err(_as_step_error(error.value)) from error
            except OSError as error:
                # A file, a server or a refusal that the step has no answer to; anything else is a mistake in it, and a trap shows where.
                raise Err(handler.StepError_Permanent(str(error))) from error
            # allow_nan: NaN is no JSON, and the host would refuse it with less to say.
            return handler.Output(json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")), [])

    return Handler


def _as_step_error(value):
    match value:
        case types.CallError_Denied(denied):
            return handler.StepError_Denied(denied)
        case types.CallError_Unavailable(text):
            return handler.StepError_Transient(text)
        case types.CallError_Invalid(text):
            return handler.StepError_Permanent(f"not acceptable: {text}")
        case types.CallError_NotFound(text):
            return handler.StepError_Permanent(f"not found: {text}")
        case types.CallError_Failed(text):
            return handler.StepError_Permanent(text)
    return handler.StepError_Permanent(str(value))


def plain(value):
    """A value as JSON has it: dataclasses become objects."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _parts(hint):
    return typing.get_origin(hint), typing.get_args(hint)


def schema(hint, strict):
    """The JSON Schema of a type; `strict` refuses fields that are not in it."""
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = dataclasses.fields(hint)
        made = {
            "type": "object",
            "properties": {field.name: schema(hints[field.name], strict) for field in fields},
            "required": [field.name for field in fields if not strict or _is_required(field)],
        }
        return made | {"additionalProperties": False} if strict else made
    origin, arguments = _parts(hint)
    if origin is list:
        return {"type": "array", "items": schema(arguments[0], strict)}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema(arguments[1], strict)}
    if origin in (typing.Union, python_types.UnionType):
        return {"anyOf": [schema(argument, strict) for argument in arguments]}
    raise TypeError(f"{hint} has no JSON form")


def _is_required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def read(hint, value, where):
    """A JSON value as a type, or InvalidInput that says where it is none."""
    if hint in _SIMPLE:
        # In Python a bool is an int, too; in JSON it is not.
        fits = type(value) is hint or (hint is float and type(value) is int)
        if not fits:
            raise InvalidInput(f"{where}: must be {_SIMPLE[hint]}, not {json.dumps(value)[:60]}")
        return float(value) if hint is float else value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: must be object, not {json.dumps(value)[:60]}")
        hints = typing.get_type_hints(hint)
        unknown = sorted(value.keys() - hints.keys())
        if unknown:
            raise InvalidInput(f"{where}: unknown field `{unknown[0]}`, expected {', '.join(hints) or 'none'}")
        for field in dataclasses.fields(hint):
            if _is_required(field) and field.name not in value:
                raise InvalidInput(f"{where}: missing field `{field.name}`")
        return hint(**{name: read(hints[name], inner, f"{where}.{name}") for name, inner in value.items()})
    origin, arguments = _parts(hint)
    if origin is list:
        if not isinstance(value, list):
            raise InvalidInput(f"{where}: must be array, not {json.dumps(value)[:60]}")
        return [read(arguments[0], inner, f"{where}[{at}]") for at, inner in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: must be object, not {json.dumps(value)[:60]}")
        return {name: read(arguments[1], inner, f"{where}.{name}") for name, inner in value.items()}
    problem = None
    for argument in arguments:
        try:
            return read(argument, value, where)
        except InvalidInput as error:
            problem = problem or error
    raise problem
