"""Reconstruction from few projections of known pose: projector with its adjoint, solvers, alignment; arrays only."""
