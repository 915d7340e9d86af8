"""What a card can do, and what sharpcli makes of it: `python -m benchmarks.gpu --json FILE`, in at most nine minutes.

Each file beside `session.py` that has `SECONDS` and `measure` is one piece. A piece that is done stands in the JSON file and
is not done again, so that a run that was cut off goes on. Without a card, `--device cpu --small` runs the same at small size.
"""
