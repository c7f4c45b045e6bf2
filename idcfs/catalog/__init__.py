"""The index: what series there are, which a selection picks, and where a template puts them.

Reads the Parquet files of `idc-index-data` with DuckDB, and is the only room
that imports it; a compiled layout is read without DuckDB. It knows nothing of
stores, caches of objects or FUSE. Calls block: callers on the trio thread use a
worker thread, except for `Layout`, whose answers come from mapped memory.
"""
