"""What users may hand in: times, states, keys, and what their drifts return. Errors name the mend.

Everything here looks at concrete values where there are some and at shapes where there are not (under
the user's own jit), and costs nothing inside a compiled loop.
"""

import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import dtypes
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from .._types import Args, Key, State
from ..equation._algebra import SDE, AbstractDrift, Forward
from ..equation._conditions import check_conditions, first_row, hint_of_missing_wrapper, rows, with_rows
from ..equation._drift import StepDrift, step_drifts
from ..equation._score import Score
from ._failing import one_state_given, said_before, without_axis
from ._foreign import native, numbers_of_times


def is_concrete(*xs: Any) -> bool:
    """Whether every array in the trees has a value to look at."""
    return not any(isinstance(leaf, Tracer) for leaf in jtu.tree_leaves(xs))


def check_concrete(name: str, *xs: Any, mend: str = "call it outside") -> None:
    """Raise where a function that looks at values is called within a transformation, of whatever it is."""
    if not is_concrete(*xs, jnp.zeros(())):  # within `jax.jit` what is made of nothing has no value either
        raise TypeError(f"`{name}` looks at values, which `jax.jit` and `jax.vmap` do not know yet: {mend}.")


def check_states(x: Any, name: str, what: str = "sample") -> Any:
    """The states as JAX arrays of their own precision, or an error: floating, with one leading axis, samples or cases.

    What JAX cannot hold, double precision where it is off, is narrowed here and nowhere else, and said.
    """
    x = native(x, name)
    leaves = jtu.tree_leaves(x)
    if not leaves:
        raise ValueError(f"`{name}` holds no arrays.")
    for leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise TypeError(
                f"`{name}` must be arrays with a leading sample axis; got {type(leaf).__name__}. "
                f"Write `jnp.asarray({name})`, and for one state `jnp.asarray({name})[None]`."
            )
        check_precision(leaf.dtype, name)
        if leaf.ndim == 0:
            raise ValueError(f"`{name}` needs a leading sample axis; for one state write `{name}[None]`.")
    counts = {leaf.shape[0] for leaf in leaves}
    if len(counts) > 1:
        raise ValueError(f"`{name}`: its arrays have different numbers of {what}s in front: {sorted(counts)}.")
    if counts == {0}:
        raise ValueError(f"`{name}` has zero {what}s.")
    wide = {str(leaf.dtype) for leaf in leaves if leaf.dtype != dtypes.canonicalize_dtype(leaf.dtype)}
    if wide:
        narrow = str(dtypes.canonicalize_dtype(np.float64))
        warnings.warn(
            f"`{name}` is {wide.pop()}, and JAX computes in {narrow} here, so it was converted: write "
            f"`{name}.astype(np.{narrow})`, or switch double precision on before anything else: "
            '`jax.config.update("jax_enable_x64", True)`.',
            stacklevel=levels_to_user(),
        )
    # Weakly typed arrays (`jnp.full(n, 0.5)`) would compile a second program.
    return jtu.tree_map(lambda leaf: jnp.asarray(leaf, dtypes.canonicalize_dtype(leaf.dtype)), x)


def narrowed(table: Any, dtype: Any) -> jax.Array:
    """Numbers as JAX's of this type: NumPy's are converted by NumPy, where JAX compiles a program for each length."""
    return jnp.asarray(np.asarray(table, dtype) if isinstance(table, np.ndarray) else table, dtype)


def check_precision(dtype: Any, name: str, narrowest: int = 4) -> None:
    """Raise where numbers of this type cannot be states: not real, not floating, or of fewer bytes than `narrowest`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"`{name}` must be real, got dtype {dtype}: give real and imaginary parts as an axis of the state, "
            f"`jnp.stack([{name}.real, {name}.imag], axis=1)`, or the field in place of its spectrum, "
            f"`jnp.fft.irfft({name})`. `astype` would drop the imaginary part."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floating, got dtype {dtype}: write `{name}.astype(jnp.float32)`.")
    if dtype.itemsize < narrowest:
        raise TypeError(
            f"`{name}` is {dtype}, and states need 32 bits at least: what a short step adds is lost beside a state of "
            f"{jnp.finfo(dtype).nmant + 1} bits. Write `{name}.astype(jnp.float32)`; a network may compute in {dtype} "
            "inside."
        )


def levels_to_user() -> int:
    """The `stacklevel` at which a warning of the caller shows the user's line."""
    # Methods are called by Equinox's frames, and under a hook that checks types by jaxtyping's: this function too.
    frame, level, ours = sys._getframe(1), 1, (__name__.partition(".")[0], "equinox", "jaxtyping")
    while frame.f_back is not None and _package(frame) == "jaxtyping":
        frame = frame.f_back
    while frame.f_back is not None and _package(frame) in ours:
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: types.FrameType) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]


def widest(x: Any) -> Any:
    """The dtype of the times of states, or of their shapes and types: that of the most precise array."""
    return max((leaf.dtype for leaf in jtu.tree_leaves(x)), key=lambda dtype: dtype.itemsize)


def finite_samples(x: State) -> Bool[np.ndarray, " samples"]:
    """Which of known states are finite in all their arrays."""
    arrays = (np.asarray(leaf) for leaf in jtu.tree_leaves(x))
    return np.logical_and.reduce([np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in arrays])


def check_finite_states(x: State, name: str, what: str = "sample") -> None:
    """Raise where a batch of states holds a NaN or an infinity, naming the sample (or case)."""
    for leaf in jtu.tree_leaves(x):
        if is_concrete(leaf):
            bad = ~finite_samples(leaf)
            if bad.any():
                raise ValueError(f"`{name}` is not finite: {what} {int(np.argmax(bad))} is the first of {bad.sum()}.")


def check_paths(paths: Any, ts: Any, lengths: Any) -> None:
    """Raise where a user's trajectories hold a NaN, naming trajectory and time; states behind `lengths` are padding."""
    mend = "Drop such trajectories, or simulate with smaller steps."
    _check_all_finite(paths, ts, lengths, "`paths`", lambda i, m: mend)


def check_simulation(paths: Any, ts: Any, equation: AbstractDrift | SDE | None = None, args: Args = None) -> None:
    """Raise where trajectories that a simulation has made hold a NaN: the mend is another, or in what it was given.

    Args:
        paths: the states.
        ts: their times, (times,).
        equation: what was simulated, where its noise may be the cause.
        args: the user's.
    """

    def mend(i: int, m: int) -> str:
        steps = "Take smaller steps; or state the physics' stiff linear part (a method `linear(t)`), which is then "
        return nan_in(args, i) or _of_noise(equation, ts, args, i, m) or said(i, m) or steps + "solved exactly."

    def said(i: int, m: int) -> str:
        return "" if equation is None or ts.ndim != 1 else said_before(equation, paths, ts, args, i, m)

    _check_all_finite(paths, ts, None, "the simulation", mend)


def nan_in(args: Args, row: int | None = None) -> str:
    """What to say of `args` that hold a NaN, for this sample or for any, naming its row; "" where none is known to."""
    if not is_concrete(args):
        return ""
    numbers = lambda tree: [np.asarray(a) for a in jtu.tree_leaves(tree) if eqx.is_inexact_array_like(a)]  # noqa: E731
    for leaf in numbers(rows(args)):
        bad = np.asarray(np.isnan(leaf).reshape(leaf.shape[0], -1).any(axis=1))
        which = int(np.argmax(bad)) if row is None else row
        if bad[which]:
            return (
                f"`args` is NaN in row {which} of a `PerSample`, one of {bad.sum()} such rows: leave such samples out, "
                "or write a number for what is missing, and a flag beside it."
            )
    shared = with_rows(args, (None,) * len(rows(args)))
    return "`args` holds a NaN." if any(np.isnan(leaf).any() for leaf in numbers(shared)) else ""


def _of_noise(equation: AbstractDrift | SDE | None, ts: Any, args: Args, i: int, m: int) -> str:
    """What to say of a g that is not finite for sample i at the m-th of the times, or the one before."""
    if not isinstance(equation, SDE) or not is_concrete(equation.diffusion, ts, args):
        return ""
    own = with_rows(args, jtu.tree_map(lambda leaf: leaf[i], rows(args)))
    for t in ts[max(m - 1, 0) : m + 1]:
        with jax.ensure_compile_time_eval():
            g = equation.diffusion(jnp.asarray(t, float), own)
            if not all(np.isfinite(leaf).all() for leaf in map(np.asarray, jtu.tree_leaves(g))):
                return f"`g` is not finite at t = {float(t):g}: `Diffusion` needs numbers at all times of `ts`."
    return ""


def _check_all_finite(paths: Any, ts: Any, lengths: Any, name: str, mend: Callable[[int, int], str]) -> None:
    known = [leaf for leaf in jtu.tree_leaves(paths) if is_concrete(leaf)]
    if not known:
        return
    with jax.ensure_compile_time_eval():  # under the user's jit too, values that are known are looked at
        # All arrays of a state at once: what is NaN first is nearest to the cause.
        finite = np.logical_and.reduce([np.asarray(_finite_states(leaf)) for leaf in known])
    if lengths is not None:
        finite = finite | (np.arange(finite.shape[1]) >= np.asarray(lengths)[:, None])
    if not finite.all():
        i, m = np.argwhere(~finite)[0]
        t = f" (t = {float(ts[m] if ts.ndim == 1 else ts[i, m]):g})" if is_concrete(ts) else ""
        raise ValueError(
            f"{name} is not finite: trajectory {i} at time index {m}{t} is the first of {(~finite).sum()} bad "
            f"states. {mend(int(i), int(m))}"
        )


# One program: primitive by primitive JAX compiles three, and holds a flag for every number.
@jax.jit
def _finite_states(x: Float[Array, "trajectories times ..."]) -> Bool[Array, "trajectories times"]:
    return jnp.isfinite(x).reshape(*x.shape[:2], -1).all(axis=2)


def check_times(ts: Any, equation: AbstractDrift | SDE | None = None) -> np.ndarray | jax.Array:
    """The times as floats, or an error: finite, strictly monotone, and in the equation's direction."""
    ts = numbers_of_times(ts)
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"`ts` must be a sequence of at least two times; got shape {ts.shape}.")
    forward = equation is None or equation.direction is Forward
    if not is_concrete(ts):
        steps = jnp.diff(ts) if forward else -jnp.diff(ts)
        return eqx.error_if(ts, ~(steps > 0).all(), "`ts` must be strictly monotone in the equation's direction.")
    ts = np.asarray(ts, dtype=np.float64)
    if not np.isfinite(ts).all():
        raise ValueError(f"`ts` must be finite; ts[{int(np.argmin(np.isfinite(ts)))}] is not.")
    steps = np.diff(ts)
    if (steps == 0).any():
        m = int(np.argmax(steps == 0))
        raise ValueError(f"`ts` repeats {ts[m]:g} at positions {m} and {m + 1}; times must be strictly monotone.")
    if not ((steps > 0).all() or (steps < 0).all()):
        m = int(np.argmax(np.sign(steps) != np.sign(steps[0])))
        raise ValueError(f"`ts` must increase or decrease throughout; it turns at position {m} (t = {ts[m]:g}).")
    if equation is None and steps[0] < 0:
        raise ValueError("`ts` must increase: it is the grid of the simulated trajectories. Write `ts[::-1]`.")
    if equation is not None and forward != bool(steps[0] > 0):
        wants, has, mend = (
            ("increasing", "decreasing", "`ts[::-1]`, or reverse the physics: `-P + ...`")
            if forward
            else ("decreasing", "increasing", "`ts[::-1]`")
        )
        kind = "forward" if forward else "reverse"
        raise ValueError(f"`{equation}` is a {kind} equation and wants {wants} times; `ts` is {has}. Write {mend}.")
    return ts


def check_resolution(ts: Any, x: Any) -> None:
    """Raise where times and their neighbours, on the last axis, are one number in the precision of the states."""
    dtype = widest(x)
    if not is_concrete(ts):
        return
    ts = np.asarray(ts)
    vanish = (np.diff(ts.astype(dtype)) == 0) | (np.abs(np.diff(ts)).astype(dtype) == 0)
    if vanish.any():
        raise ValueError(
            f"`ts` has steps too small for {dtype}: between {ts[..., :-1][vanish][0]:g} and its neighbour it tells no "
            "difference. Take fewer steps, times that begin at 0, or states in double precision."
        )


def check_is_key(key: Any) -> None:
    """Raise where a key is none of JAX's, a bare seed, say, or many."""
    if isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == _raw_key().shape:
        raise TypeError("`key` is one of JAX's in an array of NumPy's: write `jnp.asarray(key)`.")
    if not isinstance(key, jax.Array):
        raise TypeError(f"`key` must be a JAX key; got {key!r}. Write `jax.random.key(0)`.")
    typed = jnp.issubdtype(key.dtype, dtypes.prng_key)
    if not typed and (key.dtype != np.uint32 or key.shape[-1:] != _raw_key().shape):
        raise TypeError(
            f"`key` must be a JAX key; got an array of {key.dtype}{list(key.shape)}. Write `jax.random.key(0)`."
        )
    if key.ndim > (0 if typed else 1):
        raise TypeError(
            f"`key` must be one JAX key; got {len(key)}, as `jax.random.split` returns them. Give one, `keys[0]`: all "
            "samples have their own noise from it; or `jax.vmap` the call over `keys`."
        )


def _raw_key() -> jax.ShapeDtypeStruct:
    """What a key of the kind that JAX makes here is as an array of numbers."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))


def check_key(equation: AbstractDrift | SDE, key: Key | None) -> None:
    """Raise where an SDE lacks a key or an ODE is given one."""
    if key is not None:
        check_is_key(key)
    if isinstance(equation, SDE) and key is None:
        raise ValueError(f"`{equation}` has noise: pass `key=jax.random.key(...)`.")
    if not isinstance(equation, SDE) and key is not None:
        raise ValueError(f"`{equation}` has no noise, so `key` would be ignored: drop it, or write `... + g`.")


def check_drifts(equation: AbstractDrift | SDE, x: State, args: Args, name: str | None = None) -> None:
    """Raise where a drift returns another tree, shape or dtype than the state's, or fails at a lone number.

    Args:
        equation: whose drifts are evaluated, by their shapes.
        x: states, (samples, ...).
        args: the user's.
        name: what the user calls x; None where it is of the states of trajectories.
    """
    count = jtu.tree_leaves(x)[0].shape[0]
    check_conditions(args, count, "samples")
    one = jtu.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    now = jax.ShapeDtypeStruct((), widest(x))
    for leaf, backwards in _leaves(equation):
        f, what = _function_of(leaf, backwards)
        with one_state_given(leaf, x, name):
            got = eqx.filter_eval_shape(lambda args, now, one, f=f: f(now, one, first_row(args)), args, now, one)
        if _struct(got) != _struct(one):
            hints = "Its function sees one sample, without the leading sample axis."
            hints = _of_precision(got, one) or hints + without_axis(x, name) + hint_of_missing_wrapper(args, count)
            raise ValueError(
                f"{what} must return what it is given, one state of {_struct(one)}; it returned {_struct(got)}. {hints}"
            )
    if isinstance(equation, SDE):
        like = equation.diffusion.like
        eqx.filter_eval_shape(lambda args, now, one: like(now, one, first_row(args)), args, now, one)


def _leaves(equation: AbstractDrift | SDE) -> list[tuple[AbstractDrift, bool]]:
    """The drifts that users wrote, those that scores are counted from among them, and whether by their reversal.

    Each once: a rate is the same both ways, and what a score is counted from is mostly a part of the physics.
    """
    found: list[tuple[AbstractDrift, bool]] = []
    for term in equation.summands:
        leaf, reference = term.drift, term.drift.reference
        own = (leaf, term.reversed and isinstance(leaf, StepDrift) and not leaf.mirrors)
        for each in [own, *([] if reference is None else _leaves(reference.drift))]:
            if not any(each[0] is known and each[1] is backwards for known, backwards in found):
                found.append(each)
    return found


def _function_of(leaf: AbstractDrift, backwards: bool) -> tuple[Any, str]:
    """What a drift asks the user for, as a function of (t, x, args), and what it is called in an error."""
    if isinstance(leaf, StepDrift):
        # Its increment would hide it: what has another shape is broadcast, and what is rounded is promoted.
        step = lambda t, x, args: leaf.called(t, x, t, args, backwards=backwards)  # noqa: E731
        return step, f"The {'reversal' if backwards else 'step'} of `{leaf!r}`"
    return leaf.net if isinstance(leaf, Score) else leaf.rate, f"`{leaf!r}`"


def _of_precision(got: Any, one: Any) -> str:
    """What to write where only the dtype is another than the state's."""
    shapes = [[getattr(leaf, "shape", None) for leaf in jtu.tree_leaves(x)] for x in (got, one)]
    complex_ = any(jnp.issubdtype(getattr(leaf, "dtype", float), jnp.complexfloating) for leaf in jtu.tree_leaves(got))
    if jtu.tree_structure(got) != jtu.tree_structure(one) or shapes[0] != shapes[1] or complex_:
        return ""
    return (
        "Only the precision differs: return `.astype(x.dtype)`, or give states, constants and weights "
        "(`sx.nn.MLP(..., dtype=...)`) one precision."
    )


def _struct(x: Any) -> str:
    leaves, tree = jtu.tree_flatten(x)
    shapes = [f"{getattr(leaf, 'dtype', type(leaf).__name__)}{list(getattr(leaf, 'shape', ()))}" for leaf in leaves]
    return str(jtu.tree_unflatten(tree, shapes)).replace("'", "")


def says_no_derivative(error: Exception) -> bool:
    """Whether JAX refuses to differentiate what it calls and does not see, or loops whose length it does not know."""
    signs = ("do not support JVP", "cannot be differentiated", "Reverse-mode differentiation does not work")
    return any(sign in str(error) for sign in signs)


def check_free_steps(equation: AbstractDrift | SDE) -> None:
    """Raise where a step with a fixed dt is asked for steps that are drawn."""
    for step in step_drifts(equation):
        if step.dt is not None:
            raise ValueError(
                f"`{step!r}` accepts only steps of {step.dt:g}, and `FreshPaths` draws its steps: "
                "write `FreshPaths(..., jitter=False)`."
            )


def check_step_grid(equation: AbstractDrift | SDE, ts: Any) -> None:
    """Raise where a step with a fixed dt is asked for another."""
    for step in step_drifts(equation):
        if step.dt is None or not is_concrete(ts):
            continue
        ts = np.asarray(ts, np.float64)
        steps = np.abs(np.diff(ts))
        # Times that single precision holds were rounded by it, in JAX's own `linspace`, say.
        kind = np.float32 if (ts == ts.astype(np.float32)).all() else np.float64
        off = np.abs(steps - step.dt) > 1e-4 * step.dt + float(np.finfo(kind).eps) * np.abs(ts).max()
        if off.any():
            raise ValueError(
                f"`{step!r}` accepts only steps of {step.dt:g}; `ts` has a step of {steps[np.argmax(off)]:g} at "
                f"position {int(np.argmax(off))}."
            )
