/** How a process of the service starts: what it tells the launcher that forked it, and how it says that it cannot. */
import { ConfigError, parseConfig, type Config, type EngineChoice } from './config.js';

/** Something the operator has to put right: told in one message, without a stack trace. */
export class StartError extends Error {
  override name = 'StartError';
}

/** What a worker trains with. */
export interface RunningEngine {
  readonly kind: Exclude<EngineChoice, 'auto'>;
  readonly name: string;
  /** Why this one. */
  readonly reason: string;
}

/** From a process of the service to its launcher, over IPC. */
export type LauncherMessage =
  | { readonly type: 'listening'; readonly url: string }
  | { readonly type: 'ready'; readonly engine: RunningEngine }
  | { readonly type: 'failed'; readonly message: string };

/** The argument by which the launcher says that it is there: other programs (pm2, node --watch) open an IPC channel too. */
export const LAUNCHED = '--launched';

const launched = (): boolean => process.argv.includes(LAUNCHED);

/** What a process of the service begins with; the database is named. Throws ConfigError with everything that is wrong. */
export function processConfig(env: NodeJS.ProcessEnv): Config & { readonly databaseUrl: string } {
  // It would warn about Node 20, which is supported here, at every start.
  env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const config = parseConfig(env);
  if (config.databaseUrl === null)
    throw new ConfigError([
      'DATABASE_URL is not set: start the whole service with `npm start`, or name a database',
    ]);
  return { ...config, databaseUrl: config.databaseUrl };
}

/** Resolves when the message is on its way; without a launcher, or when it is gone, at once. */
export function tellLauncher(message: LauncherMessage): Promise<void> {
  return new Promise((resolve) => {
    // With a callback, the error of a channel that closes meanwhile goes there: nobody is left to hear of it.
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}

/** Calls `end` once the launcher is gone, be it already: nobody else would ever stop this process. */
export function whenOrphaned(end: () => void): void {
  if (launched() && !process.connected) end();
  else process.once('disconnect', end);
}

/** Ends this process, which could not start, with one message: the launcher's to print, or printed here. */
export async function failStart(error: unknown): Promise<never> {
  const message = messageFor(error);
  if (launched()) await tellLauncher({ type: 'failed', message });
  else process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** What is expected to go wrong is told by its message; the stack trace of anything else is for a bug report. */
export function messageFor(error: unknown): string {
  const expected = error instanceof ConfigError || error instanceof StartError;
  return expected ? error.message : ((error as Error).stack ?? String(error));
}

/** The address cannot be listened on. */
export function cannotListen({ host, port }: Config, error: unknown): StartError {
  const { code, message } = error as NodeJS.ErrnoException;
  const inUse = `Port ${port} on ${host} is in use by another program. Stop it, or choose another port: PORT=3001 npm start`;
  const other = `HOST=${host} PORT=${port} cannot be listened on: ${message}`;
  return new StartError(code === 'EADDRINUSE' ? inUse : other, { cause: error });
}
