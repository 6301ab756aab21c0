"""Measures swath beside the limits of the machine: ``python tools/bench``."""
