"""The main job without a network: an embedded S3 server and a replica to fill it with.

`server` runs SeaweedFS on loopback, `replica` builds the objects of a few series
that the real index names and puts them under their real keys; `phantom` draws what
is in the pictures and the `dicom_*` modules make one kind of DICOM object each.
Only `cli` and the tests may import this room. It needs the extra `idcfs[demo]`,
which is imported when something is built or started, not before. All calls block:
keep them off an event loop.
"""
