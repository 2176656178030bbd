"""The heat equation on a periodic square, exact in Fourier space (arXiv:2301.10250, eq 66).

∂x/∂t = α Δx on [0, 2π]²:    x_k(t + dt) = exp(-α |k|² dt) x_k(t),    k integer
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Args, RealScalarLike
from ..equation._linear import Fourier, squared_wavenumbers
from ..solving._validate import check_precision, is_concrete


class Heat(eqx.Module):
    """Heat conduction on n × n pixels of the periodic square [0, 2π]².

    As a solver's step it is exact for any dt, and for the paper's problem run backwards by `mirror`:
    `Drift.from_step(heat.step, reverse=sx.mirror)`. As a rate, for any solver: `Drift(heat)`; it states its stiff
    linear part for `ExponentialHeun`. Rates are α|k|², up to α n²/2: explicit solvers need dt < 4/(α n²).

    Args:
        n: pixels a side, at least 2.
        alpha: conductivity, > 0; α = 1 and t up to .2 is the paper's problem. May be traced.

    Raises:
        ValueError: n or alpha out of range; or, when called, a field that is not (n, n).
        TypeError: when called, a field of whole or of complex numbers.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> heat = sx.physics.Heat(8)
    >>> wave = jnp.tile(jnp.cos(jnp.linspace(0, 2 * jnp.pi, 8, endpoint=False)), (8, 1))
    >>> print(f"{heat.step(wave, 1.0)[0, 0]:.4f}")
    0.3679
    """

    n: int = eqx.field(static=True)
    alpha: RealScalarLike = 1.0

    def __check_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"`Heat` needs at least 2 pixels a side; got n = {self.n}.")
        if is_concrete(self.alpha) and not 0 < float(self.alpha) < float("inf"):
            raise ValueError(f"`Heat` needs a conductivity alpha > 0; got {self.alpha}.")

    def __call__(self, t: RealScalarLike, x: Float[Array, "n n"], args: Args = None) -> Float[Array, "n n"]:
        """The rate αΔx.

        Args:
            t: not used.
            x: one field, shape (n, n).
            args: not used.
        """
        del args
        return self._on(x).linear(t)(x)

    def step(self, x: Float[Array, "n n"], dt: RealScalarLike) -> Float[Array, "n n"]:
        """The field after dt, exactly; a negative dt undoes it, with a round-off that grows as exp(α n² |dt| / 2).

        Args:
            x: one field, shape (n, n).
            dt: time.
        """
        return self._on(x).linear(0.0).function(lambda rates: jnp.exp(jnp.asarray(dt, rates.dtype) * rates), x)

    def linear(self, t: RealScalarLike) -> Fourier:
        """The rate as an operator, -α|k|² in Fourier space: all there is.

        Args:
            t: not used.
        """
        del t
        squares = jnp.asarray(squared_wavenumbers(self.n)[:, : self.n // 2 + 1], jnp.result_type(float))
        return Fourier(-jnp.asarray(self.alpha, squares.dtype) * squares)

    def _on(self, x: Array) -> "Heat":
        if x.shape != (self.n, self.n):
            raise ValueError(
                f"`Heat({self.n})` acts on one field of shape {(self.n, self.n)}; got shape {x.shape}. For a batch "
                "write `jax.vmap`; for other sizes `Heat(n)`."
            )
        check_precision(x.dtype, "x")
        return self
