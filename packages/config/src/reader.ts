import { readFileSync } from 'node:fs';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Variables that hold secrets. */
const MAY_BE_FILES = new Set([
  'NTAA_API_KEY',
  'DATABASE_URL',
  'REDIS_URL',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
]);

/** Reads variables one by one and collects what is wrong with them. An empty variable counts as unset. */
export class Reader {
  readonly problems: string[] = [];
  readonly #env: Environment;
  constructor(env: Environment) {
    this.#env = env;
  }

  /** `what` is wrong with a variable, and the remedy. Values are quoted, except of secrets. */
  problem(name: string, what: string, remedy: string, hide = false): void {
    const value = this.text(name);
    const shown = value === null || hide ? '' : `=${JSON.stringify(withoutPassword(value))}`;
    this.problems.push(`${name}${shown} ${what}: ${remedy}`);
  }

  text(name: string): string | null {
    return this.#env[name]?.trim() || this.#fromFile(name);
  }

  /** NAME_FILE names a file that holds the value, as secrets are given to containers. */
  #fromFile(name: string): string | null {
    const file = MAY_BE_FILES.has(name) ? this.#env[`${name}_FILE`]?.trim() : undefined;
    if (!file) return null;
    try {
      return readFileSync(file, 'utf8').trim() || null;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const problem = `${name}_FILE=${JSON.stringify(file)} cannot be read (${code ?? message}): name a file that this user may read`;
      if (!this.problems.includes(problem)) this.problems.push(problem);
      return null;
    }
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const text = this.text(name);
    if (text === null) return fallback;
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    this.problem(
      name,
      'is not usable',
      `give a whole number from ${least} to ${most}, or leave it unset (${fallback})`,
    );
    return fallback;
  }

  /** Comma-separated; empty when unset. */
  list(name: string, usable: (entry: string) => boolean, remedy: string): string[] {
    const entries = (this.text(name) ?? '')
      .split(',')
      .map((entry) => entry.trim())
      .filter((entry) => entry !== '');
    if (!entries.every(usable)) this.problem(name, 'is not usable', remedy);
    return entries;
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const text = this.text(name);
    if (text === null) return fallback;
    const found = choices.find((choice) => choice === text);
    if (found === undefined) this.problem(name, 'is not known', `use one of ${choices.join(', ')}`);
    return found ?? fallback;
  }

  /** null when unset or unusable. */
  url(name: string, protocols: readonly string[], example: string): string | null {
    const text = this.text(name);
    if (text === null) return null;
    const url = URL.canParse(text) ? new URL(text) : null;
    if (url && protocols.includes(url.protocol) && url.hostname !== '') return text;
    this.problem(name, 'is not a usable address', `write it like ${example}`);
    return null;
  }

  secret(name: string, shortest: number): string | null {
    const text = this.text(name);
    if (text !== null && (text.length < shortest || /[^\x21-\x7e]/.test(text)))
      this.problem(
        name,
        'is not usable',
        `use at least ${shortest} printable ASCII characters, no blanks`,
        true,
      );
    return text;
  }
}

/** For messages. A password may hold any character, as this is also for addresses that are not well-formed. */
function withoutPassword(value: string): string {
  return value.replace(/\/\/([^/@:]*):.*@/, '//$1:***@').replace(/(password=)[^&]*/i, '$1***');
}
