"""Functions by name, so that a module with one as a static field can be pickled.

JAX's activations are wrapped by `jax.jit` or `jax.custom_jvp`, and pickle refuses such a wrapper: what it finds inside
is not the object that bears the name. The name itself is enough to find the wrapper again.
"""

import pkgutil
from typing import Any

# Public names first: those of private modules move between versions of JAX.
_PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")


def as_name(function: Any) -> Any:
    """The name to import a function by, "jax.nn:elu", or the function itself where it has none."""
    name = getattr(function, "__qualname__", getattr(function, "__name__", ""))
    for module in (*_PUBLIC, getattr(function, "__module__", None)):
        if module and _find(f"{module}:{name}") is function:
            return f"{module}:{name}"
    return function


def by_name(name: Any) -> Any:
    """What `as_name` was given."""
    return pkgutil.resolve_name(name) if isinstance(name, str) else name


def _find(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):  # a lambda's or a local function's name leads nowhere
        return None
