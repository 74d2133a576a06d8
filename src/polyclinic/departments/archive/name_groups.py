"""Component groups of a folded person name as SQL expressions that have indexes (PS3.5 6.2.1).

A name holds up to three groups between equals signs: alphabetic, ideographic, phonetic. They are computed from the one
column that keeps the name, so nothing has to be kept in step with it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import Integer, Text

GROUPS = 3


class _Group(GenericFunction[str]):
    """One group of a name; compares byte by byte in every database."""

    type = Text()
    number = 1


class AlphabeticGroup(_Group):
    """The first group."""

    inherit_cache = True
    name = "name_group_1"


class IdeographicGroup(_Group):
    """The second group, empty when there is none."""

    inherit_cache = True
    name = "name_group_2"
    number = 2


class PhoneticGroup(_Group):
    """The third group, empty when there is none."""

    inherit_cache = True
    name = "name_group_3"
    number = 3


class _FirstEqualsSign(GenericFunction[int]):
    """Position of the first equals sign in a name, 0 when there is none."""

    type = Integer()
    inherit_cache = True
    name = "name_first_equals_sign"


def has_groups(column: Any) -> ColumnElement[bool]:
    """Whether a name has more than its first group; the indexes on the others hold such names only."""
    return _FirstEqualsSign(column) > literal_column("0")  # spelt out, as in the definition of the indexes


_KINDS = (AlphabeticGroup, IdeographicGroup, PhoneticGroup)


def group(column: Any, number: int) -> Any:
    """Group `number` (from 1) of the folded names in `column`."""
    return _KINDS[number - 1](column)


@compiles(AlphabeticGroup, "sqlite")
@compiles(IdeographicGroup, "sqlite")
@compiles(PhoneticGroup, "sqlite")
def _sqlite_group(element: Any, compiler: Any, **arguments: Any) -> str:
    rest = _column(element, compiler, arguments)
    for _ in range(element.number - 1):
        rest = f"substr({rest}, instr({rest} || '=', '=') + 1)"
    return f"substr({rest}, 1, instr({rest} || '=', '=') - 1)"


@compiles(AlphabeticGroup)
@compiles(IdeographicGroup)
@compiles(PhoneticGroup)
def _split_part(element: Any, compiler: Any, **arguments: Any) -> str:
    return f"(split_part({_column(element, compiler, arguments)}, '=', {element.number}) COLLATE \"C\")"


@compiles(_FirstEqualsSign, "sqlite")
def _instr(element: Any, compiler: Any, **arguments: Any) -> str:
    return f"instr({_column(element, compiler, arguments)}, '=')"


@compiles(_FirstEqualsSign)
def _strpos(element: Any, compiler: Any, **arguments: Any) -> str:
    return f"strpos({_column(element, compiler, arguments)}, '=')"


def _column(element: Any, compiler: Any, arguments: dict[str, Any]) -> str:
    return str(compiler.process(next(iter(element.clauses)), **arguments))
