import { fork, type ChildProcess } from 'node:child_process';
import { LAUNCHED, StartError, type LauncherMessage } from '@ntaa/config';

/** Pause before a dead process is started again, ms: doubling from the first to the second. */
const BACKOFF = { first: 500, most: 30_000 };
/** A process that ran for so long was healthy: its next restart is quick again, ms. */
const HEALTHY = 60_000;

export interface ProcessOptions {
  readonly name: string;
  readonly script: URL;
  /** Options of Node's. */
  readonly node?: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** File descriptor for its output; undefined: this process's own. */
  readonly output: number | undefined;
  /** Told about every unexpected end. */
  readonly say: (line: string) => void;
}

/** How it says that it is ready. */
export type ReadyMessage = Exclude<LauncherMessage, { type: 'failed' }>;

/** One process of the service, started again whenever it dies, until it is stopped. */
export class ServiceProcess {
  readonly #options: ProcessOptions;
  #child: ChildProcess;
  #stopping = false;
  #pause = BACKOFF.first;
  #restart: NodeJS.Timeout | undefined;
  /** Its ready message. Rejects when the very first start fails: what is wrong then is not cured by another. */
  readonly ready: Promise<ReadyMessage>;

  constructor(options: ProcessOptions) {
    this.#options = options;
    this.#child = this.#start();
    const first = this.#child;
    this.ready = new Promise((resolve, reject) => {
      first.on('message', (message: LauncherMessage) => {
        if (message.type === 'failed') reject(new StartError(message.message));
        else resolve(message);
      });
      first.once('exit', (code, signal) =>
        reject(new StartError(`The ${options.name} did not start (${signal ?? `exit code ${code}`})`)),
      );
    });
    void this.ready.then(
      () => this.#watch(first),
      () => undefined,
    );
  }

  #start(): ChildProcess {
    const { script, env, output, node = [] } = this.#options;
    const stream = output ?? 'inherit';
    return fork(script, [LAUNCHED], { env, execArgv: [...node], stdio: ['ignore', stream, stream, 'ipc'] });
  }

  #watch(child: ChildProcess): void {
    const started = Date.now();
    let reason: string | undefined;
    child.on('message', (message: LauncherMessage) => {
      if (message.type === 'failed') reason = message.message;
    });
    const again = (code: number | null, signal: string | null): void => {
      if (this.#stopping) return;
      if (Date.now() - started > HEALTHY) this.#pause = BACKOFF.first;
      this.#options.say(
        `The ${this.#options.name} ended (${reason ?? signal ?? `exit code ${code}`}); starting it again`,
      );
      this.#restart = setTimeout(() => {
        this.#child = this.#start();
        this.#watch(this.#child);
      }, this.#pause);
      this.#pause = Math.min(this.#pause * 2, BACKOFF.most);
    };
    if (hasEnded(child)) again(child.exitCode, child.signalCode);
    else child.once('exit', again);
  }

  /** Asks it to end; kills it after `grace` ms. Resolves when it is gone. */
  async stop(grace: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (hasEnded(child)) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    const force = setTimeout(() => child.kill('SIGKILL'), grace);
    child.kill('SIGTERM');
    await gone;
    clearTimeout(force);
  }

  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#restart);
    this.#child.kill('SIGKILL');
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;
