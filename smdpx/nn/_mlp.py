"""A multilayer perceptron for scores of small states, called per sample as ``net(t, x, args)``.

With h₀ = [x / x_scale, log max(t, t_min)] and the activation σ,

    hᵢ = σ(Wᵢ hᵢ₋₁ + bᵢ),    net(t, x) = out_scale · (W h + b),

reshaped to x's shape. The defaults are the network of arXiv:2301.10250, §4.1.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._types import Args, Key, RealScalarLike
from ..solving._options import integer
from ..solving._validate import check_is_key, levels_to_user
from ._named import as_name, by_name
from ._one_array import as_state, check_positive, check_shape

# Draws are counted in powers of two from here on: small networks share one compiled draw.
_FEWEST_DRAWS = 2**14
# Of the range of log t: that of times 20 and 21 is as much.
_LEAST_SEEN = 0.05
# Of the times, the share that may lie below `t_min` and count as one.
_MOST_BLIND = 0.2


class MLP(eqx.Module):
    """A multilayer perceptron of [x, log t] that returns an array shaped like x.

    As a score it stands for ∇ₓ log p_t(x), whose size is about 1 / (standard deviation of p_t). For
    p_t a narrow peak that diffuses, good values are ``x_scale`` = the standard deviation of x at
    the end time and ``out_scale`` = 1/g: the inputs and what the last layer must return are then of
    order one, which Adam at its usual learning rates wants.

    Args:
        shape: one state's shape; ``()`` is a scalar state.
        widths: the hidden layers' widths. The default has 2,536 parameters for a scalar state.
        activation: acts elementwise after each hidden layer; holds no parameters. A network with a function that can be
            imported by its name, as all of `jax.nn` can, can be pickled.
        t_min: smallest time that the network tells apart, > 0. Times below count as ``t_min``.
        x_scale: typical size of x, > 0; the input is x / ``x_scale``.
        out_scale: typical size of what is learned, > 0; the output is multiplied by it.
        key: draws the weights.
        dtype: of the weights; by default JAX's default float.

    Raises:
        ValueError: a width, a scale or ``t_min`` is not positive; or, when called, x is not one
            state of shape ``shape``.
        TypeError: widths that are no integers, a scale that is no number, or no key.

    >>> import jax, jax.numpy as jnp
    >>> net = MLP(x_scale=1.0, out_scale=1 / 0.03, key=jax.random.key(0))
    >>> net(0.5, jnp.array(1.0)).shape
    ()
    >>> jax.vmap(net, in_axes=(None, 0))(0.5, jnp.linspace(-1, 1, 512)).shape
    (512,)
    """

    weights: tuple[Float[Array, "ins outs"], ...]
    biases: tuple[Float[Array, " outs"], ...]
    shape: tuple[int, ...] = eqx.field(static=True)
    # Static, so that every leaf is an array: weights can be averaged by a plain jax.tree.map.
    activation: Callable[[Array], Array] = eqx.field(static=True)
    t_min: float = eqx.field(static=True)
    x_scale: float = eqx.field(static=True)
    out_scale: float = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        widths: tuple[int, ...] = (30, 30, 25, 20, 10),
        activation: Callable[[Array], Array] = jax.nn.elu,
        t_min: float | int = 1e-3,
        *,
        x_scale: float | int = 1.0,
        out_scale: float | int = 1.0,
        key: Key,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        check_positive(t_min=t_min, x_scale=x_scale, out_scale=out_scale)
        if not np.iterable(widths):
            raise TypeError(f"`widths` are those of the hidden layers, such as (30, 30); got {widths!r}.")
        widths = tuple(integer(f"widths[{i}]", width) for i, width in enumerate(widths))
        if any(width < 1 for width in widths):
            raise ValueError(f"`widths` must be positive, got {widths}")
        check_shape(shape, "MLP")
        shape = tuple(map(int, shape))
        size = math.prod(shape)
        sizes = (size + 1, *widths, size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.weights, self.biases = _init_arrays(key, sizes, dtype)
        self.shape = shape
        self.activation = activation
        self.t_min = float(t_min)
        self.x_scale = float(x_scale)
        self.out_scale = float(out_scale)

    def __call__(self, t: RealScalarLike, x: Float[Array, "*shape"], args: Args = None) -> Float[Array, "*shape"]:
        """Evaluate the network on one sample; ``args`` is ignored.

        Args:
            t: physical time, a scalar.
            x: one state.
            args: ignored.

        Returns:
            An array shaped like ``x``.

        Raises:
            ValueError: ``x`` is not one state of the network's shape.
            TypeError: a tree of arrays.
        """
        del args
        x = as_state(x, "MLP")
        if x.shape != self.shape:
            raise ValueError(
                f"`x` must be one state of shape {self.shape}, got shape {x.shape}. For a batch, "
                "write `jax.vmap(net, in_axes=(None, 0))(t, x)`; for other states, `MLP(shape=...)`"
            )
        # Solvers have stages at t = 0, where log t would be -inf and poison every later stage.
        log_t = jnp.log(jnp.maximum(jnp.asarray(t, x.dtype), self.t_min))
        h = jnp.concatenate([x.reshape(-1) / self.x_scale, log_t[None]])
        # h @ W, not W @ h: under vmap it is one (batch, in) @ (in, out) with no transpose.
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = self.activation(h @ weight + bias)
        h = h @ self.weights[-1] + self.biases[-1]
        return self.out_scale * h.reshape(self.shape)

    def check_times(self, first: float, last: float) -> None:
        """Warn where log max(t, t_min) is nearly the same at all times of the data, or one at many; `fit` asks.

        Args:
            first: the first time of the data.
            last: the last.
        """
        seen = math.log(max(last, self.t_min) / max(first, self.t_min))
        if seen < _LEAST_SEEN:
            warnings.warn(
                f"`MLP` sees log max(t, {self.t_min:g}), which hardly differs between t = {first:g} and {last:g}: it "
                "cannot tell these times apart. Give it the clock of the data, `sx.nn.Whitened(net, paths)`, or for "
                "short times a smaller `t_min`.",
                stacklevel=levels_to_user(),
            )
        elif first < 0 or self.t_min - first > _MOST_BLIND * (last - first):
            warnings.warn(
                f"`MLP` sees log max(t, {self.t_min:g}): all times from t = {first:g} to {self.t_min:g} are one to "
                f"it, {(self.t_min - first) / (last - first):.0%} of those up to {last:g}. Give it the clock of the "
                "data, `sx.nn.Whitened(net, paths)`, or times that begin at 0 and a smaller `t_min`.",
                stacklevel=levels_to_user(),
            )

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the activation by its name."""
        return {**vars(self), "activation": as_name(self.activation)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill the network with what `__getstate__` gave."""
        vars(self).update(state, activation=by_name(state["activation"]))


def _init_arrays(
    key: Key, sizes: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> tuple[tuple[Float[Array, "_ _"], ...], tuple[Float[Array, " _"], ...]]:
    check_is_key(key)
    count = sum(ins * outs for ins, outs in pairwise(sizes))
    # More than needed, so that other widths find this program compiled; the first draws don't depend on their number.
    draws = max(_FEWEST_DRAWS, 1 << (count - 1).bit_length())
    # Haiku's default, which the paper's network has: normal, cut at two deviations, times
    # 1/sqrt(fan_in), not rescaled for the cut. Wider than Equinox's uniform by a factor of 1.5.
    return _cut(jr.truncated_normal(key, -2.0, 2.0, (draws,), dtype), sizes)


# One program for all layers, biases too, and the draw not in it: XLA would compile the draw anew for each layer.
@partial(jax.jit, static_argnames="sizes")
def _cut(
    flat: Float[Array, " draws"], sizes: tuple[int, ...]
) -> tuple[tuple[Float[Array, "_ _"], ...], tuple[Float[Array, " _"], ...]]:
    shapes = list(pairwise(sizes))
    ends = [0, *accumulate(ins * outs for ins, outs in shapes)]
    weights = tuple(
        flat[start:end].reshape(shape) / shape[0] ** 0.5
        for shape, (start, end) in zip(shapes, pairwise(ends), strict=True)
    )
    return weights, tuple(jnp.zeros(outs, flat.dtype) for _, outs in shapes)
