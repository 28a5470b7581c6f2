/** The supervisor's end of the line: one forked child, its messages handled one after the other, its end explained. */
import { fork } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import type { PieceSpec } from '@ntaa/adaptation';
import type { Wanted } from '@ntaa/db';
import type { Assignment, ChildMessage, Failure, ParentMessage } from './protocol.js';

/** V8 heap of a child, MiB. Tensors live outside it. */
const HEAP_MB = 1024;
const STDERR_TAIL = 4096;
/** After its result is committed, a child has this long to end by itself, ms. */
const EXIT_GRACE = 3000;

export interface ForkedChild {
  readonly pid: number | undefined;
  signal(action: Wanted): void;
  /** Gives a helper its next piece. */
  give(spec: PieceSpec): void;
  kill(): void;
  /** Resolves when the process is gone and every message that it sent is handled. */
  readonly ended: Promise<ChildEnd>;
}
export interface ChildEnd {
  /** Why it ended if it was not by its own `done` or `failed`. */
  readonly failure: Failure;
  /** Last 4 kB of what it wrote to stderr: for the log, not for users. */
  readonly stderr: string;
  readonly killed: boolean;
}

/**
 * Forks the built child and hands it `assignment`. `handle` is called for each of its messages, in order; messages
 * with an id are acknowledged when it resolves, with what it resolves to. When it rejects the message is refused and, unless it has an id,
 * the child is killed: `refused` then hears why.
 */
export function forkChild(
  assignment: Assignment,
  handle: (message: ChildMessage) => Promise<unknown>,
  refused: (error: unknown) => void,
): ForkedChild {
  // From src/ (tests) and from lib/ this is the built child: Node runs it, not the test runner.
  const child = fork(new URL('../lib/child.js', import.meta.url), [], {
    execArgv: [`--max-old-space-size=${HEAP_MB}`],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: environment(assignment),
  });
  // Training takes every cycle that it gets: whoever answers users or renews leases on the same machine comes first.
  if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  let stderr = '';
  let killed = false;
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  const send = (message: ParentMessage): void => {
    if (child.connected) child.send(message, () => undefined);
  };
  const kill = (): void => {
    killed = true;
    child.kill('SIGKILL');
  };
  let handled: Promise<void> = Promise.resolve();
  const answer = async (message: ChildMessage): Promise<void> => {
    if (killed) return;
    const id = 'id' in message ? message.id : undefined;
    try {
      const value = await handle(message);
      if (id !== undefined) send({ type: 'ack', id, ok: true, value });
      if (message.type === 'done' || message.type === 'failed') setTimeout(kill, EXIT_GRACE).unref();
    } catch (error) {
      if (id !== undefined) send({ type: 'ack', id, ok: false, error: String(error) });
      else kill();
      refused(error);
    }
  };
  child.on('message', (message) => {
    handled = handled.then(() => answer(message as ChildMessage));
  });
  const ended = new Promise<ChildEnd>((resolve) => {
    const end = (code: number | null, signal: string | null): void => {
      // Queued messages are handled first: `close` comes after the channel's last one.
      void handled.then(() => resolve({ failure: explain(code, signal, stderr), stderr, killed }));
    };
    child.on('close', end);
    child.on('error', (error) => {
      stderr = String(error);
      if (child.pid === undefined) end(null, null);
    });
  });
  send({ type: 'start', assignment });
  return {
    pid: child.pid,
    signal: (action) => send({ type: 'signal', action }),
    give: (spec) => send({ type: 'piece', spec }),
    kill,
    ended,
  };
}

/** CUDA reads this when it starts: a trainer sees one GPU, and no other trainer sees that one. */
function environment(assignment: Assignment): NodeJS.ProcessEnv {
  const gpu = assignment.kind === 'dataset' ? null : assignment.gpu;
  return gpu === null ? process.env : { ...process.env, CUDA_VISIBLE_DEVICES: gpu };
}

/** What the end of a process that handed in no result means. */
function explain(code: number | null, signal: string | null, stderr: string): Failure {
  if (/heap out of memory|allocation failed|cannot allocate memory/i.test(stderr))
    return { code: 'out-of-memory', detail: 'The job needs more memory than there is', retryable: true };
  if (signal !== null)
    return { code: 'worker-lost', detail: `The worker was ended by signal ${signal}`, retryable: true };
  return {
    code: 'internal',
    detail: `The worker ended without a result (exit code ${code})`,
    retryable: true,
  };
}
