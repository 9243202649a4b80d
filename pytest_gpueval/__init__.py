"""GPU evaluations and training sweeps as pytest sessions."""

__version__ = "0.1.0"
