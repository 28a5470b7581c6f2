export const ENGINES = ['auto', 'tensorflow-gpu', 'tensorflow', 'wasm'] as const;
export type EngineChoice = (typeof ENGINES)[number];
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Where objects are kept when S3_BUCKET is set. */
export interface S3Config {
  readonly bucket: string;
  /** S3-compatible server, path-style addressing; null: AWS itself. */
  readonly endpoint: string | null;
  readonly region: string;
  /** Keys from AWS_ACCESS_KEY_ID and its companions; null: the SDK's own chain (profile, instance role, …). */
  readonly credentials: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  } | null;
}

/** The service's whole configuration. Absolute paths; null means unset. */
export interface Config {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Bootstrap admin key; null: one is made at first start. */
  readonly apiKey: string | null;
  readonly dataDir: string;
  /** Local worker processes; default: one a core. 0: none, others do the work. */
  readonly workers: number;
  readonly engine: EngineChoice;
  /** null: embedded Postgres under dataDir. */
  readonly databaseUrl: string | null;
  /** null: the queue runs on Postgres. */
  readonly redisUrl: string | null;
  /** null: files under dataDir. */
  readonly s3: S3Config | null;
  readonly logLevel: LogLevel;
  /** Largest request body, bytes. */
  readonly maxUploadBytes: number;
}

/** Bad configuration. The message lists every problem: variable, value, remedy. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`The configuration is not usable:\n${problems.map((p) => `  - ${p}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Reads the whole configuration from environment variables; throws ConfigError naming everything that is wrong. */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  throw new ConfigError([`not there yet ${Object.keys(env).length}`]);
}
