"""``python -m pipeline.cli``: the ``swath`` command, wherever the package lies."""

from pipeline.cli import main

main()
