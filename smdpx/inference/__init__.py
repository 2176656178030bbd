"""The same equations, solved for answers: posterior samples, point estimates, likelihoods, Langevin dynamics."""
