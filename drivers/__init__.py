"""Cameras: what produces lines, and the process that publishes them."""
