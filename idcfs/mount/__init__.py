"""The mount as a job: checks the machine, wires the parts, serves, cleans up.

Called by `cli`, in the process that is to become the daemon. It decides nothing
about files or bytes; it knows mount points, signals and processes.
"""
