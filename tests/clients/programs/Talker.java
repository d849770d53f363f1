import java.nio.file.Path;

import oomguard.OomguardClient;

/** Registers hooks of every kind with the guard at args[0] and lives until its standard input ends. */
public final class Talker {
    /** Does so. */
    public static void main(String[] args) throws Exception {
        OomguardClient guard = OomguardClient.connect(Path.of(args[0]));
        guard.hook("good", 0.5, request -> {
            System.out.println("asked " + request);
            return 12345;
        });
        guard.hook("bad", 1.0, request -> {
            throw new IllegalStateException("no \"memory\"\n left");
        });
        guard.hook("quiet", 1.0, request -> -1);
        guard.state("browse");
        for (int i = 0; i <= 1000; i++) {
            guard.gauge("good", i);
        }
        while (System.in.read() >= 0) {
            continue;
        }
        System.out.println("ends");
    }
}
