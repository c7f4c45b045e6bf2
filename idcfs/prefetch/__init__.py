"""Prefetch as a job: brings whole series to a directory of the user's, or into the cache.

Called by `cli` and `api`, which resolve the selection and draw the progress. Everything
here runs on the trio thread but what is named a thread's, and what `selected` does before
there is one; it knows neither options nor terminals.
"""
