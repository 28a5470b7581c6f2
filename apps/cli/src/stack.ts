/** The whole service on this machine: embedded Postgres where none is configured, the API, and the workers. */
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import {
  cannotListen,
  parseConfig,
  StartError,
  visibleGpus,
  type Config,
  type RunningEngine,
} from '@ntaa/config';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '@ntaa/db';
import { bootstrapKey, claimDataFolder, type BootstrapKey } from './data-folder.js';
import { aborted } from './interrupt.js';
import { ServiceProcess, type ReadyMessage } from './service-process.js';

/** Workers save their jobs and answers in progress are finished within this time, ms. */
const STOP_GRACE = 10_000;

/**
 * What passes through the API is short-lived: with a small young generation it is collected before it adds up. Together
 * they save some 45 MB at rest (171 and then 144 instead of 191), and more while archives stream in.
 */
const API_NODE_OPTIONS = ['--max-semi-space-size=4', '--optimize-for-size'];

export interface StackOptions {
  /** Environment variables; the children get them too. */
  readonly env: NodeJS.ProcessEnv;
  /** File descriptor for the children's output; undefined: this process's own. */
  readonly output?: number;
  /** Told about everything an operator should know. */
  readonly say: (line: string) => void;
  /** Gives up starting. */
  readonly signal: AbortSignal;
}
export interface Stack {
  readonly config: Config;
  readonly url: string;
  readonly key: BootstrapKey;
  /** Null without local workers. */
  readonly engine: RunningEngine | null;
  /** Worker processes. */
  readonly workers: number;
  /** Ends all of it, gently; what is left after ten seconds is killed. */
  stop(): Promise<void>;
  /** Ends all of it now. Called during `stop`, that one resolves soon. */
  kill(): void;
}

/** Throws ConfigError or StartError for what the operator has to put right; nothing is left running then. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { env, signal, say } = options;
  const config = parseConfig(env);
  await requireFreePort(config);
  const processes: ServiceProcess[] = [];
  const release = await claimDataFolder(config.dataDir);
  let postgres: EmbeddedPostgres | undefined;
  const stop = async (): Promise<void> => {
    await Promise.all(processes.map((process) => process.stop(STOP_GRACE)));
    await postgres?.stop();
    await rm(join(config.dataDir, 'scratch'), { recursive: true, force: true });
    await release();
  };
  const kill = (): void => processes.forEach((process) => process.kill());
  try {
    const key = await bootstrapKey(config.dataDir, config.apiKey);
    if (config.databaseUrl === null)
      postgres = await startEmbeddedPostgres({ dataDir: join(config.dataDir, 'postgres') }).catch(
        (error: Error) => {
          throw new StartError(`The database does not start. ${error.message}`, { cause: error });
        },
      );
    signal.throwIfAborted();
    const resolved = {
      // The terminal is for the banner and for what needs attention.
      NTAA_LOG_LEVEL: 'warn',
      ...env,
      NTAA_DATA_DIR: config.dataDir,
      DATABASE_URL: config.databaseUrl ?? postgres?.url,
    };
    const common = { output: options.output, say };
    const api = new ServiceProcess({
      ...common,
      name: 'API',
      script: new URL('../../api/lib/server.js', import.meta.url),
      node: API_NODE_OPTIONS,
      // The C library keeps memory for every thread that decodes an image, otherwise.
      env: { MALLOC_ARENA_MAX: '2', ...resolved, NTAA_API_KEY: key.secret },
    });
    processes.push(api);
    const add = (i: number): ServiceProcess => {
      const name = config.workers === 1 ? 'worker' : `worker ${i + 1}`;
      const script = new URL('../../worker/lib/main.js', import.meta.url);
      const worker = new ServiceProcess({ ...common, name, script, env: resolved });
      processes.push(worker);
      return worker;
    };
    const start = async (): Promise<readonly ReadyMessage[]> => {
      const first = config.workers > 0 ? [add(0)] : [];
      // A worker with GPUs trains on all of them: where it may turn out to be one, others wait for what it says.
      const [alone] = visibleGpus(env).length > 0 ? await Promise.all(first.map(({ ready }) => ready)) : [];
      if (alone?.type !== 'ready' || alone.engine.kind !== 'tensorflow-gpu')
        for (let i = 1; i < config.workers; i++) add(i);
      return Promise.all(processes.map(({ ready }) => ready));
    };
    const [listening, first] = await Promise.race([start(), aborted(signal)]);
    if (listening?.type !== 'listening') throw new Error('The API does not say where it listens');
    const engine = first?.type === 'ready' ? first.engine : null;
    return { config, url: listening.url, key, engine, workers: processes.length - 1, stop, kill };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Said before anything is started, instead of in an API's log after everything was. */
async function requireFreePort(config: Config): Promise<void> {
  const { host, port } = config;
  if (port === 0) return;
  await new Promise<void>((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => reject(cannotListen(config, error)));
    probe.listen(port, host, () => probe.close(() => resolve()));
  });
}
