package oomguard;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ThreadLocalRandom;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Offers an app's caches to oomguard, which asks for memory before the kernel kills the process.
 *
 * <p>Plain Java 17. One daemon thread connects, listens and calls hooks, one at a time; nothing here keeps the JVM
 * alive, blocks the caller or throws because of the guard. The protocol is docs/protocol.md.
 */
public final class OomguardClient implements AutoCloseable {
    private static final String SYSTEM_SOCKET = "/run/oomguard/control.sock";
    private static final long FIRST_RETRY_MS = 250, LONGEST_RETRY_MS = 30_000, GAUGE_EVERY_MS = 200;
    private static final int LINE_MAX_BYTES = 64 << 10;

    /** What a hook is asked for: about {@code neededBytes}, or, with {@code all}, whatever can be given. */
    public record Request(int level, long neededBytes, boolean all, double deadlineS, String reason) {}

    /** Gives memory back. */
    @FunctionalInterface
    public interface Hook {
        /** Returns the bytes it gave back, -1 where it cannot tell. */
        long free(Request request) throws Exception;
    }

    private static final class Registered {
        final double cost;
        final Hook hook;
        volatile Long gauge;
        Long sent;

        Registered(double cost, Hook hook) {
            this.cost = cost;
            this.hook = hook;
        }
    }

    private final Map<String, Registered> hooks = new ConcurrentHashMap<>();
    private final Queue<String> outgoing = new ConcurrentLinkedQueue<>();
    private final Path socket;
    private final Path fifo;                    // null: the socket is used
    private final Selector selector;
    private volatile String phase;
    private volatile boolean isConnected;
    private volatile boolean isClosed;
    private long retryMs = FIRST_RETRY_MS;
    private long gaugesSentMs;

    /** Connects to OOMGUARD_SOCKET, else the FIFO in MEMORY_PRESSURE_WATCH, else the system's guard. */
    public static OomguardClient connect() {
        String given = System.getenv("OOMGUARD_SOCKET"), watch = System.getenv("MEMORY_PRESSURE_WATCH");
        boolean isGiven = given != null && !given.isEmpty();
        Path fifo = isGiven || watch == null || watch.isEmpty() ? null : Path.of(watch);
        return new OomguardClient(Path.of(isGiven ? given : SYSTEM_SOCKET), fifo != null && isFifo(fifo) ? fifo : null);
    }

    /** Connects to the guard at a socket. */
    public static OomguardClient connect(Path socket) {
        return new OomguardClient(socket, null);
    }

    private OomguardClient(Path socket, Path fifo) {
        this.socket = socket;
        this.fifo = fifo;
        try {
            selector = Selector.open();
        } catch (IOException error) {
            throw new IllegalStateException("no selector to be had", error);
        }
        Thread thread = new Thread(fifo == null ? this::run : this::watch, "oomguard");
        thread.setDaemon(true);
        thread.start();
    }

    /** Offers a hook. Cost: what a byte costs your users to get back; the cheapest hook is asked first. */
    public void hook(String name, double cost, Hook hook) {
        hooks.put(name, new Registered(cost, hook));
        if (isConnected) {
            say(registration(name));
        }
    }

    /** Says what the app does now, in its own word; null: nothing in particular. */
    public void state(String newPhase) {
        phase = newPhase;
        if (isConnected) {
            say("{\"op\":\"state\",\"phase\":" + quoted(newPhase) + "}");
        }
    }

    /** Says how much a hook could give back now. Call it as often as you like. */
    public void gauge(String name, long evictableBytes) {
        Registered registered = hooks.get(name);
        if (registered == null) {
            throw new IllegalArgumentException("no hook is called " + name);
        }
        boolean isNew = registered.gauge == null || registered.gauge != evictableBytes;
        registered.gauge = evictableBytes;
        if (isNew) {
            selector.wakeup();
        }
    }

    /** Whether a guard listens. */
    public boolean isConnected() {
        return isConnected;
    }

    /** Lets go of the guard for good. */
    @Override
    public void close() {
        isClosed = true;
        selector.wakeup();
    }

    private void run() {
        while (!isClosed) {
            try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX)) {
                channel.connect(UnixDomainSocketAddress.of(socket));
                serve(channel);
            } catch (IOException | RuntimeException error) {
                // no guard, or it went away, or whatever answers is none: try again below
            }
            isConnected = false;
            pause((long) (retryMs * ThreadLocalRandom.current().nextDouble(0.5, 1)));
            retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
        }
    }

    private void serve(SocketChannel channel) throws IOException {
        channel.configureBlocking(false);
        SelectionKey key = channel.register(selector, SelectionKey.OP_READ);
        ByteBuffer buffer = ByteBuffer.allocate(LINE_MAX_BYTES);
        outgoing.clear();
        isConnected = true;
        hooks.keySet().forEach(name -> say(registration(name)));
        if (phase != null) {
            state(phase);
        }
        while (!isClosed) {
            for (String line = outgoing.poll(); line != null; line = outgoing.poll()) {
                send(channel, line);
            }
            long wait = sendGauges(channel);
            selector.select(wait);
            selector.selectedKeys().clear();
            if (!key.isValid() || channel.read(buffer) < 0 || !buffer.hasRemaining()) {
                return;
            }
            for (String line = nextLine(buffer); line != null; line = nextLine(buffer)) {
                hear(channel, line);
            }
        }
    }

    /** Sends what has changed, five times a second at most; returns how long to wait until more is due, 0: for ever. */
    private long sendGauges(SocketChannel channel) throws IOException {
        long sinceMs = System.nanoTime() / 1_000_000 - gaugesSentMs;
        for (Map.Entry<String, Registered> each : hooks.entrySet()) {
            Long gauge = each.getValue().gauge;
            if (gauge == null || gauge.equals(each.getValue().sent)) {
                continue;
            }
            if (sinceMs < GAUGE_EVERY_MS) {
                return GAUGE_EVERY_MS - sinceMs;
            }
            each.getValue().sent = gauge;
            gaugesSentMs = System.nanoTime() / 1_000_000;
            send(channel, "{\"op\":\"gauge\",\"hook\":" + quoted(each.getKey()) + ",\"evictable_bytes\":" + gauge + "}");
        }
        return 0;
    }

    private void hear(SocketChannel channel, String line) throws IOException {
        Map<String, String> message = new Json(line).object();
        retryMs = FIRST_RETRY_MS;               // it speaks: the next loss of connection is a new one
        if (!"release".equals(message.get("event")) || !message.containsKey("ticket")) {
            if ("false".equals(message.get("ok")) && !String.valueOf(message.get("id")).equals("released")) {
                System.getLogger("oomguard").log(System.Logger.Level.WARNING, message.get("error"));
            }
            return;
        }
        Request request = new Request((int) Double.parseDouble(message.get("level")),
            (long) Double.parseDouble(message.get("needed_bytes")), Boolean.parseBoolean(message.get("all")),
            Double.parseDouble(message.get("deadline_s")), message.get("reason"));
        String came;
        try {
            long freed = hooks.get(message.get("hook")).hook.free(request);
            came = "\"freed_bytes\":" + (freed < 0 ? "null" : freed);
        } catch (Exception | Error error) {     // an OutOfMemoryError, too: the guard hears of it and goes on
            String text = error.toString();
            came = "\"error\":" + quoted(text.substring(0, Math.min(text.length(), 200)));
        }
        send(channel, "{\"op\":\"released\",\"id\":\"released\",\"ticket\":" + message.get("ticket") + "," + came + "}");
    }

    /** Without a socket: systemd's memory-pressure protocol says when, not how much; so everything is asked for. */
    private void watch() {
        try (RandomAccessFile file = new RandomAccessFile(fifo.toFile(), "rw")) {
            byte[] bytes = new byte[4096];
            while (!isClosed && file.read(bytes) > 0) {
                hooks.values().stream().sorted(Comparator.comparingDouble(each -> each.cost)).forEach(each -> {
                    try {
                        each.hook.free(new Request(1, 0, true, 5.0, "memory pressure"));
                    } catch (Exception error) {
                        System.getLogger("oomguard").log(System.Logger.Level.WARNING, "a hook failed", error);
                    }
                });
            }
        } catch (IOException error) {
            System.getLogger("oomguard").log(System.Logger.Level.WARNING, "cannot watch " + fifo, error);
        }
    }

    private void say(String line) {
        outgoing.add(line);
        selector.wakeup();
    }

    private String registration(String name) {
        Registered registered = hooks.get(name);
        return "{\"op\":\"register\",\"name\":" + quoted(name) + ",\"cost\":" + registered.cost
            + ",\"evictable_bytes\":" + registered.gauge + "}";
    }

    private static void send(SocketChannel channel, String line) throws IOException {
        ByteBuffer bytes = UTF_8.encode(line + "\n");
        if (channel.write(bytes) == 0 || bytes.hasRemaining()) {
            throw new IOException("the guard does not read");
        }
    }

    /** Takes the first whole line out of the buffer; null where there is none yet. */
    private static String nextLine(ByteBuffer buffer) {
        for (int end = 0; end < buffer.position(); end++) {
            if (buffer.get(end) == '\n') {
                String line = new String(buffer.array(), 0, end, UTF_8);
                buffer.flip().position(end + 1);
                buffer.compact();
                return line;
            }
        }
        return null;
    }

    private static boolean isFifo(Path path) {
        try {
            return Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS).isOther();
        } catch (IOException error) {
            return false;
        }
    }

    private static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            out.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? String.format("\\u%04x", (int) c) : "" + c);
        }
        return out.append('"').toString();
    }

    /** Reads one JSON object: its texts, numbers and words by key, as text; what is nested is passed over. */
    private static final class Json {
        private final String text;
        private int at;

        Json(String text) {
            this.text = text;
        }

        Map<String, String> object() {
            Map<String, String> found = new HashMap<>();
            take('{');
            while (peek() != '}') {
                String key = string();
                take(':');
                String value = value();
                if (value != null) {
                    found.put(key, value);
                }
                if (peek() == ',') {
                    at++;
                }
            }
            at++;
            return found;
        }

        private String value() {
            if (peek() == '"') {
                return string();
            }
            if (peek() == '{') {
                object();
                return null;
            }
            if (peek() == '[') {
                for (at++; peek() != ']'; at += peek() == ',' ? 1 : 0) {
                    value();
                }
                at++;
                return null;
            }
            int start = at;
            while (",]} ".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(start, at);
            return word.equals("null") ? null : word;
        }

        private String string() {
            StringBuilder out = new StringBuilder();
            for (take('"'); text.charAt(at) != '"'; at++) {
                char c = text.charAt(at);
                if (c == '\\') {
                    c = text.charAt(++at);
                    int plain = "nrtbf".indexOf(c);
                    if (plain >= 0) {
                        c = "\n\r\t\b\f".charAt(plain);
                    } else if (c == 'u') {
                        c = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    }
                }
                out.append(c);
            }
            at++;
            return out.toString();
        }

        private char peek() {
            while (text.charAt(at) == ' ') {
                at++;
            }
            return text.charAt(at);
        }

        private void take(char wanted) {
            if (peek() != wanted) {
                throw new IllegalArgumentException("not JSON");
            }
            at++;
        }
    }
}
