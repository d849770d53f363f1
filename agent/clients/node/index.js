// The oomguard client: an app offers its caches as hooks, and the guard asks for memory before the kernel kills.
// The protocol is docs/protocol.md. No dependencies; nothing here keeps the process alive.
'use strict';

const fs = require('fs');
const net = require('net');

const SYSTEM_SOCKET = '/run/oomguard/control.sock';
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;
const GAUGE_EVERY_MS = 200;         // the guard takes 200 messages a second and client
const HELD_MAX_BYTES = 1 << 20;     // of a line that has no end, or of what the guard does not read

class Guard {
  constructor(options = {}) {
    this.isConnected = false;
    this._log = options.log || ((text) => process.emitWarning(text, 'OomguardWarning'));
    this._target = options.target;
    this._hooks = new Map();        // name -> {options, free, gauge}
    this._phase = null;
    this._retryMs = FIRST_RETRY_MS;
    this._isClosed = false;
    const watch = process.env.MEMORY_PRESSURE_WATCH;
    this._path = options.socket || process.env.OOMGUARD_SOCKET;
    if (!this._path && watch && this._openFifo(watch)) return;
    this._path = this._path || SYSTEM_SOCKET;
    this._connect();
  }

  /** Offer something that gives memory back: free({neededBytes, all, level, deadlineS, reason}) -> bytes freed. */
  hook(name, options, free) {
    if (typeof options === 'function') [options, free] = [{}, options];
    if (typeof free !== 'function') throw new TypeError(`hook ${name}: the last argument is a function`);
    this._hooks.set(name, { options, free, gauge: null });
    this._register(name);
    return this;
  }

  /** Take a hook back. */
  unhook(name) {
    if (this._hooks.delete(name)) this._send({ op: 'unregister', hook: name });
  }

  /** Say what the app does now, in its own word; null: nothing in particular. Rules and models may know it. */
  state(phase) {
    this._phase = phase;
    this._send({ op: 'state', phase, target: this._target });
  }

  /** Say how much a hook could give back now; null: not known. Call it as often as you like. */
  gauge(name, evictableBytes) {
    const hook = this._hooks.get(name);
    if (!hook) throw new Error(`no hook is called ${name}`);
    hook.gauge = evictableBytes;
    this._gaugesDue = this._gaugesDue || setTimeout(() => this._sendGauges(), GAUGE_EVERY_MS).unref();
  }

  /** Let go of the guard for good. */
  close() {
    this._isClosed = true;
    clearTimeout(this._gaugesDue);
    clearTimeout(this._retry);
    if (this._socket) this._socket.destroy();
  }

  _connect() {
    let held = '';
    const socket = this._socket = net.createConnection(this._path);
    socket.unref().setEncoding('utf8');
    socket.on('connect', () => {
      this.isConnected = true;
      for (const name of this._hooks.keys()) this._register(name);
      if (this._phase !== null) this.state(this._phase);
    });
    socket.on('data', (text) => {
      const lines = (held + text).split('\n');
      held = lines.pop();
      for (const line of lines) this._hear(line);
      if (held.length > HELD_MAX_BYTES) socket.destroy();
    });
    socket.on('error', () => {});       // 'close' follows, and reconnects
    socket.on('close', () => {
      this.isConnected = false;
      if (this._isClosed) return;
      this._retry = setTimeout(() => this._connect(), this._retryMs * (0.5 + Math.random() / 2)).unref();
      this._retryMs = Math.min(2 * this._retryMs, LONGEST_RETRY_MS);
    });
  }

  _send(message) {
    if (!this.isConnected) return;
    this._socket.write(JSON.stringify(message) + '\n');
    if (this._socket.writableLength > HELD_MAX_BYTES) this._socket.destroy();
  }

  _register(name) {
    const { options, gauge } = this._hooks.get(name);
    this._send({
      op: 'register', id: `hook ${name}`.slice(0, 64), name, target: this._target, cost: options.cost,
      deadline_s: options.deadlineS, minimum_bytes: options.minimumBytes, evictable_bytes: gauge,
    });
  }

  _sendGauges() {
    this._gaugesDue = null;
    for (const [name, hook] of this._hooks) {
      if (hook.sent !== hook.gauge) this._send({ op: 'gauge', hook: name, evictable_bytes: hook.gauge });
      hook.sent = hook.gauge;
    }
  }

  _hear(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      this._socket.destroy();           // whoever this is, it is no guard
      return;
    }
    this._retryMs = FIRST_RETRY_MS;     // it speaks: the next loss of connection is a new one
    if (message.event === 'release' && message.ticket) this._release(message);
    else if (message.ok === false && message.id) this._log(`${message.id}: ${message.error}`);
  }

  async _release(message) {
    const answer = { op: 'released', ticket: message.ticket, freed_bytes: null };
    try {
      const freed = await this._hooks.get(message.hook).free({
        level: message.level, neededBytes: message.needed_bytes, all: message.all, deadlineS: message.deadline_s,
        reason: message.reason,
      });
      if (Number.isFinite(freed) && freed >= 0) answer.freed_bytes = Math.floor(freed);
    } catch (error) {
      answer.error = String(error).slice(0, 200) || 'the hook failed';
    }
    this._send(answer);
  }

  /** Without a socket: systemd's memory-pressure protocol says when, not how much; so everything is asked for. */
  _openFifo(path) {
    try {
      const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
      if (!fs.fstatSync(fd).isFIFO()) {
        fs.closeSync(fd);
        return false;
      }
      this._socket = new net.Socket({ fd, readable: true, writable: false });
    } catch {
      return false;
    }
    let isBusy = false;
    this._socket.unref().on('data', async () => {
      if (isBusy) return;
      isBusy = true;
      const hooks = [...this._hooks.values()].sort((a, b) => (a.options.cost ?? 1) - (b.options.cost ?? 1));
      for (const { free } of hooks) {
        try {
          await free({ level: 1, neededBytes: 0, all: true, deadlineS: 5, reason: 'memory pressure' });
        } catch (error) {
          this._log(`a hook failed: ${error}`);
        }
      }
      isBusy = false;
    }).on('error', () => {});
    return true;
  }
}

module.exports = { connect: (options) => new Guard(options), Guard };
