/** A real S3 server for tests: the one that NTAA_TEST_S3_ENDPOINT names, else versitygw on a free port. */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { S3Settings } from '@ntaa/storage';

const env = process.env;
const gateway = [
  fileURLToPath(new URL('../../.cache/bin', import.meta.url)),
  ...(env['PATH'] ?? '').split(delimiter),
]
  .map((folder) => join(folder, 'versitygw'))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

export const hasS3 = env['NTAA_TEST_S3_ENDPOINT'] !== undefined || gateway !== undefined;
if (!hasS3)
  console.log(
    'Not tested on S3: run scripts/test-services.sh, or set NTAA_TEST_S3_ENDPOINT, NTAA_TEST_S3_BUCKET and the AWS_ keys.',
  );

/** @param folder where the server may keep its objects. */
export async function startS3(folder: string): Promise<{ s3: S3Settings; stop(): Promise<void> }> {
  const credentials = {
    accessKeyId: env['AWS_ACCESS_KEY_ID'] ?? 'test-access',
    secretAccessKey: env['AWS_SECRET_ACCESS_KEY'] ?? 'test-secret-key',
  };
  const bucket = env['NTAA_TEST_S3_BUCKET'] ?? 'ntaa-test';
  const settings = (endpoint: string): S3Settings => ({
    bucket,
    endpoint,
    region: env['S3_REGION'] ?? 'us-east-1',
    credentials,
  });
  const given = env['NTAA_TEST_S3_ENDPOINT'];
  if (given) return { s3: settings(given), stop: () => Promise.resolve() };
  const port = await freePort();
  const root = join(folder, 's3');
  mkdirSync(join(root, bucket), { recursive: true });
  // A sidecar folder for what would be extended attributes: temporary folders may not support them.
  const sidecar = join(folder, 'sidecar');
  mkdirSync(sidecar);
  const server = spawn(
    gateway!,
    ['--port', `127.0.0.1:${port}`, '--access', credentials.accessKeyId, '--secret', credentials.secretAccessKey, '--quiet', 'posix', '--sidecar', sidecar, root], // prettier-ignore
    { stdio: 'ignore' },
  );
  const exited = new Promise<void>((done) => server.once('exit', () => done()));
  const endpoint = `http://127.0.0.1:${port}`;
  while ((await fetch(endpoint).catch(() => null)) === null) {
    if (server.exitCode !== null) throw new Error(`versitygw ended with ${server.exitCode}`);
    await sleep(30);
  }
  return {
    s3: settings(endpoint),
    async stop() {
      server.kill();
      await exited;
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => done(port));
    });
  });
}
