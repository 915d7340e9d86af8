"""Follow the sharpness of a model while other code trains it: in a plain loop, in Lightning, and in Hugging Face's Trainer."""

from sharpcli.callbacks.tracker import Tracker, track

__all__ = ["Tracker", "track"]
