"""Finds what is wrong in the tables of a rig file, with the path to it and what is allowed.

What is allowed is read from the types in :mod:`pipeline.config`, so that no rule is written twice.
Knows config and msgspec; where a key stands in a file, and the error, are the loader's
(:mod:`pipeline.rigfile`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from pipeline.config import Rig
from pipeline.toml_lines import KeyPath

#: A table of at most so many keys is listed whole; of a longer one so many are.
FEW, NEAR = 9, 6


class Finding(msgspec.Struct):
    """What is wrong: ``path`` leads to it, ``text`` says what was found and is allowed."""

    path: KeyPath
    text: str
    #: The last name of ``path`` is not in the file: show the line of what should hold it.
    absent: bool = False


def findings(data: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong in the tables of a rig file (as ``tomllib`` gives them), in order."""
    yield from _check(data, inspect.type_info(Rig), ())


def _check(value: Any, kind: inspect.Type, path: KeyPath) -> Iterator[Finding]:
    """Yield what is wrong with ``value``, which should be of the msgspec type ``kind``."""
    table = _table_type(kind)
    if table is not None and isinstance(value, dict):
        yield from _check_table(value, table, path)
    elif isinstance(value, float) and not math.isfinite(value) and not _takes_any(kind):
        yield Finding(path, f"found {found(value)}, allowed is {_allowed(kind)}")
    else:
        yield from _check_leaf(value, kind, path)


def _check_leaf(value: Any, kind: inspect.Type, path: KeyPath) -> Iterator[Finding]:
    items = kind.item_types if isinstance(kind, inspect.TupleType) else None
    if items is not None and isinstance(value, list) and len(value) == len(items):
        for index, (item, item_kind) in enumerate(zip(value, items, strict=True)):
            yield from _check(item, item_kind, (*path, index))
        return
    if isinstance(kind, inspect.ListType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check(item, kind.item_type, (*path, index))
        return
    if isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for name, item in value.items():
            yield from _check(item, kind.value_type, (*path, name))
        return
    if not _fits(value, kind):
        yield Finding(path, f"found {found(value)}, allowed is {_allowed(kind)}")


def _check_table(
    data: Mapping[str, Any], table: inspect.StructType, path: KeyPath
) -> Iterator[Finding]:
    fields = {field.encode_name: field for field in table.fields}
    clean = True
    for name, value in data.items():
        if name not in fields:
            clean = False
            near = difflib.get_close_matches(name.lower(), fields, 1, 0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            thing = "table" if not path and isinstance(value, dict) else "key"
            yield Finding((*path, name), f"unknown {thing}; {hint}{_names(name, list(fields))}")
            continue
        for finding in _check(value, fields[name].type, (*path, name)):
            clean = False
            yield finding
    for name, field in fields.items():
        if field.required and name not in data:
            clean = False
            yield Finding((*path, name), f"missing; allowed is {_allowed(field.type)}", True)
    if clean:  # only now the checks across keys make sense
        try:
            msgspec.convert(data, table.cls, strict=True)
        except msgspec.ValidationError as error:
            text = re.sub(r" - at `\$.*`$", "", str(error))
            name, colon, rest = text.partition(": ")
            named = bool(colon) and name in data
            yield Finding((*path, name), rest) if named else Finding(path, text)
        except (RecursionError, OverflowError) as error:
            yield Finding(path, f"found a value that is out of bounds ({error})")


def _names(unknown: str, names: list[str]) -> str:
    """Say which names are allowed: all of a short table, of a long one those most like it."""
    if len(names) <= FEW:
        return f"allowed here: {', '.join(names)}"
    near = difflib.get_close_matches(unknown.lower(), names, NEAR, 0.0)
    return f"allowed here, among others: {', '.join(near)}"


def _table_type(kind: inspect.Type) -> inspect.StructType | None:
    """Give the table that ``kind`` is or may be."""
    choices = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return next((choice for choice in choices if isinstance(choice, inspect.StructType)), None)


def _takes_any(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.AnyType)


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Whether a single value is allowed; a text such as "2.5" is no number."""
    if isinstance(kind, inspect.AnyType):
        return True
    if isinstance(kind, inspect.UnionType):
        return any(_fits(value, choice) for choice in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return any(value == choice and type(value) is type(choice) for choice in kind.values)
    if isinstance(kind, inspect.ListType):
        return isinstance(value, list) and all(_fits(item, kind.item_type) for item in value)
    if isinstance(kind, inspect.TupleType):
        return (
            isinstance(value, list)
            and len(value) == len(kind.item_types)
            and all(map(_fits, value, kind.item_types))
        )
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.StrType):
        return isinstance(value, str)
    if isinstance(kind, inspect.IntType):
        return type(value) is int and -(2**63) <= value < 2**63 and _within(value, kind)
    if isinstance(kind, inspect.FloatType):
        if type(value) is int and abs(value) >= 2**63:
            return False
        return type(value) in (int, float) and math.isfinite(value) and _within(value, kind)
    return False


def _within(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _allowed(kind: inspect.Type) -> str:
    """Say in words which values a type takes."""
    if isinstance(kind, inspect.UnionType):
        words = [_allowed(c) for c in kind.types if not isinstance(c, inspect.NoneType)]
        return " or ".join(dict.fromkeys(words))
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(found(value) for value in kind.values)
    if isinstance(kind, inspect.StructType):
        needed = [field for field in kind.fields if field.required]
        if needed:
            keys = " and ".join(f"{field.encode_name} = {_allowed(field.type)}" for field in needed)
            return f"a table with {keys}"
        return f"a table of {', '.join(field.encode_name for field in kind.fields)}"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)}, each {_allowed(kind.item_types[0])}"
    if isinstance(kind, inspect.ListType):
        return f"a list, each {_allowed(kind.item_type)}"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.StrType):
        return "a text in quotes"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _allowed_number(kind)
    return "a table"


def _allowed_number(kind: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
    bounds = []
    if kind.gt is not None:
        bounds.append(f"above {kind.gt:g}")
    if kind.ge is not None:
        bounds.append(f"from {kind.ge:g}" + ("" if kind.le is not None else " up"))
    if kind.le is not None:
        bounds.append(f"to {kind.le:g}")
    return " ".join([noun, *bounds])


def found(value: Any) -> str:
    """Write a value as the file does, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "…"
        return f'"{text}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        shown = ", ".join(found(item) for item in value[:6])
        return f"[{shown}{', …' if len(value) > 6 else ''}]"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number beyond 64 bits"
    return str(value)
