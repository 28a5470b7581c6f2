import { once } from 'node:events';
import { Interrupt, onInterrupt } from './interrupt.js';
import { startStack, type Stack } from './stack.js';

/** Runs the service until it is interrupted. */
export async function up(env: NodeJS.ProcessEnv): Promise<void> {
  const { signal, onSecond } = onInterrupt();
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const stack = await startStack({ env, say, signal }).catch((error: unknown) => {
    if (error instanceof Interrupt) return null;
    throw error;
  });
  if (stack === null) return;
  process.stdout.write(banner(stack));
  if (!signal.aborted) await once(signal, 'abort');
  process.stdout.write('\nStopping: jobs in progress are saved. Ctrl-C again to force.\n');
  onSecond(() => stack.kill());
  await stack.stop();
  process.stdout.write('Stopped.\n');
}

function banner({ config, url, key, engine, workers }: Stack): string {
  const keyLine = {
    environment: 'as set in NTAA_API_KEY',
    made: `${key.secret}  (shown once, kept in ${key.file})`,
    kept: `kept in ${key.file}`,
  }[key.origin];
  const lines: [string, string][] = [
    ['API', `${url}/v1`],
    ['Docs', `${url}/docs`],
    ['API key', keyLine],
    [
      'Engine',
      engine
        ? `${engine.name} (${engine.reason})`
        : 'none here (NTAA_WORKERS=0): jobs wait for workers elsewhere',
    ],
    ['Workers', String(workers)],
    ['Data', config.dataDir],
  ];
  const rows = lines.map(([name, value]) => `  ${name.padEnd(9)}${value}`).join('\n');
  return `\n  NTAA is running.\n\n${rows}\n\n  Ctrl-C stops it.\n\n`;
}
