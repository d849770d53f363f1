import java.util.LinkedHashMap;
import java.util.Map;

import oomguard.OomguardClient;

/** A Java app with a bounded map whose bound is above what the device allows: MapApp TOTAL_MIB MIB_PER_S MODE. */
public final class MapApp {
    private static final int ENTRY_BYTES = 256 << 10, BOUND_ENTRIES = 16_384;       // 4 GiB: far above the limit
    private static final Map<Integer, byte[]> MAP = new LinkedHashMap<>(64, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<Integer, byte[]> eldest) {
            return size() > BOUND_ENTRIES;
        }
    };
    private static volatile int asked;

    private static long evict(OomguardClient.Request request) {
        asked++;
        long freed = 0;
        synchronized (MAP) {
            var keys = MAP.keySet().iterator();
            while (keys.hasNext() && (request.all() || freed < request.neededBytes())) {
                keys.next();
                keys.remove();
                freed += ENTRY_BYTES;
            }
        }
        System.gc();
        return freed;
    }

    /** Takes memory at a steady pace; its hook (mode evict) gives back, or does nothing (mode noop). */
    public static void main(String[] args) throws Exception {
        int total = Integer.parseInt(args[0]) * 4;
        long pauseMs = 1000 / (4 * Integer.parseInt(args[1]));
        OomguardClient guard = OomguardClient.connect();
        guard.hook("image-cache", 1.0, args[2].equals("noop") ? request -> 0 : MapApp::evict);
        guard.state("playback");
        for (int taken = 0; taken < total; taken++) {
            synchronized (MAP) {
                MAP.put(taken, new byte[ENTRY_BYTES]);
            }
            guard.gauge("image-cache", (long) MAP.size() * ENTRY_BYTES);
            Thread.sleep(pauseMs);
        }
        System.out.println("done, asked " + asked + " times");      // and the JVM ends: the client does not hold it
    }
}
