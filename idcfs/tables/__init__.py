"""Fetches index tables that idc-index-data describes and does not bring, and clinical tables.

Called by `cli` and `api`; blocks. It alone knows where IDC publishes them. What it fetches is
put where `catalog` looks for tables.
"""
