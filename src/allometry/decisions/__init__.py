"""Decisions: posterior to a table with one row a question."""
