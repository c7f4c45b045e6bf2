"""Lets `python -m idcfs` run the command."""

from idcfs.cli.main import main

main()
