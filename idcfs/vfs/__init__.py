"""A read-only file system without FUSE: inodes, dentries, handles, attributes.

Give it a directory tree (any `DirectoryTree`) and a fetcher, and it answers
`lookup`, `getattr`, `opendir`, `open` and `read` with values and typed errors.
It knows neither pyfuse3 and errno (that is `fuse`) nor where the tree came
from (that is `catalog`). All of it runs on the trio thread.
"""
