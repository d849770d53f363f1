// A node program with an evictable cache: cache_app.js TOTAL_MIB MIB_PER_S (fifo|usr2|deaf), as cache_app.py.
// Run it with --expose-gc: what is dropped then goes back at once.
'use strict';
const fs = require('fs');
const net = require('net');

const [totalMib, mibPerS, ear] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
let cache = [];
let told = 0;

function drop() {
  told += 1;
  cache = [];
  global.gc();
}

if (ear === 'fifo') {
  const flags = fs.constants.O_RDWR | fs.constants.O_NONBLOCK;
  const fd = fs.openSync(process.env.MEMORY_PRESSURE_WATCH, flags);
  new net.Socket({ fd, readable: true, writable: false }).on('data', drop).unref();
} else if (ear === 'usr2') {
  process.on('SIGUSR2', drop);
}

let takenMib = 0;
console.log('ready');
const timer = setInterval(() => {
  cache.push(Buffer.alloc(1 << 20, 1));
  takenMib += 1;
  if (takenMib >= totalMib) {
    clearInterval(timer);
    console.log(`done, told ${told} times`);
    process.exit(0);
  }
}, 1000 / mibPerS);
