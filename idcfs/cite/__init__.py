"""Citations in the formats of reference managers.

As the DOI service gives them where it can be reached, and otherwise made of what the index
says. Knows of the catalog only what a source is. The only room that asks the DOI
service. Calls block, for a minute at most; any thread may make them.
"""
