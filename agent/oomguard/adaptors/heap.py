"""This process's own memory: how much it is, and giving back what the C library keeps of it."""

from __future__ import annotations

from oomguard.typed import Any

NAN = float("nan")

# ctypes costs 0.6 MB; so it is imported when something is given back, and its library kept.
_c_library: list[Any] = []


def resident_bytes() -> float:
    """Return this process's memory, file pages left out; NaN where /proc does not say."""
    try:
        with open("/proc/self/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return NAN
    kilobytes = [line.split()[1] for line in lines if line.startswith((b"RssAnon:", b"RssShmem:"))]
    return float(sum(map(int, kilobytes)) * 1024) if kilobytes else NAN


def has_trim() -> bool:
    """Return whether the C library is glibc, which can trim its heap."""
    return hasattr(_library(), "malloc_trim")


def trim() -> bool:
    """Have glibc give back the pages that it keeps free; return False where the C library is another."""
    if not has_trim():
        return False
    _library().malloc_trim(0)
    return True


def free_bytes() -> float:
    """Return what glibc's heaps hold free, given back or not; NaN before glibc 2.33 and elsewhere."""
    library = _library()
    return float(library.mallinfo2().fordblks) if hasattr(library, "mallinfo2") else NAN


def _library() -> Any:
    if not _c_library:
        import ctypes

        class Mallinfo2(ctypes.Structure):
            """As malloc.h has it."""

            _fields_ = [(field, ctypes.c_size_t) for field in (
                "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                "keepcost")]

        library = ctypes.CDLL(None)
        if hasattr(library, "mallinfo2"):
            library.mallinfo2.restype = Mallinfo2
        _c_library.append(library)
    return _c_library[0]
