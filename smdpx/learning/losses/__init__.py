"""Losses: what `fit` minimises, each a differentiable function of an equation and a batch of windows.

    window      L = mean_j w_j |x̂_j - x_j|² / (g²Δt),  x̂ the reverse unroll from the window's end    (eqs 3-5)
    two-way     L = window(-P + s) + window(P - s), the second unrolled forwards from the window's start
    transition  L = mean |√Δt Nᵀ s(t₁, x₁) + ξ|²,  ξ the noise that took x₀ to x₁      (Vincent 2011, of one step)
    ISM         L = mean [ ∇·s + ½|s|² ]                                    (Hyvärinen 2005)
    SSM-VR      L = mean [ vᵀ(∇s)v + ½|s|² ],  v = ±1                       (Song et al. 2019)

Errors of windows count in units of the noise of one step, g²Δt, each component in its own, so that a perfect one-step
loss is about 1 on any problem and Adam's ε, 1e-8, is small beside the gradients.
"""
