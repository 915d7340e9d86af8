"""Plug-ins: one file is one definition of sharpness."""

GIVEN = ("objective", "theta", "seed", "update")  # Arguments of a measure that are no options.
