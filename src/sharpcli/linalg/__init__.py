"""Algorithms that know a shape and a product, and nothing of networks."""
