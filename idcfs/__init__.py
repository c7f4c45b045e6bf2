"""The NCI Imaging Data Commons as an ordinary directory tree.

Nothing is imported here, so that a command pays only for the rooms it enters.
"""

__version__ = "0.1.0"
