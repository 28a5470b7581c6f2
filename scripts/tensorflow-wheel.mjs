// TensorFlow's wheels: found in a Python package index, downloaded, and unpacked as far as the native engine needs.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';
import yauzl from 'yauzl';

const WITHOUT =
  'Without network, download the wheel elsewhere and give its path with --wheel (see docs/engine.md)';

/** The index that pip would use: PIP_INDEX_URL, pip's configuration, or PyPI. */
function indexUrl() {
  if (process.env.PIP_INDEX_URL) return process.env.PIP_INDEX_URL;
  for (const command of [['python3', '-m', 'pip'], ['pip3'], ['pip']])
    try {
      const [program, ...args] = [...command, 'config', 'get', 'global.index-url'];
      return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    } catch {
      continue;
    }
  return 'https://pypi.org/simple';
}

/** A request to an address that may hold a user name and password, which fetch() does not take there. */
async function request(address, headers = {}) {
  const url = new URL(address);
  const { username, password } = url;
  [url.username, url.password] = ['', ''];
  if (username) {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    headers = { ...headers, authorization: `Basic ${Buffer.from(credentials).toString('base64')}` };
  }
  let response;
  try {
    response = await fetch(url, { headers });
  } catch (error) {
    throw new Error(`${url} cannot be reached: ${error.cause?.message ?? error.message}. ${WITHOUT}`, {
      cause: error,
    });
  }
  if (!response.ok && response.status !== 416)
    throw new Error(`${url} answers ${response.status} ${response.statusText}. ${WITHOUT}`);
  return response;
}

/** Files of a project: JSON (PEP 691), or HTML (PEP 503) from indexes that only know that. */
async function listFiles(project) {
  const index = new URL(`${indexUrl().replace(/\/+$/, '')}/${project}/`);
  const response = await request(index, {
    accept: 'application/vnd.pypi.simple.v1+json, text/html;q=0.5',
  });
  const absolute = (link) => {
    const url = new URL(link, response.url);
    // A mirror's files lie behind the same password as its index.
    if (url.host === index.host && !url.username)
      [url.username, url.password] = [index.username, index.password];
    return url.href;
  };
  if (response.headers.get('content-type')?.includes('json'))
    return (await response.json()).files.map(({ filename, url, hashes, yanked }) => {
      return { name: filename, url: absolute(url), sha256: hashes.sha256, yanked: Boolean(yanked) };
    });
  return [...(await response.text()).matchAll(/<a\s([^>]*)>([^<]*)<\/a>/g)].map(([, attributes, name]) => {
    const link = /href="([^"]*)"/.exec(attributes)[1].replaceAll('&amp;', '&');
    const sha256 = /#sha256=([0-9a-f]{64})/.exec(link)?.[1];
    return { name: name.trim(), url: absolute(link), sha256, yanked: attributes.includes('data-yanked') };
  });
}

/**
 * The wheel of a version for this machine and C library: { name, url, sha256 }. Python's version does not matter, all
 * hold the same libraries.
 */
export async function findWheel({ project, version, machine, glibc }) {
  const files = await listFiles(project);
  const wheels = files.filter(({ name, yanked }) => !yanked && name.endsWith(`_${machine}.whl`));
  const [, minor] = glibc.split('.').map(Number);
  const fits = ({ name }) => Number(/manylinux_2_(\d+)_/.exec(name)?.[1] ?? Infinity) <= minor;
  const numbers = (version) => version.split('.').map(Number);
  const versions = (list) =>
    [...new Set(list.map(({ name }) => name.split('-')[1]))]
      .filter((text) => /^2\.(1[2-9]|[2-9]\d)\.\d+$/.test(text))
      .sort((a, b) => numbers(a)[1] - numbers(b)[1] || numbers(a)[2] - numbers(b)[2]);
  const found = wheels.find((wheel) => wheel.name.split('-')[1] === version && fits(wheel));
  if (!found) {
    const others = versions(wheels.filter(fits)).slice(-8).join(', ');
    throw new Error(
      `the index has no ${project} ${version} for ${machine} and glibc ${glibc}; of 2.12 and later it has ` +
        (others || 'none'),
    );
  }
  if (!found.sha256) throw new Error(`the index tells no sha256 of ${found.name}. ${WITHOUT}`);
  return found;
}

export async function sha256Of(file) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest('hex');
}

/** Downloads to `file`, going on where an earlier attempt stopped; throws unless the checksum is the index's. */
export async function download({ name, url, sha256 }, file) {
  if (existsSync(file) && (await sha256Of(file)) === sha256) return;
  const part = `${file}.part`;
  const start = existsSync(part) ? statSync(part).size : 0;
  const response = await request(url, start > 0 ? { range: `bytes=${start}-` } : {});
  if (response.status === 416) {
    // Nothing comes after what is here: all of it was loaded before, or it is something else.
    if ((await sha256Of(part)) === sha256) return renameSync(part, file);
    rmSync(part);
    return download({ name, url, sha256 }, file);
  }
  const resumed = response.status === 206;
  let bytes = resumed ? start : 0;
  const total = bytes + Number(response.headers.get('content-length'));
  let told = -1;
  const tell = new Transform({
    transform(chunk, _, done) {
      bytes += chunk.length;
      const tenth = Math.floor((10 * bytes) / total);
      if (tenth > told) console.log(`${name}: ${(bytes / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
      told = Math.max(told, tenth);
      done(null, chunk);
    },
  });
  try {
    const to = createWriteStream(part, { flags: resumed ? 'a' : 'w' });
    await pipeline(Readable.fromWeb(response.body), tell, to);
  } catch (error) {
    throw new Error(`the download broke off (${error.message}): run the command again to go on`, {
      cause: error,
    });
  }
  const actual = await sha256Of(part);
  if (actual !== sha256) {
    rmSync(part);
    throw new Error(`${name} has sha256 ${actual}, the index says ${sha256}: removed, run the command again`);
  }
  renameSync(part, file);
}

/** What the addon's sources include, of 13,000 headers. */
const isHeader = (path) => /^tensorflow\/include\/.*(\/c\/.*|\/ctstring.*)\.h$/.test(path);

/**
 * Unpacks the libraries to `folder` and the headers of the C API to folder/include, and compares each with the wheel's
 * own list of checksums. Throws Error that names what is missing or damaged.
 */
export async function unpack(wheel, folder, libraries) {
  const target = (path) => {
    if (isHeader(path)) return join(folder, path.slice('tensorflow/'.length));
    const name = basename(path);
    return path === `tensorflow/${name}` && libraries.includes(name) ? join(folder, name) : undefined;
  };
  const sums = new Map();
  let list = '';
  let zip;
  try {
    zip = await yauzl.openPromise(wheel);
  } catch (error) {
    throw new Error(`${wheel} is not a wheel: ${error.message}`, { cause: error });
  }
  for await (const entry of zip.eachEntry()) {
    const path = entry.fileName;
    if (/^[^/]*\.dist-info\/RECORD$/.test(path)) list = await text(await zip.openReadStreamPromise(entry));
    const to = target(path);
    if (!to) continue;
    mkdirSync(dirname(to), { recursive: true });
    const hash = createHash('sha256');
    const hashing = new Transform({
      transform(chunk, _, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    await pipeline(await zip.openReadStreamPromise(entry), hashing, createWriteStream(to));
    sums.set(path, hash.digest('base64url'));
  }
  const missing = libraries.filter((name) => !sums.has(`tensorflow/${name}`));
  if (missing.length > 0)
    throw new Error(
      `${basename(wheel)} has no ${missing.join(' and no ')}: TensorFlow 2.12 and later have them`,
    );
  const listed = new Map(
    list.split('\n').map((line) => /^(.*),sha256=([^,]*),\d*\r?$/.exec(line)?.slice(1) ?? []),
  );
  for (const [path, sum] of sums)
    if (listed.get(path) !== sum)
      throw new Error(`${path} in ${basename(wheel)} is damaged: its checksum differs`);
}
