"""A griffe extension for the reference: doctests become fenced code, Equinox modules get the signature they have."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<indent>[ ]*)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """What griffe reads in the sources, made ready for the reference."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Fence every doctest of the object's docstring."""
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Give a class of annotated fields the constructor that Equinox gives it."""
        fields = [member for member in cls.members.values() if _is_field(member)]
        if "__init__" in cls.members or not fields:
            return
        kind = griffe.ParameterKind.positional_or_keyword
        parameters = [griffe.Parameter("self", kind=kind)]
        parameters += [
            griffe.Parameter(field.name, annotation=field.annotation, kind=kind, default=_default(field.value))
            for field in fields
        ]
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))


def fenced(text: str) -> str:
    """The text with a fence around each doctest, indented as the doctest is."""

    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{found[0]}\n{indent}```"

    return _EXAMPLE.sub(fence, text)


def _is_field(member: Any) -> bool:
    annotated = isinstance(member, griffe.Attribute) and member.annotation is not None
    return annotated and "property" not in member.labels and "instance-attribute" in member.labels


def _default(value: Any) -> Any:
    """The default in `eqx.field(default=...)`, or the value itself."""
    if isinstance(value, griffe.ExprCall) and str(value.function).endswith("field"):
        named = {
            argument.name: argument.value for argument in value.arguments if isinstance(argument, griffe.ExprKeyword)
        }
        return named.get("default")
    return value
