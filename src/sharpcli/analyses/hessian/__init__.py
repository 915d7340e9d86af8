"""Eigenvalues of a checkpoint's curvature matrix, each with a certificate; trace, density and layers on request."""

from sharpcli.analyses.hessian.analysis import hessian, hessian_all
from sharpcli.analyses.hessian.search import largest, planner_for

__all__ = ["hessian", "hessian_all", "largest", "planner_for"]
