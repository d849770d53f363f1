"""What is kept on disk of every run: each sample, action, kill and end, in a journal of bounded size.

The journal is written by the guard (`journal`, `recorder`, `segments`, `facts`, `layout`: standard library only)
and read off its path (`reader`, `tables`, `export`).
"""
