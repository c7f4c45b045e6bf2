"""The object store: lists prefixes and fetches extents of objects, and knows nothing else.

`protocol` says what the rooms above may ask; `s3` answers it from any S3
endpoint, through botocore or, faster, directly. Only this room imports
botocore and the urllib3 below it.
Every call blocks, may be made from any thread, and raises only
`idcfs.errors.StoreError` (and whatever the caller's sink raises). Retries of
what may pass happen in here; caching, single flight and verification of content
do not.
"""

from idcfs.store.protocol import ObjectStore, Sink, StoredObject

__all__ = ["ObjectStore", "Sink", "StoredObject"]
