"""Entry point of `python -m latentvla`."""

from latentvla.cli import main

raise SystemExit(main())
