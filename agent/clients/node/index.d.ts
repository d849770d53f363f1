/** What a hook is asked for. Free about `neededBytes`, then stop; with `all`, whatever can be given. */
export interface Request {
  level: number;
  neededBytes: number;
  all: boolean;
  deadlineS: number;
  reason: string;
}

export interface HookOptions {
  /** What a byte costs your users to get back, beside your other hooks; the cheapest is asked first. Default 1. */
  cost?: number;
  /** Seconds the hook may take, at most 60. Default 5. */
  deadlineS?: number;
  /** Asking for less is not worth the trouble. Default 1 MiB. */
  minimumBytes?: number;
}

export interface Options {
  /** Default: OOMGUARD_SOCKET, else the FIFO in MEMORY_PRESSURE_WATCH, else /run/oomguard/control.sock. */
  socket?: string;
  /** Name of the guard's target. Default: the one this process is part of. */
  target?: string;
  /** Told what the guard refuses. Default: process.emitWarning. */
  log?: (text: string) => void;
}

/** Returns the bytes it gave back; nothing where it cannot tell. */
export type Free = (request: Request) => number | void | null | Promise<number | void | null>;

export class Guard {
  constructor(options?: Options);
  readonly isConnected: boolean;
  hook(name: string, free: Free): this;
  hook(name: string, options: HookOptions, free: Free): this;
  unhook(name: string): void;
  state(phase: string | null): void;
  gauge(name: string, evictableBytes: number | null): void;
  close(): void;
}

export function connect(options?: Options): Guard;
