"""Algorithms that use only the shape and the products of an operator; they know nothing about networks."""
