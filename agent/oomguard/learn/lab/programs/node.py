"""node: objects on the V8 heap and Buffers beside it, with a pool of Buffers as its cache."""

from __future__ import annotations

from oomguard.learn.lab.programs._orders import NO_BOUND, STEP_BYTES, OrderedProgram

HEAP_MIB = 16384                # far above any limit of the lab; by itself node takes a part of the cgroup's

SCRIPT = r"""
const [seed, bound, step] = process.argv.slice(1).map(Number);
let state = seed >>> 0;
function random() {             // mulberry32
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pool = Buffer.allocUnsafeSlow(1 << 20);
for (let i = 0; i < pool.length; i += 4) {       // half text, half noise
    pool.writeUInt32LE(i % 64 < 32 ? 0x20202020 + i : random() * 4294967296 >>> 0, i);
}
const middle = 10 ** (2.5 + random() * 1.7);
const bufferShare = bound ? 0 : 0.2 + 0.7 * random();       // of the bytes; a bound counts the V8 heap only
const data = [], cache = [];
let held = 0, buffers = 0, kept = 0, serial = 0, collectedAt = 0;

function buffer(size) {
    const made = Buffer.allocUnsafeSlow(size);
    pool.copy(made, 0, Math.floor(random() * (pool.length - size)));
    return made;
}
function put() {
    serial += 1;
    if (buffers < bufferShare * held) {
        const made = buffer(131072 + Math.floor(random() * 131072));
        buffers += made.length;
        data.push(made);
        return made.length;
    }
    const size = Math.floor(middle * (0.3 + 1.4 * random()));
    const at = Math.floor(random() * (pool.length - size));
    data.push({name: 'user' + serial, at: random(), body: pool.latin1Slice(at, at + size), tags: [serial, 2, 3.5]});
    return size + 200;
}
function drop() {
    const last = data.pop();
    if (Buffer.isBuffer(last)) { buffers -= last.length; return last.length; }
    return last.body.length + 200;
}
function obey(line) {
    let [want, keep, churn] = line.split(' ').map(Number);
    const stop = Math.min(want, held + step);
    const before = held + kept;
    while (held < stop) held += put();
    while (held > want && data.length) held -= drop();
    for (const most = Math.min(keep, kept + step); kept + 262144 <= most; kept += 262144) cache.push(buffer(262144));
    for (; kept > keep; kept -= 262144) cache.pop();
    for (; churn > 0; churn -= 400) ({at: random(), list: [1.5, 2.5, random()], text: 'garbage' + churn}).text.length;
    // Garbage of an idle node stays for minutes: what was dropped is collected once it is worth the pause.
    collectedAt = Math.max(collectedAt, before);
    if (collectedAt - held - kept > Math.max(8 << 20, collectedAt / 16)) { gc(); collectedAt = held + kept; }
    process.stdout.write(`${Math.round(Math.min(held, want))} ${kept}\n`);
}
let rest = '';
process.stdin.on('data', (piece) => {
    const lines = (rest + piece).split('\n');
    rest = lines.pop();
    lines.forEach(obey);
});
process.stdin.on('end', () => process.exit(0));
process.stdout.write('ready\n');
"""


class Driver(OrderedProgram):
    """Drives it; at its bound V8 gives up (`JavaScript heap out of memory`, SIGABRT)."""

    # Measured, node 20 in a v1 cgroup: 7.8 MiB, 1.06 to 1.10 held; 0.95 kept.
    base_bytes = 7.8 * (1 << 20)
    charge_ratio = 1.07
    needs = ("node",)
    bound_kind = "aborts"
    has_cache = True

    def command(self) -> list[str]:
        """Return the call with the script."""
        is_bound = self.bound_bytes != NO_BOUND
        heap_mib = max(self.bound_bytes >> 20, 16) if is_bound else HEAP_MIB
        return ["node", "--expose-gc", f"--max-old-space-size={heap_mib}", "--max-semi-space-size=2",
                "--single-threaded", "--max-lazy", "-e", SCRIPT, str(self.spec.seed),
                str(int(is_bound)), str(STEP_BYTES)]

    def environment(self) -> dict[str, str]:
        """Return settings: few threads, Buffers given back when collected."""
        return {"UV_THREADPOOL_SIZE": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
