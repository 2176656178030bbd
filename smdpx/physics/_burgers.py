"""Burgers' equation on a circle: waves that steepen into shocks, which viscosity smooths.

∂u/∂t + u ∂u/∂x = ν ∂²u/∂x² + f(t, x)    on [0, L]
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Args, RealScalarLike
from ..equation._linear import Fourier
from ..solving._validate import check_precision, is_concrete


class Burgers(eqx.Module):
    """The viscous Burgers' equation on n points of a circle, forced or not.

    As a rate, `Drift(burgers)`, it states its stiff linear part, so that the exponential solvers take it, and with a
    `Diffusion` it is the stochastic equation. As a solver's step, `Drift.from_step(burgers.step, reverse=...)`, it is
    the Runge-Kutta method of fourth order with the viscosity exact (an integrating factor); each of the substeps
    needs dt ≤ 1.2 L/(n max|u|). Products see and make the waves below n/3 only, so that advection keeps the energy ½u².
    A shock of height 2U is 4ν/U wide: with fewer than some three points in it, L/n > ν/U, the waves below n/3 ring.

    Args:
        n: points, even, at least 4.
        viscosity: ν ≥ 0, in length²/time. May be traced.
        forcing: f(t, x), of the physical time and the coordinates of all points, (n,) in [0, length); None for none.
        length: the circle's length L > 0.
        substeps: solver steps in one `step`, at least 1.

    Raises:
        ValueError: an argument out of its range; or, when called, a field that is not (n,).
        TypeError: when called, a field of whole or of complex numbers.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> burgers = sx.physics.Burgers(64, viscosity=0.1)
    >>> x = jnp.linspace(0, 2 * jnp.pi, 64, endpoint=False)
    >>> u = sx.solve(sx.Drift(burgers), jnp.sin(x)[None], jnp.linspace(0, 1.5, 61), solver=sx.ExponentialHeun())[0, -1]
    >>> print(f"{jnp.abs(jnp.diff(u)).max() / jnp.diff(jnp.sin(x)).max():.1f}")  # times as steep
    3.5
    """

    n: int = eqx.field(static=True)
    viscosity: RealScalarLike = 0.01
    forcing: Callable[..., Any] | None = None
    length: float = eqx.field(static=True, default=2 * np.pi)
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if self.n < 4 or self.n % 2:
            raise ValueError(
                f"`Burgers` needs an even number of points, at least 4; got n = {self.n}. Powers of two are the "
                "fastest."
            )
        if is_concrete(self.viscosity) and not 0 <= float(self.viscosity) < float("inf"):
            raise ValueError(f"`Burgers` needs a viscosity ≥ 0; got {self.viscosity}.")
        if not 0 < self.length < float("inf"):
            raise ValueError(f"`Burgers` needs a length > 0; got {self.length}.")
        if self.substeps < 1:
            raise ValueError(f"`Burgers` needs at least one substep; got {self.substeps}.")

    def __call__(self, t: RealScalarLike, x: Float[Array, " n"], args: Args = None) -> Float[Array, " n"]:
        """The rate -½ ∂(u²)/∂x + ν ∂²u/∂x² + f.

        Args:
            t: the physical time, which only the forcing sees.
            x: one field u, shape (n,).
            args: not used.
        """
        del args
        self._check(x)
        modes = jnp.fft.rfft(x)
        return jnp.fft.irfft(self._rest(t, modes) + self._rates(x.dtype).astype(modes.dtype) * modes, self.n)

    def step(
        self, t: RealScalarLike, x: Float[Array, " n"], dt: RealScalarLike, args: Args = None
    ) -> Float[Array, " n"]:
        """The field after dt, by `substeps` equal steps; a negative dt lets all waves grow that decay.

        Args:
            t: the physical time at the start, which only the forcing sees.
            x: one field u, shape (n,).
            dt: time.
            args: not used.
        """
        del args
        self._check(x)
        t, h = jnp.asarray(t, x.dtype), jnp.asarray(dt, x.dtype) / self.substeps
        modes = jnp.fft.rfft(x)
        half = jnp.exp(h / 2 * self._rates(x.dtype)).astype(modes.dtype)
        weight = h.astype(modes.dtype)

        def one(u: Array, i: Array) -> tuple[Array, None]:
            # Classical Runge-Kutta for e^(-Lt) û.
            now = t + i.astype(h.dtype) * h
            a = self._rest(now, u)
            b = self._rest(now + h / 2, half * (u + weight / 2 * a))
            c = self._rest(now + h / 2, half * u + weight / 2 * b)
            d = self._rest(now + h, half * (half * u + weight * c))
            return half * (half * (u + weight / 6 * a) + weight / 3 * (b + c)) + weight / 6 * d, None

        # A gradient stores the states between substeps, and computes each anew.
        modes, _ = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), modes, jnp.arange(self.substeps))
        return jnp.fft.irfft(modes, self.n)

    def linear(self, t: RealScalarLike) -> Fourier:
        """What is stiff in the rate, -νk² in Fourier space.

        Args:
            t: not used.
        """
        del t
        return Fourier(self._rates(jnp.result_type(float)))

    def _rates(self, dtype: Any) -> Float[Array, " m"]:
        return -jnp.asarray(self.viscosity, dtype) * jnp.asarray(self._wavenumbers() ** 2, dtype)

    def _wavenumbers(self) -> Float[np.ndarray, " m"]:
        return 2 * np.pi / self.length * np.arange(self.n // 2 + 1)

    def _rest(self, t: RealScalarLike, modes: Array) -> Array:
        """Modes of the steepening and the forcing."""
        resolved = jnp.asarray(np.arange(self.n // 2 + 1) < self.n / 3, modes.dtype)
        derivative = jnp.asarray(-0.5j * self._wavenumbers(), modes.dtype) * resolved
        change = derivative * jnp.fft.rfft(jnp.fft.irfft(resolved * modes, self.n) ** 2)
        if self.forcing is None:
            return change
        x = jnp.arange(self.n, dtype=modes.real.dtype) * (self.length / self.n)
        forcing = jnp.asarray(self.forcing(t, x), x.dtype)
        if forcing.shape != x.shape:
            raise ValueError(
                f"`Burgers(forcing=...)` returns a field of shape {x.shape}, the points' own; got shape "
                f"{forcing.shape}: write it in the coordinates' shape, `f(t, x) -> ... + 0 * x`."
            )
        return change + jnp.fft.rfft(forcing)

    def _check(self, x: Array) -> None:
        if x.shape != (self.n,):
            raise ValueError(
                f"`Burgers({self.n})` acts on one field of shape {(self.n,)}; got shape {x.shape}. For a batch write "
                "`jax.vmap`; for other sizes `Burgers(n)`, or `sx.data.resample(x, n, axes=(-1,))`."
            )
        check_precision(x.dtype, "x")
