"""Two-dimensional turbulence on a periodic square, in its vorticity (Li et al. 2021, arXiv:2010.08895, §5.3).

∂ω/∂t + u·∇ω = νΔω - μω + f(x, y),    u = (∂ψ/∂y, -∂ψ/∂x),    -Δψ = ω    on [0, L]²

Steps and rates are jax-cfd's spectral ones (`_jax_cfd`); recipes that make data of them are in `_turbulence_runs`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Args, RealScalarLike
from ..equation._linear import Fourier, squared_wavenumbers
from ..solving._validate import check_precision, is_concrete
from . import _jax_cfd


def diagonal_forcing(x: Float[Array, "n n"], y: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """What drives the vorticity in Li et al. 2021: 0.1 (sin 2π(x + y) + cos 2π(x + y)) on the unit torus.

    Args:
        x: the first coordinate of each point, in [0, 1).
        y: the second.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> print(sx.physics.diagonal_forcing(jnp.zeros((1, 1)), jnp.zeros((1, 1))))
    [[0.1]]
    """
    phase = 2 * jnp.pi * (x + y)
    return 0.1 * (jnp.sin(phase) + jnp.cos(phase))


def kolmogorov_forcing(x: Float[Array, "n n"], y: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The curl of Kolmogorov's force (sin 4y, 0) on [0, 2π]²: -4 cos 4y (Kochkov et al. 2021, arXiv:2102.01010).

    Args:
        x: the first coordinate of each point, not used.
        y: the second, in [0, 2π).

    >>> import jax.numpy as jnp, smdpx as sx
    >>> print(sx.physics.kolmogorov_forcing(jnp.zeros((1, 1)), jnp.zeros((1, 1))))
    [[-4.]]
    """
    del x
    return -4 * jnp.cos(4 * y)


class Turbulence(eqx.Module):
    """Navier-Stokes in two dimensions: the vorticity on n × n points of a torus, driven and damped.

    By default the flow of Li et al. 2021: unit torus, ν = 10⁻⁵, `diagonal_forcing`, no drag; `Turbulence.kolmogorov` is
    the other usual one. As a solver's step, `Drift.from_step(flow.step, reverse=...)`, it is jax-cfd's Crank-Nicolson
    RK4, second order in the viscosity's dt and fourth in the flow's; each of the substeps needs
    dt ≤ 1.8 L/(n max(|u| + |v|)), `stable_dt`. As a rate, `Drift(flow)`, it states its linear part for
    `ExponentialHeun`. Products see and make the waves below n/3 only, so that advection keeps energy and enstrophy.
    The mean vorticity stays 0, or what it was, with no drag; the mean velocity is 0.

    A viscosity for each trajectory is a condition, `args={"nu": sx.PerSample(nus)}`, and the flow is made of its row:
    `Drift.from_step(lambda t, x, dt, args: Turbulence(64, args["nu"]).step(x, dt))`.

    Args:
        n: points a side, even, at least 4.
        viscosity: ν ≥ 0, in length²/time. May be traced.
        forcing: f(x, y), of the coordinates of all points, each (n, n) and in [0, length); None for none.
        drag: the rate μ ≥ 0 at which vorticity decays, in 1/time. May be traced.
        length: the torus' side L > 0.
        substeps: solver steps in one `step`, at least 1.

    Raises:
        ImportError: when called, jax-cfd is not installed: `pip install "smdpx[cfd]"`.
        ValueError: an argument out of its range; or, when called, a field that is not (n, n).
        TypeError: when called, a field of whole or of complex numbers.

    >>> import jax.numpy as jnp, smdpx as sx
    >>> flow = sx.physics.Turbulence(16, viscosity=0.01, forcing=None)
    >>> wave = jnp.tile(jnp.cos(jnp.linspace(0, 2 * jnp.pi, 16, endpoint=False)), (16, 1))
    >>> print(f"{flow.step(wave, 0.1)[0, 0]:.4f}")  # a single wave does not advect itself: exp(-(2π)² ν dt)
    0.9613
    """

    n: int = eqx.field(static=True)
    viscosity: RealScalarLike = 1e-5
    forcing: Callable[..., Any] | None = diagonal_forcing
    drag: RealScalarLike = 0.0
    length: float = eqx.field(static=True, default=1.0)
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if self.n < 4 or self.n % 2:
            raise ValueError(
                f"`Turbulence` needs an even number of points a side, at least 4; got n = {self.n}. Powers of two are "
                "the fastest."
            )
        for name, value in (("viscosity", self.viscosity), ("drag", self.drag)):
            if is_concrete(value) and not 0 <= float(value) < float("inf"):
                raise ValueError(f"`Turbulence` needs a {name} ≥ 0; got {value}.")
        if not 0 < self.length < float("inf"):
            raise ValueError(f"`Turbulence` needs a side length > 0; got {self.length}.")
        if self.substeps < 1:
            raise ValueError(f"`Turbulence` needs at least one substep; got {self.substeps}.")

    @classmethod
    def kolmogorov(
        cls, n: int, viscosity: RealScalarLike = 1e-3, drag: RealScalarLike = 0.1, substeps: int = 1
    ) -> "Turbulence":
        """Kolmogorov flow on [0, 2π]²: `kolmogorov_forcing` and a drag; its Reynolds number is 1/ν.

        Args:
            n: points a side, even, at least 4.
            viscosity: ν ≥ 0; .001 needs some 2,000 points a side, .01 about 128.
            drag: the rate at which vorticity decays, ≥ 0.
            substeps: solver steps in one `step`, at least 1.

        >>> import smdpx as sx
        >>> sx.physics.Turbulence.kolmogorov(64, viscosity=0.01).drag
        0.1
        """
        return cls(n, viscosity, kolmogorov_forcing, drag, 2 * np.pi, substeps)

    def __call__(self, t: RealScalarLike, x: Float[Array, "n n"], args: Args = None) -> Float[Array, "n n"]:
        """The rate -u·∇ω + νΔω - μω + f.

        Args:
            t: not used.
            x: one vorticity, shape (n, n).
            args: not used.
        """
        del t, args
        equation = self._on(x)
        return jnp.fft.irfft2(_jax_cfd.rate(equation, jnp.fft.rfft2(x)))

    def step(self, x: Float[Array, "n n"], dt: RealScalarLike) -> Float[Array, "n n"]:
        """The vorticity after dt, by `substeps` equal steps; with dt < 0 before it, as far as that is stable.

        Args:
            x: one vorticity, shape (n, n).
            dt: time.
        """
        equation = self._on(x)
        return jnp.fft.irfft2(_jax_cfd.march(equation, jnp.fft.rfft2(x), jnp.asarray(dt, x.dtype), self.substeps))

    def linear(self, t: RealScalarLike) -> Fourier:
        """What is stiff in the rate, -ν|k|² - μ in Fourier space.

        Args:
            t: not used.
        """
        del t
        dtype = jnp.result_type(float)
        squares = jnp.asarray(self._squares(), dtype)
        return Fourier(-jnp.asarray(self.viscosity, dtype) * squares - jnp.asarray(self.drag, dtype))

    def velocity(self, x: Float[Array, "n n"]) -> Float[Array, "2 n n"]:
        """The velocity (u, v) of a vorticity, of mean 0.

        Args:
            x: one vorticity, shape (n, n).

        >>> import jax.numpy as jnp, smdpx as sx
        >>> y = jnp.linspace(0, 1, 8, endpoint=False)
        >>> u, v = sx.physics.Turbulence(8).velocity(jnp.tile(jnp.cos(2 * jnp.pi * y), (8, 1)))
        >>> print(f"{u[0, 2]:.4f} {abs(v).max():.0f}")  # u = -sin(2πy)/2π
        -0.1592 0
        """
        self._check(x)
        modes, half = jnp.fft.rfft2(x), self.n // 2 + 1
        # The shortest wave has no derivative on the grid, and a mean vorticity no velocity.
        k = np.fft.fftfreq(self.n, self.length / self.n / (2 * np.pi))
        k = np.where(np.arange(self.n) == self.n // 2, 0, k)
        squares = np.maximum(self._squares(), 1e-30)
        curl = 1j * np.stack([k[None, :half] / squares, -k[:, None] / squares])
        return jnp.fft.irfft2(jnp.asarray(curl, modes.dtype) * modes[None])

    def stable_dt(self, x: Float[Array, "n n"]) -> Float[Array, ""]:
        """The longest step of the solver at which this vorticity is safe, 1.8 L/(n max(|u| + |v|)).

        Args:
            x: one vorticity, shape (n, n).

        >>> import jax.numpy as jnp, smdpx as sx
        >>> y = jnp.linspace(0, 1, 64, endpoint=False)
        >>> x = jnp.tile(jnp.cos(2 * jnp.pi * y), (64, 1))  # speeds up to 1/2π
        >>> print(f"{sx.physics.Turbulence(64).stable_dt(x):.3f}")
        0.177
        """
        return 1.8 * self.length / self.n / jnp.max(jnp.sum(jnp.abs(self.velocity(x)), axis=0))

    def _squares(self) -> Float[np.ndarray, "n m"]:
        return (2 * np.pi / self.length) ** 2 * squared_wavenumbers(self.n)[:, : self.n // 2 + 1]

    def _on(self, x: Array) -> Any:
        """jax-cfd's equation in the precision of x."""
        self._check(x)
        r = jnp.arange(self.n, dtype=x.dtype) * (self.length / self.n)
        if self.forcing is None:
            forcing = jnp.zeros_like(x)
        else:
            forcing = jnp.asarray(self.forcing(*jnp.meshgrid(r, r, indexing="ij")), x.dtype)
            if forcing.shape != x.shape:
                raise ValueError(
                    f"`Turbulence(forcing=...)` returns a field of shape {x.shape}, the points' own; got shape "
                    f"{forcing.shape}: write it in the coordinates' shapes, `f(x, y) -> ... + 0 * x`."
                )
        modes = jnp.fft.rfft2(forcing)
        return _jax_cfd.vorticity_equation(self.n, self.length, self.viscosity, self.drag, modes, x.dtype)

    def _check(self, x: Array) -> None:
        if x.shape != (self.n, self.n):
            raise ValueError(
                f"`Turbulence({self.n})` acts on one vorticity of shape {(self.n, self.n)}; got shape {x.shape}. For a "
                "batch write `jax.vmap`; for other sizes `Turbulence(n)`, or `sx.data.resample(x, n)`."
            )
        check_precision(x.dtype, "x")
