// Registers hooks of every kind with the guard at argv[3], lives until its standard input ends, and prints what it does.
'use strict';
const guard = require(process.argv[2]).connect({ socket: process.argv[3], log: (text) => console.log(`log ${text}`) });
guard.hook('good', { cost: 0.5, deadlineS: 2, minimumBytes: 4096 }, async (request) => {
  console.log(`asked ${JSON.stringify(request)}`);
  return 12345.6;
});
guard.hook('bad', () => { throw new Error('no "memory"\n left'); });
guard.hook('quiet', () => {});
guard.hook('slow', () => new Promise(() => {}));
guard.state('browse');
for (let i = 0; i <= 1000; i++) guard.gauge('good', i);
process.stdin.on('data', () => {});
process.stdin.on('end', () => console.log('ends'));
