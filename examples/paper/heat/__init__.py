"""The stochastic heat equation of arXiv:2301.10250, §4.2: all tables and studies against the exact posterior."""
