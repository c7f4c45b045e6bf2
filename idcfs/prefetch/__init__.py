"""Prefetch as a job: brings whole series to a directory of the user's, or into the cache.

Called by `cli`, which resolves the selection and draws the progress. Everything
here runs on the trio thread but what is named a thread's; it knows neither
options nor terminals.
"""
