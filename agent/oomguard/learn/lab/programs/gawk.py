"""gawk: associative arrays of lines that are filled and deleted."""

from __future__ import annotations

from oomguard.learn.lab.programs._orders import STEP_BYTES, OrderedProgram

SCRIPT = r"""
BEGIN {
    srand(seed)
    for (i = 0; i < 24000; i++)
        pool = pool sprintf("user=%05d;%c%c%c%c%c%c%c%c%c%c%c", i, rand() * 255 + 1, rand() * 255 + 1, rand() * 255 + 1,
            rand() * 255 + 1, rand() * 255 + 1, rand() * 255 + 1, rand() * 255 + 1, rand() * 255 + 1, rand() * 255 + 1,
            rand() * 255 + 1, rand() * 255 + 1)
    middle = 10 ^ (2.3 + rand() * 1.8)
    large_share = 0.2 + 0.7 * rand()
    end = length(pool)
    print "ready"
    fflush()
    while ((getline line) > 0) {
        split(line, order, " ")
        want = order[1] + 0
        stop = want < held + step ? want : held + step
        while (held < stop)
            held += put(++count)
        while (held > want && count > 0) {
            size = length(table[count])
            held -= size + 200
            if (size >= 140000)
                large -= size
            delete table[count--]
        }
        for (churn = order[3] + 0; churn > 0; churn -= 4000)
            work = toupper(substr(pool, int(rand() * (end - 4000)) + 1, 4000))
        printf "%d 0\n", held < want ? held : want
        fflush()
    }
}
function put(name,    size) {
    if (large < large_share * held)         # goes back to the system when deleted
        large += size = 140000 + int(rand() * 100000)
    else
        size = int(middle * (0.3 + 1.4 * rand())) + 16
    table[name] = substr(pool, int(rand() * (end - size)) + 1, size)
    return size + 200
}
"""


class Driver(OrderedProgram):
    """Drives it."""

    # Measured, gawk 5.2 in a v1 cgroup: 1.1 MiB, 0.97 to 1.0; deleted small strings stay its own.
    base_bytes = 1.1 * (1 << 20)
    charge_ratio = 0.99
    needs = ("gawk",)

    def command(self) -> list[str]:
        """Return the call with the script."""
        return ["gawk", "-b", "-v", f"seed={self.spec.seed}", "-v", f"step={STEP_BYTES}", SCRIPT]

    def environment(self) -> dict[str, str]:
        """Return settings: the C library's bound for what is given back at once stays where it is."""
        return {"MALLOC_MMAP_THRESHOLD_": "131072"}
