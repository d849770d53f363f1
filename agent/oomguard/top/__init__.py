"""The live view of `oomguard top`: it reads the control socket only, and draws with curses.

Curses and not rich: it is in the standard library, reads keys (rich does not), sends only the cells that changed
(which is what ssh wants), knows terminals by terminfo, and imports in 4 ms where rich takes 60 (measured).
"""
