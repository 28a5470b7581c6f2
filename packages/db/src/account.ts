/** As whom a child process runs that must not be root: see embedded.ts. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface Account {
  /** null: the caller's own. */
  readonly uid: number | null;
  readonly gid: number | null;
  spawn(command: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess;
}

/** The account to run as such that it can reach every one of `folders`. Throws with the remedy when there is none. */
export async function runAs(folders: readonly string[]): Promise<Account> {
  if (process.getuid?.() !== 0) return { uid: null, gid: null, spawn: start };
  const { name, uid, gid } = await unprivileged();
  const closed = (await Promise.all(folders.map((folder) => firstClosed(folder, uid, gid)))).find(Boolean);
  if (!closed) return { uid, gid, spawn: (command, args, env) => start(command, args, env, { uid, gid }) };
  if (!hasSetpriv())
    throw new Error(
      `The embedded Postgres cannot run as root, and user ${name} cannot enter ${closed}. ` +
        `Allow it (chmod o+x ${closed}), run as an ordinary user, or set DATABASE_URL.`,
    );
  const flags = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  const capability = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--'];
  return {
    uid,
    gid,
    spawn: (command, args, env) => start('setpriv', [...flags, ...capability, command, ...args], env),
  };
}

function start(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  ids: { uid?: number; gid?: number } = {},
): ChildProcess {
  // Detached: Ctrl-C goes to the terminal's whole process group, and the service is to stop its database last.
  // Started in /: its user may not be allowed into the caller's folder.
  return spawn(command, args, { ...ids, env, cwd: '/', detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function unprivileged(): Promise<{ name: string; uid: number; gid: number }> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const found = lines.find(([name]) => name === 'postgres') ?? lines.find(([name]) => name === 'nobody');
  if (!found)
    throw new Error(
      'The embedded Postgres cannot run as root, and there is no user postgres or nobody to run it as. ' +
        'Create one (useradd --system postgres), run as an ordinary user, or set DATABASE_URL.',
    );
  return { name: found[0]!, uid: Number(found[2]), gid: Number(found[3]) };
}

/** The topmost folder on the way to `path` that the user may not enter; null when it can go all the way. */
async function firstClosed(path: string, uid: number, gid: number): Promise<string | null> {
  const parent = dirname(path);
  const above = parent === path ? null : await firstClosed(parent, uid, gid);
  if (above !== null) return above;
  const found = await stat(path);
  const bit = found.uid === uid ? 0o100 : found.gid === gid ? 0o010 : 0o001;
  return found.mode & bit ? null : path;
}

function hasSetpriv(): boolean {
  try {
    return execFileSync('setpriv', ['--help'], { encoding: 'utf8' }).includes('--ambient-caps');
  } catch {
    return false;
  }
}

/** Exit code and everything it said. */
export function collectExit(child: ChildProcess): Promise<{ code: number | null; output: string }> {
  return new Promise((done, fail) => {
    let output = '';
    const collect = (text: string): void => void (output += text);
    child.stdout!.setEncoding('utf8').on('data', collect);
    child.stderr!.setEncoding('utf8').on('data', collect);
    child.once('error', fail);
    child.once('close', (code) => done({ code, output }));
  });
}
