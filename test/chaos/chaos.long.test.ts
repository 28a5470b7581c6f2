/** A small run of the fault harness; docs/chaos.md says how to run larger ones. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const { missingServers } = (await import(new URL('stack.mjs', import.meta.url).href)) as {
  missingServers(): string[];
};
const missing = missingServers();
if (missing.length)
  console.log(`Not tested under faults, without ${missing.join(', ')}: run scripts/test-services.sh.`);
const HARNESS = fileURLToPath(new URL('run.mjs', import.meta.url));

async function chaos(...args: string[]) {
  const harness = spawn(process.execPath, [HARNESS, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said, [code]] = await Promise.all([text(harness.stdout), once(harness, 'exit')]);
  const last = said.trim().split('\n').at(-1)!;
  return { code: code as number, said, result: JSON.parse(last) as Record<string, unknown> };
}

describe.skipIf(missing.length)('under faults', () => {
  it('loses nothing and does nothing twice', async () => {
    const only = [
      'worker-kill',
      'trainer-kill',
      'api-kill',
      'redis-flush',
      'redis-kill',
      'postgres-immediate',
    ];
    const kinds = [...only, 's3-errors', 'at api.job-created'];
    const { code, said, result } = await chaos(
      ...['--seed', '7', '--faults', String(kinds.length), '--jobs', '3'],
      ...kinds.flatMap((kind) => ['--only', kind]),
    );
    expect(result['violations'], said).toEqual([]);
    expect(code).toBe(0);
    expect(result['fired']).toEqual(Object.fromEntries(kinds.map((kind) => [kind, 1])));
    expect(Number(result['succeeded'])).toBeGreaterThanOrEqual(3);
  }, 300_000);
});
