"""What the user of a tool has to guess, found outside the clock. One file has the name of one tool, with

guess(problem, k, seed, exact) -> dict      # given to the tool's `solve` as `tuned`; exact eigenvalues (K,) to judge by
"""
