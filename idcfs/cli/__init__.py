"""The command line: arguments in, exit statuses and pictures out.

Each command is a module of its own name, imported only when it is called. The
only room that prints. It decides nothing but words: what is done is done in the
rooms below.
"""
