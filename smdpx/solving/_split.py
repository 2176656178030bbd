"""The split step: physics, then noise, then the score (arXiv:2301.10250, appendix A.3, eqs 52 to 54).

    x¹ = x + h P(t, x)             physics: of a reverse equation -P, of a simulator its step
    x² = x¹ + g √h z               noise
    x' = x² + h C ½g² s(t', x²)    denoising, at the time t' that the step reaches

With C = 2 and σ² = g²h the last line is Tweedie's formula, x' = E[x | x + σz = x²], where s is the score of the states
of t' blurred by σ. That density exists where a system is deterministic too, and its own score would not.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._types import Args, State
from ..equation._algebra import AbstractDrift
from ._formula import AbstractFormula
from ._terms import StepTimes

__all__ = ["SplitEuler"]


class SplitEuler(AbstractFormula):
    """Physics, noise and the score one after the other, each from where the one before has ended.

    For systems without noise of their own (arXiv:2301.10250, appendix A.3): there trajectories never leave a thin set,
    on which they have no density and so no score. Each step blurs the state by σ = g√Δt and takes it back by the score
    of what lies at the time reached, blurred by as much. Train through it and solve with it:

        s = sx.fit(-P + 2 * s + g, paths, key=key, loss=sx.WindowLoss(solver=sx.SplitEuler()))
        x0 = sx.posterior(-P + 2 * s + g, x_T, ts[::-1], 100, key=key)    # with the solver that s remembers

    A score of Euler's method belongs to its steps, since σ does. Without noise in the equation it is physics, then the
    score. It asks drifts for increments, so simulators' steps (`Drift.from_step`) are welcome. Fixed steps; order 1.

    >>> import jax, jax.numpy as jnp, smdpx as sx
    >>> P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(0.1)
    >>> s = sx.Score(lambda t, x, args: -x / (jnp.exp(-2 * t) + 0.001), g)  # of N(0, exp(-2t)), blurred by σ² = g²Δt
    >>> x = sx.solve(-P + 2 * s + g, jnp.ones(4), [1.0, 0.9, 0.8], key=jax.random.key(0), solver=sx.SplitEuler())
    >>> x.shape
    (4, 3)
    """

    abilities: ClassVar[dict[str, bool]] = {"noise": True, "one_increment": True, "euler": True, "denoises": True}

    @staticmethod
    def change(drift: AbstractDrift, times: StepTimes, x: State, dt: Array, kick: Any, args: Args) -> State:
        """The change x' - x of one sample."""
        physics, scores = drift.halves()
        moved = jtu.tree_map(jnp.add, x, physics(times.start, x, dt, args))
        noisy = moved if kick is None else jtu.tree_map(jnp.add, moved, kick)
        denoised = jtu.tree_map(jnp.add, noisy, scores(times.end, noisy, dt, args))
        return jtu.tree_map(jnp.subtract, denoised, x)

    def order(self, terms: Any) -> int:
        """1."""
        return 1
