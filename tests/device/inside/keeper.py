"""Fill the page cache of this program's own cgroup with so many MiB of a file, then sleep: the kernel may take it."""

import os
import sys
import time

path = f"/var/tmp/{sys.argv[2]}"
with open(path, "wb") as file:
    for _ in range(int(sys.argv[1])):
        file.write(bytes(1 << 20))
    os.fsync(file.fileno())
open(f"/run/{sys.argv[2]}.ready", "w").close()
time.sleep(600)
