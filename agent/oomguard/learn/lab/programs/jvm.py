"""A JVM: byte arrays and entries of a HashMap on a serial heap, with a cache of byte arrays."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile

from oomguard.learn.lab.program import ProgramGoneError
from oomguard.learn.lab.programs._orders import NO_BOUND, STEP_BYTES, OrderedProgram

SOURCE = r"""
import java.io.*;
import java.util.*;

public class Held {
    static final byte[] POOL = new byte[1 << 20];
    static Random random;
    static final HashMap<String, byte[]> table = new HashMap<>();
    static final ArrayList<byte[]> rows = new ArrayList<>();
    static final ArrayList<String> names = new ArrayList<>();     // in order; null: a row
    static final ArrayDeque<byte[]> cache = new ArrayDeque<>();
    static long held, kept, serial;

    static byte[] piece(int size) {
        int at = random.nextInt(POOL.length - size);
        return Arrays.copyOfRange(POOL, at, at + size);
    }

    static void put(double middle, double share) {
        int size = 16 + (int) (middle * (0.3 + 1.4 * random.nextDouble()));
        if (random.nextDouble() < share) {
            String name = "key:" + (++serial);
            table.put(name, piece(size));
            names.add(name);
        } else {
            rows.add(piece(size));
            names.add(null);
        }
        held += size + 130;
    }

    static void drop() {
        String name = names.remove(names.size() - 1);
        byte[] value = name != null ? table.remove(name) : rows.remove(rows.size() - 1);
        held -= value.length + 130;
    }

    public static void main(String[] words) throws IOException {
        random = new Random(Long.parseLong(words[0]));
        long step = Long.parseLong(words[1]);
        random.nextBytes(POOL);
        for (int i = 0; i < POOL.length; i++) if (i % 64 < 32) POOL[i] = (byte) ('a' + i % 23);
        double middle = Math.pow(10, 2.5 + 2.3 * random.nextDouble()), share = random.nextDouble();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in), 256);
        System.out.println("ready");
        long most = 0;
        for (String line; (line = orders.readLine()) != null; ) {
            String[] order = line.split(" ");
            long want = Long.parseLong(order[0]), keep = Long.parseLong(order[1]), churn = Long.parseLong(order[2]);
            long stop = Math.min(want, held + step), room = Math.min(keep, kept + step);
            most = Math.max(most, held + kept);
            while (held < stop) put(middle, share);
            while (held > want && !names.isEmpty()) drop();
            for (; kept + 262144 <= room; kept += 262144) cache.add(piece(262144));
            for (; kept > keep; kept -= 262144) cache.poll();
            for (; churn > 0; churn -= 4016) piece(4000);
            if (most - held - kept > Math.max(8 << 20, most / 16)) {       // worth the pause
                System.gc();
                most = held + kept;
            }
            System.out.println(Math.min(held, want) + " " + kept);
        }
    }
}
"""
OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss256k", "-Xshare:auto", "-XX:-UsePerfData", "-Xms8m",
           "-Xmn4m", "-XX:MinHeapFreeRatio=5", "-XX:MaxHeapFreeRatio=15", "-XX:-ShrinkHeapInSteps",
           "-XX:+ExitOnOutOfMemoryError", "-XX:ReservedCodeCacheSize=16m",
           "-XX:MaxMetaspaceSize=64m", "-XX:-StackTraceInThrowable")
HEAP_LIMITS = 4                 # no bound wished: a heap of so many limits, for by itself it takes a quarter of one


def compiled() -> str:
    """Return the folder with the class; javac runs where it was not compiled yet, once for all runs."""
    name = hashlib.sha256(SOURCE.encode()).hexdigest()[:16]
    folder = os.path.join(os.path.expanduser("~/.cache/oomguard-lab"), f"jvm-{name}")
    if os.path.exists(folder):
        return folder
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as scratch:
        source = os.path.join(scratch, "Held.java")
        with open(source, "w", encoding="utf-8") as file:
            file.write(SOURCE)
        classes = os.path.join(scratch, "classes")
        try:
            subprocess.run(["javac", "--release", "11", "-d", classes, source], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ProgramGoneError(f"jvm: javac: {error}") from None
        try:
            os.rename(classes, folder)
        except OSError:
            if not os.path.exists(folder):      # another run was first
                raise
    return folder


class Driver(OrderedProgram):
    """Drives it; at its bound (-Xmx) it exits with an OutOfMemoryError."""

    # Measured, OpenJDK 17 in a v1 cgroup: 16.5 MiB, 1.01 to 1.04.
    base_bytes = 16.5 * (1 << 20)
    charge_ratio = 1.03
    needs = ("java", "javac")
    bound_kind = "aborts"
    has_cache = True

    def command(self) -> list[str]:
        """Return the call of the compiled class."""
        bound_bytes = self.bound_bytes
        most_mib = (self.spec.limit_bytes * HEAP_LIMITS if bound_bytes == NO_BOUND else bound_bytes) >> 20
        return ["java", *OPTIONS, f"-Xmx{max(most_mib, 12)}m", "-cp", compiled(), "Held", str(self.spec.seed),
                str(STEP_BYTES)]
