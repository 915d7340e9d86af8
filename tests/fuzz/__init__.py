"""Damaged files, made at random from a seed: every door must answer, or refuse in one sentence."""
