"""What the helper does with servers that people run: ask each in its own protocol, bounded in time and bytes.

Contract: `release(ask, task)` of each kind returns what was freed, or raises ServerError or OSError; no answer of
a server makes it wait past its task's deadline or keep more than some MiB; and what it lowers in a server for
the moment is put back on every way out, at last from the note of `debts`.
"""
