"""A GenTL producer with virtual push-broom cameras: ``python tools/virtual_camera``."""
