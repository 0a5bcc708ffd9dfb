"""TensorFlow Serving's REST messages: JSON requests -> arrays, arrays -> JSON answers. Without TensorFlow.

As https://www.tensorflow.org/tfx/serving/api_rest and the server's `util/json_tensor.cc` say, row form and column form.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson

DEFAULT_SIGNATURE = "serving_default"
_ROWS, _COLUMNS = "instances", "inputs"
_JSON_TYPES = {"f": {int, float}, "i": {int}, "O": {str, dict}}  # of the elements of arrays, by NumPy's kind


class Refused(Exception):
    """A request that is not answered: `status` is HTTP's, the message one line."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Question:
    """A request: which signature, its inputs by name, and whether it came in row form."""

    signature: str
    inputs: dict[str, np.ndarray]
    in_rows: bool


def read_question(body: bytes, signatures: Mapping[str, Mapping[str, np.dtype]]) -> Question:
    """What a request asks.

    Args:
        body: JSON, which may hold NaN and Infinity as Python's does; bytes are objects `{"b64": "..."}`.
        signatures: name -> the types of the inputs by name; object for strings.

    Raises:
        Refused: no JSON, no such signature, not its inputs, or what is no array of their types.

    >>> signatures = {"serving_default": {"waveform": np.dtype("f4")}}
    >>> question = read_question(b'{"instances": [[0.5, 1], [0, 2]]}', signatures)
    >>> question.inputs["waveform"].shape, question.in_rows
    ((2, 2), True)
    """
    content = _parsed(body)
    name = content.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str) or (name or DEFAULT_SIGNATURE) not in signatures:
        raise Refused(400, f'Serving signature name: "{str(name)[:100]}" not found in signature def')
    name = name or DEFAULT_SIGNATURE
    types = signatures[name]
    if (_ROWS in content) == (_COLUMNS in content):
        raise Refused(400, f"expected one of the keys '{_ROWS}' and '{_COLUMNS}'")
    values = _columns_of(content[_ROWS], types) if _ROWS in content else _named(content[_COLUMNS], types)
    return Question(name, {key: _array(key, values[key], types[key]) for key in types}, _ROWS in content)


def write_answer(outputs: Mapping[str, np.ndarray], in_rows: bool) -> bytes:
    """The JSON of a signature's outputs; a lone output goes without its name.

    float32 is written with the digits that give it back; NaN and infinity as NaN, Infinity and -Infinity.

    Args:
        outputs: arrays with the batch first; of strings where they are objects.
        in_rows: `{"predictions": [...]}`, an element a row, instead of `{"outputs": ...}`.

    >>> write_answer({"scores": np.float32([[0.2, 3]])}, in_rows=True)
    b'{"predictions":[[0.2,3.0]]}'
    """
    values = {name: _texts(array) if array.dtype == object else array for name, array in outputs.items()}
    if in_rows:
        rows = zip(*values.values(), strict=True)
        key, content = (
            "predictions",
            [dict(zip(values, row, strict=True)) if len(values) > 1 else row[0] for row in rows],
        )
    else:
        key, content = "outputs", values if len(values) > 1 else next(iter(values.values()))
    if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
        return orjson.dumps({key: content}, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps({key: content}, default=lambda array: array.tolist()).encode()


def _parsed(body):
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            content = json.loads(body)  # slower, and takes NaN
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"JSON Parse error: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise Refused(400, "JSON Value: is not an object")
    return content


def _is_bytes(value):
    return isinstance(value, dict) and [*value] == ["b64"] and isinstance(value["b64"], str)


def _columns_of(rows, types):
    """Rows -> columns by name. A row is the value of the only input, or an object of the values of all."""
    if not isinstance(rows, list) or not rows:
        raise Refused(400, f"expected '{_ROWS}' to be a list with values")
    named = [isinstance(row, dict) and not _is_bytes(row) for row in rows]
    if not any(named):
        return _named(rows, types)
    for number, row in enumerate(rows):
        if not named[number] or {*row} != {*types}:
            names = ", ".join(types)
            raise Refused(400, f"Failed to process element: {number} of '{_ROWS}' list; expected an object of {names}")
    return {name: [row[name] for row in rows] for name in types}


def _named(values, types):
    """Columns by name, of such, or of the values of the only input."""
    if isinstance(values, dict) and not _is_bytes(values):
        if missing := {*types} - {*values}:
            raise Refused(400, f"Missing named input: {min(missing)}; expected {', '.join(types)}")
        return values
    if len(types) > 1:
        raise Refused(400, f"a plain value or list, but expecting objects of the inputs {', '.join(types)}")
    return dict.fromkeys(types, values)


def _array(name, value, dtype):
    """JSON's nested lists as an array of that type, if they are one."""
    expected = f"expected {'strings' if dtype.kind == 'O' else dtype.name} of one shape"
    try:
        found = _types_of(value)
        if not found <= _JSON_TYPES[dtype.kind]:
            wrong = ", ".join(sorted(kind.__name__ for kind in found - _JSON_TYPES[dtype.kind]))
            raise Refused(400, f"{name}: holds JSON values of type {wrong}; {expected}")
        if dtype.kind == "O":
            return _strings(name, value)
        exact = np.array(value, np.float64 if dtype.kind == "f" else np.int64)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Refused(400, f"{name}: {str(error)[:200]}; {expected}") from error
    with np.errstate(over="ignore", invalid="ignore"):
        array = exact.astype(dtype)
    if (array != exact).any() if dtype.kind == "i" else (np.isinf(array) != np.isinf(exact)).any():
        raise Refused(400, f"{name}: holds numbers that {dtype.name} does not; {expected}")
    return array


def _types_of(value):
    """The types of the elements of nested lists; `list` among them where some are nested deeper."""
    if not isinstance(value, list):
        return {type(value)}
    if not (value and isinstance(value[0], list)):
        return {*map(type, value)}
    found = set()
    for item in value:
        found |= _types_of(item)
    return found


def _strings(name, value):
    """Nested lists of strings, or of objects of base64, as an array of bytes."""

    def decoded(item):
        if isinstance(item, list):
            return [*map(decoded, item)]
        if isinstance(item, str):
            return item.encode()
        if not _is_bytes(item):
            raise Refused(400, f'{name}: not formatted correctly for base64 data; expected {{"b64": "..."}}')
        text = "".join(item["b64"].split())
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refused(400, f"{name}: Unable to base64 decode ({error})") from error

    array = np.array(decoded(value), dtype=object)
    if any(isinstance(item, list) for item in array.flat):
        raise ValueError("lists of different lengths")
    return array


def _texts(array):
    return np.char.decode(array.astype(bytes), "utf-8", "replace").tolist()
