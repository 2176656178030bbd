"""The toy problem of arXiv:2301.10250, §4.1: the full table, from seeds and amounts of data to figures."""
