// A Node app with an LRU cache whose bound is above what the device allows: lru_app.js CLIENT TOTAL_MIB MIB_PER_S MODE
// MODE: evict (its hook evicts), noop (a hook that gives nothing), fifo (as evict, with no OOMGUARD_SOCKET).
'use strict';
const [client, totalMib, mibPerS, mode] = process.argv.slice(2);
if (mode === 'fifo') delete process.env.OOMGUARD_SOCKET;
require('v8').setFlagsFromString('--expose-gc');
const gc = require('vm').runInNewContext('gc');

const ENTRY_BYTES = 1 << 20;
const BOUND_ENTRIES = 4096;         // 4 GiB: far above the limit
const cache = new Map();            // in the order of last use
let [asked, evicted] = [0, 0];

function get(key) {
  const value = cache.get(key) || Buffer.alloc(ENTRY_BYTES, 1);
  cache.delete(key);
  cache.set(key, value);
  if (cache.size > BOUND_ENTRIES) cache.delete(cache.keys().next().value);
  return value;
}

function evict({ neededBytes, all }) {
  asked += 1;
  let freed = 0;
  for (const key of cache.keys()) {
    if (!all && freed >= neededBytes) break;
    cache.delete(key);
    freed += ENTRY_BYTES;
  }
  evicted += freed;
  gc();
  return freed;
}

const guard = require(client).connect();
guard.hook('image-cache', { cost: 1 }, mode === 'noop' ? async () => 0 : async (request) => evict(request));
guard.state('playback');

let taken = 0;
const timer = setInterval(() => {
  get(taken);
  guard.gauge('image-cache', cache.size * ENTRY_BYTES);
  taken += 1;
  if (taken < Number(totalMib)) return;
  clearInterval(timer);             // and nothing else: the client must not keep the process alive
  console.log(`done, asked ${asked} times, evicted ${evicted} bytes`);
}, 1000 / Number(mibPerS));
