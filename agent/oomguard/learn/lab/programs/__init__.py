"""One module a program: how to start it, and how to make what it holds grow and shrink."""
