"""The benchmark: idcfs and its peers over the same objects, links and workloads.

`make bench` runs it (`python -m tests.bench`). It sets up one object store, puts links of
known delay and speed in front of it, lets each contestant do each workload in turn on cold
caches, compares what was read with what was stored, and writes `docs/benchmarks.md`.
How to use it is told in `docs/performance.md`.
"""
