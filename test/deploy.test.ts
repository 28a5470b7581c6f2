/**
 * docker-compose.yml and deploy/, as far as they can be run without Docker: what their variables configure, the secrets they
 * are given, the servers and health checks they start. scripts/check-deploy.sh holds them against their schemas.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseConfig } from '@ntaa/config';
import { openQueue } from '@ntaa/queue';
import { openStore } from '@ntaa/storage';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { startApi } from './setup/api.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface ComposeService {
  build?: { dockerfile: string };
  environment?: Record<string, string>;
  command?: string[];
  healthcheck?: { test: string[] };
  volumes?: string[];
  secrets?: string[];
  deploy?: { resources: { reservations?: object } };
}
const compose = parse(read('docker-compose.yml'), { merge: true }) as {
  services: Record<string, ComposeService>;
  secrets: Record<string, { file: string }>;
  volumes: Record<string, object>;
};
const service = (name: string): ComposeService => compose.services[name]!;

let folder: string;
const servers: ChildProcess[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-deploy-'));
  execFileSync(join(root, 'deploy/make-secrets.sh'), [join(folder, 'secrets')]);
});
afterAll(async () => {
  for (const server of servers) {
    server.kill();
    if (server.exitCode === null) await once(server, 'exit');
  }
  await rm(folder, { recursive: true, force: true });
});
const secret = (name: string): string => readFileSync(join(folder, 'secrets', name), 'utf8').trim();

/** Variables as a container would see them, its secrets in the test's folder. */
const seen = (variables: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [
      name,
      value
        .replace(/\$\{\w+:-([^}]*)\}/g, '$1')
        .replace(/\/run\/secrets(\/ntaa)?(?=\/)/, join(folder, 'secrets')),
    ]),
  );
/** A shell command as Compose hands it on, with folders and port of the test's. */
const local = (command: string): string =>
  command
    .replaceAll('$$', '$')
    .replaceAll('/run/secrets', join(folder, 'secrets'))
    .replace(/(?<=\s)\/(objects|sidecar)/g, `${folder}/$1`);

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}
function run(command: string, PATH = process.env['PATH']!): ChildProcess {
  const server = spawn('sh', ['-c', command], { cwd: folder, env: { PATH }, stdio: 'ignore' });
  servers.push(server);
  return server;
}
const passes = (command: string): boolean => spawnSync('sh', ['-c', command]).status === 0;

test('secrets are random, readable by containers, closed to others, and kept', async () => {
  const before = Object.keys(compose.secrets).map(secret);
  expect(readdirSync(join(folder, 'secrets')).sort()).toEqual(Object.keys(compose.secrets).sort());
  expect((await stat(join(folder, 'secrets'))).mode & 0o777).toBe(0o700);
  execFileSync(join(root, 'deploy/make-secrets.sh'), [join(folder, 'secrets')]);
  expect(Object.keys(compose.secrets).map(secret)).toEqual(before);
  execFileSync(join(root, 'deploy/make-secrets.sh'), [join(folder, 'others')]);
  expect(readFileSync(join(folder, 'others/ntaa_api_key'), 'utf8').trim()).not.toBe(secret('ntaa_api_key'));
  for (const [name, { file }] of Object.entries(compose.secrets)) expect(file).toBe(`./secrets/${name}`);
});

test('what is named is there, and what is there is used', () => {
  const services = Object.values(compose.services);
  const volumes = services.flatMap((one) => one.volumes ?? []).map((volume) => volume.split(':')[0]);
  expect([...new Set(volumes)].sort()).toEqual(Object.keys(compose.volumes).sort());
  expect([...new Set(services.flatMap(({ secrets = [] }) => secrets))].sort()).toEqual(
    Object.keys(compose.secrets).sort(),
  );
  for (const name of ['api', 'postgres', 'redis', 's3']) expect(service(name).healthcheck).toBeDefined();
  expect(service('api').build!.dockerfile).toBe('Dockerfile');
  expect(service('worker').build!.dockerfile).toBe('Dockerfile.worker');
  expect(service('worker').deploy!.resources.reservations).toBeDefined();
  expect(service('worker-cpu').deploy!.resources.reservations).toBeUndefined();
});

/** Environments of API and workers, by where they are written. */
function environments(): Record<string, Record<string, string>> {
  const documents = ['config', 'api', 'worker'].flatMap((name) =>
    parseAllDocuments(read(`deploy/kubernetes/${name}.yaml`)).map(
      (document) => document.toJS() as Record<string, never>,
    ),
  ) as unknown as {
    kind: string;
    metadata: { name: string };
    data?: Record<string, string>;
    spec: { template: { spec: { containers: { env: { name: string; value: string }[] }[] } } };
  }[];
  const common = documents.find(({ kind }) => kind === 'ConfigMap')!.data!;
  const pods = documents
    .filter(({ kind }) => kind === 'Deployment')
    .map(({ metadata, spec }): [string, Record<string, string>] => [
      `kubernetes ${metadata.name}`,
      {
        ...common,
        ...Object.fromEntries(spec.template.spec.containers[0]!.env.map(({ name, value }) => [name, value])),
      },
    ]);
  const composed = ['api', 'worker', 'worker-cpu'].map((name): [string, Record<string, string>] => [
    `compose ${name}`,
    service(name).environment!,
  ]);
  return Object.fromEntries([...pods, ...composed]);
}

test.each(Object.entries(environments()))(
  '%s is configured by variables that there are',
  (name, variables) => {
    const config = parseConfig(seen(variables));
    expect(config.databaseUrl).toBe(secret('database_url'));
    expect(config.redisUrl).toBe(secret('redis_url'));
    expect(config.s3!.credentials).toEqual({
      accessKeyId: secret('s3_access_key'),
      secretAccessKey: secret('s3_secret_key'),
    });
    if (name.endsWith('api'))
      expect([config.apiKey, config.host]).toEqual([secret('ntaa_api_key'), '0.0.0.0']);
    else expect([config.apiKey, /tensorflow-gpu|wasm/.test(config.engine)]).toEqual([null, true]);
    const explained = read('README.md') + read('docs/operations.md');
    for (const variable of Object.keys(variables))
      expect([variable, explained.includes(variable) || /^(S3|AWS)_/.test(variable)]).toEqual([
        variable,
        true,
      ]);
  },
);

test.runIf(passes('redis-server --version && redis-cli --version'))(
  'Redis, as Compose starts it',
  async () => {
    const port = await freePort();
    const command = local(service('redis').command![2]!);
    expect(command).toMatch(/--appendonly yes .*--maxmemory-policy noeviction/s);
    const server = run(`${command} --port ${port} --dir ${folder} --bind 127.0.0.1`);
    const healthy = local(service('redis').healthcheck!.test[1]!).replace(
      'redis-cli',
      `redis-cli -p ${port}`,
    );
    while (!passes(healthy)) {
      expect(server.exitCode).toBeNull();
      await sleep(50);
    }
    expect(passes(healthy.replace(/REDISCLI_AUTH="[^"]*"/, 'REDISCLI_AUTH=wrong'))).toBe(false);
    const redisUrl = secret('redis_url').replace('redis:6379', `127.0.0.1:${port}`);
    const queue = await openQueue({ databaseUrl: '', redisUrl });
    await queue.ping();
    await queue.close();
  },
);

const gateway = [join(root, '.cache/bin'), ...process.env['PATH']!.split(delimiter)].find((path) =>
  existsSync(join(path, 'versitygw')),
);
test.runIf(gateway !== undefined)('the S3 server, as Compose starts it, and a bucket in it', async () => {
  const port = await freePort();
  const server = run(
    local(service('s3').command![0]!).replace(':7070', `127.0.0.1:${port}`),
    `${gateway}${delimiter}${process.env['PATH']}`,
  );
  const endpoint = `http://127.0.0.1:${port}`;
  // What the health check sees: an answer, be it a refusal.
  while ((await fetch(endpoint).catch(() => null)) === null) {
    expect(server.exitCode).toBeNull();
    await sleep(50);
  }
  const config = parseConfig({ ...seen(service('api').environment!), S3_ENDPOINT: endpoint });
  const store = await openStore(config);
  await store.put('a/b', Buffer.from('x'));
  expect(await store.head('a/b')).toEqual({ size: 1 });
  await store.close();
});

test("the API's health check tells ready from not", async () => {
  const [command, node, flag, script] = service('api').healthcheck!.test;
  expect([command, node, flag]).toEqual(['CMD', 'node', '-e']);
  const ask = async (url: string): Promise<number | null> => {
    const child = spawn(process.execPath, ['-e', script!.replace('http://127.0.0.1:3000', url)]);
    return (await once(child, 'exit'))[0] as number | null;
  };
  const api = await startApi();
  try {
    expect(await ask(api.url)).toBe(0);
  } finally {
    await api.close();
  }
  expect(await ask(api.url)).toBe(1);
});
