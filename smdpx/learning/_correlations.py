"""What the correlations of components do to the score of the Gaussian with the data's moments.

With R the correlations, the Gaussian's score is

    -C⁻¹(x - m) = -(x - m)/v - D (R⁻¹ - 1) D (x - m),    D = diag(1/√v)

Correlations of n samples are noise of deviation 1/√n each, of which R⁻¹ gathers as many as there are components. They
are shrunk as much as their own spread says, R <- (1 - λ) R + λ 1 with λ = Σ Var(r_ij)/Σ r_ij² over i ≠ j (Schäfer &
Strimmer 2005, doi:10.2202/1544-6115.1175): next to nothing of what is correlated, nearly all of what is not.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["couplings"]


def couplings(
    deviations: Float[Array, "samples components"],
    share: Float[Array, " samples"],
    variance: Float[Array, " components"],
    least: Float[Array, " components"],
) -> Float[Array, "components components"]:
    """R⁻¹ - 1 of the correlations R, shrunk.

    Args:
        deviations: of the samples from their mean.
        share: of each sample, together 1; 0 of those that don't count.
        variance: of each component, at least that of the samples; 0 where it is constant.
        least: the variance below which no combination of components can be told from a point, as the noise of half a
            step; of each component.

    Returns:
        A symmetric matrix; 0 in the rows of what is constant.
    """
    scale = jnp.where(variance > 0, 1 / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    z = deviations * scale[None]
    weighted = z * share[:, None]
    off = 1 - jnp.eye(len(variance), dtype=z.dtype)
    R = off * (weighted.T @ z)
    noise = off * ((weighted * z).T @ (z * z) - R**2) * jnp.sum(share**2)
    power = jnp.sum(R**2)
    shrunk = 1 - jnp.clip(jnp.sum(noise) / jnp.where(power > 0, power, 1), 0, 1)
    sizes, axes = jnp.linalg.eigh(jnp.eye(len(variance), dtype=z.dtype) + shrunk * R)
    # Across a narrow direction, as where all start on one line, the spread is that of half a step's noise; and what
    # rounding leaves of nothing is no spread.
    narrowest = jnp.maximum((least * scale**2) @ axes**2, 16 * len(variance) * jnp.finfo(z.dtype).eps)
    return (axes * (1 / jnp.maximum(sizes, narrowest) - 1)[None]) @ axes.T
