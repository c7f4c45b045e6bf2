"""The verbs of the command line in Python, on typed objects: what `import idcfs` offers.

Wires what is below, as the command line does, and prints nothing but the progress bar
that was asked for. Calls block and may come from any thread, several at once; nothing is
bound to the thread that made it.
"""
