"""jax-cfd's solvers as drifts; no other file imports jax-cfd.

    spectral        ∂ω̂/∂t = explicit(ω̂) + implicit(ω̂),    x = irfftn(ω̂)        Crank-Nicolson RK4
    finite volumes  v(t + dt) = stepper(v),    x = the components of v, stacked

jax-cfd 0.2.1 is its last release. Its spectral equations run on today's JAX; parts of its finite volumes call functions
that JAX no longer has. It is imported where it is used, so that `import smdpx` needs it not, traced under JAX's
default promotion, which it was written for, and what fails inside of it is said in words.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Complex, Float

from .._types import Args, RealScalarLike
from ..equation._drift import Drift, StepDrift

# What jax-cfd calls.
_CALLED = {"jax", "jaxlib", "numpy", "tree_math", "equinox", "jaxtyping", "beartype"}


def from_jax_cfd(
    model: Any,
    state: Any,
    *,
    dt: float | None = None,
    reverse: Callable[..., Any] | None = None,
    substeps: int = 1,
    name: str = "P",
) -> StepDrift:
    """A jax-cfd equation or stepper as it is, as a drift.

    | model | state | one state of smdpx |
    |---|---|---|
    | a spectral equation, `NavierStokes2D(...)` | its `Grid` | the real field, of the grid's shape: vorticity |
    | a spectral stepper, `crank_nicolson_rk4(equation, dt)` | the `Grid` | the real field |
    | a finite-volume stepper, `semi_implicit_navier_stokes(...)` | any velocity of it | (components, *grid.shape) |

    An equation takes steps of any length, by jax-cfd's Crank-Nicolson RK4; a stepper was made for one dt, which it
    hides, so it is given here too, and the drift refuses others. Burgers' equation sees the physical time.

    Args:
        model: a `jax_cfd.spectral` equation, or a stepper that takes and returns a state of jax-cfd.
        state: the `jax_cfd.base.grids.Grid` of spectral models; of finite volumes a velocity, the tuple of
            `GridVariable`s that says where its components lie and what holds at the boundary. Its values do not matter.
        dt: the step that a stepper was made for, > 0, in jax-cfd's units of time; not for equations.
        reverse: how it runs backwards, as for `Drift.from_step`.
        substeps: steps of jax-cfd to one step of the drift, at least 1.
        name: what it is called in print.

    Returns:
        A `StepDrift`; that of a stepper accepts only steps of substeps · dt.

    Raises:
        ImportError: jax-cfd is not installed.
        TypeError: a model or a state of another kind, or a model whose state is complex.
        ValueError: dt left out for a stepper or given for an equation, an odd grid; or, when called, a field of another
            shape.
        RuntimeError: when called, what fails inside of jax-cfd, with the cause.

    >>> import jax, jax.numpy as jnp, numpy as np, smdpx as sx
    >>> from jax_cfd.base.grids import Grid
    >>> from jax_cfd.spectral.equations import NavierStokes2D
    >>> grid = Grid((16, 16), domain=((0, 2 * np.pi),) * 2)
    >>> with jax.numpy_dtype_promotion("standard"):  # JAX's default
    ...     equation = NavierStokes2D(0.1, grid)
    >>> P = sx.physics.from_jax_cfd(equation, grid, reverse=sx.mirror)
    >>> wave = jnp.tile(jnp.cos(jnp.linspace(0, 2 * jnp.pi, 16, endpoint=False)), (16, 1))
    >>> x = sx.solve(P, wave[None], [0.0, 0.5, 1.0])
    >>> print(f"{x[0, -1, 0, 0]:.4f}")  # a single wave decays: exp(-0.1)
    0.9048
    """
    jax_cfd = _imported()
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"`from_jax_cfd`: `substeps` counts jax-cfd's steps, at least 1; got {substeps!r}.")
    if isinstance(model, jax_cfd.equations.NonlinearSchrodinger):
        raise TypeError(
            "`from_jax_cfd`: the state of jax-cfd's Schrödinger equation is complex, and states here are real. Write "
            "a step of your own over real and imaginary part, `Drift.from_step(step)`."
        )
    is_equation = isinstance(model, jax_cfd.time_stepping.ImplicitExplicitODE)
    if not is_equation and not callable(model):
        raise TypeError(
            "`from_jax_cfd` takes an equation of `jax_cfd.spectral.equations` or a stepper, a function from state to "
            f"state; got {type(model).__name__}."
        )
    if is_equation == (dt is not None):
        raise ValueError(
            f"`from_jax_cfd`: an equation takes steps of any length, and got `dt={dt}`: leave it out."
            if is_equation
            else "`from_jax_cfd`: a stepper was made for one dt, which it does not show: give the same `dt=` here."
        )
    if isinstance(state, jax_cfd.grids.Grid):
        _check_even(state)
        timed = isinstance(model, jax_cfd.equations.ForcedBurgersEquation)
        if is_equation:
            step = _equations_step(model, state, substeps, timed)
        else:
            step = _spectral_steppers_step(model, state, substeps)
    elif _is_velocity(state, jax_cfd) and not is_equation:
        step = _finite_volume_step(model, state, substeps)
    else:
        raise TypeError(
            "`from_jax_cfd` needs to know the state: the `jax_cfd.base.grids.Grid` of a spectral equation or stepper, "
            f"or a velocity, the tuple of `GridVariable`s, of a finite-volume stepper; got {type(state).__name__}."
        )
    return Drift.from_step(step, reverse, dt=None if dt is None else substeps * dt, name=name)


# Steps are closures, not modules: jax-cfd's equations and steppers are no pytrees, and do not hash.


def _equations_step(equation: Any, grid: Any, substeps: int, timed: bool) -> Callable[..., Array]:
    """An equation's step of any length; `timed` says that its state is (modes, t)."""

    def step(t: RealScalarLike, x: Array, dt: RealScalarLike, args: Args) -> Array:
        del args
        modes = jnp.fft.rfftn(_field(x, grid.shape))
        state = (modes, jnp.asarray(t, x.dtype)) if timed else modes
        state = march(equation, state, jnp.asarray(dt, x.dtype), substeps)
        return jnp.fft.irfftn(state[0] if timed else state, grid.shape)

    return step


def _spectral_steppers_step(stepper: Callable[[Any], Any], grid: Any, substeps: int) -> Callable[..., Array]:
    """The step of a stepper of modes, whose dt is hidden in it."""

    def step(x: Array, dt: RealScalarLike) -> Array:
        del dt
        return jnp.fft.irfftn(_repeat(stepper, jnp.fft.rfftn(_field(x, grid.shape)), substeps), grid.shape)

    return step


def _finite_volume_step(stepper: Callable[[Any], Any], like: Any, substeps: int) -> Callable[..., Array]:
    """The step of a stepper of velocities, whose dt is hidden in it."""
    grids = _imported().grids
    places = [(component.offset, component.grid, component.bc) for component in like]

    def step(x: Array, dt: RealScalarLike) -> Array:
        del dt
        x = _field(x, (len(places), *places[0][1].shape))
        velocity = tuple(
            grids.GridVariable(grids.GridArray(component, offset, grid), bc)
            for component, (offset, grid, bc) in zip(x, places, strict=True)
        )
        return jnp.stack([component.data for component in _repeat(stepper, velocity, substeps)])

    return step


def vorticity_equation(
    n: int,
    length: float,
    viscosity: RealScalarLike,
    drag: RealScalarLike,
    forcing: Complex[Array, "n m"],
    dtype: Any,
) -> Any:
    """jax-cfd's Navier-Stokes equation of vorticity on n × n points of a torus, with a forcing of the vorticity.

    Args:
        n: points a side, even.
        length: the torus' side.
        viscosity: ν.
        drag: the linear drag's rate.
        forcing: f̂, `jnp.fft.rfft2` of what drives the vorticity.
        dtype: of the fields.
    """
    jax_cfd = _imported()
    with running():
        grid = jax_cfd.grids.Grid((n, n), domain=((0, length), (0, length)))
        # In the fields' precision, whatever the viscosity was written in.
        viscosity, drag = jnp.asarray(viscosity, dtype), jnp.asarray(drag, dtype)
        equation = jax_cfd.equations.NavierStokes2D(viscosity, grid, drag=drag)
        # jax-cfd's filter keeps wave -43 and not 43 of 128: no real field has such modes, and they alias.
        k = jnp.abs(jnp.fft.fftfreq(n)), jnp.abs(jnp.fft.rfftfreq(n))
        equation.filter_ = ((k[0][:, None] < 1 / 3) & (k[1][None, :] < 1 / 3)).astype(dtype)
    return _Driven(equation, forcing)


class _Driven:
    """A spectral equation whose advection sees resolved waves only, with a forcing: jax-cfd's can force velocity."""

    def __init__(self, equation: Any, forcing: Array):
        self.equation, self.forcing = equation, forcing
        self.implicit_terms, self.implicit_solve = equation.implicit_terms, equation.implicit_solve

    def explicit_terms(self, modes: Array) -> Array:
        """Advection and forcing; with its factors cut and the product too, advection neither aliases nor heats."""
        return self.equation.explicit_terms(self.equation.filter_ * modes) + self.forcing


def march(equation: Any, state: Any, dt: Float[Array, ""], substeps: int) -> Any:
    """A spectral state after dt, in equal steps of jax-cfd's Crank-Nicolson RK4."""
    with running():
        stepper = _imported().time_stepping.crank_nicolson_rk4(equation, dt / substeps)
    return _repeat(stepper, state, substeps)


def rate(equation: Any, modes: Complex[Array, "n m"]) -> Complex[Array, "n m"]:
    """∂ω̂/∂t of a spectral equation."""
    with running():
        return (equation.explicit_terms(modes) + equation.implicit_terms(modes)).astype(modes.dtype)


@contextlib.contextmanager
def running() -> Iterator[None]:
    """JAX's default promotion, whatever the user's, and in place of errors inside of jax-cfd one that says why."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        try:
            yield
        except Exception as error:
            place = _place(error)
            if place is None:
                raise
            raise RuntimeError(_diagnosis(error, place)) from None


def _repeat(stepper: Callable[[Any], Any], state: Any, substeps: int) -> Any:
    """Steps of a jax-cfd stepper; a gradient stores the states between them, and computes each step anew."""

    def one(state: Any, _: None) -> tuple[Any, None]:
        with running():
            after = stepper(state)
        # What jax-cfd computes in double precision, where that is on, goes on in the state's.
        return jtu.tree_map(lambda a, b: jnp.asarray(b, a.dtype), state, after), None

    if substeps == 1:
        return one(state, None)[0]
    return jax.lax.scan(jax.checkpoint(one, prevent_cse=False), state, None, substeps)[0]


def _imported() -> SimpleNamespace:
    try:
        from jax_cfd.base import grids
        from jax_cfd.spectral import equations, time_stepping
    except ImportError as error:
        raise ImportError(
            f'jax-cfd is needed here, and could not be imported ({error}): `pip install "smdpx[cfd]"`.'
        ) from error
    return SimpleNamespace(grids=grids, equations=equations, time_stepping=time_stepping)


def _is_velocity(state: Any, jax_cfd: SimpleNamespace) -> bool:
    return isinstance(state, tuple | list) and all(isinstance(v, jax_cfd.grids.GridVariable) for v in state)


def _check_even(grid: Any) -> None:
    if any(size % 2 for size in grid.shape):
        raise ValueError(
            f"`from_jax_cfd`: jax-cfd's spectral equations need an even number of points along each axis; the grid has "
            f"{grid.shape}: transforms back to space would lose a point."
        )


def _field(x: Any, shape: tuple[int, ...]) -> Array:
    if jnp.shape(x) != shape:
        raise ValueError(
            f"A state of this jax-cfd model is one field of shape {shape}; got shape {jnp.shape(x)}. For a batch write "
            "`jax.vmap`; spectral models take the field, not its modes."
        )
    return jnp.asarray(x)


def _place(error: Exception) -> str | None:
    """File and line of jax-cfd where an error arose; None where it is of the user's own function, or ours."""
    trace, place = error.__traceback__, None
    while trace is not None:
        package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        # An error in what jax-cfd calls is jax-cfd's; one in a forcing that the user gave is the user's.
        if package not in _CALLED and package not in sys.stdlib_module_names:
            file = pathlib.PurePath(trace.tb_frame.f_code.co_filename)
            place = f"{'/'.join(file.parts[-3:])}:{trace.tb_lineno}" if package == "jax_cfd" else None
        trace = trace.tb_next
    return place


def _diagnosis(error: Exception, place: str) -> str:
    """What went wrong inside of jax-cfd, and what to do."""
    message = str(error).splitlines()[0] if str(error) else ""
    head = f"jax-cfd {version('jax-cfd')} fails at {place} with {type(error).__name__}: {message}"
    if isinstance(error, AttributeError) and "'jax' has no attribute" in message:
        return (
            f"{head}. The cause: jax-cfd is no longer maintained, and calls a function that JAX {jax.__version__} no "
            "longer has. What does run: the spectral equations, and `semi_implicit_navier_stokes` without `forcing`, "
            "on periodic grids; a forcing can be a drift of its own, `P + sx.Drift(f)`."
        )
    if isinstance(error, NotImplementedError) or "boundar" in message.lower():
        return (
            f"{head}. The cause: this part of jax-cfd knows periodic boundaries only. Give a `convect` that knows "
            "yours, or a step of your own to `Drift.from_step`."
        )
    if isinstance(error, ValueError) and "unpack" in message:
        return (
            f"{head}. The cause may be a stepper whose state is (modes, t), as Burgers' is: give `from_jax_cfd` the "
            "equation in place of the stepper."
        )
    return f"{head}. jax-cfd is no longer maintained; what runs on JAX {jax.__version__} is said in docs/jax-cfd.md."
