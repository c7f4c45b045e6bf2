"""A prefetch spread over the workers of a Dask cluster that is there already.

`job` runs where the user is, and `work` on the workers, which have idcfs too. Only this room
imports distributed, and only when a scheduler is named: it comes with the extra `idcfs[dask]`.
Calls block; `job` from the main thread, `work` on the workers' threads.
"""
